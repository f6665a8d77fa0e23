import json

import numpy as np
import pytest

from raygpt.analysis.attention import attention_distances, attention_maps
from raygpt.analysis.attention_figures import (
    attention_map_figure,
    distance_histogram_figure,
    mean_distance_figure,
)

TEXT = "the cat\nsat <b> the cat"


@pytest.fixture(scope="module")
def models(gpt_of):
    """Models of different shapes, as in a search over shapes."""
    return {"best 0007": gpt_of(n_layers=3), "baseline 0000": gpt_of(n_layers=2, n_heads=6)}


@pytest.fixture(scope="module")
def distances(models, windows_of):
    return {name: attention_distances(model, windows_of()) for name, model in models.items()}


@pytest.fixture(scope="module")
def maps(gpt_of, tokenizer):
    shapes = {"best 0007": (3, 4), "baseline 0000": (2, 6)}
    return {
        name: attention_maps(gpt_of(context=32, n_layers=layers, n_heads=heads), tokenizer, TEXT)
        for name, (layers, heads) in shapes.items()
    }


def as_drawn(figure):
    """The figure as a browser gets it, except for the encoding of arrays."""
    return json.loads(json.dumps(figure.to_plotly_json(), default=lambda array: array.tolist()))


def titles(figure):
    return [note.text for note in figure.layout.annotations]


def test_a_heat_map_has_the_means_of_every_model_in_one_scale(distances):
    figure = mean_distance_figure(distances)
    assert titles(figure) == list(distances)
    for heat_map, each in zip(figure.data, distances.values(), strict=True):
        heads = each.heads
        for row in heads.itertuples():
            assert heat_map.z[row.layer][row.head] == row.mean_distance
            assert heat_map.customdata[row.layer][row.head] == row.first_token
        assert heat_map.coloraxis == "coloraxis"
    longest = max(each.heads["mean_distance"].max() for each in distances.values())
    scale = figure.layout.coloraxis
    # Even attention has the colour in the middle.
    assert (scale.cmin, scale.cmax) == (0, max(longest, 2 * 15 / 4))
    assert "3.8" in figure.layout.title.subtitle.text  # (16 - 1) / 4


def shown_at(figure, step):
    """The data after the slider has been moved to a step: a list of traces."""
    drawn = as_drawn(figure)
    if step:
        values, traces = drawn["layout"]["sliders"][0]["steps"][step]["args"]
        for name, replaced in values.items():
            for trace, value in zip(traces, replaced, strict=True):
                drawn["data"][trace][name] = value
    return drawn["data"]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_histograms_are_those_of_the_layer_that_the_slider_is_at(distances, layer):
    figure = distance_histogram_figure(distances)
    assert [step.label for step in figure.layout.sliders[0].steps] == [
        *["layer 0", "layer 1", "layer 2"]
    ]
    bars = [trace for trace in shown_at(figure, layer) if trace["type"] == "bar"]
    assert len(bars) == 2 * 6
    for place, bar in enumerate(bars):
        head, model = divmod(place, 2)
        table = list(distances.values())[model].histogram
        one = table[(table["layer"] == layer) & (table["head"] == head)]
        assert bar["y"] == pytest.approx(one["share"].tolist(), abs=1e-4)
        assert len(bar["y"]) == (
            0 if (model, layer) == (1, 2) or (model, head > 3) == (0, True) else 5
        )
        assert bar["x"] == ["0", "1", "2–3", "4–7", "8–15"]


def test_maps_are_those_of_the_head_that_the_slider_is_at(maps):
    figure = attention_map_figure(maps)
    steps = [step.label for step in figure.layout.sliders[0].steps]
    assert steps == [f"layer {layer}, head {head}" for layer in range(3) for head in range(6)]
    n = len(next(iter(maps.values())).tokens)
    future = np.triu(np.ones((n, n), bool), 1)
    for step in range(len(steps)):
        layer, head = divmod(step, 6)
        for trace, each in zip(shown_at(figure, step), maps.values(), strict=True):
            z = np.array(trace["z"], float)
            assert np.isnan(z[future]).all()
            if layer < each.weights.shape[0] and head < each.weights.shape[1]:
                expected = each.weights[layer, head]
                np.testing.assert_allclose(z[~future], expected[~future], atol=6e-4)
            else:
                assert np.isnan(z).all()


def test_the_axes_of_maps_are_labelled_with_the_tokens(maps):
    figure = attention_map_figure(maps)
    for axis in (figure.layout.xaxis, figure.layout.yaxis, figure.layout.xaxis2):
        assert list(axis.tickvals) == list(range(len(axis.ticktext)))
        assert "".join(axis.ticktext) == "the·cat↵sat·&lt;b&gt;·the·cat"
    # From the query, in rows, to the key.
    names = list(figure.layout.xaxis.ticktext)
    assert list(figure.data[0].customdata[3][1]) == [names[3], names[1]]


def test_a_single_model_of_one_head_needs_no_slider(gpt_of, windows_of, tokenizer):
    model = gpt_of(n_layers=1, n_heads=1)
    distances = {"best and baseline 0000": attention_distances(model, windows_of())}
    maps = {"best and baseline 0000": attention_maps(model, tokenizer, "the cat")}
    assert len(mean_distance_figure(distances).data) == 1
    assert not distance_histogram_figure(distances).layout.sliders
    assert not attention_map_figure(maps).layout.sliders


@pytest.mark.parametrize("template", ["plotly_white", "plotly_dark"])
def test_the_template_decides_the_colours(distances, maps, template):
    figures = [mean_distance_figure(distances), attention_map_figure(maps)]
    for figure in [*figures, distance_histogram_figure(distances)]:
        figure.update_layout(template=template)
        layout = figure.to_plotly_json()["layout"]
        assert not {"paper_bgcolor", "plot_bgcolor", "font"} & layout.keys()
        assert "colorscale" not in layout.get("coloraxis", {})
