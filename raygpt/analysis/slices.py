"""Bits per byte over one searched value at a time."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygpt.analysis.axes import axis
from raygpt.analysis.groups import COLOURS, WIDER, hover_texts, judged, points
from raygpt.recipe.ranges import Range
from raygpt.results.tables import Results

COLUMNS = 3


def slices(
    results: Results, ranges: Mapping[str, Range], names: Sequence[str] | None = None
) -> go.Figure:
    """A panel for each searched value: bits per byte of trials at the largest budget reached.

    Trials that were stopped, diverged or failed cannot be compared with them; crosses at the top
    edge show which values they had.

    Args:
        results: results of a search.
        ranges: the searched ranges, by dotted name.
        names: dotted names of the values to show; all if left out.
    """
    names = results.searched if names is None else list(names)
    columns = min(COLUMNS, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = make_subplots(rows, columns, shared_yaxes=True, horizontal_spacing=0.04)
    texts, drawn = hover_texts(results), list(points(results))
    low, high = _span(judged(results)["bits_per_byte"].to_numpy())
    edge = high + 0.12 * (high - low)
    for number, name in enumerate(names):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        along = axis(name, results.trials[name], ranges.get(name))
        for group, crosses, trials in drawn:
            if (trials := trials.dropna(subset=name)).empty:
                continue
            figure.add_scatter(
                x=trials[name].astype(str) if along.categories else trials[name],
                y=[edge] * len(trials) if crosses else trials["bits_per_byte"],
                text=trials["trial_id"].map(texts),
                mode="markers",
                marker={
                    "color": COLOURS[group],
                    "symbol": "x-thin-open" if crosses else "circle",
                    "size": 11 if group in WIDER and not crosses else 7,
                    "opacity": 0.9,
                },
                name=group,
                legendgroup=group,
                showlegend=number == 0,
                hovertemplate="%{text}<extra></extra>",
                **place,
            )
        figure.update_xaxes(along.layout(), **place)
        figure.add_hline(
            edge - 0.04 * (high - low),
            line={"width": 1, "dash": "dot", "color": COLOURS["stopped"]},
            **place,
        )
        figure.add_annotation(
            text="ended earlier",
            x=0,
            xref="x domain",
            y=edge,
            yanchor="bottom",
            yshift=3,
            showarrow=False,
            **place,
        )
        if number % columns == 0:
            figure.update_yaxes(title_text="bits per byte", **place)
    figure.update_yaxes(range=[low - 0.08 * (high - low), edge + 0.2 * (high - low)])
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
