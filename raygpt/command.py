"""What the commands share: arguments, opening a recipe, the progress bar, errors and exit codes."""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from raygpt.errors import UserError
from raygpt.shipped import find_recipe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from raygpt.data.dataset import Dataset
    from raygpt.data.spread import Spread
    from raygpt.recipe.scale import Scales
    from raygpt.recipe.search_file import SearchFile
    from raygpt.recipe.sections import Data


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit; a UserError becomes one message and exit code 2."""
    # A terminal whose encoding lacks a character shows its number.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe; Python's exit must not flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def printable(text: str) -> str:
    """A text with its control characters escaped, so that a terminal does not obey them."""
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1]
        for character in text
    )


# --- arguments ----------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An argparse parser whose messages do not send control characters to the terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def command_parser(command: str, module_doc: str | None) -> Parser:
    """A parser whose usage line names the command as it was called.

    Args:
        command: such as "tune".
        module_doc: the docstring of the command's module.
    """
    summary = command_summary(module_doc)
    return Parser(prog=called_as(command), description=summary[:1].upper() + summary[1:])


def called_as(command: str) -> str:
    """`raygpt tune`, `python -m raygpt tune` or `python -m raygpt.tune`."""
    program = Path(sys.argv[0])
    if program.parts[-2:] == ("raygpt", "__main__.py"):
        return f"python -m raygpt {command}"
    return f"raygpt {command}" if program.stem == "raygpt" else f"python -m raygpt.{command}"


def command_summary(module_doc: str | None) -> str:
    """The first sentence of a command's docstring without the command line that it begins with."""
    first = (module_doc or "").partition("\n\n")[0]
    return " ".join(first.rpartition("`: ")[2].split())


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that reads a recipe."""
    parser.add_argument(
        "file",
        type=given_path,
        metavar="FILE",
        help="recipe: a YAML file, or the name of one that comes with raygpt, such as lr_sched",
    )
    parser.add_argument(
        "--scale",
        choices=("auto", "full", "mini"),
        default="auto",
        help="full: the recipe as it is; mini: with its mini section applied; auto (the default): "
        "full where there is a GPU, mini elsewhere",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the recipe, as in training.tokens=2M; may be repeated",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that runs a recipe in a run folder."""
    parser.add_argument(
        "--allow-cpu", action="store_true", help="allow --scale full without a GPU, which is slow"
    )
    parser.add_argument(
        "--name", type=run_name, help="name of the run and its folder (default: the recipe's name)"
    )
    parser.add_argument(
        "--runs-dir",
        type=given_path,
        default=Path("runs"),
        metavar="DIR",
        help="folder in which the run folder is made (default: runs)",
    )
    parser.add_argument("--resume", action="store_true", help="continue a run that was interrupted")


