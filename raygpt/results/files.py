"""The names of what stands in a run folder, and how a file there is replaced."""

from collections.abc import Callable
from pathlib import Path

from raygpt.errors import UserError

SEARCH = "search.yaml"
ENVIRONMENT = "environment.json"
TRIALS = "trials.parquet"
HISTORY = "history.parquet"
LEADERBOARD = "leaderboard.csv"
BEST_RECIPE = "best.yaml"
STUDY = "study.db"
PLAN = "plan.json"
LOG = "run.log"
LOCK = ".lock"
TRIAL_FOLDERS = "trials"


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one step.

    Whoever reads `path` at any time, also after a kill, finds the old content or the new.

    Raises:
        UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
