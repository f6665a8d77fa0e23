import math

import pytest

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.ranges import Choice, Int, LogUniform, Uniform, read_range

WRITTEN = [
    ({"uniform": [0.0, 0.2]}, Uniform(0.0, 0.2)),
    ({"uniform": [0.0, 0.2], "step": 0.05}, Uniform(0.0, 0.2, 0.05)),
    ({"loguniform": [2e-4, 4e-3]}, LogUniform(0.0002, 0.004)),
    ({"int": [2, 12]}, Int(2, 12)),
    ({"int": [2, 12], "step": 2}, Int(2, 12, step=2)),
    ({"int": [1, 64], "log": True}, Int(1, 64, log=True)),
    ({"choice": ["a", "b"]}, Choice(("a", "b"))),
    ({"uniform": [0.0, 0.2], "start": 0.1}, Uniform(0.0, 0.2, start=0.1)),
    ({"uniform": [0.0, 0.2], "step": 0.05, "start": 0.0}, Uniform(0.0, 0.2, 0.05, 0.0)),
    ({"loguniform": [2e-4, 4e-3], "start": 6e-4}, LogUniform(2e-4, 4e-3, 6e-4)),
    ({"int": [2, 12], "step": 2, "start": 4}, Int(2, 12, step=2, start=4)),
    ({"int": [1, 64], "log": True, "start": 64}, Int(1, 64, log=True, start=64)),
    ({"choice": ["a", "b"], "start": "b"}, Choice(("a", "b"), "b")),
    ({"choice": [True, False], "start": False}, Choice((True, False), False)),
]


@pytest.mark.parametrize(("written", "found"), WRITTEN)
def test_ranges_read_and_write_back(written, found):
    assert read_range(written) == found
    assert found.as_yaml() == written


def test_bounds_read_as_people_write_them():
    assert read_range({"int": ["1K", "4Ki"], "step": "8"}) == Int(1000, 4096, step=8)
    assert read_range({"uniform": ["1/4", "50%"]}) == Uniform(0.25, 0.5)
    assert read_range({"uniform": ["1/4", "50%"], "start": "1/3"}).start == 1 / 3
    assert read_range({"int": ["1K", "4K"], "start": "2K"}).start == 2000


def test_ranges_with_different_starts_differ():
    assert Uniform(0.0, 0.2, start=0.1) != Uniform(0.0, 0.2)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "not a kind of range"),
        ({"loguniforn": [1, 2]}, 'did you mean "loguniform"'),
        ({"uniform": [0, 1], "int": [0, 1]}, "uniform and int at once"),
        ({"uniform": [0, 1], "setp": 0.1}, 'did you mean "step"'),
        ({"loguniform": [1, 2], "step": 1}, "not an option of loguniform; allowed here: start"),
        ({"uniform": [0.2, 0.1]}, "0.2 is not below 0.1"),
        ({"uniform": [1, 1]}, "1 is not below 1"),
        ({"uniform": [1]}, "takes two bounds"),
        ({"uniform": "12"}, "takes two bounds"),
        ({"uniform": [False, True]}, "each bound must be a number"),
        ({"int": [1.5, 3]}, "each bound must be a whole number"),
        ({"loguniform": [0, 1]}, "bounds above 0"),
        ({"int": [0, 8], "log": True}, "bounds above 0"),
        ({"int": [1, 8], "log": True, "step": 2}, "both step and log"),
        ({"int": [1, 8], "log": "yes"}, "log must be true or false"),
        ({"int": [1, 8], "step": 8}, "step of 8 that does not fit"),
        ({"int": [1, 8], "step": 0}, "step of 0 that does not fit"),
        ({"uniform": [0, 1], "step": -0.1}, "step of -0.1 that does not fit"),
        ({"uniform": [0, 1], "step": None}, "step must be a number"),
        ({"choice": []}, "nothing to choose from"),
        ({"choice": "ab"}, "takes a list"),
        ({"choice": [1, 2, 1]}, "twice"),
        ({"choice": [[0.9, 0.95]]}, "single values"),
        ({"uniform": [0, 1], "start": 1.5}, "cannot start at 1.5, which it does not contain"),
        ({"uniform": [0, 1], "step": 0.5, "start": 0.3}, "cannot start at 0.3"),
        ({"uniform": [0, 1], "start": "middle"}, "start must be a number"),
        ({"uniform": [0, 1], "start": None}, "start must be a number"),
        ({"loguniform": [1, 2], "start": 0}, "cannot start at 0"),
        ({"int": [2, 12], "step": 2, "start": 3}, "cannot start at 3"),
        ({"int": [2, 12], "start": 2.5}, "start must be a whole number"),
        ({"choice": ["a", "b"], "start": "c"}, "cannot start at c"),
        ({"choice": [1, 2], "start": True}, "cannot start at True"),
    ],
)
def test_invalid_ranges(written, message):
    with pytest.raises(RecipeError, match=message):
        read_range(written)


