"""The leaderboard: the trials of one or more runs, best first, for people and for programs."""

import itertools
import json
import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from rich.align import Align
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from raygpt.results import files
from raygpt.results.conditions import find_column, select
from raygpt.results.run_comparison import budgets
from raygpt.results.tables import Results, in_order, is_missing, ranked

FORMATS = ("table", "csv", "markdown", "json")
SHOWN = (
    *("run", "trial_id", "baseline", "status", "runs", "bits_per_byte", "standard_error"),
    *("ci_low", "ci_high", "gain", "tokens"),
)
CONFIRMED = ("runs", "standard_error", "ci_low", "ci_high")
COUNTS = ("tokens", "tokens_trained", "checkpoint_tokens", "scored_tokens", "scored_bytes")
"""Columns shown with thousands separators."""
HEADINGS = {
    "trial_id": "trial",
    "bits_per_byte": "bits per byte",
    "ci_low": "95% from",
    "ci_high": "95% to",
}
"""Headings that differ from the last part of the column's name."""
LEFT = ("run", "trial", "status", "error")
"""Headings of the columns that are aligned left."""
LEAST_ERROR_WIDTH = 30
MOST_EXACT_DIGITS, ROUNDED_DIGITS = 6, 4
LARGEST_WHOLE = 1e15
"""Whole numbers below it are written with all their digits."""


def leaderboard(
    runs: Sequence[Results],
    sort: str | None = None,
    top: int | None = None,
    where: Sequence[str] = (),
) -> pd.DataFrame:
    """The searches' trials with their searched values, best first.

    Bits per byte rank trials of the same budget only; those of a larger budget come first, also
    where the runs have different budgets. `comparability.refuse_incomparable` checks whether
    several runs can be compared at all.

    Args:
        runs: one or more.
        sort: a column to sort by instead, ascending; with a "-" before its name, descending.
        top: number of rows; all if left out.
        where: conditions, as `select` takes them, all of which must hold for a row.

    Returns:
        The columns run (the folder's name, if there are several runs), trial_id, status,
        bits_per_byte, tokens, the searched values (or the seed, if nothing was searched), the
        columns named in `sort` and `where`, folder (absolute path of the trial's folder) and
        error; the last two only if a trial has one.

        If a baseline has a result, also baseline (whether the trial is it) and gain: the bits per
        byte of the same run's baseline minus the trial's, missing if the two were not evaluated at
        the same budget.

        If trials were confirmed, also runs (the number that completed), standard_error, ci_low and
        ci_high (the 95% interval of bits_per_byte). A confirmed trial has the status confirmed, or
        diverged if one of its runs diverged; its bits_per_byte is the mean of the completed runs,
        and its gain is over the baseline's mean, missing if a run of either diverged.

    Raises:
        UserError: there is no such column, or a condition cannot be read.
    """
    frame = every_trial(runs)
    searched = list(dict.fromkeys(itertools.chain(*(results.searched for results in runs))))
    columns = [name for name in SHOWN if name in frame]
    asked = []
    for condition in where:
        frame, column = select(frame, condition)
        asked.append(column)
    if frame["gain"].isna().all():
        columns = [name for name in columns if name not in ("baseline", "gain")]
    columns += searched or ["seed"]
    if sort:
        name = sort.removeprefix("-")
        column = find_column(frame, name, f"--sort {name}")
        frame = frame.sort_values(column, ascending=not sort.startswith("-"), kind="stable")
        asked.append(column)
    columns += asked
    columns += [name for name in ("folder", "error") if frame[name].notna().any()]
    return frame[list(dict.fromkeys(columns))].head(top if top is not None else len(frame))


def every_trial(runs: Sequence[Results]) -> pd.DataFrame:
    """All rows that `leaderboard` chooses from, with all their columns."""
    frames = [with_gains(ranked(results.trials), results) for results in runs]
    if len(runs) == 1:
        return frames[0]
    for (name, results), each in zip(by_name(runs).items(), frames, strict=True):
        each.insert(0, "run", name)
        each["_budget"] = each["rung"].map(budgets(results))
    # pandas warns of empty columns, whose type it cannot tell.
    frame = pd.concat([each.dropna(axis="columns", how="all") for each in frames])
    frame = frame.reindex(columns=list(dict.fromkeys(itertools.chain(*frames))))
    return in_order(frame, budget="_budget").drop(columns="_budget")


