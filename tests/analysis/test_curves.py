import dataclasses

import numpy as np
import pandas as pd
import pytest

from raygpt.analysis.curves import learning_curves, learning_rates
from raygpt.analysis.run import load_results
from raygpt.results.comparability import bytes_per_token
from raygpt.results.tables import RunTables


@pytest.fixture
def one_trial(tmp_path):
    """A trial with a cooldown to a rung at 400 that leaves the trunk at 200; no rung yet."""
    tables = RunTables(tmp_path, ["training.hold"])
    tables.begin_trial("0000", 0, {"training.hold": 0.5})
    for tokens, trained, cooldown in [
        (100, 100, False),
        (200, 200, False),
        (300, 300, True),
        (400, 400, True),
        (300, 500, False),
        (500, 700, False),
    ]:
        found = {"tokens": tokens, "tokens_trained": trained, "cooldown": cooldown, "seconds": 1.0}
        found |= {"train_bits_per_token": 10 - tokens / 100, "learning_rate": 1e-3}
        if tokens == 400:
            found |= {"rung": 0, "bits_per_byte": 2.0, "bits_per_token": 5.0}
        tables.add_report(
            "0000", found | {"next_token_accuracy": 0.1} if "rung" in found else found
        )
    tables.flush()
    return tables


def lines(figure):
    return [trace for trace in figure.data if trace.mode == "lines"]


def points_of(trace):
    return [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if np.isfinite(y)]


def test_a_trunk_is_solid_and_its_cooldown_dotted_from_where_it_leaves(one_trial):
    trunk, cooldown = lines(learning_curves(load_results(one_trial.folder)))
    assert (trunk.line.dash, cooldown.line.dash) == ("solid", "dot")
    # In bits per byte: the validation text has 2.5 bytes a token.
    assert points_of(trunk) == [(100, 9 / 2.5), (200, 8 / 2.5), (300, 7 / 2.5), (500, 5 / 2.5)]
    assert points_of(cooldown) == [(200, 8 / 2.5), (300, 7 / 2.5), (400, 6 / 2.5)]


def test_points_at_rungs_are_validation_figures(one_trial):
    figure = learning_curves(load_results(one_trial.folder))
    (rungs,) = [trace for trace in figure.data if trace.mode == "markers"]
    assert points_of(rungs) == [(400, 2.0)]
    assert [shape.x0 for shape in figure.layout.shapes] == [400]
    assert "0000" in rungs.text[0]
    assert "hold 0.5" in rungs.text[0]


def test_before_the_first_rung_the_unit_is_bits_per_token(one_trial):
    run = load_results(one_trial.folder)
    history = run.history[run.history["tokens"] < 300]
    assert np.isnan(bytes_per_token(history))
    figure = learning_curves(type(run)(run.folder, run.trials, history))
    assert figure.layout.yaxis.title.text == "bits per token"
    assert points_of(lines(figure)[0]) == [(100, 9), (200, 8)]


def test_learning_rates(one_trial):
    figure = learning_rates(load_results(one_trial.folder))
    assert figure.layout.yaxis.title.text == "learning rate"
    assert {y for trace in figure.data for _, y in points_of(trace)} == {1e-3}


def test_stopped_trials_end_in_a_cross(hundred):
    figure = learning_curves(hundred)
    symbols = {
        trace.name: set(trace.marker.symbol) for trace in figure.data if trace.mode == "markers"
    }
    assert symbols["stopped"] == {"x"}
    assert symbols["completed"] == {"circle"}


def test_curves_of_selected_trials(hundred):
    figure = learning_curves(hundred, trials=["0003"])
    assert {text[3:7] for trace in figure.data for text in trace.text if text} == {"0003"}
    assert len({trace.name for trace in figure.data}) == 1


def test_confirming_runs_are_hidden_at_first_and_judged_only_at_their_ends(confirmed):
    run = load_results(confirmed)
    further = run.trials.loc[run.trials["confirms"].notna(), "trial_id"]
    # Add mid-run evaluations, which have no cooldown.
    ends = run.history[run.history["trial_id"].isin(further)]
    on_the_way = ends.assign(tokens=399_872, tokens_trained=399_872, rung=0, bits_per_byte=9.0)
    history = pd.concat([run.history, on_the_way], ignore_index=True)
    run = dataclasses.replace(run, history=history.astype(run.history.dtypes))

    def drawn(figure):
        return [trace for trace in figure.data if trace.name == "further runs"]

    traces = drawn(learning_curves(run))
    assert {trace.visible for trace in traces} == {"legendonly"}
    (points,) = (trace for trace in traces if trace.mode == "markers")
    assert set(points.x) == {1_200_128}
    assert len(points.x) == len(further)
    assert learning_curves(run).layout.yaxis.range[1] < 9
    # They are shown if they are asked for.
    assert {trace.visible for trace in drawn(learning_curves(run, further))} == {True}
    assert {trace.visible for trace in drawn(learning_rates(run))} == {"legendonly"}