def given_path(text: str) -> Path:
    """A path on the command line, which Ray and pyarrow must be able to pass on."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; it must name a file or folder")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8; rename it") from None
    return Path(text)


def run_name(text: str) -> str:
    """The value of --name, under the same rules as `name` in a recipe."""
    from raygpt.recipe.errors import RecipeError
    from raygpt.recipe.fields import GPT_SCHEMA

    if not text:
        raise argparse.ArgumentTypeError("is empty; leave --name out for the recipe's name")
    try:
        return GPT_SCHEMA.read_value("name", text)
    except RecipeError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


# --- a recipe and its run folder ----------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """A recipe file and the run folder in which it is to run."""

    scales: "Scales"
    folder: Path
    overrides: list[str]
    resumed: "SearchFile | None"
    """The search file of the existing run in the folder; None without --resume."""

    def at_scale(self, options: argparse.Namespace, gpus: float) -> "SearchFile":
        """The search file at the scale that the options ask for or the hardware suggests."""
        return self.resumed or self.scales.choose(gpus, options.allow_cpu)


def read_scales(options: argparse.Namespace, overrides: list[str]) -> "Scales":
    """Read the recipe that the arguments name, at both scales.

    Raises:
        UserError: there is no such recipe, or it has errors.
    """
    from raygpt.recipe.scale import Scales

    return Scales(find_recipe(options.file), overrides, options.scale)


def open_recipe(options: argparse.Namespace, command: str, only_plan: bool = False) -> Opened:
    """Read a command's recipe and check its run folder.

    Errors that do not depend on the hardware are reported here, before anything slow is imported.

    Args:
        options: the values of `add_recipe_arguments` and `add_run_arguments`.
        command: "tune"; or "train", which refuses ranges.
        only_plan: whether only the plan is shown, so that the run folder does not matter.

    Raises:
        UserError: the recipe cannot be run, or not in this folder.
    """
    from raygpt.results.run_folder import refuse_existing, refuse_other_kind, reopen_run

    overrides = [*options.set, *([f'name="{options.name}"'] if options.name else [])]
    scales = read_scales(options, overrides)
    first = scales.possible[0]
    folder = options.runs_dir / first.name
    resumed = None
    if options.resume:
        refuse_unreadable(folder)
        resumed = reopen_run(folder, first.path, overrides)
        if options.scale not in ("auto", resumed.scale):
            raise UserError(
                f"--scale {options.scale}: {folder} was started at the {resumed.scale} scale; "
                f"leave --scale out to continue it"
            )
        refuse_other_kind(folder, command)
        if command == "train":
            resumed.single_recipe()  # --set may have replaced the ranges at its first start
    else:
        if command == "train" and all(found.ranges for found in scales.possible):
            first.single_recipe()
        if not only_plan:
            refuse_existing(folder)
    return Opened(scales, folder, overrides, resumed)


def refuse_unreadable(folder: Path) -> None:
    """Raise UserError if it cannot be checked whether a folder exists."""
    try:
        folder.exists()
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None


# --- the terminal -------------------------------------------------------------------------------


def plain_console() -> "Console":
    """A console that prints texts as they are."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def progress_bar(console: "Console") -> "Progress":
    """A progress bar that disappears at its end, and does not appear outside a terminal.

    A task has a description and a field `status`, a text of its own.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(16),
        TextColumn("{task.percentage:.0f}%"),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def prepare_search(
    search_file: "SearchFile", joined: bool, console: "Console", tasks: int | None = None
) -> "Dataset":
    """Tokenise as much of the corpus as the largest trial needs.

    Args:
        search_file: ranges and recipe.
        joined: whether to use all cores of the Ray cluster that was joined.
        console: where the progress is shown.
        tasks: number of processes on this machine, without a cluster (default: one a core).
    """
    from raygpt.data.spread import in_processes
    from raygpt.search.preparation import in_ray_tasks

    spread = in_ray_tasks if joined else in_processes(tasks)
    return prepare_with_progress(search_file.data, search_file.largest_budget(), console, spread)


def prepare_with_progress(
    data: "Data", train_tokens: int, console: "Console", spread: "Spread | None" = None
) -> "Dataset":
    """Call `raygpt.data.prepare.prepare` and show its progress."""
    from raygpt.data.prepare import prepare
    from raygpt.data.split import describe_share

    with progress_bar(console) as progress:
        task = progress.add_task("preparing tokens", total=train_tokens, visible=False, status="")
        began = bytes_before = None

        def show(tokens: int, text_bytes: int) -> None:
            nonlocal began, bytes_before
            status = f"{tokens:,} of {train_tokens:,}"
            if began is None:
                began, bytes_before = time.monotonic(), text_bytes
            else:
                rate = (text_bytes - bytes_before) / 1e6 / (time.monotonic() - began)
                status += f", {rate:.1f} MB/s"
            progress.update(task, completed=tokens, visible=True, status=status)

        dataset = prepare(data, train_tokens, show, spread)
    if share := describe_share(dataset):
        console.print(share, soft_wrap=True)
    return dataset