def test_extremes_are_all_values_of_a_short_range_and_the_ends_of_a_long_one():
    assert Choice(("a", "b", "c")).extremes() == ("a", "b", "c")
    assert Int(2, 9, step=3).extremes() == (2, 5, 8)
    assert Int(0, 99).extremes() == tuple(range(100))
    assert Int(0, 100).extremes() == (0, 100)
    assert Int(0, 1001, step=2).extremes() == (0, 1000)
    assert Int(1, 10**18).extremes() == (1, 10**18)
    assert LogUniform(0.1, 1.0).extremes() == (0.1, 1.0)
    assert Uniform(0.0, 1.0, step=0.3).extremes() == (0.0, 0.9)
    # 0.3 // 0.1 is 2 in binary floats.
    assert Uniform(0.0, 0.3, step=0.1).extremes() == (0.0, 0.3)


@pytest.mark.parametrize(
    ("found", "middle"),
    [
        (Uniform(0.0, 0.2), 0.1),
        (Uniform(0.0, 0.9, step=0.1), 0.4),
        (Uniform(0.1, 1.0, step=0.4), 0.5),
        (LogUniform(1e-3, 1e-1), 1e-2),
        (Int(2, 12), 7),
        (Int(2, 12, step=2), 6),
        (Int(2, 9, step=3), 5),
        (Int(1, 64, log=True), 8),
        (Int(1, 10**18, log=True), 10**9),
        (Choice((0.3, 0.1)), 0.3),
    ],
)
def test_the_middle_is_a_value_of_the_range(found, middle):
    assert found.middle == pytest.approx(middle, rel=1e-12)
    assert found.contains(found.middle)


THIRD = 1 / 3


@pytest.mark.parametrize(
    ("found", "proposed", "point"),
    [
        (Uniform(0.0, 1.0, step=0.1), 0.1 + 0.2, 0.3),
        (Uniform(0.0, 1.0, step=0.1), 7 * 0.1, 0.7),
        (Uniform(0.1, 1.0, step=0.3), 0.1 + 3 * 0.3, 1.0),
        (Uniform(0.0, 1.0, step=0.3), 1.0, 0.9),
        (Uniform(-0.3, 0.3, step=0.1), -0.2 + 0.1, -0.1),
        (Uniform(0.0, 1.0), THIRD, 0.3333),
        (Uniform(0.0, 1.0), 0.00123456, 0.001235),
        (Uniform(0.0, 1.0), 0.0, 0.0),
        (Uniform(-1.0, 0.0), -THIRD, -0.3333),
        (Uniform(0.0, THIRD), 0.33333, 0.3333),
        (Uniform(THIRD, 1.0), 0.33334, THIRD),
        (Uniform(0.0, 0.12346), 0.123459, 0.1235 - 0.00004),
        (Uniform(0.0, 1.0, start=0.123456), 0.123456, 0.123456),
        (Uniform(0.9, 0.999), 0.9876543, 0.9877),
        # Four digits would leave ten values.
        (Uniform(0.999, 0.9999), 0.99912345, 0.999123),
        (LogUniform(1e-4, 1e-2), 0.000123456, 0.0001235),
        (LogUniform(1e-4, 1e-2), 0.009999999, 0.01),
        (LogUniform(1.0, 1e6), 123_456.0, 123_500.0),
        (LogUniform(2.00004e-4, 4e-3), 2.00005e-4, 2.00004e-4),
        (Int(2, 12, step=2), 6.0, 6),
        (Int(2, 9, step=3), 9, 8),
        (Int(1, 10**18), 10**18 - 1, 10**18 - 1),
        (Int(1, 64, log=True), 8, 8),
        (Choice((0, 0.1)), 0.0, 0),
        (Choice(("a", True)), True, True),
    ],
)
def test_grid_points(found, proposed, point):
    assert found.grid_point(proposed) == point
    assert type(found.grid_point(proposed)) is type(point)
    assert found.contains(point)
    assert found.grid_point(point) == point


