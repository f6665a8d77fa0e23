"""`python -m raygpt.train FILE`: train one recipe without ranges on this machine, without Ray."""

import argparse
import signal
import sys

from raygpt.command import add_recipe_arguments, prepare_with_progress, run_command


def main(arguments: list[str] | None = None) -> int:
    """Train or resume; tables and checkpoint stand in a run folder as of a search of one trial."""
    options = parse(arguments)

    from raygpt.recipe.search_file import load_search_file
    from raygpt.results.run_folder import create_run, refuse_existing, reopen_run
    from raygpt.training.scale import choose_scale, describe_budget, describe_scale

    full = load_search_file(options.file, "full", options.set)
    mini = load_search_file(options.file, "mini", options.set)
    folder = options.runs_dir / (options.name or full.name)
    search_file = None
    if options.resume:
        search_file = reopen_run(folder, options.file, options.set)
    else:
        refuse_existing(folder)
