"""Bits per byte over two searched values at once."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raygpt.analysis.axes import Axis, axis
from raygpt.analysis.groups import COLOURS, WIDER, hover_texts, judged, points
from raygpt.errors import UserError
from raygpt.recipe.ranges import Range
from raygpt.results.tables import Results

POINTS = 40
"""Of the surface, along each axis."""
FEWEST = 4
"""Trials that a surface takes; fewer are shown as points."""
REACH = 1.5
MANY = 60
"""Points, from which on they are drawn small."""
COLOURSCALE = "Viridis_r"


def contour(results: Results, ranges: Mapping[str, Range], x: str, y: str) -> go.Figure:
    """The surface of bits per byte over two searched values, and the trials as points.

    The surface is the local mean of the trials at the largest budget reached, weighted by a normal
    kernel (E. Nadaraya, On Estimating Regression, 1964) of Scott's width in each direction, the
    standard deviation times n^(-1/6). A mean cannot invent a minimum that no trial has seen; it is
    blank where no trial lies within REACH widths. All other values are as the trials had them.

    Crosses are trials that were stopped, diverged or failed; they are no part of the surface.

    Args:
        results: of a search.
        ranges: by dotted name, what was searched.
        x: dotted name of the value along the page.
        y: of the one up the page.

    Raises:
        UserError: one of the values is not a number.
    """
    trials = results.trials.dropna(subset=[x, y])
    across, upward = (axis(name, trials[name], ranges.get(name)) for name in (x, y))
    for one in (across, upward):
        if one.categories is not None:
            raise UserError(f"{one.name}: a contour takes numbers, and these are categories")
    figure = go.Figure()
    compared = judged(results).dropna(subset=[x, y])
    if len(compared) >= FEWEST:
        height = surface(compared, across, upward)
        figure.add_contour(
            x=across.grid(POINTS),
            y=upward.grid(POINTS),
            z=height,
            colorscale=COLOURSCALE,
            contours={"coloring": "heatmap"},
            line={"width": 0.5},
            colorbar={"title": {"text": "bits per byte", "side": "right"}, "thickness": 12},
            hoverinfo="skip",
            connectgaps=False,
        )
    texts = hover_texts(results)
    for group, crosses, trials in points(results):
        if (trials := trials.dropna(subset=[x, y])).empty:
            continue
        many = len(trials) >= MANY
        figure.add_scatter(
            x=trials[x],
            y=trials[y],
            text=trials["trial_id"].map(texts),
            mode="markers",
            marker={
                "color": COLOURS[group],
                "symbol": "x-thin-open" if crosses else "circle",
                "size": 12 if group in WIDER else 4 if many else 7,
                "opacity": 0.5 if crosses and group not in WIDER else 0.9,
                "line": {"width": 1} if crosses else {"width": 0 if many else 1, "color": "white"},
            },
            name=group,
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_xaxes(across.layout())
    figure.update_yaxes(upward.layout())
    figure.update_layout(
        height=380, hovermode="closest", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )
    return figure


def surface(trials: pd.DataFrame, across: Axis, upward: Axis) -> np.ndarray:
    """The local means on a grid, a row for each step of `upward`; NaN far from all trials."""
    points = np.stack([axis.shares(trials[axis.name]) for axis in (across, upward)], axis=1)
    figures = trials["bits_per_byte"].to_numpy()
    widths = np.maximum(points.std(axis=0), 0.05) * len(points) ** (-1 / 6)
    steps = np.linspace(0, 1, POINTS)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1)
    distances = (((grid[:, :, None] - points) / widths) ** 2).sum(axis=-1)
    weights = np.exp(-distances / 2)
    means = (weights * figures).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-300)
    return np.where(distances.min(axis=-1) <= REACH**2, means, np.nan)
