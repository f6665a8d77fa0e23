"""What the commands share: their arguments, how they show progress, how they end."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raygpt.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from raygpt.data.dataset import Dataset
    from raygpt.data.spread import Spread
    from raygpt.recipe.scale import Scales
    from raygpt.recipe.search_file import SearchFile
    from raygpt.recipe.sections import Data


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit: an error of the user's is one message and status 2."""
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        # Whoever read along, such as `head`, has had enough; Python's exit must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def recipe_options(command: str, description: str | None) -> argparse.ArgumentParser:
    """The command line of a command that takes a recipe file at some scale."""
    parser = argparse.ArgumentParser(prog=f"python -m raygpt.{command}", description=description)
    parser.add_argument("file", type=Path, metavar="FILE", help="recipe, a YAML file")
    parser.add_argument(
        "--scale",
        choices=("auto", "full", "mini"),
        default="auto",
        help="auto: the recipe's mini section where there is no GPU",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the recipe, as in training.tokens=2M; may be repeated",
    )
    return parser


def recipe_arguments(command: str, description: str | None) -> argparse.ArgumentParser:
    """The command line of a command that runs a recipe file into a run folder."""
    parser = recipe_options(command, description)
    parser.add_argument(
        "--allow-cpu", action="store_true", help="run the full scale without a GPU, slowly"
    )
    parser.add_argument("--name", type=run_name, help="name of the run; the recipe's if left out")
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where run folders are made (default: runs)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run that was interrupted"
    )
    return parser


def run_name(text: str) -> str:
    """A name that --name gives, as good as one that stands in a recipe."""
    from raygpt.recipe.errors import RecipeError
    from raygpt.recipe.fields import read_value

    try:
        return read_value("name", text)
    except RecipeError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


@dataclass(frozen=True)
class Opened:
    """A recipe file and the run folder that it is run into."""

    scales: "Scales"
    folder: Path
    overrides: list[str]
    resumed: "SearchFile | None"
    """What the run in the folder is, with --resume."""

    def at_hand(self, options: argparse.Namespace, gpus: float) -> "SearchFile":
        """The search file at the scale that the options and the hardware come to."""
        return self.resumed or self.scales.choose(gpus, options.allow_cpu)


def open_recipe(
    options: argparse.Namespace, may_search: bool = True, only_plan: bool = False
) -> Opened:
    """Read a command's recipe at both scales, and look at the folder that it would be run into.

    What is wrong with either on any hardware is said here, before anything slow is imported.

    Args:
        options: from `recipe_arguments`.
        may_search: whether the recipe may have ranges.
        only_plan: whether nothing is going to be run, so that any folder will do.
    """
    from raygpt.recipe.scale import Scales
    from raygpt.results.run_folder import refuse_existing, reopen_run

    overrides = [*options.set, *([f'name="{options.name}"'] if options.name else [])]
    scales = Scales(options.file, overrides, options.scale)
    first = scales.possible[0]
    # What is resumed may have its ranges fixed by the --set's that it was started with.
    if not may_search and not options.resume and all(found.ranges for found in scales.possible):
        first.single_recipe()
    folder = options.runs_dir / first.name
    resumed = None
    if options.resume:
        resumed = reopen_run(folder, options.file, overrides)
        if options.scale not in ("auto", resumed.scale):
            raise UserError(
                f"--scale {options.scale}: {folder} was started at the {resumed.scale} scale; "
                f"leave --scale out to go on with it"
            )
    elif not only_plan:
        refuse_existing(folder)
    return Opened(scales, folder, overrides, resumed)


def prepare_with_progress(
    data: "Data", train_tokens: int, console: "Console", spread: "Spread | None" = None
) -> "Dataset":
    """Call `raygpt.data.prepare.prepare`, with a progress bar meanwhile."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from raygpt.data.prepare import prepare
    from raygpt.data.split import describe_share

    columns = (
        TextColumn("preparing tokens"),
        BarColumn(16),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    terminal = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not terminal) as progress:
        task = progress.add_task("", total=train_tokens, visible=False, rate="")
        began = text_before = None

        def show(train_tokens: int, text_bytes: int) -> None:
            nonlocal began, text_before
            if began is None:
                began, text_before = time.monotonic(), text_bytes
                rate = ""
            else:
                rate = (text_bytes - text_before) / 1e6 / (time.monotonic() - began)
                rate = f", {rate:.1f} MB/s"
            progress.update(task, completed=train_tokens, visible=True, rate=rate)

        dataset = prepare(data, train_tokens, show, spread)
    if share := describe_share(dataset):
        console.print(share, soft_wrap=True)
    return dataset
