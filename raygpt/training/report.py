"""The reports of a run along its training curve, and the measurements between two reports."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.training.segments import RungMetric


@dataclass(frozen=True)
class Report:
    """The figures of a run at a step. Validation figures are there at rungs only."""

    step: int
    tokens: int
    """Position in the budget, in tokens."""
    tokens_trained: int
    """All tokens processed, cooldowns included."""
    cooldown: bool
    """Whether the step is in the cooldown to a rung, off the trunk."""
    rung: int | None
    """Which rung this is, counted from 0; None between rungs."""
    rung_metric: RungMetric | None
    """What the model is judged by at the rung."""
    checkpoint_due: bool
    """Whether the recipe wants the run's state saved here."""
    learning_rate: float
    """Of the last step."""
    seconds: float
    """Spent on training and evaluation since the run began, over all its resumptions."""
    train_bits_per_token: float | None = None
    """Mean over all tokens trained since the last report, with dropout; None if there are none."""
    gradient_norm: float | None = None
    """Of the last step, before clipping."""
    tokens_per_second: float | None = None
    """Since the last report or the resumption, without evaluation."""
    bits_per_byte: float | None = None
    bits_per_token: float | None = None
    next_token_accuracy: float | None = None

    def metrics(self) -> dict[str, float]:
        """The figures that are not None, by name."""
        values = asdict(self)
        del values["checkpoint_due"], values["rung_metric"]
        return {name: value for name, value in values.items() if value is not None}


class Meter:
    """Measures the steps since the last report.

    Sums stay on the device; only a report brings them to the host.
    """

    def __init__(self, recipe: Recipe, device: torch.device):
        self.tokens_per_step = budget.tokens_per_step(recipe)
        self.device = device
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.loss_steps = 0
        self.gradient_norm = torch.zeros((), device=device)
        self._since = (0, 0.0)

    def add(self, nats: torch.Tensor, gradient_norm: torch.Tensor) -> None:
        """Count a step, given the summed loss of its tokens."""
        self.loss_sum += nats
        self.loss_steps += 1
        self.gradient_norm = gradient_norm

    def forget_losses(self) -> None:
        """Start a new mean of the training loss."""
        self.loss_sum.zero_()
        self.loss_steps = 0

    def losses(self) -> dict[str, float]:
        """The training figures of a report, which starts a new mean; none without a step."""
        if not self.loss_steps:
            return {}
        nats = self.loss_sum.item() / (self.loss_steps * self.tokens_per_step)
        self.forget_losses()
        return {
            "train_bits_per_token": nats / math.log(2),
            "gradient_norm": self.gradient_norm.item(),
        }

    def start_timing(self, steps_trained: int, seconds: float) -> None:
        """Measure speed from here on.

        Args:
            steps_trained: all steps of the run so far, cooldowns included.
            seconds: spent by the run so far.
        """
        self._since = steps_trained, seconds

    def speed(self, steps_trained: int, seconds: float) -> dict[str, float]:
        """The speed since `start_timing`; nothing without a step."""
        steps = steps_trained - self._since[0]
        if not steps:
            return {}
        tokens = steps * self.tokens_per_step
        return {"tokens_per_second": tokens / (seconds - self._since[1])}

    def state_dict(self) -> dict[str, Any]:
        """The part that belongs to the state of a run."""
        return {
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
            "gradient_norm": self.gradient_norm,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; other keys are ignored."""
        self.loss_sum.copy_(state["loss_sum"])
        self.loss_steps = state["loss_steps"]
        self.gradient_norm = state["gradient_norm"].to(self.device)
