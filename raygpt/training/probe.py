"""How fast this machine trains a recipe, measured on random tokens: no data has to be prepared."""

import itertools
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from raygpt.data.dataset import TokenStream
from raygpt.data.tokenizer import tokenizer_size
from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.training.loop import TrainingRun

SECONDS = 3
LEAST_STEPS = 2
MOST_BLOCKS = 6


@dataclass(frozen=True)
class Pace:
    """The speed of one worker."""

    tokens_per_second: float
    """Of training steps, without evaluation."""
    evaluation_seconds: float
    """Seconds to score the whole validation set once."""
    blocks: tuple[float, ...] = ()
    """Tokens per second in consecutive parts of the measurement: how much the speed varies."""
    fixed_share: float = 0.0
    """Share of a token's time that does not grow with the operations of the model."""


def measure_pace(recipe: Recipe) -> Pace:
    """Train for a few seconds in this process and evaluate once, each after a warm-up.

    Raises:
        MicroBatchTooLarge: the micro-batch does not fit in the device's memory.
    """
    # At the recipe's own learning rate a model might diverge on random tokens.
    training = recipe.training.model_copy(update={"learning_rate": 1e-9})
    run = TrainingRun(recipe.model_copy(update={"training": training}), _random_tokens(recipe))
    segment = run.plan[-1]

    def train() -> float:
        """Train one step; returns the time after it."""
        run.train_step(segment)
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        return time.perf_counter()

    times = [train()]
    while run.steps_trained <= LEAST_STEPS or times[-1] - times[0] < SECONDS:
        times.append(train())
    steps = len(times) - 1
    rate = steps * run.tokens_per_step / (times[-1] - times[0])
    ends = [steps * part // min(steps, MOST_BLOCKS) for part in range(min(steps, MOST_BLOCKS) + 1)]
    blocks = tuple(
        (last - first) * run.tokens_per_step / (times[last] - times[first])
        for first, last in itertools.pairwise(ends)
    )
    run.evaluate()  # to warm up
    started_again = time.perf_counter()
    run.evaluate()
    scored = len(run.validation) * recipe.data.context
    return Pace(
        rate,
        (time.perf_counter() - started_again) * recipe.data.validation_tokens / scored,
        blocks,
    )


def _random_tokens(recipe: Recipe) -> SimpleNamespace:
    """A stand-in for a dataset: an epoch of a few steps, and a short validation set."""
    size = tokenizer_size(recipe.data.tokenizer)
    generator = np.random.default_rng(0)

    def stream(tokens: int) -> TokenStream:
        return TokenStream([generator.integers(size, size=tokens + 1, dtype=np.uint16)])

    batch = recipe.training.micro_batch * recipe.data.context
    return SimpleNamespace(
        vocab_size=size,
        token_bytes=np.ones(size, np.int64),
        train=stream(4 * budget.tokens_per_step(recipe)),
        validation=stream(min(recipe.data.validation_tokens, 2 * batch)),
    )
