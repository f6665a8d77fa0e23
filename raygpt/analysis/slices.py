"""Bits per byte over one searched value at a time."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygpt.analysis.axes import axis
from raygpt.analysis.groups import COLOURS, WIDER, groups, hover_texts, judged, searched
from raygpt.recipe.ranges import Range
from raygpt.results.tables import Results

COLUMNS = 3


def slices(
    results: Results, ranges: Mapping[str, Range], names: Sequence[str] | None = None
) -> go.Figure:
    """A panel a searched value: bits per byte of the trials at the largest budget reached.

    Trials that were stopped, diverged or failed cannot be compared with those; crosses at the top
    edge say which values they had.

    Args:
        results: of a search.
        ranges: by dotted name, what was searched.
        names: dotted, of the values to show; all if left out.
    """
    names = searched(results) if names is None else list(names)
    columns = min(COLUMNS, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = make_subplots(rows, columns, shared_yaxes=True, horizontal_spacing=0.04)
    trials, texts, group = results.trials, hover_texts(results), groups(results)
    compared = trials["trial_id"].isin(judged(results)["trial_id"])
    others = ~compared & trials["confirms"].isna() & (trials["status"] != "running")
    low, high = _span(trials.loc[compared, "bits_per_byte"].to_numpy())
    edge = high + 0.12 * (high - low)
    for number, name in enumerate(names):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        for which in COLOURS:
            for among, crosses in ((compared, False), (others, True)):
                rows_of = trials[among & (group == which)].dropna(subset=name)
                if rows_of.empty:
                    continue
                along = axis(name, trials[name], ranges.get(name))
                figure.add_scatter(
                    x=rows_of[name].astype(str) if along.categories else rows_of[name],
                    y=[edge] * len(rows_of) if crosses else rows_of["bits_per_byte"],
                    text=rows_of["trial_id"].map(texts),
                    mode="markers",
                    marker={
                        "color": COLOURS[which],
                        "symbol": "x-thin-open" if crosses else "circle",
                        "size": 11 if which in WIDER and not crosses else 7,
                        "opacity": 0.9,
                    },
                    name=which,
                    legendgroup=which,
                    showlegend=number == 0,
                    hovertemplate="%{text}<extra></extra>",
                    **place,
                )
        figure.update_xaxes(axis(name, trials[name], ranges.get(name)).layout(), **place)
        if number % columns == 0:
            figure.update_yaxes(title_text="bits per byte", **place)
    figure.update_yaxes(range=[low - 0.08 * (high - low), edge + 0.06 * (high - low)])
    figure.update_layout(
        height=90 + 250 * rows,
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def _span(figures: np.ndarray) -> tuple[float, float]:
    if not len(figures):
        return 0.0, 1.0
    low, high = float(figures.min()), float(figures.max())
    return (low, high) if high > low else (low, low * 1.01)
