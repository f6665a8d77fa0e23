"""The figure of confirmed configurations: their means with intervals."""

import plotly.graph_objects as go

from raygpt.analysis.groups import BASELINE, BEST, COLOURS
from raygpt.errors import UserError
from raygpt.results.confirmation import CONFIDENCE, confirmation
from raygpt.results.tables import Results


def confirmed_means(results: Results) -> go.Figure:
    """A row for each configuration: mean, 95% interval and single scores of its further runs.

    Args:
        results: results of a search that was confirmed.

    Raises:
        UserError: the search was not confirmed, or no further run is completed.
    """
    found = confirmation(results.trials)
    configurations = [c for c in found.configurations if c.scores] if found else []
    if not configurations:
        raise UserError(f"{results.folder}: nothing was confirmed, so there are no intervals")
    figure = go.Figure()
    for c in reversed(configurations):
        colour = COLOURS["completed"]
        if c.baseline:
            colour = COLOURS[BASELINE]
        elif c is found.winner:
            colour = COLOURS[BEST]
        name = f"{c}, some runs diverged" if c.diverged else str(c)
        half = found.half_width(c)
        interval = f"<br>{CONFIDENCE:.0%} interval {c.mean - half:.4f} to {c.mean + half:.4f}"
        figure.add_scatter(
            x=list(c.scores),
            y=[name] * len(c.scores),
            mode="markers",
            marker={"color": colour, "size": 7, "symbol": "circle-open"},
            hovertemplate=f"{name}, one run: %{{x:.4f}} bits per byte<extra></extra>",
        )
        figure.add_scatter(
            x=[c.mean],
            y=[name],
            mode="markers",
            marker={"color": colour, "size": 11, "symbol": "diamond"},
            error_x={"type": "constant", "value": half, "thickness": 2} if half == half else None,
            hovertemplate=f"{name}, mean of {len(c.scores)}: %{{x:.4f}} bits per byte"
            f"{interval if half == half else ''}<extra></extra>",
        )
    figure.update_xaxes(title_text="bits per byte (fewer are better)")
    figure.update_yaxes(type="category")
    figure.update_layout(height=130 + 44 * len(configurations), showlegend=False)
    return figure
