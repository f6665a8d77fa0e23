"""Report: where the good region of the hyperparameters lies."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import pandas as pd
from plotly.graph_objects import Figure

from raygpt.analysis.axes import Axis, axis
from raygpt.analysis.blocks import Block, Pictures, Points, Table, Text
from raygpt.analysis.groups import judged, short
from raygpt.analysis.importance import FEWEST_BEST
from raygpt.analysis.run import Run
from raygpt.errors import UserError
from raygpt.results.confirmation import confirmation
from raygpt.results.leaderboard import format_value
from raygpt.results.tables import ranked

CONTOURS_OF = 3
"""Number of hyperparameters whose pairs get contour plots."""
EDGE = 0.05
"""If the best value is within this share of its range from an end, a better one may lie beyond."""


def blocks(run: Run) -> Iterator[Block]:
    """The values of the best trials beside those of all, and bits per byte over the values."""
    names = run.searched
    if not names or run.best is None:
        yield Text("Nothing was searched." if not names else "No trial has a result yet.")
        return
    compared = judged(run)
    axes = {name: axis(name, run.trials[name], run.ranges.get(name)) for name in names}
    yield _best_beside_all(run, compared, axes)
    if edges := list(_at_the_edge(run, axes)):
        yield Points(edges)
    at = f"{compared['tokens'].max():,} tokens"
    if (found := confirmation(run.trials)) and found.degrees:
        scores = compared["bits_per_byte"]
        yield Text(
            f"These are the search's own runs; the best was chosen by further runs. From run to "
            f"run the standard deviation is {found.deviation:.4f} bits per byte, and all points "
            f"lie within {scores.max() - scores.min():.4f}. Differences as small as the standard "
            f"deviation are noise."
        )
    yield Pictures(
        [_one_panel(run, name) for name in names],
        f"Bits per byte at {at} over one value at a time. Each point is a trial: the best is "
        f"orange, the baseline green. Crosses at the top edge are trials that ended earlier; they "
        f"have no figure at {at}, but show which values were tried. Point at one to read its "
        f"trial.",
    )
    numbers = [name for name in _by_importance(run) if axes[name].categories is None]
    if pairs := list(combinations(numbers[:CONTOURS_OF], 2)):
        yield Pictures(
            [run.plot_contour(x, y).update_layout(showlegend=False) for x, y in pairs],
            f"Bits per byte at {at} over two values at a time, for the hyperparameters that come "
            f"first in the section above. The surface is a local mean of the trials, and bright "
            f"where it is good. With few trials it is a rough estimate; compare it with the "
            f"points, which have the colours of their own trials (the best is ringed orange, the "
            f"baseline green). Crosses are trials that ended earlier. The surface is blank where "
            f"most trials ended earlier and where there are none.",
        )


def _best_beside_all(run: Run, compared: pd.DataFrame, axes: Mapping[str, Axis]) -> Table:
    number = max(min(FEWEST_BEST, len(compared)), math.ceil(len(compared) / 10))
    top = ranked(compared).head(number)
    tried = run.trials[run.trials["confirms"].isna()]
    rows = [
        [short(name), format_value(run.best[name])]
        + [_span(table[name], along.categories) for table in (top, tried)]
        for name, along in axes.items()
    ]
    titles = ["the best trial", f"the best {number} trials", f"all {len(tried)} trials"]
    return Table(["hyperparameter", *titles], rows)


def _span(values: pd.Series, categories: Sequence[str] | None) -> str:
    if categories is not None:
        counts = Counter(str(value) for value in values)
        return ", ".join(f"{value} ({number})" for value, number in counts.most_common())
    return f"{format_value(float(values.min()))} to {format_value(float(values.max()))}"


def _at_the_edge(run: Run, axes: Mapping[str, Axis]) -> Iterator[str]:
    for name, along in axes.items():
        if along.categories is not None or name not in run.ranges:
            continue
        share = along.shares([run.best[name]])[0]
        end = "lower" if share <= EDGE else "upper" if share >= 1 - EDGE else ""
        if end:
            yield (
                f"The best trial's {along.title} of {format_value(run.best[name])} lies at the "
                f"{end} end of its range, so a still better value may lie beyond. Consider a wider "
                f"range."
            )


def _one_panel(run: Run, name: str) -> Figure:
    return run.plot_slices([name]).update_layout(height=300, showlegend=False)


def _by_importance(run: Run) -> list[str]:
    try:
        return list(run.importance["name"])
    except UserError:
        return run.searched
