"""Plotly figures of attention, with one panel per model, side by side.

Models are given by name, as in `{"best 0008": …, "baseline 0000": …}`, and may differ in their
layers and heads. Colours come from the figure's template:
`figure.update_layout(template=…)` makes them light or dark. If panels side by side are too narrow,
make a figure of each model.
"""

from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygpt.analysis.attention import AttentionDistances, AttentionMaps
from raygpt.analysis.groups import COLOURS

EVEN_COLOUR = "gray"
"""Visible on light and dark backgrounds."""


def mean_distance_figure(models: Mapping[str, AttentionDistances]) -> go.Figure:
    """A heat map of the mean distance by layer and head, in one scale for all models."""
    figure = make_subplots(cols=len(models), subplot_titles=list(models), shared_yaxes=True)
    for column, distances in enumerate(models.values(), 1):
        table = distances.heads.pivot(index="layer", columns="head")
        figure.add_heatmap(
            z=table["mean_distance"].to_numpy(),
            customdata=table["first_token"].to_numpy(),
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            texttemplate="%{z:.1f}" if table["mean_distance"].shape[1] <= 8 else None,
            hovertemplate="layer %{y}, head %{x}<br>%{z:.1f} tokens back on average<br>"
            "%{customdata:.0%} on the window's first token<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_xaxes(title_text="head", dtick=1, showgrid=False, zeroline=False)
    figure.update_yaxes(dtick=1, autorange="reversed", showgrid=False, zeroline=False)
    figure.update_yaxes(title_text="layer", col=1)
    n_layers = max(len(each.heads["layer"].unique()) for each in models.values())
    # All models were trained on the same data, with the same context.
    even = (next(iter(models.values())).context - 1) / 4
    longest = max(each.heads["mean_distance"].max() for each in models.values())
    return figure.update_layout(
        title={
            "text": "How far back the heads attend on average",
            "subtitle_text": f"in tokens; {even:.1f} for a head that attends evenly",
        },
        margin_t=110,
        # Even attention gets the colour in the middle.
        coloraxis={"cmin": 0, "cmax": max(longest, 2 * even), "colorbar": {"thickness": 12}},
        height=190 + 26 * max(4, n_layers),
    )


def distance_histogram_figure(models: Mapping[str, AttentionDistances]) -> go.Figure:
    """Histograms of the distances that each head of a layer attends back; a slider picks the layer.

    The dotted line is `even_share`.
    """
    tables = [each.histogram for each in models.values()]
    layers = range(max(table["layer"].max() for table in tables) + 1)
    heads = range(max(table["head"].max() for table in tables) + 1)
    figure = make_subplots(
        rows=len(heads),
        cols=len(models),
        column_titles=list(models),
        row_titles=[f"head {head}" for head in heads],
        shared_xaxes="all",
        shared_yaxes="all",
        vertical_spacing=0.2 / len(heads),
        horizontal_spacing=0.05,
    )
    panels = []
    for head in heads:
        for column, (name, table) in enumerate(zip(models, tables, strict=True), 1):
            shares = [_shares(table, layer, head) for layer in layers]
            panels.append(shares)
            one = table[(table["layer"] == 0) & (table["head"] == 0)]
            figure.add_bar(
                x=one["bin"],
                y=shares[0],
                marker_color=COLOURS.get(name.split()[0], COLOURS["completed"]),
                hovertemplate=f"head {head}: %{{y:.1%}} at a distance of %{{x}}<extra></extra>",
                row=head + 1,
                col=column,
            )
            figure.add_scatter(
                x=one["bin"],
                y=one["even_share"],
                mode="lines",
                line={"color": EVEN_COLOUR, "dash": "dot"},
                hovertemplate="%{y:.1%} if it attended evenly<extra></extra>",
                row=head + 1,
                col=column,
            )
    bars = list(range(0, len(figure.data), 2))
    steps = [
        (f"layer {layer}", {"y": [shares[layer] for shares in panels]}, bars) for layer in layers
    ]
    highest = max(table[["share", "even_share"]].max(axis=None) for table in tables)
    figure.update_xaxes(type="category")
    figure.update_xaxes(title_text="tokens back", row=len(heads))
    figure.update_yaxes(range=[0, 1.05 * highest], tickformat=".0%")
    return figure.update_layout(
        title={
            "text": "How far back a layer's heads attend",
            "subtitle_text": "by distance; dotted: a head that attends evenly",
        },
        margin_t=110,
        height=260 + 110 * len(heads),
        showlegend=False,
        sliders=_slider(steps),
    )


def attention_map_figure(maps: Mapping[str, AttentionMaps]) -> go.Figure:
    """The attention of one head in a text; a slider picks layer and head.

    The figure holds all maps with three digits, 5 to 6 bytes for each pair of tokens of each head
    of each model: 1.1 MB as JSON for two models of 12 layers and 8 heads, and 32 tokens.

    Args:
        maps: all of the same text and tokenizer.
    """
    tokens = next(iter(maps.values())).tokens
    shapes = [each.weights.shape for each in maps.values()]
    layers, heads = (range(max(shape[axis] for shape in shapes)) for axis in (0, 1))
    names = [_visible(token) for token in tokens]
    steps = [
        (
            f"layer {layer}, head {head}",
            {"z": [_map(each, layer, head) for each in maps.values()]},
            list(range(len(maps))),
        )
        for layer in layers
        for head in heads
    ]
    figure = make_subplots(cols=len(maps), subplot_titles=list(maps), shared_yaxes=True)
    for column, z in enumerate(steps[0][1]["z"], 1):
        figure.add_heatmap(
            z=z,
            coloraxis="coloraxis",
            customdata=[[[query, key] for key in names] for query in names],
            hovertemplate="from “%{customdata[0]}” to “%{customdata[1]}”: %{z:.1%}<extra></extra>",
            hoverongaps=False,
            row=1,
            col=column,
        )
    # Most weights are small; those on the first tokens are large for all heads.
    visible = np.tri(len(tokens), dtype=bool)
    most = max(float(np.quantile(each.weights[..., visible], 0.99)) for each in maps.values())
    positions = list(range(len(tokens)))
    # Positions rather than names, because a token may occur twice.
    ticks = {"tickvals": positions, "ticktext": names, "showgrid": False, "zeroline": False}
    ticks |= {"tickfont_size": 10, "constrain": "domain"}
    figure.update_xaxes(**ticks, tickangle=-90)
    figure.update_yaxes(**ticks, autorange="reversed", constraintoward="top")
    for column in range(1, len(maps) + 1):
        figure.update_yaxes(scaleanchor=f"x{column if column > 1 else ''}", col=column)
    return figure.update_layout(
        title={
            "text": "Attention of a head in a text",
            "subtitle_text": "each row: from the token at the left to the tokens below; the "
            "strongest colour is the 99th percentile of the weights",
        },
        margin_t=110,
        coloraxis={"cmin": 0, "cmax": most, "colorbar": {"thickness": 12, "tickformat": ".0%"}},
        height=max(420, 260 + 12 * len(tokens)),
        sliders=_slider(steps),
    )


def _slider(steps: list[tuple[str, dict[str, list], list[int]]]) -> list[dict]:
    """A slider over steps that replace data: (name, values by attribute, numbers of traces)."""
    if len(steps) == 1:
        return []
    return [
        {
            "steps": [
                {"label": name, "method": "restyle", "args": [values, traces]}
                for name, values, traces in steps
            ],
            "currentvalue": {"prefix": ""},
            "ticklen": 0,
            "minorticklen": 0,
            "pad": {"t": 80},
        }
    ]


def _shares(table: pd.DataFrame, layer: int, head: int) -> list[float]:
    """A head's histogram; empty if the model has no such head."""
    rows = table[(table["layer"] == layer) & (table["head"] == head)]
    return rows["share"].round(4).tolist()


def _map(maps: AttentionMaps, layer: int, head: int) -> list[list[float | None]]:
    """A head's weights, None for the future; only None if the model has no such head."""
    layers, heads = maps.weights.shape[:2]
    if layer >= layers or head >= heads:
        return [[None] * len(maps.tokens)] * len(maps.tokens)
    rows = maps.weights[layer, head].astype(float).round(3).tolist()
    return [[*row[: place + 1], *[None] * (len(row) - place - 1)] for place, row in enumerate(rows)]


def _visible(token: str) -> str:
    """A token as a label: plotly trims spaces and interprets some HTML."""
    return escape(token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥"))
