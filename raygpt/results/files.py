"""The names of the files in a run folder, and how they are read and written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raygpt import atomic
from raygpt.errors import UserError

SEARCH = "search.yaml"
ENVIRONMENT = "environment.json"
TRIALS = "trials.parquet"
HISTORY = "history.parquet"
JOURNAL = "journal.jsonl"
LEADERBOARD = "leaderboard.csv"
BEST_RECIPE = "best.yaml"
STUDY = "study.db"
PLAN = "plan.json"
LOG = "run.log"
LOCK = ".lock"
TRIAL_FOLDERS = "trials"
CHECKPOINT_FOLDER = "checkpoint"
CHECKPOINT_FILE = "checkpoint.pt"
EVENT_FILES = "tensorboard"


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Replace a file of a run folder in one step, as `raygpt.atomic.replace_file` does.

    Raises:
        UserError: it cannot be written.
    """
    try:
        atomic.replace_file(path, write)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file or it cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def append_line(path: Path, line: str) -> None:
    """Append a line to a file in one write, so that a kill damages no earlier line.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def read_lines(path: Path) -> list[str]:
    """The complete lines of a file; none if there is no such file."""
    try:
        return path.read_text().rpartition("\n")[0].splitlines()
    except FileNotFoundError:
        return []
