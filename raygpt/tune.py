"""`python -m raygpt.tune FILE`: search the ranges of a recipe."""

import argparse
import contextlib
import signal
import sys
import time

from raygpt.command import open_recipe, prepare_with_progress, recipe_arguments, run_command


def main(arguments: list[str] | None = None) -> int:
    """Run or resume a search; its tables, log and best recipe stand in the run folder."""
    options = parse_arguments(arguments)
    opened = open_recipe(options, only_plan=options.plan)
    folder = opened.folder

    from rich.console import Console

    from raygpt.data.spread import in_processes
    from raygpt.recipe import scale
    from raygpt.results import files
    from raygpt.results.run_folder import create_run, hold_run, refuse_other_kind
    from raygpt.search import cluster
    from raygpt.search.preparation import in_ray_tasks
    from raygpt.search.warm_start import earlier_runs

    if opened.resumed:
        refuse_other_kind(folder, "tune")
    console = Console(highlight=False, markup=False, emoji=False)
    logs = cluster.hold_logs()
    joined = cluster.join_running_cluster()
    gpus = cluster.gpus_at_hand()
    search_file = opened.at_hand(options, gpus)
    if not opened.resumed:
        earlier_runs(search_file)  # an error of theirs comes before anything starts
    tracker = None
    if options.tracker and not options.plan:
        from raygpt.search.tracking import open_tracker

        tracker = open_tracker(options.tracker, folder.name)
    needed = cluster.placement(search_file.search, gpus)
    recipe = search_file.baseline()

    if not joined:
        cluster.start_on_this_machine(dashboard=needed.workers > 1)
    available = None
    if not options.plan:
        spread = in_ray_tasks if joined else in_processes()
        dataset = prepare_with_progress(recipe.data, search_file.largest_budget(), console, spread)
        available = len(dataset.train)

    from raygpt.search.plan import describe_plan, describe_spending, make_plan, save_plan
    from raygpt.search.search import run_search
    from raygpt.search.summary import summarise
    from raygpt.search.throughput import cluster_pace
    from raygpt.training.probe import Pace
    from raygpt.wording import rough_duration

    at_once = cluster.cluster_trials_at_once(needed)
    if options.tokens_per_second:
        pace = Pace(options.tokens_per_second / needed.workers, evaluation_seconds=0)
    else:
        pace = None if opened.resumed else cluster_pace(recipe, needed, at_once)
    plan = make_plan(search_file, at_once, needed, pace)
    line = f"{cluster.describe_hardware(gpus)}: " + opened.scales.describe(
        search_file, gpus, f"{search_file.search.trials} trials of up to"
    )
    if pace:
        line += f", {rough_duration(plan.expected.seconds)}"
    console.print(f"{line}.\n{scale.describe_budget(recipe, available)}", soft_wrap=True)
    if options.plan:
        console.print(describe_plan(plan, options.gpu_hour_price), soft_wrap=True)
        return 0

    if not opened.resumed:
        create_run(folder, search_file, opened.overrides, sys.argv, dataset.provenance())
    with hold_run(folder):
        save_plan(folder, plan)
        cluster.send_logs_to(folder / files.LOG, logs)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        started = time.monotonic()
        results = run_search(search_file, dataset, folder, needed, at_once, console, tracker)
        seconds = None if opened.resumed else time.monotonic() - started
    text, status = summarise(results, search_file)
    console.print(text, soft_wrap=True)
    spent = describe_spending(results, plan, seconds, options.gpu_hour_price)
    console.print(f"spent         {spent}", soft_wrap=True)
    return status


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = recipe_arguments("tune", __doc__)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="say what the search is going to take, after a measurement of a few seconds, and end",
    )
    parser.add_argument(
        "--tokens-per-second",
        type=positive_number,
        metavar="N",
        help="speed of one trial for the plan; measured if left out",
    )
    parser.add_argument(
        "--gpu-hour-price", type=positive_number, metavar="PRICE", help="for the plan"
    )
    parser.add_argument(
        "--tracker",
        choices=("mlflow", "wandb"),
        help="hand the trials on to MLflow or Weights & Biases as well",
    )
    return parser.parse_args(arguments)


def positive_number(text: str) -> float:
    """A number above 0, as recipes write them: 25K is 25,000."""
    from raygpt.recipe.errors import RecipeError
    from raygpt.recipe.quantities import parse_count, parse_number

    for parse in (parse_number, parse_count):
        with contextlib.suppress(RecipeError):
            if (number := float(parse(text))) > 0:
                return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


if __name__ == "__main__":
    run_command(main)
