"""One training run: the segments of a recipe trained in order, reports, and saving.

`raygpt.training.step` computes each optimizer step.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from raygpt.data.batches import TrainingBatches, validation_windows
from raygpt.data.dataset import Dataset
from raygpt.errors import UserError
from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.results.files import CHECKPOINT_FILE
from raygpt.seeds import derived_seed
from raygpt.training import parallel
from raygpt.training.average import averaged
from raygpt.training.checkpoint import describe_origin, read_state, write_state
from raygpt.training.divergence import DivergenceCheck, TrainingDiverged
from raygpt.training.evaluation import Evaluation, evaluate
from raygpt.training.hardware import HostCopy, default_device, keep_freed_memory, set_threads
from raygpt.training.identity import differences, identity
from raygpt.training.report import Meter, Report
from raygpt.training.schedule import rate_at
from raygpt.training.segments import RungMetric, Segment, is_in_segment, segment_at, segments
from raygpt.training.snapshot import snapshot
from raygpt.training.step import Learner, MicroBatchTooLarge

__all__ = ["MicroBatchTooLarge", "Report", "TrainingDiverged", "TrainingRun"]


class TrainingRun:
    """A model in training, at some step of some segment of its recipe.

    In a process group of several workers each trains on its own sequences of every batch; gradients
    and figures are summed over them, so that the number of workers changes no result beyond
    dropout's masks and floating-point noise. The process computes with the recipe's number of
    threads from then on.

    Args:
        recipe: without ranges.
        dataset: the recipe's dataset.
        device: to train on; the process's GPU or else the CPU if left out.
        rung_metrics: metrics to judge by below the full budget; the recipe's if left out.

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
        """Index of the segment that is being trained or comes next."""
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

        self.learner = Learner(recipe, dataset.vocab_size, self.device)
        self.averaged = None
        if any(segment.metric == "average" for segment in self.plan):
            self.averaged = averaged(self.learner.model)
        self._trunk: dict[str, Any] | None = None
        """The state before the cooldown that is being trained."""
        self._meter = Meter(recipe, self.device)
        self._divergence = DivergenceCheck(dataset.vocab_size, self._place)
        self._last_loss: HostCopy | None = None

    @property
    def model(self) -> torch.nn.Module:
        """The model in training, neither compiled nor wrapped for several workers."""
        return self.learner.model

    def reports(self, after_step: Callable[[], None] | None = None) -> Iterator[Report]:
        """Train from the present step to the end of the budget, yielding at every report step.

        The run waits while the caller handles a report: the caller may save it, or stop here. When
        the report at the end of a cooldown comes, the run is back in the state before the cooldown.

        Args:
            after_step: called between optimizer steps, when the run may be saved as well.

        Raises:
            MicroBatchTooLarge: the micro-batch does not fit in the device's memory.
            TrainingDiverged: a loss is not finite, or has risen far above random guessing.
        """
        self.model.train()
        self._meter.start_timing(self.steps_trained, self.seconds)
        for segment in self.plan[self.segment :]:
            if segment.cooldown and self._trunk is None:
                self._begin_cooldown()
            stops = [step for step in self.report_steps if self.step < step < segment.stop]
            for stop in [*stops, segment.stop]:
                while self.step < stop:
                    self.train_step(segment)
                    if after_step:
                        after_step()
                report = None
                at_rung = stop == segment.stop and segment.rung is not None
                # A segment without steps would only repeat the last report.
                if at_rung or (stop in self.report_steps and segment.start < stop):
                    report = self._report(segment, at_rung)
                if stop == segment.stop:
                    self.segment += 1
                    self._end_cooldown()
                if report:
                    self._meter.start_timing(self.steps_trained, self.seconds)
                    yield report

    def _begin_cooldown(self) -> None:
        """Take the snapshot that `_end_cooldown` returns to."""
        with self._timed():
            self._trunk = snapshot(self._state(), self.device)
        self._meter.forget_losses()

    def _end_cooldown(self) -> None:
        if self._trunk is not None:
            with self._timed():
                self._load_state(self._trunk)
            self._trunk = None

    def train_step(self, segment: Segment) -> None:
        """Train the next step of a segment of the plan. `reports` trains all of them.

        Raises MicroBatchTooLarge and TrainingDiverged as `reports` does.
        """
        with self._timed():
            own = parallel.own_sequences(
                self.step * self.sequences_per_step, (self.step + 1) * self.sequences_per_step
            )
            inputs_BT, targets_BT = self.batches.sequences(own.start, own.stop, own.step)
            nats, gradient_norm = self.learner.step(
                inputs_BT,
                targets_BT,
                self.learning_rate(self.step, segment.budget),
                derived_seed(self.recipe.training.seed, self.step, parallel.worker_rank()),
            )
            self._meter.add(nats, gradient_norm)
            if self.averaged and not segment.cooldown:
                self.averaged.update_parameters(self.model)
            # The loss of the step before has reached the host while this step was queued, so that
            # the device does not wait. All workers see the same loss, and stop together.
            before, self._last_loss = self._last_loss, HostCopy(nats)
            if before is not None:
                self._divergence.check_step(before.item() / self.tokens_per_step)
            self.step += 1
            self.steps_trained += 1

    def learning_rate(self, step: int, budget_steps: int | None = None) -> float:
        """The rate of a step, taken at its middle, so that no step has a rate of 0.

        Args:
            step: counted from 0.
            budget_steps: where the decay ends; the recipe's whole budget if left out.
        """
        return rate_at(
            self.recipe.training,
            (step + 0.5) * self.tokens_per_step,
            budget_steps * self.tokens_per_step if budget_steps else self.budget_tokens,
            self.budget_tokens,
        )

    def _report(self, segment: Segment, at_rung: bool) -> Report:
        """The figures since the last report, and at a rung those of the validation set."""
        with self._timed():
            figures = self._meter.losses()
        if figures:
            self._divergence.check_finite("training", figures["train_bits_per_token"])
        figures |= self._meter.speed(self.steps_trained, self.seconds)
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
        """Score the model on the validation set; raises TrainingDiverged as `reports` does."""
        with self._timed():
            evaluation = evaluate(
                self.averaged if metric == "average" else self.learner.forward,
                self.validation,
                self.token_bytes,
                self.recipe.training.micro_batch,
                self.learner.autocast,
            )
        # The last step may have ruined the weights although its own loss was reasonable.
        self._divergence.check_validation(evaluation.nats / evaluation.tokens)
        return evaluation

    def _place(self) -> str:
        tokens = self.step * self.tokens_per_step
        return f"at {tokens:,} tokens and a learning rate of {self.learner.learning_rate:.3g}"

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

    def save(self, folder: Path) -> None:
        """Write all that the run needs to be resumed; a kill leaves the old file whole.

        All workers call this, and the first one writes the file, which serves them all.
        """
        state = {
            "recipe": identity(self.recipe, self.dataset),
            "origin": describe_origin(self.recipe, self.dataset),
            "segment": self.segment,
            "steps_trained": self.steps_trained,
            "seconds": self.seconds,
            "state": self._state(),
            "trunk": self._trunk,
            "averaged": self.averaged.state_dict() if self.averaged else None,
        }
        if parallel.worker_rank() == 0:
            write_state(folder, state)

    def load(self, folder: Path) -> None:
        """Take over the state that `save` wrote; the run resumes from its step.

        A version that planned other segments may have written it. If it was saved in a cooldown
        that this plan does not have, the run resumes from the state before that cooldown.

        Raises:
            UserError: there is no readable checkpoint, or it has another recipe or dataset.
        """
        saved = read_state(folder)
        if differing := differences(saved["recipe"], self.recipe, self.dataset):
            raise UserError(
                f"{folder / CHECKPOINT_FILE}: the checkpoint is of another recipe; it differs in "
                + ", ".join(differing)
            )
        state, trunk, segment = saved["state"], saved["trunk"], saved["segment"]
        if not is_in_segment(self.plan, segment, state["step"], trunk and trunk["step"]):
            state, trunk = trunk or state, None
            segment = segment_at(self.plan, state["step"])
        self.segment = segment
        self.steps_trained = saved["steps_trained"]
        self.seconds = saved["seconds"]
        self._trunk = trunk
        self._load_state(state)
        if self.averaged:
            self.averaged = averaged(self.model)
            if saved["averaged"]:
                self.averaged.load_state_dict(saved["averaged"])

    def _state(self) -> dict[str, Any]:
        """All that a step changes; random numbers are functions of the step and need no state."""
        return {
            "step": self.step,
            "unreasonable_steps": self._divergence.high_steps,
            **self._meter.state_dict(),
            **self.learner.state_dict(),
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self._divergence.high_steps = state["unreasonable_steps"]
        self._meter.load_state_dict(state)
        self.learner.load_state_dict(state)
        self._last_loss = None
