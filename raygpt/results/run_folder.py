"""Run folders: making one, finding one again."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from raygpt.errors import UserError
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.results import files
from raygpt.results.environment import environment


def create_run(
    folder: Path, search_file: SearchFile, overrides: list[str], command: list[str]
) -> None:
    """Make a run folder that says what is run and with what.

    Args:
        folder: to be made.
        search_file: at the scale that is run.
        overrides: the `--set`s that went into it.
        command: the command line.

    Raises:
        UserError: there is a folder or file of that name.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        refuse_existing(folder)
    made_with = {"scale": search_file.scale, "overrides": overrides} | environment(command)
    (folder / files.SEARCH).write_text(search_file.to_yaml())
    (folder / files.ENVIRONMENT).write_text(json.dumps(made_with, indent=2) + "\n")


def refuse_existing(folder: Path) -> None:
    """Raise UserError if there is something where a run folder is to be made."""
    if folder.exists():
        raise UserError(
            f"{folder} is there already and is not overwritten; go on with it with --resume, or "
            f"start another run with --name NAME"
        )


def reopen_run(folder: Path, path: Path, overrides: Iterable[str]) -> SearchFile:
    """The search of an existing run, as it was started.

    Args:
        folder: of the run.
        path: the search file that the user names now.
        overrides: `--set`s that the user gives now; of these only search.trials and
            search.concurrent may change a run.

    Raises:
        UserError: there is no such run, or the file now says something else.
    """
    if not (folder / files.SEARCH).is_file():
        raise UserError(f"--resume: there is no run in {folder}; leave --resume out to start it")
    started = json.loads((folder / files.ENVIRONMENT).read_text())
    kept = load_search_file(folder / files.SEARCH)
    if path.resolve() == (folder / files.SEARCH).resolve():
        now = load_search_file(path, "full", overrides)
    else:
        now = load_search_file(path, started["scale"], [*started["overrides"], *overrides])
    now = replace(now, name=kept.name, fixed=now.fixed | {"name": kept.name})
    changeable = ("search.trials", "search.concurrent")
    before = kept.to_yaml().splitlines()
    comparable = replace(now, fixed=now.fixed | {key: kept.fixed[key] for key in changeable})
    after = comparable.to_yaml().splitlines()
    if before != after:
        changed = next((a, b) for a, b in zip(before, after, strict=False) if a != b)
        raise UserError(
            f"--resume: {path} now differs from what {folder} was started with: "
            f"“{changed[0].strip()}” then, “{changed[1].strip()}” now; start another run with "
            f"--name NAME, or go on with this one as it was: --resume with {folder / files.SEARCH}"
        )
    return now