def by_name(runs: Sequence[Results]) -> dict[str, Results]:
    """The runs by the names of their folders, or by their paths if two names are the same."""
    names = [results.folder.absolute().name for results in runs]
    if len(set(names)) < len(runs):
        names = [str(results.folder) for results in runs]
    return dict(zip(names, runs, strict=True))


def with_gains(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The ranked trials with their gains and folders, and with the means of confirmed trials.

    A gain is the difference of two figures of one run at the same rung, so at the same budget.
    """
    frame["folder"] = [trial_folder(results, row) for row in frame.to_dict("records")]
    frame["baseline"] = frame["baseline"].fillna(False)
    baseline = frame.loc[frame["baseline"], "trial_id"]
    history = results.history[results.history["trial_id"].isin(baseline)]
    reached = history.dropna(subset="bits_per_byte").set_index("rung")["bits_per_byte"]
    reached = frame["rung"].map(reached.to_dict()).astype("float64")
    frame["gain"] = reached - frame["bits_per_byte"]
    if "runs" not in frame:
        return frame
    runs = results.trials[results.trials["confirms"].notna()]
    full = runs.loc[runs["status"] == "completed", ["tokens", "rung"]].max()
    mean = frame.pop("mean")
    confirmed = frame["runs"].notna()
    diverged = frame["diverged_runs"].fillna(0) > 0
    compared = mean.mask(diverged)
    baseline_mean = compared[frame["baseline"]].sum(min_count=1)
    return frame.assign(
        status=frame["status"].mask(confirmed, "confirmed").mask(diverged, "diverged"),
        bits_per_byte=frame["bits_per_byte"].mask(confirmed, mean),
        tokens=frame["tokens"].mask(mean.notna(), full["tokens"]),
        rung=frame["rung"].mask(mean.notna(), full["rung"]),
        gain=frame["gain"].mask(confirmed, baseline_mean - compared),
    )


def trial_folder(results: Results, row: Mapping[str, Any]) -> str | None:
    """The absolute path of the folder that holds a trial's checkpoint; None if there is none."""
    run = results.folder.absolute()
    if is_missing(row["checkpoint"]):
        found = list(run.glob(f"{files.TRIAL_FOLDERS}*/{row['trial_id']}/"))
    else:
        found = [(run / row["checkpoint"]).parent]
    there = [path for path in found if path.is_dir()]
    return str(max(there, key=lambda path: path.stat().st_mtime)) if there else None


def render(
    frame: pd.DataFrame,
    style: str,
    width: int | None = None,
    words: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """The leaderboard as text.

    Args:
        frame: the result of `leaderboard`.
        style: one of FORMATS; "csv" and "json" keep every digit.
        width: columns of the terminal; by default, of the present one.
        words: `Results.conclusions`, shown below the figures that they are about in "table" and
            "markdown".
        notes: sentences to show at the end in "table" and "markdown".
    """
    if style == "csv":
        return frame.to_csv(index=False).rstrip("\n")
    if style == "json":
        rows = [
            {name: None if is_missing(value) else value for name, value in row.items()}
            for row in frame.to_dict("records")
        ]
        return json.dumps(rows, indent=2)
    if style == "markdown":
        headings, rows = displayed(frame)
        at = headings.index("trial")
        for row, link in zip(rows, links(frame, relative_to=Path.cwd()), strict=True):
            row[at] = f"[{row[at]}]({link})" if link else row[at]
        rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
        lines = [headings, ["---"] * len(headings), *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        lists = [[f"- {text}" for text in words], list(notes)]
        return "\n".join([table, *(line for lines in lists if lines for line in ("", *lines))])
    return linked_table(frame, width, words, notes).plain


def linked_table(
    frame: pd.DataFrame,
    width: int | None = None,
    words: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Text:
    """The leaderboard for a terminal, in which the name of each trial links to its folder.

    If the table does not fit into the terminal, it is split in two: figures, then searched values.

    Arguments are those of `render`.
    """
    width = width or shutil.get_terminal_size().columns
    parts = []
    if "runs" in frame:
        names = [name for name in (*SHOWN, "folder") if name in frame]
        confirmed = frame.loc[frame["runs"].notna(), names].drop(columns=["status", "tokens"])
        parts.append(one_table(confirmed, width))
        parts.append(Text("\n").join(_wrapped(f"- {text}", width) for text in words))
        frame = frame.drop(columns=[*CONFIRMED])
    parts.append(one_table(frame, width))
    others = [name for name in frame if name not in (*SHOWN, "error", "folder")]
    if others and max(map(len, parts[-1].plain.splitlines())) > width:
        kept = ("run", "trial_id", "bits_per_byte", *others, "folder")
        names = [name for name in kept if name in frame]
        parts[-1:] = [one_table(frame.drop(columns=others), width), one_table(frame[names], width)]
    if notes:
        parts.append(Text("\n").join(_wrapped(text, width) for text in notes))
    return Text("\n\n").join(parts)


def _wrapped(text: str, width: int) -> Text:
    return Text(textwrap.fill(text, width, subsequent_indent="  " if text[:2] == "- " else ""))


def links(frame: pd.DataFrame, relative_to: Path | None = None) -> list[str | None]:
    """The address of each row's folder: relative to a folder that contains it, or a file: URI."""
    if "folder" not in frame:
        return [None] * len(frame)
    addresses = []
    for folder in frame["folder"]:
        if is_missing(folder):
            addresses.append(None)
        elif relative_to and (path := Path(folder)).is_relative_to(relative_to):
            addresses.append(quote(path.relative_to(relative_to).as_posix()))
        else:
            addresses.append(Path(folder).as_uri())
    return addresses


def one_table(frame: pd.DataFrame, width: int) -> Text:
    """Rows of a leaderboard as a table; the names of trials are links to their folders.

    If it is too wide, headings and errors are broken into several lines, and then columns stand
    closer together. No value is cut or broken: lines are longer than `width` if they must be.
    """
    headings, rows = displayed(frame)
    addresses = links(frame)
    console = Console(width=10_000, highlight=False)
    for broken, gap in ((False, 2), (True, 2), (True, 1)):
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="none")
        for number, heading in enumerate(headings):
            lines = heading.split() if broken else [heading]
            most = LEAST_ERROR_WIDTH if heading == "error" else math.inf
            widths = [min(most, cell_len(row[number])) for row in rows]
            table.add_column(
                Align("\n".join(lines), "left" if heading in LEFT else "right", vertical="bottom"),
                justify="left" if heading in LEFT else "right",
                overflow="fold",
                no_wrap=heading != "error",
                min_width=max([*map(cell_len, lines), *widths]),
            )
        for row, address in zip(rows, addresses, strict=True):
            link = Style(link=address) if address else None
            table.add_row(
                *(
                    Text().append(cell.replace("\n", " "), link if heading == "trial" else None)
                    for heading, cell in zip(headings, row, strict=True)
                )
            )
        least = sum(column.min_width + gap for column in table.columns) - gap
        if least <= width:
            break
    options = console.options.update(width=max(width, least), height=None)
    lines = [
        Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        for segments in console.render_lines(table, options, pad=False)
    ]
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)


def displayed(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells as people read them, without the folders.

    The word "baseline" stands in place of the baseline's gain.
    """
    frame = frame.drop(columns="folder", errors="ignore")
    if "baseline" in frame:
        gain = frame["gain"].astype(object).mask(frame["baseline"], "baseline")
        frame = frame.assign(gain=gain).drop(columns="baseline")
    headings = [HEADINGS.get(name, name.split(".")[-1].replace("_", " ")) for name in frame]
    rows = [
        [format_cell(name, value) for name, value in row.items()]
        for row in frame.to_dict("records")
    ]
    return headings, rows


def format_cell(column: str, value: Any) -> str:
    """One value of a column."""
    if is_missing(value):
        return ""
    if column == "gain" and value != "baseline":
        return f"{value:+.4f}"
    if column in ("bits_per_byte", "standard_error", "ci_low", "ci_high"):
        return f"{value:.4f}"
    if column in COUNTS:
        return f"{int(value):,}"
    return format_value(value)


def format_value(value: Any) -> str:
    """A searched value: pasted into a recipe, it reads back equal.

    A number of more than six significant digits, which runs of older versions have, is rounded to
    four.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < LARGEST_WHOLE):
        return f"{value:.0f}"
    mantissa = repr(value).partition("e")[0]
    digits = len(mantissa.lstrip("-0.").replace(".", ""))
    if digits <= MOST_EXACT_DIGITS:
        return f"{value:.{digits}g}"
    if abs(value) >= 10**ROUNDED_DIGITS:
        return f"{value:.0f}"
    return f"{value:.{ROUNDED_DIGITS}g}"
