"""Detects runs whose loss has diverged."""

import math
from collections.abc import Callable
from typing import NoReturn

# Random guessing has a loss of the logarithm of the vocabulary's size per token. A loss this many
# times as high for this many steps in a row will not come down again; a shorter spike may.
DIVERGED_LOSS = 1.5
DIVERGED_STEPS = 10


class TrainingDiverged(Exception):
    """The loss is not a finite number, or has risen far above random guessing."""


class DivergenceCheck:
    """Raises TrainingDiverged where a loss shows that a run has diverged. Losses are in nats a
    token.

    Args:
        vocab_size: tokens in the vocabulary.
        place: says where the run is, for the message.
    """

    def __init__(self, vocab_size: int, place: Callable[[], str]):
        self.guess = math.log(vocab_size)
        self.place = place
        self._training_nats = math.inf
        self.high_steps = 0
        """Number of steps in a row whose loss was too high."""

    def check_step(self, nats: float) -> None:
        """Check the training loss of one step, in the order of the steps."""
        self.check_finite("training", nats)
        self._training_nats = nats
        self.high_steps = self.high_steps + 1 if self._is_high(nats) else 0
        if self.high_steps == DIVERGED_STEPS:
            self._diverge("training", nats)

    def check_validation(self, nats: float) -> None:
        """Check the loss on the validation set."""
        self.check_finite("validation", nats)
        if self._is_high(nats):
            self._diverge("validation", nats)

    def check_finite(self, what: str, loss: float) -> None:
        """Check only that a loss is finite: a spike may have raised a mean."""
        if not math.isfinite(loss):
            self._diverge(what, loss)

    def _is_high(self, nats: float) -> bool:
        return nats > DIVERGED_LOSS * self.guess

    def _diverge(self, what: str, nats: float) -> NoReturn:
        loss = str(nats)
        if math.isfinite(nats):
            bits, guess = nats / math.log(2), self.guess / math.log(2)
            loss = f"{bits:.1f} bits per token (random guessing: {guess:.1f})"
        text = f"the {what} loss is {loss} {self.place()}"
        if what == "validation" and self._training_nats < self.guess / 2:
            text += (
                "; the training loss is low, so the model has memorised its text: lower "
                "training.tokens or use more text"
            )
        raise TrainingDiverged(text)
