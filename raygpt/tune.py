"""`python -m raygpt.tune FILE`: search a recipe's ranges for the best values, on Ray."""

import argparse
import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raygpt.command import (
    Opened,
    add_recipe_arguments,
    add_run_arguments,
    command_parser,
    open_recipe,
    plain_console,
    prepare_search,
    run_command,
)

# Each step imports Ray, torch and pandas for itself: they take seconds, for which an error in the
# arguments or the recipe should not wait.
if TYPE_CHECKING:
    from logging.handlers import MemoryHandler

    from ray.tune.logger import LoggerCallback
    from rich.console import Console

    from raygpt.data.dataset import Dataset
    from raygpt.recipe.search_file import SearchFile
    from raygpt.results.tables import Results
    from raygpt.search.cluster import Placement
    from raygpt.search.plan import SearchPlan


def main(arguments: list[str] | None = None) -> int:
    """Run or resume a search, step by step; the first step that cannot be done raises UserError."""
    options = parse_arguments(arguments)
    opened = open_recipe(options, "tune", only_plan=options.plan)
    console = plain_console()
    site = find_hardware(options, opened)
    check_earlier_runs(opened, site)
    tracker = connect_tracker(options, opened)
    at_once = start_ray(site)
    dataset = None if options.plan else prepare_search(site.search_file, site.joined, console)
    check_earlier_runs(opened, site, dataset)
    plan = plan_search(options, opened, site, at_once)
    announce(opened, site, plan, dataset, console)
    if options.plan:
        show_plan(options, plan, console)
        return 0
    make_run_folder(opened, site, dataset)
    results, seconds = run_trials(opened.folder, plan, dataset, site.held_logs, console, tracker)
    return summarise(options, opened, plan, results, seconds, console)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The values of the command line."""
    parser = command_parser("tune", __doc__)
    add_recipe_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="show what the search is expected to cost, after a measurement of a few seconds, and "
        "do not run it",
    )
    parser.add_argument(
        "--tokens-per-second",
        type=positive_number,
        metavar="N",
        help="training speed of one trial, for the plan (default: measured)",
    )
    parser.add_argument(
        "--gpu-hour-price",
        type=positive_number,
        metavar="PRICE",
        help="price of a GPU-hour, for the cost in the plan and the summary",
    )
    parser.add_argument(
        "--tracker",
        choices=("mlflow", "wandb"),
        help="also log the trials to MLflow or Weights & Biases",
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


@dataclass(frozen=True)
class Site:
    """Where the search runs, and the recipe at the scale for that hardware."""

    search_file: "SearchFile"
    joined: bool
    """Whether this is a running Ray cluster; otherwise Ray is started on this machine."""
    gpus: float
    needed: "Placement"
    """Resources of one trial."""
    held_logs: "MemoryHandler"
    """Keeps the logs of Ray and Optuna until there is a run folder."""


def find_hardware(options: argparse.Namespace, opened: Opened) -> Site:
    """Join the Ray cluster if there is one, look for GPUs, and choose the scale accordingly."""
    from raygpt.search import cluster

    held_logs = cluster.hold_logs()
    joined = cluster.join_running_cluster()
    gpus = cluster.available_gpus()
    search_file = opened.at_scale(options, gpus)
    needed = cluster.placement(search_file.search, gpus)
    return Site(search_file, joined, gpus, needed, held_logs)


def check_earlier_runs(opened: Opened, site: Site, dataset: "Dataset | None" = None) -> None:
    """Refuse a new search whose `search.warm_start` names runs that it cannot learn from.

    With a dataset their validation text is compared as well, not only their settings.
    """
    from raygpt.search.warm_start import earlier_runs

    if opened.resumed:
        return
    data = site.search_file.data
    scored = dataset and dataset.fingerprints(data.validation_tokens, data.context)
    earlier_runs(site.search_file, scored)


def connect_tracker(options: argparse.Namespace, opened: Opened) -> "LoggerCallback | None":
    """Connect to the tracker of --tracker; None without one, and for a plan."""
    if not options.tracker or options.plan:
        return None
    from raygpt.search.tracking import open_tracker

    return open_tracker(options.tracker, opened.folder.name)


def start_ray(site: Site) -> int:
    """Start Ray unless a cluster was joined; the number of trials that can run at once."""
    from raygpt.search import cluster

    if not site.joined:
        cluster.start_on_this_machine(dashboard=site.needed.workers > 1)
    return cluster.cluster_trials_at_once(site.needed)


def plan_search(
    options: argparse.Namespace, opened: Opened, site: Site, at_once: int
) -> "SearchPlan":
    """Estimate what the search costs, from a measured speed unless one was given."""
    from raygpt.search.plan import make_plan
    from raygpt.search.throughput import search_pace
    from raygpt.training.probe import Pace

    search_file, needed = site.search_file, site.needed
    if options.tokens_per_second:
        pace = Pace(options.tokens_per_second / needed.workers, evaluation_seconds=0)
    elif opened.resumed:
        pace = None  # the run folder has the plan that was made when the search started
    else:
        pace = search_pace(search_file, needed, at_once)
    return make_plan(search_file, at_once, needed, pace)


def announce(
    opened: Opened,
    site: Site,
    plan: "SearchPlan",
    dataset: "Dataset | None",
    console: "Console",
) -> None:
    """Print what runs on which hardware, for about how long, and how budget and corpus relate."""
    from raygpt.recipe.scale import describe_budget
    from raygpt.search.cluster import describe_hardware
    from raygpt.wording import duration_range

    search_file = site.search_file
    text = f"{describe_hardware(site.gpus)}: " + opened.scales.describe(
        search_file, site.gpus, f"{search_file.search.trials} trials of up to"
    )
    if plan.pace:
        text += f", about {duration_range(*plan.expected.usual_seconds)}"
    available = None if dataset is None else len(dataset.train)
    budget = describe_budget(search_file.baseline(), available)
    console.print(f"{text}.\n{budget}", soft_wrap=True)


def show_plan(options: argparse.Namespace, plan: "SearchPlan", console: "Console") -> None:
    """Print the plan."""
    from raygpt.search.plan import describe_plan

    console.print(describe_plan(plan, options.gpu_hour_price), soft_wrap=True)


def make_run_folder(opened: Opened, site: Site, dataset: "Dataset") -> None:
    """Make the run folder of a search that is not resumed."""
    from raygpt.results.run_folder import create_run

    if not opened.resumed:
        provenance = dataset.provenance()
        create_run(opened.folder, site.search_file, opened.overrides, sys.argv, provenance)


def run_trials(
    folder: Path,
    plan: "SearchPlan",
    dataset: "Dataset",
    held_logs: "MemoryHandler",
    console: "Console",
    tracker: "LoggerCallback | None",
) -> "tuple[Results, float]":
    """Run all trials and, if the recipe asks for it, the confirmation; results and seconds."""
    from raygpt.results import files
    from raygpt.results.run_folder import hold_run
    from raygpt.search.cluster import send_logs_to
    from raygpt.search.plan import save_plan
    from raygpt.search.search import run_search

    with hold_run(folder):
        save_plan(folder, plan)
        send_logs_to(folder / files.LOG, held_logs)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        started = time.monotonic()
        results = run_search(plan, dataset, folder, console, tracker)
        return results, time.monotonic() - started


def summarise(
    options: argparse.Namespace,
    opened: Opened,
    plan: "SearchPlan",
    results: "Results",
    seconds: float,
    console: "Console",
) -> int:
    """Print the leaderboard's top, where everything is, and the cost; the command's exit code."""
    from raygpt.search import summary
    from raygpt.search.plan import describe_spending

    text, status = summary.summarise(results, plan.search_file)
    # The earlier sessions of a resumed search took time that nobody measured.
    measured = None if opened.resumed else seconds
    spent = describe_spending(results, plan, measured, options.gpu_hour_price)
    console.print(f"{text}\nspent         {spent}", soft_wrap=True)
    return status


if __name__ == "__main__":
    run_command(main)
