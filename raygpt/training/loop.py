"""One training run: a recipe and a dataset in, reports out."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from raygpt.data.batches import TrainingBatches, validation_windows
from raygpt.data.dataset import Dataset
from raygpt.errors import UserError
from raygpt.recipe import budget
from raygpt.recipe.own_model import module_digest
from raygpt.recipe.schema import Recipe
from raygpt.results.files import CHECKPOINT_FILE
from raygpt.seeds import derived_seed
from raygpt.training.average import averaged
from raygpt.training.build import build_model
from raygpt.training.checkpoint import origin, read_state, write_state
from raygpt.training.evaluation import Evaluation, evaluate
from raygpt.training.hardware import (
    HostCopy,
    autocast,
    default_device,
    keep_freed_memory,
    seed_generators,
    set_threads,
)
from raygpt.training.model import summed_loss
from raygpt.training.optimizer import make_optimizer
from raygpt.training.schedule import learning_rate
from raygpt.training.segments import RungMetric, Segment, segments
from raygpt.training.snapshot import snapshot
from raygpt.training.workers import sum_over_workers, worker_count, worker_rank

# Of the search's settings those that decide what a trial trains.
RUNG_SETTINGS = {"rungs", "rung_metric"}


class MicroBatchTooLarge(UserError):
    """The micro-batch needs more memory than the device has."""


class TrainingDiverged(Exception):
    """The loss is no longer a finite number, or has left all reason."""


# A model that guesses at random loses the logarithm of the vocabulary's size on a token; one whose
# loss stays this many times above it has left all reason. A single step may: early spikes heal.
DIVERGED_LOSS = 1.5
DIVERGED_STEPS = 10


@dataclass(frozen=True)
class Report:
    """What a run says at a point of its training curve. Validation figures stand at rungs only."""

    step: int
    tokens: int
    """Position in the budget, in tokens."""
    tokens_trained: int
    """All tokens processed, cooldowns included."""
    cooldown: bool
    """Whether this is off the trunk, on the way to a rung."""
    rung: int | None
    """Which rung this is, counted from 0; None between rungs."""
    rung_metric: RungMetric | None
    """What the rung's figures were taken by."""
    checkpoint_due: bool
    """Whether the recipe wants the run's state saved here."""
    learning_rate: float
    """Of the last step."""
    seconds: float
    """Spent on training and evaluation since the run began, over all its resumptions."""
    train_bits_per_token: float | None = None
    """Mean over all tokens trained since the report before, dropout on; None if there are none."""
    gradient_norm: float | None = None
    """Of the last step, before clipping."""
    tokens_per_second: float | None = None
    """Since the report before or the resumption, evaluation aside."""
    bits_per_byte: float | None = None
    bits_per_token: float | None = None
    next_token_accuracy: float | None = None

    def metrics(self) -> dict[str, float]:
        """The figures that are there, by name."""
        values = asdict(self)
        del values["checkpoint_due"], values["rung_metric"]
        return {name: value for name, value in values.items() if value is not None}