@pytest.mark.parametrize("found", [found for _, found in WRITTEN], ids=str)
def test_extremes_middle_and_start_are_grid_points(found):
    values = [*found.extremes(), found.middle]
    values += [] if found.start is None else [found.start]
    assert [found.grid_point(value) for value in values] == values


def test_a_choice_has_no_point_for_another_value():
    with pytest.raises(RecipeError, match="does not have 1 among its values"):
        Choice((True, 2)).grid_point(1)


def test_contains():
    assert Uniform(0.0, 1.0).contains(1.0)
    assert not Uniform(0.0, 1.0).contains(1.01)
    assert Uniform(0.0, 0.2, step=0.05).contains(0.15000000000000002)
    assert not Uniform(0.0, 0.2, step=0.05).contains(0.16)
    assert not Uniform(0.0, 1.0, step=0.3).contains(1.0)
    assert LogUniform(1e-3, 1.0).contains(0.001)
    assert not LogUniform(1e-3, 1.0).contains(0.0009)
    assert not LogUniform(1e-3, 1.0).contains(math.nan)
    assert Int(2, 12, step=2).contains(4)
    assert not Int(2, 12, step=2).contains(5)
    assert not Int(0, 1).contains(True)
    assert not Int(0, 1).contains("1")
    assert Choice(("a", 1)).contains(1)
    assert not Choice(("a", 1)).contains(True)
    assert not Choice(("a",)).contains("b")


class Asked:
    """Stands for an Optuna trial: proposes one value, and remembers what it was asked."""

    def __init__(self, value):
        self.value = value

    def __getattr__(self, method):
        def suggest(*args, **kwargs):
            self.asked = (method, args, kwargs)
            return self.value

        return suggest


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (Uniform(0.0, 0.2), ("suggest_float", ("x", 0.0, 0.2), {"step": None})),
        (Uniform(0.0, 1.0, 0.3), ("suggest_float", ("x", 0.0, 0.9), {"step": 0.3})),
        (LogUniform(0.1, 1.0), ("suggest_float", ("x", 0.1, 1.0), {"log": True})),
        (Int(2, 9, step=3), ("suggest_int", ("x", 2, 8), {"step": 3, "log": False})),
        (Int(1, 64, log=True), ("suggest_int", ("x", 1, 64), {"step": 1, "log": True})),
        (Choice(("a", "b")), ("suggest_categorical", ("x", ["a", "b"]), {})),
    ],
)
def test_the_distribution_that_optuna_is_asked_for(found, asked):
    trial = Asked(found.middle)
    assert found.suggest(trial, "x") == found.middle
    assert trial.asked == asked


@pytest.mark.parametrize("found", [found for _, found in WRITTEN], ids=str)
def test_optuna_proposes_what_the_range_contains(found):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    proposed = [found.suggest(study.ask(), "x") for _ in range(20)]
    assert all(found.contains(value) for value in proposed)
    assert all(found.grid_point(value) == value for value in proposed)
    floats = [value for value in proposed if isinstance(value, float)]
    assert all(float(f"{value:.4g}") == value for value in floats)
    assert len(set(proposed)) > 1
