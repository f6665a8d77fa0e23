"""Run folders: making one, and opening one to resume its run."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from raygpt.errors import UserError
from raygpt.recipe.own_model import COPY
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.recipe.writer import settings_to_yaml
from raygpt.results import files
from raygpt.results.environment import environment

CHANGEABLE = (
    # The tokens must be the same nevertheless; RunTables compares their fingerprints.
    "data.corpus",
    "data.cache",
    "search.hang_timeout",
    "search.trials",
    "search.concurrent",
    "search.confirm",
    "model.activation_checkpointing",
    "training.micro_batch",
)


def create_run(
    folder: Path,
    search_file: SearchFile,
    overrides: list[str],
    command: list[str],
    data: dict[str, Any],
) -> None:
    """Make a run folder with the search file and the environment of the run.

    Args:
        folder: the folder to make.
        search_file: the search file at the scale that is run.
        overrides: the `--set` options that went into it.
        command: the command line.
        data: the source of the tokens, see `Dataset.provenance`.

    Raises:
        UserError: the folder exists or cannot be made.
    """
    made_with = {"scale": search_file.scale, "overrides": overrides, "data": data}
    made_with |= environment(command)
    refuse_existing(folder)
    try:
        folder.mkdir()
    except OSError as error:
        raise _unwritable(folder, error) from error
    _write(folder, search_file, made_with)


def refuse_existing(folder: Path) -> None:
    """Raise UserError if the path exists, or a run folder cannot be made there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} cannot be made: you have no permission to write to {folder.parent}; make "
            f"the run folder elsewhere with --runs-dir DIR"
        )
    if folder.exists():
        raise UserError(
            f"{folder} exists and is not overwritten; resume its run with --resume, or start "
            f"another run with --name NAME"
        )


@contextlib.contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other process uses it meanwhile.

    Raises:
        UserError: another process has locked it.
    """
    # The timeout is there because `is_being_run` holds the lock for a moment.
    lock = FileLock(folder / files.LOCK, timeout=1)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another process is running in {folder}; wait until it ends, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_being_run(folder: Path) -> bool:
    """Whether a process is running in the folder, as far as this machine can see."""
    lock = folder / files.LOCK
    if not lock.is_file():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # a process of this user could lock it


def reopen_run(folder: Path, path: Path, overrides: Iterable[str]) -> SearchFile:
    """The search of an existing run, to resume it.

    The settings must be those that the run was started with, except for CHANGEABLE; changes of
    these are written into the run folder.

    Args:
        folder: the run folder.
        path: the search file that the user names now, which may be the run's own.
        overrides: the `--set` options given now, in addition to those of the run itself.

    Raises:
        UserError: there is no such run, or other settings have changed.
    """
    if not folder.exists():
        raise UserError(f"--resume: there is no run in {folder}; leave out --resume to start one")
    if not (folder / files.SEARCH).is_file():
        raise UserError(
            f"--resume: {folder} is not a run folder (no {files.SEARCH} in it); delete it, or "
            f"leave out --resume and start another run with --name NAME"
        )
    kept = load_search_file(folder / files.SEARCH)
    made_with = _read_environment(folder / files.ENVIRONMENT)
    scale, overrides = made_with["scale"], [*made_with["overrides"], *overrides]
    now = load_search_file(path, scale, overrides)
    changes = list(_changes(kept, now))
    if changes:
        raise UserError(
            f"--resume: {path} now differs from what {folder} was started with at the {scale} "
            f"scale: {'; '.join(changes)}. Start another run with --name NAME, or resume this one "
            f"with its own settings: --resume with {folder / files.SEARCH}"
        )
    if now != kept:
        _write(folder, now, made_with | {"overrides": overrides})
    return now


def refuse_other_kind(folder: Path, command: str) -> None:
    """Raise UserError if the run in a folder is not of this command, "tune" or "train"."""
    if not (folder / files.TRIALS).exists():
        return  # the run was killed before it began
    of = "tune" if (folder / files.STUDY).exists() else "train"
    if of != command:
        raise UserError(
            f"--resume: {folder} is a run of raygpt.{of}; resume it with python -m raygpt.{of}, or "
            f"start another run with --name NAME"
        )


def _changes(then: SearchFile, now: SearchFile) -> Iterator[str]:
    """Descriptions of the settings that differ although they must not."""
    old, new = ({**search.fixed, **search.ranges} for search in (then, now))
    if then.own != now.own and old["model.module"] == new["model.module"]:
        yield f"the file of model.module ({now.own.path}) has changed"
    for key in dict.fromkeys([*then.schema.fields, *now.schema.fields]):
        if key not in CHANGEABLE and old.get(key) != new.get(key):
            yield f"{key} was {_as_text(key, old.get(key))} and is {_as_text(key, new.get(key))}"


def _as_text(key: str, value: Any) -> str:
    """The value of a setting as a search file writes it."""
    name = key.rpartition(".")[2]
    return settings_to_yaml({key: value}).partition(f"{name}: ")[2].strip()


def _read_environment(path: Path) -> dict[str, Any]:
    try:
        made_with = json.loads(path.read_text())
        return made_with | {key: made_with[key] for key in ("scale", "overrides")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--resume: {path} cannot be read ({error!r}), and it records how the run was started; "
            f"start another run with --name NAME"
        ) from error


def _write(folder: Path, search_file: SearchFile, made_with: dict[str, Any]) -> None:
    environment_text = json.dumps(made_with, indent=2) + "\n"
    files.replace_file(folder / files.ENVIRONMENT, lambda path: path.write_text(environment_text))
    if search_file.own:
        source = search_file.own.source.encode()
        files.replace_file(folder / COPY, lambda path: path.write_bytes(source))
    # Written last, because it is what makes the folder a run folder.
    files.replace_file(folder / files.SEARCH, lambda path: path.write_text(search_file.to_yaml()))


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder} cannot be made: {error.strerror}; make the run folder elsewhere with "
        f"--runs-dir DIR"
    )
