import math

import pytest

from raygpt.training.schedule import decay_start, learning_rate

PEAK = 2.0


def rate(position, budget=1000, warmup=0.1, hold=0.5, final=0.0, full_budget=None):
    return learning_rate(
        position,
        budget,
        peak=PEAK,
        warmup=warmup,
        hold=hold,
        final=final,
        full_budget=full_budget,
    )


@pytest.mark.parametrize(
    ("position", "share_of_peak"),
    [
        (0, 0.0),
        (50, 0.5),  # half the warmup
        (75, 0.75),
        (100, 1.0),  # its end
        (300, 1.0),
        (550, 1.0),  # the decay starts, halfway between warmup and budget
        (662.5, (1 + math.sqrt(0.5)) / 2),  # a quarter of the cosine
        (775, 0.5),  # its middle
        (887.5, (1 - math.sqrt(0.5)) / 2),
        (1000, 0.0),
    ],
)
def test_exact_points_of_warmup_hold_and_decay(position, share_of_peak):
    assert rate(position) == pytest.approx(PEAK * share_of_peak, abs=1e-12)


@pytest.mark.parametrize(
    ("position", "share_of_peak"), [(100, 1.0), (550, 0.55), (1000, 0.1), (50, 0.5)]
)
def test_the_decay_ends_at_the_final_fraction_of_the_peak(position, share_of_peak):
    assert rate(position, hold=0.0, final=0.1) == pytest.approx(PEAK * share_of_peak)


def test_without_hold_the_decay_follows_the_warmup():
    assert decay_start(1000, warmup=0.1, hold=0) == 100
    assert rate(100, hold=0) == PEAK
    assert rate(101, hold=0) < PEAK
    assert rate(550, hold=0) == pytest.approx(PEAK / 2)


def test_held_to_the_end_the_rate_never_falls():
    assert decay_start(1000, warmup=0.1, hold=1) == 1000
    assert [rate(position, hold=1) for position in (100, 999, 1000)] == [PEAK] * 3


def test_without_warmup_the_rate_starts_at_the_peak():
    assert rate(0, warmup=0) == PEAK
    assert rate(0, warmup=0, hold=0) == PEAK
    assert rate(500, warmup=0, hold=0) == pytest.approx(PEAK / 2)


def test_a_rung_keeps_the_warmup_of_the_whole_budget_and_decays_at_its_own_end():
    # B = 9000 and b = 1000: W = 0.05 * 9000 = 450, s(b) = 450 + 0.5 * (1000 - 450) = 725.
    rung = {"budget": 1000, "warmup": 0.05, "hold": 0.5, "full_budget": 9000}
    assert decay_start(1000, warmup=0.05, hold=0.5, full_budget=9000) == 725
    assert rate(225, **rung) == pytest.approx(PEAK / 2)
    assert rate(450, **rung) == rate(725, **rung) == PEAK
    assert rate(862.5, **rung) == pytest.approx(PEAK / 2)
    assert rate(1000, **rung) == pytest.approx(0, abs=1e-12)


def test_the_rungs_share_their_trunk():
    start = decay_start(1000, warmup=0.05, hold=0.5, full_budget=9000)
    for position in (0, 100, 449, 451, 600, start):
        lowest, whole = (
            rate(position, budget=b, warmup=0.05, full_budget=9000) for b in (1000, 9000)
        )
        assert lowest == whole


def test_the_full_budget_defaults_to_the_budget():
    for position in (30, 100, 600, 900):
        assert rate(position) == rate(position, full_budget=1000)