class TrainingRun:
    """A model in training, at some step of some segment of its recipe.

    In a process group of several workers each takes its own sequences of every batch; gradients
    and figures are summed over them, so that the worker count changes no result beyond dropout's
    masks and floating-point noise. The process computes with the recipe's number of threads from
    then on.

    Args:
        recipe: without ranges.
        dataset: of the recipe.
        device: to train on; the process's GPU or else the CPU if left out.
        rung_metrics: what to judge by below the full budget; what the recipe says if left out.

    Raises:
        UserError: the corpus holds less than one window of the recipe's context.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        device: torch.device | None = None,
        rung_metrics: Sequence[RungMetric] | None = None,
    ):
        self.recipe = recipe
        self.dataset = dataset
        self.device = device or default_device()
        set_threads(recipe.search.cpus_per_worker)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.plan = segments(recipe, rung_metrics)
        self.segment = 0
        """Which segment of the plan comes next or is being trained."""
        self.step = 0
        """Position in the budget."""
        self.steps_trained = 0
        self.seconds = 0.0

        self.sequences_per_step = budget.sequences_per_step(recipe)
        self.tokens_per_step = budget.tokens_per_step(recipe)
        self.budget_tokens = budget.budget_tokens(recipe)
        self.checkpoint_steps = budget.checkpoint_steps(recipe)
        self.report_steps = sorted({*budget.report_steps(recipe), *self.checkpoint_steps})

        self.batches = TrainingBatches(
            dataset.train, recipe.data.context, self.budget_tokens, recipe.training.seed
        )
        self.validation = validation_windows(
            dataset.validation, recipe.data.context, recipe.data.validation_tokens
        )
        self.token_bytes = torch.as_tensor(dataset.token_bytes, device=self.device)

        # Weights are drawn on the CPU, so that every kind of device starts from the same ones.
        seed_generators(torch.device("cpu"), recipe.training.seed)
        self.model = build_model(recipe, dataset.vocab_size).to(self.device)
        self.optimizer = make_optimizer(self.model, recipe.training)
        self.autocast = autocast(self.device, recipe.training.precision)
        self.forward = torch.compile(self.model) if recipe.model.compile else self.model
        self.synchronised: nn.Module = self.forward
        if worker_count() > 1:
            # The only buffer is a constant; to broadcast it at every step would be idle.
            self.synchronised = nn.parallel.DistributedDataParallel(
                self.forward, broadcast_buffers=False
            )
        self.averaged = None
        if any(segment.metric == "average" for segment in self.plan):
            self.averaged = averaged(self.model)

        self._trunk: dict[str, Any] | None = None
        """Where the present cooldown goes back to."""
        # Sums stay on the device; only a report brings them to the host.
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._loss_steps = 0
        self._gradient_norm = torch.zeros((), device=self.device)
        self._last_loss: HostCopy | None = None
        self._unreasonable_steps = 0

    def reports(self, after_step: Callable[[], None] | None = None) -> Iterator[Report]:
        """Train from the present step to the end of the budget, yielding at every report step.

        The run stands still while the caller holds a report: save it, or stop asking. A report at
        the end of a cooldown comes when the run is back on its trunk.

        Args:
            after_step: called between optimizer steps, when the run may be saved as well.

        Raises:
            MicroBatchTooLarge: the micro-batch does not fit in the device's memory.
            TrainingDiverged: a loss is not finite, or has left all reason.
        """
        self.model.train()
        first = self.steps_trained, self.seconds
        for segment in self.plan[self.segment :]:
            if segment.cooldown and self._trunk is None:
                self._leave_trunk()
            stops = [step for step in self.report_steps if self.step < step < segment.stop]
            for stop in [*stops, segment.stop]:
                while self.step < stop:
                    self.train_step(segment)
                    if after_step:
                        after_step()
                report = None
                at_rung = stop == segment.stop and segment.rung is not None
                # One that a segment of no length would repeat says nothing new.
                if at_rung or (stop in self.report_steps and segment.start < stop):
                    report = self._report(segment, at_rung, *first)
                if stop == segment.stop:
                    self.segment += 1
                    self._return_to_trunk()
                if report:
                    first = self.steps_trained, self.seconds
                    yield report

    def _leave_trunk(self) -> None:
        """Take the snapshot that `_return_to_trunk` goes back to after a cooldown."""
        with self._timed():
            self._trunk = snapshot(self._state(), self.device)
        self._loss_sum.zero_()
        self._loss_steps = 0

    def _return_to_trunk(self) -> None:
        if self._trunk is not None:
            with self._timed():
                self._load_state(self._trunk)
            self._trunk = None

    def _state(self) -> dict[str, Any]:
        """What a step changes; random numbers are functions of the step and need no state."""
        return {
            "step": self.step,
            "loss_sum": self._loss_sum,
            "loss_steps": self._loss_steps,
            "gradient_norm": self._gradient_norm,
            "unreasonable_steps": self._unreasonable_steps,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self._loss_sum.copy_(state["loss_sum"])
        self._loss_steps = state["loss_steps"]
        self._gradient_norm = state["gradient_norm"].to(self.device)
        self._unreasonable_steps = state["unreasonable_steps"]
        self._last_loss = None
        self.model.load_state_dict(state["model"])
        # First, so that the device need not hold the old state and the new one.
        self.optimizer.state.clear()
        self.optimizer.load_state_dict(state["optimizer"])

    def train_step(self, segment: Segment) -> None:
        """Train the next step of a segment of the plan. `reports` does, all the way.

        Raises MicroBatchTooLarge and TrainingDiverged as `reports` does.
        """
        with self._timed(), self._memory_errors_explained():
            self._optimizer_step(segment)

    def _optimizer_step(self, segment: Segment) -> None:
        """One step over this worker's sequences of the batch."""
        recipe = self.recipe
        per_step = self.sequences_per_step
        inputs, targets = self.batches.sequences(
            self.step * per_step + worker_rank(), (self.step + 1) * per_step, worker_count()
        )
        rate = self.learning_rate(self.step, segment.budget)
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
        nats = torch.zeros_like(self._loss_sum)
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
            nats += loss.detach()
        self._gradient_norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), recipe.training.gradient_clipping
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged and not segment.cooldown:
            self.averaged.update_parameters(self.model)
        self._loss_sum += sum_over_workers(nats)
        self._loss_steps += 1
        # The loss of the step before has come to the host while this one was queued, so that the
        # device does not wait. All workers see the same one, and end together.
        before, self._last_loss = self._last_loss, HostCopy(nats)
        if before is not None:
            self._check_loss(before.item() / self.tokens_per_step)
        self.step += 1
        self.steps_trained += 1

    def learning_rate(self, step: int, budget_steps: int | None = None) -> float:
        """The rate of a step, taken at its middle: neither end of a schedule is a wasted step.

        Args:
            step: counted from 0.
            budget_steps: where the decay ends; the recipe's whole budget if left out.
        """
        recipe = self.recipe
        return learning_rate(
            (step + 0.5) * self.tokens_per_step,
            budget_steps * self.tokens_per_step if budget_steps else self.budget_tokens,
            peak=recipe.training.learning_rate,
            warmup=recipe.training.warmup,
            hold=recipe.training.hold,
            final=recipe.training.final_learning_rate,
            full_budget=self.budget_tokens,
        )

    def _report(
        self, segment: Segment, at_rung: bool, first_steps: int, first_seconds: float
    ) -> Report:
        """The figures since a number of steps and seconds, and at a rung those of the model."""
        figures: dict[str, Any] = {}
        if self._loss_steps:
            with self._timed():
                nats = self._loss_sum.item() / (self._loss_steps * self.tokens_per_step)
                figures["gradient_norm"] = self._gradient_norm.item()
            figures["train_bits_per_token"] = nats / math.log(2)
            self._loss_sum.zero_()
            self._loss_steps = 0
            self._check_finite("training", nats)
        if self.steps_trained > first_steps:
            tokens = (self.steps_trained - first_steps) * self.tokens_per_step
            figures["tokens_per_second"] = tokens / (self.seconds - first_seconds)
        if at_rung:
            evaluation = self.evaluate(segment.metric)
            figures["bits_per_byte"] = evaluation.bits_per_byte
            figures["bits_per_token"] = evaluation.bits_per_token
            figures["next_token_accuracy"] = evaluation.next_token_accuracy
        return Report(
            step=self.step,
            tokens=self.step * self.tokens_per_step,
            tokens_trained=self.steps_trained * self.tokens_per_step,
            cooldown=segment.cooldown,
            rung=segment.rung if at_rung else None,
            rung_metric=segment.metric if at_rung else None,
            checkpoint_due=at_rung or self.step in self.checkpoint_steps,
            learning_rate=self.learning_rate(max(0, self.step - 1), segment.budget),
            seconds=self.seconds,
            **figures,
        )

    def evaluate(self, metric: RungMetric = "raw") -> Evaluation:
        """Score the model on the validation set; TrainingDiverged if it has ruined itself."""
        with self._timed():
            evaluation = evaluate(
                self.averaged if metric == "average" else self.forward,
                self.validation,
                self.token_bytes,
                self.recipe.training.micro_batch,
                self.autocast,
            )
        # The last step may have ruined the weights although its own loss was reasonable.
        nats = evaluation.nats / evaluation.tokens
        self._check_finite("validation", nats)
        if nats > self._unreasonable_loss:
            self._diverge("validation", nats)
        return evaluation

    @property
    def _unreasonable_loss(self) -> float:
        """In nats a token."""
        return DIVERGED_LOSS * math.log(self.dataset.vocab_size)

    def _check_loss(self, nats: float) -> None:
        """Look at the mean training loss of a step, in nats a token."""
        self._check_finite("training", nats)
        self._unreasonable_steps = (
            self._unreasonable_steps + 1 if nats > self._unreasonable_loss else 0
        )
        if self._unreasonable_steps == DIVERGED_STEPS:
            self._diverge("training", nats)

    def _check_finite(self, what: str, nats: float) -> None:
        if not math.isfinite(nats):
            self._diverge(what, nats)

    def _diverge(self, what: str, nats: float) -> NoReturn:
        bits = f"{nats / math.log(2):.1f} bits per token"
        guess = math.log2(self.dataset.vocab_size)
        raise TrainingDiverged(
            f"the {what} loss is "
            + (f"{bits} (a guess has {guess:.1f})" if math.isfinite(nats) else str(nats))
            + f" at {self.step * self.tokens_per_step:,} tokens"
            f" and a learning rate of {self.optimizer.param_groups[0]['lr']:.3g}"
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

        Any worker's file serves them all.
        """
        write_state(
            folder,
            {
                "recipe": self._identity(),
                "origin": origin(self.recipe, self.dataset),
                "segment": self.segment,
                "steps_trained": self.steps_trained,
                "seconds": self.seconds,
                "state": self._state(),
                "trunk": self._trunk,
                "averaged": self.averaged.state_dict() if self.averaged else None,
            },
        )

    def load(self, folder: Path) -> None:
        """Take over the state that `save` wrote; the run goes on from its step.

        Raises:
            UserError: there is no readable checkpoint, or it is another recipe's or dataset's.
        """
        state = read_state(folder)
        recipe = state["recipe"]
        differing = [
            f"{key} (checkpoint: {recipe.get(key)}, now: {value})"
            for key, value in self._identity().items()
            if recipe.get(key) != value
        ]
        if differing:
            raise UserError(
                f"{folder / CHECKPOINT_FILE}: the checkpoint is of another recipe; it differs in "
                + ", ".join(differing)
            )
        self.segment = state["segment"]
        self.steps_trained = state["steps_trained"]
        self.seconds = state["seconds"]
        self._trunk = state["trunk"]
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        self._load_state(state["state"])

    def _identity(self) -> dict[str, str]:
        """What decides the numbers of a run beyond floating-point noise, as text; of the corpus,
        its fingerprint.
        """
        sections = self.recipe.model_dump(
            include={"data": True, "model": True, "training": True, "search": RUNG_SETTINGS},
            exclude={
                "data": {"cache", "corpus"},
                "model": {"module"},
                "training": {"micro_batch", "report_every", "checkpoint_every"},
            },
        )
        module = str(module_digest(self.recipe.model))
        return {"dataset": self.dataset.folder.name, "model.module": module} | {
            f"{section}.{key}": str(value)
            for section, values in sections.items()
            for key, value in values.items()
        }
