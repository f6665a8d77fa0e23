from pathlib import Path

import pytest

from raygpt.wording import (
    clock,
    counted,
    duration,
    duration_range,
    listed,
    rough_duration,
    shell_quoted,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (59, "59 seconds"),
        (60, "1.0 minutes"),
        (354, "5.9 minutes"),
        (7199, "120.0 minutes"),
        (7200, "2.0 hours"),
    ],
)
def test_a_duration_has_the_unit_of_its_size(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "about 10 seconds"),
        (84, "about 80 seconds"),
        (90, "about 2 minutes"),
        (5399, "about 90 minutes"),
        (5400, "about 2 hours"),
        (36000, "about 10 hours"),
    ],
)
def test_an_estimate_is_rounded(seconds, text):
    assert rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (336, "0:05:36"), (90061.5, "25:01:02")]
)
def test_a_clock_counts_hours_minutes_and_seconds(seconds, text):
    assert clock(seconds) == text


def test_a_number_of_things():
    assert [counted(number, "trial") for number in (0, 1, 1200)] == [
        "0 trials",
        "1 trial",
        "1,200 trials",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_a_list_in_a_sentence(words, text):
    assert listed(words) == text
    assert listed(words, "or") == text.replace("and", "or")


def test_an_argument_with_a_blank_is_quoted():
    assert shell_quoted(Path("runs/lr_sched")) == "runs/lr_sched"
    assert shell_quoted("a b") == "'a b'"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (12, 45.4, "12 to 45 seconds"),
        (45, 90, "0.8 to 1.5 minutes"),
        (321, 475, "5.3 to 7.9 minutes"),
        (3600, 9000, "1.0 to 2.5 hours"),
        (300, 301, "5.0 minutes"),
    ],
)
def test_a_range_of_durations_has_one_unit(low, high, text):
    assert duration_range(low, high) == text
