import math

import pytest
import torch

from raygpt.training.report import Meter, Report

CPU = torch.device("cpu")


@pytest.fixture
def meter(recipe_of):
    """Measures steps of 64 tokens."""
    return Meter(recipe_of(), CPU)


def add(meter, nats, norm=1.0):
    meter.add(torch.tensor(nats, dtype=torch.float64), torch.tensor(norm))


def test_the_loss_is_the_mean_over_all_tokens_since_the_last_report(meter):
    add(meter, 64 * 2.0, 0.5)
    add(meter, 64 * 4.0, 0.25)
    assert meter.losses() == {
        "train_bits_per_token": pytest.approx(3 / math.log(2)),
        "gradient_norm": 0.25,
    }
    assert meter.losses() == {}
    add(meter, 64 * 1.0)
    assert meter.losses()["train_bits_per_token"] == pytest.approx(1 / math.log(2))


def test_the_speed_is_that_of_the_steps_since_timing_began(meter):
    meter.start_timing(10, 3.0)
    assert meter.speed(10, 5.0) == {}
    assert meter.speed(15, 5.0) == {"tokens_per_second": 5 * 64 / 2.0}


def test_a_meter_takes_over_another_ones_sums(meter, recipe_of):
    add(meter, 64 * 2.0, 0.5)
    other = Meter(recipe_of(), CPU)
    other.load_state_dict(meter.state_dict() | {"step": 1})
    meter.forget_losses()
    assert meter.losses() == {}
    add(other, 64 * 4.0, 0.25)
    assert other.losses()["train_bits_per_token"] == pytest.approx(3 / math.log(2))


def test_metrics_are_the_figures_that_are_not_none():
    report = Report(
        step=2,
        tokens=128,
        tokens_trained=128,
        cooldown=False,
        rung=None,
        rung_metric=None,
        checkpoint_due=True,
        learning_rate=0.1,
        seconds=1.5,
        gradient_norm=0.5,
    )
    assert report.metrics() == {
        "step": 2,
        "tokens": 128,
        "tokens_trained": 128,
        "cooldown": False,
        "learning_rate": 0.1,
        "seconds": 1.5,
        "gradient_norm": 0.5,
    }
