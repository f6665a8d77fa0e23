"""`python -m raygpt.tune FILE`: search the ranges of a recipe."""

import argparse
import signal
import sys
from pathlib import Path

from raygpt.command import add_recipe_arguments, prepare_with_progress, run_command


def main(arguments: list[str] | None = None) -> int:
    """Run or resume a search; its tables, log and best recipe stand in the run folder."""
    options = parse(arguments)

    # Everything that may be wrong with the recipe is said before anything slow is imported.
    from raygpt.recipe import scale
    from raygpt.recipe.search_file import load_search_file
    from raygpt.results.run_folder import create_run, refuse_existing, reopen_run

    full = load_search_file(options.file, "full", options.set)
    mini = load_search_file(options.file, "mini", options.set)
    folder = options.runs_dir / (options.name or full.name)
    search_file = None
    if options.resume:
        search_file = reopen_run(folder, options.file, options.set)
    else:
        refuse_existing(folder)

    from rich.console import Console

    from raygpt.results import files
    from raygpt.search import cluster
    from raygpt.search.estimate import expected_seconds
    from raygpt.search.search import run_search
    from raygpt.search.summary import summarise

    console = Console(highlight=False)
    logs = cluster.hold_logs()
    joined = cluster.join_running_cluster()
    gpus = cluster.gpus_at_hand()
    if search_file is None:
        chosen = scale.choose_scale(options.scale, full, mini, gpus, options.allow_cpu)
        search_file = mini if chosen == "mini" else full
    needed = cluster.placement(search_file.search, gpus)
    recipe = scale.example_recipe(search_file)
    dataset = prepare_with_progress(recipe, console)
    if not joined:
        cluster.start_on_this_machine(dashboard=needed.workers > 1)
    at_once = cluster.cluster_trials_at_once(needed)

    trials = f"{search_file.search.trials} trials of up to"
    line = (
        f"{cluster.describe_hardware(gpus)}: "
        f"{scale.describe_scale(search_file, full, gpus, trials)}"
    )
    if not gpus:
        seconds = expected_seconds(search_file.search, recipe, dataset, needed, at_once)
        line += f", {scale.describe_seconds(seconds)}"
    console.print(f"{line}.\n{scale.describe_budget(recipe, len(dataset.train))}", soft_wrap=True)

    if not options.resume:
        create_run(folder, search_file, overrides=options.set, command=sys.argv)
    cluster.send_logs_to(folder / files.LOG, logs)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    results = run_search(search_file, folder, needed, at_once, console)
    text, interrupted = summarise(results, search_file, options.file)
    console.print(text, markup=False, soft_wrap=True)
    return 130 if interrupted else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m raygpt.tune", description=__doc__)
    add_recipe_arguments(parser)
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run that was interrupted"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
