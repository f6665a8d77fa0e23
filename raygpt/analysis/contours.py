"""Bits per byte over two searched values at once."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raygpt.analysis.axes import Axis, axis
from raygpt.analysis.groups import COLOURS, WIDER, hover_texts, points
from raygpt.errors import UserError
from raygpt.recipe.ranges import Range
from raygpt.results.tables import Results

POINTS = 40
"""Points of the surface along each axis."""
FEWEST = 4
"""Trials needed for a surface; fewer are shown as points only."""
REACH = 1.5
"""Distance from a trial, in kernel widths, up to which the surface is drawn."""
MANY = 60
"""From this number of points on, they are drawn small."""
COLOURSCALE = "Viridis_r"


def contour(results: Results, ranges: Mapping[str, Range], x: str, y: str) -> go.Figure:
    """The surface of bits per byte over two searched values, and the trials as points.

    The surface is the local mean of the trials at the largest budget reached, weighted by a normal
    kernel (E. Nadaraya, On Estimating Regression, 1964) of Scott's width in each direction, the
    standard deviation times n^(-1/6). A mean cannot show a minimum that no trial has reached. The
    other searched values differ from trial to trial. Points have the colours of their own figures.

    Crosses are trials that were stopped, diverged or failed. They have no comparable figure, but
    suggest that the region is bad. So the surface is blank where their density is at least twice
    that of the other trials, both normalised over the plane, and where no other trial lies within
    REACH widths.

    Args:
        results: results of a search.
        ranges: the searched ranges, by dotted name.
        x: dotted name of the value on the horizontal axis.
        y: dotted name of the value on the vertical axis.

    Raises:
        UserError: one of the values is not a number.
    """
    trials = results.trials.dropna(subset=[x, y])
    across, upward = (axis(name, trials[name], ranges.get(name)) for name in (x, y))
    for one in (across, upward):
        if one.categories is not None:
            raise UserError(f"{one.name}: its values are categories, and a contour needs numbers")
    figure = go.Figure()
    drawn = [(group, cross, rows.dropna(subset=[x, y])) for group, cross, rows in points(results)]
    compared, others = (
        pd.concat([rows for _, cross, rows in drawn if cross == crosses])
        for crosses in (False, True)
    )
    if len(compared) >= FEWEST:
        height = surface(compared, others, across, upward)
        figure.add_contour(
            x=across.grid(POINTS),
            y=upward.grid(POINTS),
            z=height,
            coloraxis="coloraxis",
            contours={"coloring": "heatmap"},
            line={"width": 0.5},
            hoverinfo="skip",
            connectgaps=False,
        )
    texts = hover_texts(results)
    for group, crosses, rows in drawn:
        if rows.empty:
            continue
        many = len(rows) >= MANY and group not in WIDER
        if crosses:
            marker = {"color": COLOURS[group], "symbol": "x-thin-open", "line_width": 1}
        else:
            marker = {
                "color": rows["bits_per_byte"],
                "coloraxis": "coloraxis",
                "symbol": "circle",
                "line_color": COLOURS[group] if group in WIDER else "white",
                "line_width": 3 if group in WIDER else 0.5 if many else 1,
            }
        figure.add_scatter(
            x=rows[x],
            y=rows[y],
            text=rows["trial_id"].map(texts),
            mode="markers",
            marker=marker | {"size": 13 if group in WIDER else 5 if many else 8},
            name=group,
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_xaxes(across.layout())
    figure.update_yaxes(upward.layout())
    figure.update_layout(
        height=380,
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        coloraxis={
            "colorscale": COLOURSCALE,
            "colorbar": {"title": {"text": "bits per byte", "side": "right"}, "thickness": 12},
        },
    )
    return figure


def surface(trials: pd.DataFrame, others: pd.DataFrame, across: Axis, upward: Axis) -> np.ndarray:
    """The local means on a grid, a row for each step of `upward`; NaN where it is blank.

    Args:
        trials: trials with a comparable figure.
        others: trials without one.
        across: the horizontal axis.
        upward: the vertical axis.
    """
    points, without = (
        np.stack([axis.shares(table[axis.name]) for axis in (across, upward)], axis=1)
        for table in (trials, others)
    )
    figures = trials["bits_per_byte"].to_numpy()
    widths = np.maximum(points.std(axis=0), 0.05) * len(points) ** (-1 / 6)
    steps = np.linspace(0, 1, POINTS)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1)
    distances, to_others = (
        (((grid[:, :, None] - places) / widths) ** 2).sum(axis=-1) for places in (points, without)
    )
    weights = np.exp(-distances / 2)
    total = weights.sum(axis=-1)
    means = (weights * figures).sum(axis=-1) / np.maximum(total, 1e-300)
    known = distances.min(axis=-1) <= REACH**2
    if len(without):
        known &= 2 * total / len(points) > np.exp(-to_others / 2).mean(axis=-1)
    return np.where(known, means, np.nan)
