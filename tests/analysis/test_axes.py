import numpy as np
import pandas as pd
import pytest

from raygpt.analysis.axes import axis
from raygpt.recipe.ranges import Choice, Int, LogUniform, Uniform


def test_a_logarithmic_range_is_a_logarithmic_axis():
    found = axis("training.weight_decay", pd.Series([0.01, 0.1]), LogUniform(1e-3, 1.0))
    assert found.title == "weight decay"
    assert found.shares([1e-3, 10**-1.5, 1.0]) == pytest.approx([0, 0.5, 1])
    assert found.grid(4) == pytest.approx([1e-3, 1e-2, 1e-1, 1])
    assert found.layout()["ticktext"] == ["0.001", "0.01", "0.1", "1"]
    assert found.layout()["tickvals"] == pytest.approx([1e-3, 1e-2, 1e-1, 1])


def test_a_short_logarithmic_axis_also_has_ticks_at_2_and_5():
    found = axis("x", pd.Series([0.01]), LogUniform(2e-3, 5e-2))
    assert found.layout()["ticktext"] == ["0.002", "0.005", "0.01", "0.02", "0.05"]


@pytest.mark.parametrize("found", [Uniform(0.0, 0.2), None])
def test_a_linear_axis_reaches_as_far_as_the_values(found):
    along = axis("x", pd.Series([0.05, 0.25]), found)
    assert (along.low, along.high) == (0.0 if found else 0.05, 0.25)
    assert not along.log


def test_whole_numbers_may_be_logarithmic():
    assert axis("x", pd.Series([2, 4]), Int(2, 64, log=True)).log


def test_choices_are_categories_even_of_numbers():
    along = axis("x", pd.Series([16, 8]), Choice((8, 16, 32)))
    assert along.categories == ("8", "16", "32")
    assert list(along.positions([16, 32])) == [1, 2]
    assert axis("x", pd.Series(["b", "a"])).categories == ("b", "a")


def test_one_value_alone_still_has_an_axis():
    along = axis("x", pd.Series([3.0]))
    assert np.isfinite(along.shares([3.0])).all()
