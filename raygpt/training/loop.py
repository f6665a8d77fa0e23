"""One training run: a recipe and a dataset in, reports out."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from raygpt.data.batches import TrainingBatches, validation_windows
from raygpt.data.dataset import Dataset
from raygpt.errors import UserError
from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.seeds import derived_seed
from raygpt.training.evaluation import evaluate
from raygpt.training.hardware import (
    autocast,
    default_device,
    keep_freed_memory,
    seed_generators,
)
from raygpt.training.model import GPT, summed_loss
from raygpt.training.optimizer import make_optimizer
from raygpt.training.schedule import learning_rate
from raygpt.training.workers import sum_over_workers, worker_count, worker_rank

CHECKPOINT_FOLDER = "checkpoint"
CHECKPOINT_FILE = "checkpoint.pt"


class MicroBatchTooLarge(UserError):
    """The micro-batch needs more memory than the device has."""


class TrainingDiverged(Exception):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Report:
    """What a run says at a point of its training curve. Validation figures stand at rungs only."""

    step: int
    tokens: int
    """Position in the budget, in tokens."""
    tokens_trained: int
    """All tokens processed."""
    rung: int | None
    """Which rung this is, counted from 0; None between rungs."""
    checkpoint_due: bool
    """Whether the recipe wants the run's state saved here."""
    train_bits_per_token: float
    """Mean over all tokens trained since the report before, dropout on."""
    learning_rate: float
    """Of the last step."""
    gradient_norm: float
    """Of the last step, before clipping."""
    tokens_per_second: float
    """Since the report before or the resumption, evaluation aside."""
    seconds: float
    """Spent on training and evaluation since the run began, over all its resumptions."""
    bits_per_byte: float | None = None
    bits_per_token: float | None = None
    next_token_accuracy: float | None = None

    def metrics(self) -> dict[str, float]:
        """The figures that are there, by name."""
        values = asdict(self)
        del values["checkpoint_due"]
        return {name: value for name, value in values.items() if value is not None}


