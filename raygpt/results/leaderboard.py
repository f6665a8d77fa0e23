"""The leaderboard: the trials of one or more runs, best first, for a person or a program."""

import itertools
import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from rich.style import Style
from rich.text import Text

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.conditions import find_column, select
from raygpt.results.tables import Results, in_order, is_missing, ranked

FORMATS = ("table", "csv", "markdown", "json")
SHOWN = (
    *("run", "trial_id", "baseline", "status", "runs", "bits_per_byte", "standard_error"),
    *("ci_low", "ci_high", "gain", "tokens"),
)
CONFIRMED = ("runs", "standard_error", "ci_low", "ci_high")


def leaderboard(
    runs: Sequence[Results],
    sort: str | None = None,
    top: int | None = None,
    where: Sequence[str] = (),
) -> pd.DataFrame:
    """The searches' trials with their searched values, best first.

    Args:
        runs: one or more.
        sort: a column to sort by instead, ascending; with a "-" before its name, descending.
        top: how many rows; all if left out.
        where: conditions, as `select` takes them, that all hold for the rows.

    Returns:
        The columns run (the folder's name, of several), trial_id, status, bits_per_byte, tokens,
        the searched values (or the seed, where nothing is searched), the columns sorted by and
        asked for, folder (the absolute path of the trial's), and the error; these two where a
        trial has one.

        Where a baseline has a result, also baseline (whether this is it) and gain: the bits per
        byte of its run's baseline less the trial's, missing where the two were not judged at the
        same budget.

        Where trials were confirmed, also runs (that came to the end), standard_error, ci_low and
        ci_high (the 95% interval of bits_per_byte). A confirmed trial has the status confirmed, or
        diverged if one of these runs did; its bits_per_byte is the mean of those that came to the
        end, and its gain is over the baseline's mean, missing if either diverged.

    Raises:
        UserError: there is no such column, or a condition is none.
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
    """The rows that `leaderboard` chooses from, with all their columns."""
    frames = [with_gains(ranked(results.trials), results) for results in runs]
    if len(runs) == 1:
        return frames[0]
    for name, each in zip(run_names(runs), frames, strict=True):
        each.insert(0, "run", name)
    # Of empty columns pandas cannot tell the type, and says so.
    frame = pd.concat([each.dropna(axis="columns", how="all") for each in frames])
    return in_order(frame.reindex(columns=list(dict.fromkeys(itertools.chain(*frames)))))


def run_names(runs: Sequence[Results]) -> list[str]:
    """The names of their folders; the folders as they were given where two have the same."""
    names = [results.folder.absolute().name for results in runs]
    return names if len(set(names)) == len(runs) else [str(results.folder) for results in runs]


def refuse_incomparable(runs: Sequence[Results]) -> None:
    """Raise UserError if figures of these runs are of different validation sets.

    Bits per byte of different texts say nothing about which model is better. Of a run from before
    validation sets were written down, nothing is known, so it is refused as well.
    """
    sets: dict[str, list[str]] = {}
    for name, results in zip(run_names(runs), runs, strict=True):
        for validation_set in results.trials["validation_set"].fillna("not known").unique():
            sets.setdefault(validation_set, []).append(name)
    if len(sets) > 1 or "not known" in sets:
        which = "; ".join(f"{', '.join(names)}: {found}" for found, names in sets.items())
        raise UserError(
            f"These runs were not judged on the same validation set ({which}), so their bits per "
            f"byte cannot be compared. data.corpus, data.min_document_bytes, data.tokenizer, "
            f"data.validation_fraction and data.validation_tokens decide it. --force shows them "
            f"beside each other all the same."
        )


def with_gains(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The ranked trials with gain and folder, and the means of those that were confirmed."""
    frame["folder"] = [trial_folder(results, row) for row in frame.to_dict("records")]
    frame["baseline"] = frame["baseline"].fillna(False)
    baseline = frame.loc[frame["baseline"], "trial_id"]
    history = results.history[results.history["trial_id"].isin(baseline)]
    reached = history.dropna(subset="bits_per_byte").set_index("tokens")["bits_per_byte"]
    reached = frame["tokens"].map(reached.to_dict()).astype("float64")
    frame["gain"] = reached - frame["bits_per_byte"]
    if "runs" not in frame:
        return frame
    runs = results.trials[results.trials["confirms"].notna()]
    budget = runs.loc[runs["status"] == "completed", "tokens"].max()
    mean = frame.pop("mean")
    confirmed = frame["runs"].notna()
    diverged = frame["diverged_runs"].fillna(0) > 0
    compared = mean.mask(diverged)
    baseline_mean = compared[frame["baseline"]].sum(min_count=1)
    return frame.assign(
        status=frame["status"].mask(confirmed, "confirmed").mask(diverged, "diverged"),
        bits_per_byte=frame["bits_per_byte"].mask(confirmed, mean),
        tokens=frame["tokens"].mask(mean.notna(), budget),
        gain=frame["gain"].mask(confirmed, baseline_mean - compared),
    )


