"""The names of what stands in a run folder, and how a file there is replaced."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

SEARCH = "search.yaml"
ENVIRONMENT = "environment.json"
TRIALS = "trials.parquet"
HISTORY = "history.parquet"
LEADERBOARD = "leaderboard.csv"
BEST_RECIPE = "best.yaml"
STUDY = "study.db"
LOG = "run.log"
TRIAL_FOLDERS = "trials"


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one step.

    Whoever reads `path` at any time, also after a kill, finds the old content or the new.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