class TrainingRun:
    """A model in training, at some step of its recipe.

    In a process group of several workers each takes its own sequences of every batch; gradients
    and figures are summed over them, so that the worker count changes no result beyond dropout's
    masks and floating-point noise.

    Raises:
        UserError: the corpus holds less than one window of the recipe's context.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device | None = None):
        self.recipe = recipe
        self.dataset = dataset
        self.device = device or default_device()
        if self.device.type == "cpu":
            keep_freed_memory()
        self.step = 0
        self.seconds = 0.0

        self.sequences_per_step = budget.sequences_per_step(recipe)
        self.tokens_per_step = budget.tokens_per_step(recipe)
        self.budget_tokens = budget.budget_tokens(recipe)
        self.rung_steps = budget.rung_steps(recipe)
        self.checkpoint_steps = budget.checkpoint_steps(recipe)

        self.batches = TrainingBatches(
            dataset.train, recipe.data.context, self.budget_tokens, recipe.training.seed
        )
        self.validation = validation_windows(
            dataset.validation, recipe.data.context, recipe.data.validation_tokens
        )
        self.token_bytes = torch.as_tensor(dataset.token_bytes, device=self.device)

        # Weights are drawn on the CPU, so that every kind of device starts from the same ones.
        seed_generators(torch.device("cpu"), recipe.training.seed)
        self.model = GPT(recipe.model, dataset.vocab_size, recipe.data.context).to(self.device)
        self.optimizer = make_optimizer(self.model, recipe.training)
        self.autocast = autocast(self.device, recipe.training.precision)
        self.forward = torch.compile(self.model) if recipe.model.compile else self.model
        self.synchronised: nn.Module = self.forward
        if worker_count() > 1:
            # The only buffer is a constant; to broadcast it at every step would be idle.
            self.synchronised = nn.parallel.DistributedDataParallel(
                self.forward, broadcast_buffers=False
            )

        # Sums stay on the device; only a report brings them to the host.
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._loss_steps = 0
        self._gradient_norm = torch.zeros((), device=self.device)

    def reports(self, after_step: Callable[[], None] | None = None) -> Iterator[Report]:
        """Train from the present step to the end of the budget, yielding at every report step.

        The run stands still while the caller holds a report: save it, or stop asking.

        Args:
            after_step: called between optimizer steps, when the run may be saved as well.

        Raises:
            MicroBatchTooLarge: the micro-batch does not fit in the device's memory.
            TrainingDiverged: a loss is not finite; seen at a report.
        """
        self.model.train()
        for report_step in budget.report_steps(self.recipe):
            if report_step <= self.step:
                continue
            first_step, first_seconds = self.step, self.seconds
            while self.step < report_step:
                with self._timed(), self._memory_errors_explained():
                    self._train_step()
                if after_step:
                    after_step()
            yield self._report(first_step, first_seconds)

    def _train_step(self) -> None:
        """One optimizer step over this worker's sequences of the batch."""
        recipe = self.recipe
        per_step = self.sequences_per_step
        inputs, targets = self.batches.sequences(
            self.step * per_step + worker_rank(), (self.step + 1) * per_step, worker_count()
        )
        rate = self.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Dropout's masks are a function of seed, step and worker, so no generator's state needs
        # to be kept, and a resumed run draws what it would have drawn.
        seed_generators(self.device, derived_seed(recipe.training.seed, self.step, worker_rank()))
        micro_batches = list(
            zip(
                inputs.split(recipe.training.micro_batch),
                targets.split(recipe.training.micro_batch),
                strict=True,
            )
        )
        # DistributedDataParallel averages over the workers; the sum is wanted.
        scale = worker_count() / self.tokens_per_step
        for number, (micro_inputs, micro_targets) in enumerate(micro_batches):
            micro_inputs = micro_inputs.to(self.device, non_blocking=True)
            micro_targets = micro_targets.to(self.device, non_blocking=True)
            waits = worker_count() > 1 and number < len(micro_batches) - 1
            with self.synchronised.no_sync() if waits else contextlib.nullcontext():
                with self.autocast:
                    logits = self.synchronised(micro_inputs)
                loss = summed_loss(logits, micro_targets)
                (loss * scale).backward()
            self._loss_sum += loss.detach()
        self._gradient_norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), recipe.training.gradient_clipping
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._loss_steps += 1
        self.step += 1

    def learning_rate(self, step: int) -> float:
        """The rate of a step, taken at its middle: neither end of a schedule is a wasted step."""
        recipe = self.recipe
        return learning_rate(
            (step + 0.5) * self.tokens_per_step,
            self.budget_tokens,
            peak=recipe.training.learning_rate,
            warmup=recipe.training.warmup,
            hold=recipe.training.hold,
            final=recipe.training.final_learning_rate,
        )

    def _report(self, first_step: int, first_seconds: float) -> Report:
        recipe = self.recipe
        with self._timed():
            nats = sum_over_workers(self._loss_sum).item()
            gradient_norm = self._gradient_norm.item()
        training_seconds = self.seconds - first_seconds
        mean_nats = nats / (self._loss_steps * self.tokens_per_step)
        self._loss_sum.zero_()
        self._loss_steps = 0
        self._check_finite("training", mean_nats)
        figures = {}
        rung = None
        if self.step in self.rung_steps:
            rung = self.rung_steps.index(self.step)
            with self._timed():
                evaluation = evaluate(
                    self.forward,
                    self.validation,
                    self.token_bytes,
                    recipe.training.micro_batch,
                    self.autocast,
                )
            # The last step may have ruined the weights although its own loss was a number.
            self._check_finite("validation", evaluation.nats)
            figures = {
                "bits_per_byte": evaluation.bits_per_byte,
                "bits_per_token": evaluation.bits_per_token,
                "next_token_accuracy": evaluation.next_token_accuracy,
            }
        return Report(
            step=self.step,
            tokens=self.step * self.tokens_per_step,
            tokens_trained=self.step * self.tokens_per_step,
            rung=rung,
            checkpoint_due=self.step in self.checkpoint_steps,
            train_bits_per_token=mean_nats / math.log(2),
            learning_rate=self.learning_rate(self.step - 1),
            gradient_norm=gradient_norm,
            tokens_per_second=(self.step - first_step) * self.tokens_per_step / training_seconds,
            seconds=self.seconds,
            **figures,
        )

    def _check_finite(self, what: str, nats: float) -> None:
        if not math.isfinite(nats):
            raise TrainingDiverged(
                f"the {what} loss is {nats} after {self.step * self.tokens_per_step:,} "
                f"tokens at a learning rate of {self.learning_rate(self.step - 1):.3g}"
            )

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

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

    def save(self, folder: Path) -> None:
        """Write all that the run needs to go on, in one step: a kill leaves the old file whole.

        Any worker's file serves them all at a report; between reports the sum of the training
        loss is the worker's own, so that only a single worker resumes from there exactly.
        """
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{CHECKPOINT_FILE}.partial"
        torch.save(
            {
                "recipe": self._identity(),
                "step": self.step,
                "seconds": self.seconds,
                "loss_sum": self._loss_sum,
                "loss_steps": self._loss_steps,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            partial,
        )
        partial.replace(folder / CHECKPOINT_FILE)

    def load(self, folder: Path) -> None:
        """Take over the state that `save` wrote; the run goes on from its step.

        Raises:
            UserError: there is no readable checkpoint, or it is another recipe's or dataset's.
        """
        path = folder / CHECKPOINT_FILE
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            recipe = state["recipe"]
        except FileNotFoundError:
            raise UserError(f"{path}: no such checkpoint") from None
        except Exception as error:
            raise UserError(
                f"{path}: not a readable checkpoint ({error!r}); delete it to start over"
            ) from None
        differing = [
            f"{key} (checkpoint: {recipe.get(key)}, now: {value})"
            for key, value in self._identity().items()
            if recipe.get(key) != value
        ]
        if differing:
            raise UserError(
                f"{path}: the checkpoint is of another recipe; it differs in "
                + ", ".join(differing)
            )
        self.step = state["step"]
        self.seconds = state["seconds"]
        self._loss_sum.copy_(state["loss_sum"])
        self._loss_steps = state["loss_steps"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _identity(self) -> dict[str, str]:
        """What decides the numbers of a run, as text; of the corpus, its fingerprint."""
        sections = self.recipe.model_dump(
            include={"data", "model", "training"},
            exclude={
                "data": {"cache", "corpus"},
                "training": {"micro_batch", "report_every", "checkpoint_every"},
            },
        )
        return {"dataset": self.dataset.folder.name} | {
            f"{section}.{key}": str(value)
            for section, values in sections.items()
            for key, value in values.items()
        }
