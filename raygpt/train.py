"""`python -m raygpt.train FILE`: train one recipe without ranges on this machine, without Ray."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from raygpt.command import (
    open_recipe,
    prepare_with_progress,
    recipe_arguments,
    run_command,
)
from raygpt.errors import UserError
from raygpt.recipe import budget, scale
from raygpt.wording import rough_duration

if TYPE_CHECKING:
    from rich.console import Console

    from raygpt.recipe.schema import Recipe
    from raygpt.results.event_files import EventFiles
    from raygpt.results.tables import RunTables
    from raygpt.training.loop import Report, TrainingRun

TRIAL = "0000"


def main(arguments: list[str] | None = None) -> int:
    """Train or resume; the run folder is that of a search of one trial."""
    options = recipe_arguments("train", __doc__).parse_args(arguments)
    opened = open_recipe(options, may_search=False)

    from raygpt.results.run_folder import create_run, hold_run, refuse_other_kind

    if opened.resumed:
        refuse_other_kind(opened.folder, "train")
        opened.resumed.single_recipe()
        if is_finished(opened.folder):
            print(f"Nothing to do: the run in {opened.folder} has come to its end already.")
            return 0

    import torch
    from rich.console import Console

    from raygpt.results.event_files import EventFiles
    from raygpt.results.files import CHECKPOINT_FOLDER
    from raygpt.results.tables import RunTables
    from raygpt.training.hardware import set_threads
    from raygpt.training.loop import TrainingRun
    from raygpt.training.probe import measure_pace

    console = Console(highlight=False, markup=False, emoji=False)
    gpus = min(1, torch.cuda.device_count())
    chosen = opened.at_hand(options, gpus)
    recipe = without_cooldowns(chosen.single_recipe())
    dataset = prepare_with_progress(recipe.data, budget.budget_tokens(recipe), console)
    what = opened.scales.describe(chosen, gpus, "one run of")
    line = f"Found {'a' if gpus else 'no'} GPU: {what}"
    if not gpus:
        rate = measure_pace(recipe).tokens_per_second
        line += f", {rough_duration(budget.budget_tokens(recipe) / rate)}"
        threads = set_threads(recipe.search.cpus_per_worker)
        line += f" with {threads} of {os.cpu_count()} CPU cores (search.cpus_per_worker)"
    console.print(f"{line}.\n{scale.describe_budget(recipe, len(dataset.train))}", soft_wrap=True)

    run = TrainingRun(recipe, dataset)
    folder = opened.folder
    if not opened.resumed:
        create_run(folder, chosen, opened.overrides, sys.argv, dataset.provenance())
    with hold_run(folder):
        if (folder / CHECKPOINT_FOLDER).exists():
            run.load(folder / CHECKPOINT_FOLDER)
        data = dataset.fingerprints(recipe.data.validation_tokens, recipe.data.context)
        tables = RunTables(folder, searched=(), data=data)
        tables.drop_reports_after(TRIAL, run.step * run.tokens_per_step)
        tables.begin_trial(TRIAL, recipe.training.seed, {})
        event_files = EventFiles(folder)
        event_files.begin_trial(tables.trial(TRIAL), tables.history)
        try:
            finished = train(run, tables, event_files, console)
        finally:
            tables.flush()
            if tables.trial(TRIAL)["status"] != "running":
                event_files.end_trial(tables.trial(TRIAL))
    if finished:
        console.print(f"Done: tables and checkpoint are in {folder}", soft_wrap=True)
        return 0
    console.print(
        f"Interrupted at {run.step * run.tokens_per_step:,} tokens; all is kept. Go on with the "
        f"same command and --resume.",
        soft_wrap=True,
    )
    return 130


def without_cooldowns(recipe: "Recipe") -> "Recipe":
    """The recipe for a run that nobody stops at a rung: cooldowns would be tokens for nothing."""
    search = recipe.search.model_copy(update={"rung_metric": "raw"})
    return recipe.model_copy(update={"search": search})


class Interrupted(Exception):
    """Ctrl-C or SIGTERM; the run stands between two steps and can be saved."""


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder of this command has come to its end."""
    from raygpt.results.tables import RunTables

    trials = RunTables(folder, searched=()).trials
    return [trial["status"] for trial in trials] == ["completed"]


def train(
    run: "TrainingRun", tables: "RunTables", event_files: "EventFiles", console: "Console"
) -> bool:
    """Train to the end of the budget under a progress bar; False if Ctrl-C came first."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from raygpt.results.files import CHECKPOINT_FOLDER
    from raygpt.training.loop import TrainingDiverged

    checkpoint = tables.folder.absolute() / CHECKPOINT_FOLDER
    report_steps = {*run.report_steps, *budget.rung_steps(run.recipe)}
    interrupted = False

    def interrupt(*_) -> None:
        nonlocal interrupted
        interrupted = True
        progress.update(task, description="stopping after this step")
        # A second time stops at once, and the last checkpoint has to do.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def after_step() -> None:
        # Between steps only, so that what is saved is a state that the run goes through; and not
        # before a report that is due, which would never be made.
        progress.update(task, completed=run.step)
        if interrupted and run.step not in report_steps:
            raise Interrupted

    def save() -> None:
        run.save(checkpoint)
        tables.set_checkpoint(TRIAL, checkpoint, run.step * run.tokens_per_step)

    columns = (BarColumn(16), "{task.percentage:.0f}%", TimeElapsedColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}")
    terminal = console.is_terminal
    with Progress(
        *columns, text, console=console, transient=True, disable=not terminal
    ) as progress:
        task = progress.add_task("", total=budget.steps(run.recipe), completed=run.step)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        try:
            for report in run.reports(after_step):
                tables.add_report(TRIAL, report.metrics())
                event_files.add_report(TRIAL, report.metrics())
                if report.checkpoint_due:
                    save()
                progress.update(
                    task,
                    description=f"{report.train_bits_per_token:.3f} bits per token, "
                    f"{report.tokens_per_second:,.0f} tokens/s",
                )
                if report.rung is not None or not terminal:
                    progress.console.print(describe(report), soft_wrap=True)
                if interrupted and report.step < budget.steps(run.recipe):
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


if __name__ == "__main__":
    run_command(main)
