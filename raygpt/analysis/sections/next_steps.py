"""Report: what to do next, and how to train the winner."""

import json
from collections.abc import Iterator
from pathlib import Path

from raygpt.analysis.blocks import Block, Code, Text
from raygpt.analysis.headlines import unfinished
from raygpt.analysis.run import Run
from raygpt.results import files
from raygpt.results.confirmation import confirmation
from raygpt.results.overfitting import describe_overfitting
from raygpt.results.run_folder import is_being_run
from raygpt.results.tables import is_missing
from raygpt.wording import shell_quoted

CONFIRMED, SEEDS = 3, 3
"""Configurations besides the baseline, and runs of each, that the report advises to confirm."""


def blocks(run: Run) -> Iterator[Block]:
    """Commands to resume, confirm, train, export and continue the search."""
    if warning := describe_overfitting(run):
        yield Text(warning)
    found = list(_commands(run))
    yield from found or [Text("There is nothing to do until a trial has a result.")]


def _commands(run: Run) -> Iterator[Block]:
    folder, names = run.folder, run.searched
    runs_dir = "" if folder.parent == Path("runs") else f" --runs-dir {shell_quoted(folder.parent)}"
    command = "tune" if names or (folder / files.STUDY).exists() else "train"
    search = shell_quoted(folder / files.SEARCH)
    resume = f"python -m raygpt.{command} {search} --resume{runs_dir}"
    if unfinished(run) and not is_being_run(folder):
        yield Code(resume, "Resume this run")
    if names and confirmation(run.trials) is None and run.best is not None:
        yield Code(
            f"{resume} --set 'search.confirm={{top: {CONFIRMED}, seeds: {SEEDS}}}'",
            f"Confirm the result: train each of the {CONFIRMED} best configurations and the "
            f"baseline {SEEDS} more times with other seeds, to see which differences are real. "
            f"This takes at most {(CONFIRMED + 1) * SEEDS * run.best['tokens']:,} tokens; the "
            f"search so far took {run.trials['tokens_trained'].sum():,}",
        )
    recipe = folder / files.BEST_RECIPE
    if recipe.is_file():
        yield Code(
            f"python -m raygpt.train {shell_quoted(recipe)}",
            "Train the winner again, as the search did; add --set training.seed=1 for another seed",
        )
        yield Code(recipe.read_text(), f"The winner's recipe, {recipe}")
    elif not names and (folder / files.SEARCH).is_file():
        yield Code(f"python -m raygpt.train {search} --name NAME", "Train the recipe again")
    if run.best is not None and not is_missing(checkpoint := run.best["checkpoint"]):
        yield Text(f"The winner's trained model is in {folder / checkpoint}.")
        yield Code(
            f"python -m raygpt.export {shell_quoted(folder)} --out my-model",
            "Export the model in the format of transformers",
        )
    if names and run.best is not None and not unfinished(run):
        earlier = shell_quoted(f"search.warm_start=[{json.dumps(str(folder))}]")
        name = shell_quoted(folder.absolute().name + "-2")
        yield Code(
            f"python -m raygpt.tune {search}{runs_dir} --name {name} --set {earlier}",
            "Search further in a new run that learns from these trials; add, for example, "
            "--set 'training.learning_rate={loguniform: [1e-3, 1e-2]}' to change a range",
        )
