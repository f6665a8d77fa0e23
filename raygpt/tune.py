"""`python -m raygpt.tune FILE`: search the ranges of a recipe."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from raygpt.command import (
    open_recipe,
    parse_recipe_arguments,
    prepare_with_progress,
    run_command,
)

if TYPE_CHECKING:
    from raygpt.data.dataset import Dataset


def main(arguments: list[str] | None = None) -> int:
    """Run or resume a search; its tables, log and best recipe stand in the run folder."""
    options = parse_recipe_arguments("tune", __doc__, arguments)
    opened = open_recipe(options)
    folder = opened.folder

    from rich.console import Console

    from raygpt.recipe import budget, scale
    from raygpt.results import files
    from raygpt.results.run_folder import create_run, hold_run, refuse_other_kind
    from raygpt.search import cluster
    from raygpt.training.probe import tokens_per_second

    if opened.resumed:
        refuse_other_kind(folder, "tune")
    console = Console(highlight=False, markup=False, emoji=False)
    logs = cluster.hold_logs()
    joined = cluster.join_running_cluster()
    gpus = cluster.gpus_at_hand()
    search_file = opened.at_hand(options, gpus)
    needed = cluster.placement(search_file.search, gpus)
    recipe = scale.example_recipe(search_file)

    def prepare() -> tuple["Dataset", float | None]:
        dataset = prepare_with_progress(recipe, console)
        if gpus or opened.resumed:
            return dataset, None
        return dataset, tokens_per_second(recipe, dataset, threads=max(1, int(needed.cpus)))

    # Ray's start is mostly waiting, which is time enough for what else is to be done first. Ray
    # itself has to be started by the main thread: its processes end with the thread that did.
    with ThreadPoolExecutor(max_workers=1) as background:
        preparation = background.submit(prepare)
        if not joined:
            cluster.start_on_this_machine(dashboard=needed.workers > 1)
        dataset, rate = preparation.result()

    from raygpt.search.estimate import expected_seconds
    from raygpt.search.search import run_search
    from raygpt.search.summary import summarise

    at_once = cluster.cluster_trials_at_once(needed)

    line = f"{cluster.describe_hardware(gpus)}: " + scale.describe_scale(
        search_file, opened.full, gpus, f"{search_file.search.trials} trials of up to"
    )
    if rate:
        seconds = expected_seconds(
            search_file.search, budget.budget_tokens(recipe), rate * needed.workers * at_once
        )
        line += f", {scale.describe_seconds(seconds)}"
    console.print(f"{line}.\n{scale.describe_budget(recipe, len(dataset.train))}", soft_wrap=True)

    if not opened.resumed:
        create_run(folder, search_file, opened.overrides, sys.argv)
    with hold_run(folder):
        cluster.send_logs_to(folder / files.LOG, logs)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        results = run_search(search_file, folder, needed, at_once, console)
    text, status = summarise(results, search_file)
    console.print(text, soft_wrap=True)
    return status


if __name__ == "__main__":
    run_command(main)
