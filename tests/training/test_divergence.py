import math

import pytest

from raygpt.training.divergence import DIVERGED_STEPS, DivergenceCheck, TrainingDiverged

GUESS = math.log(300)
PLACE = "at 64 tokens and a learning rate of 0.1"


@pytest.fixture
def check():
    return DivergenceCheck(300, lambda: PLACE)


def test_a_high_loss_for_ten_steps_in_a_row_has_diverged(check):
    for _ in range(DIVERGED_STEPS - 1):
        check.check_step(1.6 * GUESS)
    with pytest.raises(TrainingDiverged) as caught:
        check.check_step(1.6 * GUESS)
    assert str(caught.value) == (
        f"the training loss is 13.2 bits per token (random guessing: 8.2) {PLACE}"
    )


def test_one_reasonable_step_starts_the_count_again(check):
    for step in range(5 * DIVERGED_STEPS):
        check.check_step((1.4 if step % DIVERGED_STEPS == 0 else 1.6) * GUESS)
    assert check.high_steps == DIVERGED_STEPS - 1


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_has_diverged_at_once(check, loss):
    with pytest.raises(TrainingDiverged, match=f"^the training loss is {loss} at 64 tokens"):
        check.check_step(loss)
    with pytest.raises(TrainingDiverged, match=f"^the training loss is {loss} at 64 tokens"):
        check.check_finite("training", loss)
    with pytest.raises(TrainingDiverged, match=f"^the validation loss is {loss} at 64 tokens"):
        check.check_validation(loss)


def test_a_high_validation_loss_has_diverged_at_once(check):
    check.check_validation(1.4 * GUESS)
    with pytest.raises(TrainingDiverged, match=r"validation loss is 13.2 bits per token"):
        check.check_validation(1.6 * GUESS)


def test_a_mean_that_a_spike_has_raised_is_no_divergence(check):
    check.check_finite("training", 1e6)


def test_a_high_validation_loss_after_a_low_training_loss_is_memorised_text(check):
    check.check_step(0.1 * GUESS)
    with pytest.raises(TrainingDiverged, match=r"has memorised its text: lower training\.tokens"):
        check.check_validation(1.6 * GUESS)
    check.check_step(0.9 * GUESS)
    with pytest.raises(TrainingDiverged, match=f"{PLACE}$"):
        check.check_validation(1.6 * GUESS)
