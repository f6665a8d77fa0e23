"""An optimizer step: the loss and gradients of a batch, and the update.

Shapes in names: B sequences, T tokens of each, V the vocabulary with its padding.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from raygpt.errors import UserError
from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.training import parallel
from raygpt.training.build import build_model
from raygpt.training.hardware import autocast, seed_generators
from raygpt.training.model import summed_loss
from raygpt.training.optimizers import make_optimizer
from raygpt.training.parameter_groups import set_learning_rate


class MicroBatchTooLarge(UserError):
    """The micro-batch needs more memory than the device has."""


class Learner:
    """A model with its optimizer.

    Args:
        recipe: without ranges.
        vocab_size: tokens in the vocabulary.
        device: to train on.
    """

    def __init__(self, recipe: Recipe, vocab_size: int, device: torch.device):
        self.recipe = recipe
        self.device = device
        self.tokens_per_step = budget.tokens_per_step(recipe)
        # Weights are drawn on the CPU, so that every kind of device starts from the same ones.
        seed_generators(torch.device("cpu"), recipe.training.seed)
        self.model = build_model(recipe, vocab_size).to(device)
        self.autocast = autocast(device, recipe.training.precision)
        self.forward = torch.compile(self.model) if recipe.model.compile else self.model
        """Maps tokens_BT to logits_BTV, compiled if the recipe says so."""
        self._synchronised = parallel.synchronised(self.forward)
        # Made last: workers that share out the weights replace the model's parameters.
        self.optimizer = make_optimizer(self.model, recipe.training)
        self.learning_rate = recipe.training.learning_rate
        """The schedule's rate at the last step."""

    def step(
        self, inputs_BT: torch.Tensor, targets_BT: torch.Tensor, learning_rate: float, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on one batch.

        Args:
            inputs_BT, targets_BT: this worker's sequences of the batch.
            learning_rate: the schedule's.
            seed: seed of dropout for this step and worker. Because masks are a function of it, no
                generator's state has to be saved, and a resumed run draws the same ones.

        Returns:
            The loss in nats, summed over the tokens of all workers' sequences; and the norm of the
            gradient before clipping. Both stay on the device.

        Raises:
            MicroBatchTooLarge: the micro-batch does not fit in the device's memory.
        """
        with self._memory_errors_explained():
            self.learning_rate = learning_rate
            set_learning_rate(self.optimizer.param_groups, learning_rate)
            seed_generators(self.device, seed)
            nats = self._backward(inputs_BT, targets_BT)
            gradient_norm = parallel.clip_gradients(
                self.model, self.recipe.training.gradient_clipping
            )
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            return parallel.sum_over_workers(nats), gradient_norm

    def _backward(self, inputs_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        """Leave the gradients of the mean loss in the parameters; returns this worker's nats."""
        nats = torch.zeros((), dtype=torch.float64, device=self.device)
        scale = parallel.gradient_divisor() / self.tokens_per_step
        for micro_inputs_BT, micro_targets_BT in parallel.micro_batches(
            self._synchronised, inputs_BT, targets_BT, self.recipe.training.micro_batch
        ):
            micro_inputs_BT = micro_inputs_BT.to(self.device, non_blocking=True)
            micro_targets_BT = micro_targets_BT.to(self.device, non_blocking=True)
            with self.autocast:
                logits_BTV = self._synchronised(micro_inputs_BT)
            loss = summed_loss(logits_BTV, micro_targets_BT)
            (loss * scale).backward()
            nats += loss.detach()
        return nats

    def state_dict(self) -> dict[str, Any]:
        """All that a step changes: the keys "model" and "optimizer"."""
        return parallel.state_dict(self.model, self.optimizer)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; other keys are ignored."""
        parallel.load_state_dict(self.model, self.optimizer, state)

    @contextlib.contextmanager
    def _memory_errors_explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate" in str(error)):
                raise
            size = self.recipe.training.micro_batch
            raise MicroBatchTooLarge(
                f"training.micro_batch: {size} sequences of {self.recipe.data.context} tokens do "
                f"not fit in the memory of {self.device}; use a smaller one, as with "
                f"--set training.micro_batch={max(1, size // 2)} (the optimizer step stays "
                f"training.batch_tokens either way), or --set model.activation_checkpointing=true"
            ) from error
