"""`python -m raygpt.train FILE`: train one recipe on this machine, without Ray or a search."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from raygpt.command import (
    Opened,
    add_recipe_arguments,
    add_run_arguments,
    command_parser,
    open_recipe,
    plain_console,
    prepare_with_progress,
    progress_bar,
    run_command,
)
from raygpt.errors import UserError

# Each step imports torch and pandas for itself: they take seconds, for which an error in the
# arguments or the recipe should not wait.
if TYPE_CHECKING:
    from rich.console import Console

    from raygpt.data.dataset import Dataset
    from raygpt.recipe.schema import Recipe
    from raygpt.recipe.search_file import SearchFile
    from raygpt.results.event_files import EventFiles
    from raygpt.results.tables import RunTables
    from raygpt.training.loop import Report, TrainingRun

TRIAL = "0000"


def main(arguments: list[str] | None = None) -> int:
    """Train or resume, step by step; the run folder is like that of a search with one trial."""
    options = parse_arguments(arguments)
    opened = open_recipe(options, "train")
    if opened.resumed and is_finished(opened.folder):
        print(f"Nothing to do: the run in {opened.folder} is finished.")
        return 0
    console = plain_console()
    gpus, chosen = find_hardware(options, opened)
    recipe = without_cooldowns(chosen.single_recipe())
    dataset = prepare_tokens(recipe, console)
    seconds = None if gpus else estimate_seconds(recipe)
    announce(opened, gpus, chosen, recipe, dataset, seconds, console)
    run = set_up_run(opened, chosen, recipe, dataset)
    finished = train(opened.folder, run, dataset, console)
    return summarise(opened.folder, run, finished, console)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The values of the command line."""
    parser = command_parser("train", __doc__)
    add_recipe_arguments(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder of this command was trained to its full budget."""
    from raygpt.results.tables import RunTables

    trials = RunTables(folder, searched=()).trials
    return [trial["status"] for trial in trials] == ["completed"]


def find_hardware(options: argparse.Namespace, opened: Opened) -> tuple[int, "SearchFile"]:
    """The number of GPUs that the run uses, and the recipe at the scale for that hardware."""
    import torch

    gpus = min(1, torch.cuda.device_count())
    return gpus, opened.at_scale(options, gpus)


def without_cooldowns(recipe: "Recipe") -> "Recipe":
    """The recipe judged by raw values: a run that is never stopped needs no cooldown to a rung."""
    search = recipe.search.model_copy(update={"rung_metric": "raw"})
    return recipe.model_copy(update={"search": search})


def prepare_tokens(recipe: "Recipe", console: "Console") -> "Dataset":
    """Tokenise as much of the corpus as the budget needs."""
    from raygpt.recipe.budget import budget_tokens

    return prepare_with_progress(recipe.data, budget_tokens(recipe), console)


def estimate_seconds(recipe: "Recipe") -> float:
    """About how long the run takes on this machine's CPU, from a measurement of a few seconds."""
    from raygpt.recipe.budget import budget_tokens
    from raygpt.training.probe import measure_pace

    return budget_tokens(recipe) / measure_pace(recipe).tokens_per_second


def announce(
    opened: Opened,
    gpus: int,
    chosen: "SearchFile",
    recipe: "Recipe",
    dataset: "Dataset",
    seconds: float | None,
    console: "Console",
) -> None:
    """Print what runs on which hardware, for about how long, and how budget and corpus relate."""
    from raygpt.recipe.scale import describe_budget
    from raygpt.training.hardware import set_threads
    from raygpt.wording import rough_duration

    text = f"Found {'a' if gpus else 'no'} GPU: "
    text += opened.scales.describe(chosen, gpus, "one run of")
    if seconds is not None:
        threads = set_threads(recipe.search.cpus_per_worker)
        text += (
            f", {rough_duration(seconds)} with {threads} of {os.cpu_count()} CPU cores "
            f"(search.cpus_per_worker)"
        )
    console.print(f"{text}.\n{describe_budget(recipe, len(dataset.train))}", soft_wrap=True)


def set_up_run(
    opened: Opened, chosen: "SearchFile", recipe: "Recipe", dataset: "Dataset"
) -> "TrainingRun":
    """Build the model; then make the run folder, unless the run is resumed."""
    from raygpt.results.run_folder import create_run
    from raygpt.training.loop import TrainingRun

    run = TrainingRun(recipe, dataset)
    if not opened.resumed:
        create_run(opened.folder, chosen, opened.overrides, sys.argv, dataset.provenance())
    return run


def train(folder: Path, run: "TrainingRun", dataset: "Dataset", console: "Console") -> bool:
    """Train from the last checkpoint, if any, to the end of the budget, and fill the run folder.

    Returns:
        Whether it reached the end; otherwise Ctrl-C or SIGTERM stopped it.

    Raises:
        UserError: the run diverged, or its micro-batch does not fit in the memory.
    """
    from raygpt.results.event_files import EventFiles
    from raygpt.results.files import CHECKPOINT_FOLDER
    from raygpt.results.run_folder import hold_run
    from raygpt.results.tables import RunTables

    with hold_run(folder):
        data = dataset.fingerprints(run.recipe.data.validation_tokens, run.recipe.data.context)
        tables = RunTables(folder, searched=(), data=data)
        if (folder / CHECKPOINT_FOLDER).exists():
            run.load(folder / CHECKPOINT_FOLDER)
        tables.drop_reports_after(TRIAL, run.step * run.tokens_per_step)
        tables.begin_trial(TRIAL, run.recipe.training.seed, {})
        event_files = EventFiles(folder)
        event_files.begin_trial(tables.trial(TRIAL), tables.history)
        try:
            return train_to_end(run, tables, event_files, console)
        finally:
            tables.flush()
            if tables.trial(TRIAL)["status"] != "running":
                event_files.end_trial(tables.trial(TRIAL))


def train_to_end(
    run: "TrainingRun", tables: "RunTables", event_files: "EventFiles", console: "Console"
) -> bool:
    """Train with a progress bar and record every report; returns whether it reached the end.

    Raises:
        UserError: for the same reasons as `train`.
    """
    from raygpt.recipe.budget import rung_steps, steps
    from raygpt.results.files import CHECKPOINT_FOLDER
    from raygpt.training.loop import TrainingDiverged

    checkpoint = tables.folder.absolute() / CHECKPOINT_FOLDER
    report_steps = {*run.report_steps, *rung_steps(run.recipe)}
    total = steps(run.recipe)

    def save() -> None:
        run.save(checkpoint)
        tables.set_checkpoint(TRIAL, checkpoint, run.step * run.tokens_per_step)

    with progress_bar(console) as progress:
        task = progress.add_task("training", total=total, completed=run.step, status="")

        def after_step() -> None:
            progress.update(task, completed=run.step)
            # A report that is due comes first: after a resume it would never be made.
            if interrupt.requested and run.step not in report_steps:
                raise Interrupted

        def stopping() -> None:
            progress.update(task, description="stopping after this step")

        with InterruptRequest(stopping) as interrupt:
            try:
                for report in run.reports(after_step):
                    tables.add_report(TRIAL, report.metrics())
                    event_files.add_report(TRIAL, report.metrics())
                    if report.checkpoint_due:
                        save()
                    progress.update(task, status=describe_briefly(report))
                    if report.rung is not None or not console.is_terminal:
                        progress.console.print(describe(report), soft_wrap=True)
                    if interrupt.requested and report.step < total:
                        raise Interrupted
            except Interrupted:
                save()
                return False
            except UserError as error:
                tables.end_trial(TRIAL, "failed", str(error))
                raise
            except TrainingDiverged as error:
                tables.end_trial(TRIAL, "diverged", str(error))
                raise UserError(f"the run diverged: {error}; try a lower learning rate") from None
    tables.end_trial(TRIAL, "completed")
    return True


class Interrupted(Exception):
    """The run stops between two optimizer steps, where it can be saved."""


class InterruptRequest:
    """Notes Ctrl-C and SIGTERM within the block.

    The first one only sets `requested`, so that the run can be saved between two optimizer steps. A
    second one ends the process at once, and the run can be resumed from its last checkpoint.

    Args:
        on_request: called at the first one.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, on_request: Callable[[], None]):
        self.requested = False
        self._on_request = on_request
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> "InterruptRequest":
        for number in self.SIGNALS:
            self._restore.callback(signal.signal, number, signal.signal(number, self._receive))
        return self

    def __exit__(self, *_) -> None:
        self._restore.close()

    def _receive(self, *_) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._on_request()


def describe_briefly(report: "Report") -> str:
    """A report as the progress bar shows it."""
    return (
        f"{report.train_bits_per_token:.3f} bits per token, "
        f"{report.tokens_per_second:,.0f} tokens/s"
    )


def describe(report: "Report") -> str:
    """A report on one line."""
    parts = [f"{report.tokens:,} tokens"]
    if report.bits_per_byte is not None:
        parts += [
            f"{report.bits_per_byte:.4f} bits per byte",
            f"accuracy {report.next_token_accuracy:.1%}",
        ]
    return ", ".join(
        [
            *parts,
            f"training loss {report.train_bits_per_token:.3f} bits per token",
            f"gradient norm {report.gradient_norm:.2f}",
            f"learning rate {report.learning_rate:.2e}",
            f"{report.tokens_per_second:,.0f} tokens/s",
        ]
    )


def summarise(folder: Path, run: "TrainingRun", finished: bool, console: "Console") -> int:
    """Print how the run ended and where it is; the command's exit code."""
    if finished:
        console.print(f"Done: tables and checkpoint are in {folder}", soft_wrap=True)
        return 0
    console.print(
        f"Interrupted at {run.step * run.tokens_per_step:,} tokens; everything is saved. Continue "
        f"with the same command and --resume.",
        soft_wrap=True,
    )
    return 130


if __name__ == "__main__":
    run_command(main)