def trial_folder(results: Results, row: Mapping[str, Any]) -> str | None:
    """Where a trial keeps its checkpoint, or would: an absolute path, None if there is none."""
    run = results.folder.absolute()
    if is_missing(row["checkpoint"]):
        found = list(run.glob(f"{files.TRIAL_FOLDERS}*/{row['trial_id']}/"))
    else:
        found = [(run / row["checkpoint"]).parent]
    there = [path for path in found if path.is_dir()]
    return str(max(there, key=lambda path: path.stat().st_mtime)) if there else None


def render(
    frame: pd.DataFrame, style: str, width: int | None = None, words: Sequence[str] = ()
) -> str:
    """The leaderboard as text.

    Args:
        frame: from `leaderboard`.
        style: one of FORMATS; "csv" and "json" keep every digit.
        width: columns of the terminal; as it is if left out.
        words: `Results.conclusions`, which stand below the figures that they are about in "table"
            and "markdown".
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
        return "\n".join([table, *([""] if words else []), *(f"- {text}" for text in words)])
    return linked_table(frame, width, words).plain


def linked_table(frame: pd.DataFrame, width: int | None = None, words: Sequence[str] = ()) -> Text:
    """The leaderboard for a terminal, in which each trial is a link to its folder.

    Arguments are those of `render`.
    """
    width = width or shutil.get_terminal_size().columns
    rest = frame.drop(columns=[*CONFIRMED], errors="ignore")
    everything = as_table(*displayed(rest), width, links(frame))
    if "runs" not in frame:
        return everything
    # Together with the searched values, the figures would not fit.
    names = [name for name in (*SHOWN, "folder") if name in frame]
    confirmed = frame.loc[frame["runs"].notna(), names].drop(columns=["status", "tokens"])
    figures = as_table(*displayed(confirmed), width, links(confirmed))
    wrapped = (Text(textwrap.fill(f"- {text}", width, subsequent_indent="  ")) for text in words)
    return Text("\n").join([figures, Text(), *wrapped, Text(), everything])


def links(frame: pd.DataFrame, relative_to: Path | None = None) -> list[str | None]:
    """The address of each row's folder: its path from a folder that it lies in, or a file: URI."""
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


LEFT = ("run", "trial", "status", "error")
LEAST_ERROR_WIDTH = 30


def as_table(
    headings: list[str], rows: list[list[str]], width: int, links: Sequence[str | None]
) -> Text:
    """Columns side by side; where they do not fit, headings and errors go over several lines, and
    then the columns closer together.

    No value is cut: if need be, lines are longer than `width`.

    Args:
        headings: of the columns.
        rows: their cells.
        width: of the terminal.
        links: a row each, to which the cell in the column "trial" leads.
    """
    cells = [[[cell] for cell in row] for row in rows]
    whole, split = [[heading] for heading in headings], [heading.split() for heading in headings]
    for head, gap in ((whole, "  "), (split, "  "), (split, " ")):
        widths = [
            max(len(line) for cell in column for line in cell)
            for column in zip(head, *cells, strict=True)
        ]
        gaps = len(gap) * (len(widths) - 1)
        if headings[-1] == "error":
            room = max(LEAST_ERROR_WIDTH, width - sum(widths[:-1]) - gaps)
            widths[-1] = min(widths[-1], room)
        if sum(widths) + gaps <= width:
            break
    for row in cells:
        row[-1] = textwrap.wrap(row[-1][0], widths[-1])
    lines = []
    for row, link in zip((head, *cells), (None, *links), strict=True):
        height = max(map(len, row))
        for number in range(height):
            line = Text()
            for heading, cell, column_width in zip(headings, row, widths, strict=True):
                # Headings stand at the bottom of their lines, values at the top.
                place = number - (height - len(cell) if row is head else 0)
                text = cell[place] if 0 <= place < len(cell) else ""
                padding = " " * (column_width - len(text))
                style = Style(link=link) if heading == "trial" else ""
                line.append(gap if line else "")
                line.append(padding if heading not in LEFT else "").append(text, style)
                line.append(padding if heading in LEFT else "")
            line.rstrip()
            lines.append(line)
    return Text("\n").join(lines)


def displayed(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, rounded for reading, without folders; the baseline is named where its
    gain would be.
    """
    frame = frame.drop(columns="folder", errors="ignore")
    if "baseline" in frame:
        gain = frame["gain"].astype(object).mask(frame["baseline"], "baseline")
        frame = frame.assign(gain=gain).drop(columns="baseline")
    names = {
        "trial_id": "trial",
        "bits_per_byte": "bits per byte",
        "ci_low": "95% from",
        "ci_high": "95% to",
    }
    headings = [names.get(name, name.split(".")[-1].replace("_", " ")) for name in frame]
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
    return format_value(value)


def format_value(value: Any) -> str:
    """Whole numbers with their digits grouped, others to three significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):,}"
    return f"{value:.3g}"
