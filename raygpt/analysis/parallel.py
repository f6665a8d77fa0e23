"""All trials at once: a line for each, through all of its values."""

from collections.abc import Mapping

import plotly.graph_objects as go

from raygpt.analysis.axes import axis
from raygpt.analysis.groups import BEST, COLOURS, hover_texts
from raygpt.recipe.ranges import Range
from raygpt.results.tables import Results, ranked


def parallel_coordinates(results: Results, ranges: Mapping[str, Range]) -> go.Figure:
    """An axis for each searched value, then one for the trial's place on the leaderboard.

    It shows places because bits per byte at different budgets do not compare. Drag along an axis to
    see only the trials there. `customdata` has the hover text of each line.

    Args:
        results: results of a search; trials without a result are left out.
        ranges: the searched ranges, by dotted name.
    """
    trials = ranked(results.trials)
    names = results.searched
    trials = trials[trials["bits_per_byte"].notna()].dropna(subset=names)
    places = list(range(1, len(trials) + 1))
    dimensions = []
    for name in names:
        along = axis(name, results.trials[name], ranges.get(name))
        positions, texts = along.ticks()
        dimensions.append(
            {
                "label": along.title,
                "values": along.positions(trials[name]),
                "range": [along.low, along.high],
                "tickvals": positions,
                "ticktext": texts,
            }
        )
    last = max(2, len(places))
    second = 0.5 / (last - 1)  # half-way from the first place to it
    colours = [
        [0, COLOURS[BEST]],
        [second, COLOURS[BEST]],
        [second, COLOURS["completed"]],
        [1, "#a9b1ba"],
    ]
    ticks = sorted({1, *(round(last * share) or 1 for share in (0.25, 0.5, 0.75, 1))})
    dimensions.append({"label": "place", "values": places, "range": [last, 1], "tickvals": ticks})
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            customdata=trials["trial_id"].map(hover_texts(results)),
            line={"color": places, "colorscale": colours, "cmin": 1, "cmax": last},
        )
    )
    figure.update_layout(height=380, margin={"l": 60, "r": 40, "t": 60, "b": 30})
    return figure
