"""Slices, contours, parallel coordinates and means of confirmed trials."""

import numpy as np
import pytest

from raygpt.analysis.axes import axis
from raygpt.analysis.contours import surface
from raygpt.analysis.groups import judged
from raygpt.analysis.run import load_results
from raygpt.errors import UserError

RATE, DROPOUT = "training.learning_rate", "model.dropout"


def test_slices_compare_trials_of_one_budget_only(hundred):
    figure = hundred.plot_slices(["learning_rate"])
    compared = judged(hundred)
    circles = [trace for trace in figure.data if trace.marker.symbol == "circle"]
    crosses = [trace for trace in figure.data if trace.marker.symbol != "circle"]
    shown = sorted(y for trace in circles for y in trace.y)
    assert shown == sorted(compared["bits_per_byte"])
    assert compared["tokens"].nunique() == 1
    # The others are at the top edge, at their values.
    assert sum(len(trace.x) for trace in crosses) == len(hundred.trials) - len(compared)
    assert min(y for trace in crosses for y in trace.y) > max(shown)
    assert figure.layout.xaxis.type == "log"


def test_a_panel_for_every_value(hundred):
    figure = hundred.plot_slices()
    assert {figure.layout[name].title.text for name in ("xaxis", "xaxis2", "xaxis3")} == {
        "dropout",
        "learning rate",
        "weight decay",
    }


def test_the_surface_is_lowest_where_the_objective_is(hundred):
    trials = judged(hundred)
    across, upward = (axis(n, trials[n], hundred.ranges[n]) for n in (RATE, DROPOUT))
    none = trials.head(0)
    height = surface(trials, none, across, upward)
    row, column = np.unravel_index(np.nanargmin(height), height.shape)
    assert 4e-3 < across.grid(40)[column] < 9e-3
    assert upward.grid(40)[row] < 0.12
    # A mean stays within the observed values, and is blank where there are none.
    assert np.nanmin(height) >= trials["bits_per_byte"].min()
    assert np.nanmax(height) <= trials["bits_per_byte"].max()
    assert np.isnan(height).any()


def test_the_surface_is_blank_where_trials_without_a_figure_outweigh_the_others(hundred):
    trials = judged(hundred)
    across, upward = (axis(n, trials[n], hundred.ranges[n]) for n in (RATE, DROPOUT))
    best = trials.loc[[trials["bits_per_byte"].idxmin()]]
    without = surface(trials, best.loc[best.index.repeat(1000)], across, upward)
    whole = surface(trials, best.head(0), across, upward)
    column, row = (
        round(float(along.shares(best[along.name])[0]) * 39) for along in (across, upward)
    )
    assert np.isfinite(whole[row, column])
    assert np.isnan(without[row, column])
    shown = np.isfinite(without)
    assert shown.any()
    assert (without[shown] == whole[shown]).all()


def test_a_contour_by_short_names(hundred):
    figure = hundred.plot_contour("dropout", "weight_decay")
    assert figure.layout.xaxis.title.text == "dropout"
    assert figure.layout.yaxis.type == "log"


def test_an_unknown_value_is_named(hundred):
    with pytest.raises(UserError, match=r"learning_rat: this value was not searched.*did you mean"):
        hundred.plot_contour("learning_rat", "dropout")


def test_parallel_coordinates_end_with_the_place(hundred):
    (lines,) = hundred.plot_parallel_coordinates().data
    assert [dimension.label for dimension in lines.dimensions][-1] == "place"
    # The first line is the best trial.
    assert hundred.best["trial_id"] in lines.customdata[0]
    rate = lines.dimensions[1].values[0]
    assert 10**rate == pytest.approx(hundred.best[RATE])
    assert lines.dimensions[-1].values[0] == 1


def test_without_a_confirmation_there_are_no_intervals(hundred):
    with pytest.raises(UserError, match="nothing was confirmed"):
        hundred.plot_confirmation()


def test_confirmed_means_have_their_intervals(confirmed):
    run = load_results(confirmed)
    figure = run.plot_confirmation()
    means = [trace for trace in figure.data if trace.marker.symbol == "diamond"]
    assert [trace.y[0] for trace in means][-1] == run.best["trial_id"]
    assert all(trace.error_x.value > 0 for trace in means)
    rings = [trace for trace in figure.data if trace.marker.symbol == "circle-open"]
    assert [len(trace.x) for trace in rings] == [3, 3]
