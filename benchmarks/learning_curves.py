"""Simulated learning curves: a formula gives the reports of a recipe's training.

The loss of a GPT in nats per token, at a step of a learning-rate schedule:

    loss = floor + A · S1^-α + noise + bowl
    noise = B · peak - B · Σ Δη · (1 - (1 + C · η^-γ · S)^-β)

- S1 is the sum of the learning rates of all steps; Δη are the decreases of the rate, η is the rate
  after each and S the sum of the rates since. Without the bowl this is the multi-power law (Luo et
  al. 2025, arXiv:2503.12811), which predicts the loss under schedules that it was not fitted to.
  The constants are the authors' for a model of 100 M parameters
  (github.com/thu-yao-01-luo/MultiPowerLaw, README), fitted at one peak rate of 3e-4 over 24,000
  steps; the law's constant L0 is taken to be floor + B · 3e-4. We assume that this holds at other
  peak rates: a constant rate adds B times itself to the loss, and annealing removes that.
- The bowl is quadratic in the logarithms of rate, weight decay and warmup, and in dropout. The best
  rate falls as tokens^-0.32 (the form: Bjorck et al. 2024, arXiv:2409.19913; the exponent is from
  memory); the best weight decay keeps rate · decay · steps constant (the timescale of Wang and
  Aitchison 2024, arXiv:2405.13698); a larger rate needs a longer warmup (Wortsman et al. 2023,
  arXiv:2309.14322); dropout helps late in training. We chose the widths and centres.

Measurements add two kinds of noise: noise of the seed, partly shared by all rungs of a trial; and,
while the learning rate is high, noise of the moment, proportional to the learning-rate noise.
Averaged weights remove most of the learning-rate noise (Hägele et al. 2024, arXiv:2405.18392, find
them close behind a cooldown; we chose how much) and lag behind the run by a twentieth of its
tokens. A trial diverges with a probability that rises as its rate passes an edge, which a longer
warmup raises (Wortsman et al.), at an exponentially distributed step.

We chose the free constants so that rank correlations resemble those of published logs of models
with 124 M parameters (`docs/rung_fidelity.md`) over peak rate and hold. There the mid-run loss at
3/10 of the budget has a Spearman correlation with the final loss of -0.27 and the fully decayed one
of 0.87, at 1/2 0.53 and 0.98; here they are -0.18 and 0.91, -0.14 and 0.97. With fewer steps the
same formula gives another regime: trials differ by how far they have converged rather than by
learning-rate noise, and every metric ranks well.
"""

import math
from collections.abc import Iterator
from zlib import crc32

import numpy as np

from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.search.scheduler import METRIC
from raygpt.search.simulation import Report
from raygpt.search.trial import rung_time
from raygpt.seeds import derived_seed
from raygpt.training.schedule import decay_start, learning_rate
from raygpt.training.segments import Segment, segments

# The law, in nats per token and learning rates per step.
FITTED_RATE, FITTED_STEPS = 3e-4, 24_000
A, ALPHA, B, C, BETA, GAMMA = 0.6012, 0.4530, 437.95, 2.1325, 0.5979, 0.6552
FLOOR = 2.6514 - B * FITTED_RATE

# The bowl: nats per squared unit of distance from the best value.
RATE_WIDTH, BEST_RATE, BEST_RATE_EXPONENT = 0.045, 9e-4, -0.32
DECAY_WIDTH, BEST_DECAY = 0.0015, 3.0
WARMUP_WIDTH, BEST_WARMUP, WARMUP_EXPONENT = 0.002, 0.015, 0.5
DROPOUT_WIDTH, BEST_DROPOUT = 1.5, 0.05

# Measurement noise: the standard deviation over seeds in nats, which falls with the steps trained;
# the share of its variance that all rungs of a trial have in common; and the standard deviation of
# the moment, as a share of the learning-rate noise.
SIGMA, SIGMA_EXPONENT, SHARED, MOMENT = 0.006, -0.3, 0.7, 0.05
AVERAGED, AVERAGE_AT = 0.8, 0.95

EDGE_RATE, EDGE_EXPONENT, EDGE_WIDTH = 4e-3, 0.3, 0.15
DIVERGES_AT = 0.1

BYTES_PER_TOKEN = 4.7
BITS_PER_BYTE = 1 / (math.log(2) * BYTES_PER_TOKEN)
"""Bits per byte of one nat per token."""
GUESS = math.log(50_257) * BITS_PER_BYTE
"""Bits per byte of random guessing."""

POINTS = 64
TOKENS_PER_SECOND = 100_000


def expected_loss(recipe: Recipe, step: float, end: float) -> tuple[float, float]:
    """The loss without learning-rate noise, and that noise, in nats per token.

    Args:
        recipe: without ranges.
        step: number of steps trained.
        end: step at which the decay of the learning rate ends.
    """
    training, steps = recipe.training, budget.steps(recipe)
    shape = {"warmup": training.warmup, "hold": training.hold, "full_budget": steps}
    start = decay_start(end, **shape)
    decay = np.linspace(start, step, POINTS) if step > start else []
    points = np.array([0, min(step, training.warmup * steps), min(step, start), *decay])
    peak, final = training.learning_rate, training.final_learning_rate
    rates = np.array([learning_rate(p, end, peak=peak, final=final, **shape) for p in points])
    middle = (rates[1:] + rates[:-1]) / 2
    areas = middle * np.diff(points)
    since = areas[::-1].cumsum()[::-1] - areas / 2
    falls = np.maximum(0, -np.diff(rates))
    annealed = falls * (1 - (1 + C * middle**-GAMMA * since) ** -BETA)
    progress = FLOOR + A * areas.sum() ** -ALPHA
    return progress + bowl(recipe, step), B * (peak - annealed.sum())


def bowl(recipe: Recipe, step: float) -> float:
    """What the hyperparameters add to the loss at a step, in nats per token."""
    training = recipe.training
    best_rate = BEST_RATE * (step / FITTED_STEPS) ** BEST_RATE_EXPONENT
    hot = math.log(training.learning_rate / best_rate)
    decayed = math.log(training.learning_rate * training.weight_decay * step / BEST_DECAY)
    warm = math.log(training.warmup / BEST_WARMUP) - WARMUP_EXPONENT * hot
    dropout = recipe.model.dropout - BEST_DROPOUT * step / budget.steps(recipe)
    return (
        RATE_WIDTH * hot**2
        + DECAY_WIDTH * decayed**2
        + WARMUP_WIDTH * warm**2
        + DROPOUT_WIDTH * dropout**2
    )


def final_value(recipe: Recipe) -> float:
    """The expected bits per byte at the end of the budget, which a search minimises."""
    steps = budget.steps(recipe)
    return sum(expected_loss(recipe, steps, steps)) * BITS_PER_BYTE


def sigma(recipe: Recipe, step: float | None = None) -> float:
    """Standard deviation over seeds in bits per byte, at a step or at the end."""
    steps = step or budget.steps(recipe)
    return SIGMA * (steps / FITTED_STEPS) ** SIGMA_EXPONENT * BITS_PER_BYTE


def divergence_probability(recipe: Recipe) -> float:
    """The probability that a run diverges if it is never stopped."""
    training = recipe.training
    edge = EDGE_RATE * (training.warmup / BEST_WARMUP) ** EDGE_EXPONENT
    return 1 / (1 + math.exp(-math.log(training.learning_rate / edge) / EDGE_WIDTH))


class LearningCurves:
    """Simulated reports of trials.

    Args:
        seed: seed of all noise; a recipe gives the same reports with the same seed.
        between: report between rungs as well, as training does.
        sees_divergence: end a run when it diverges; otherwise it continues and reports the value
            of random guessing.
    """

    def __init__(self, seed: int, between: bool = False, sees_divergence: bool = True):
        self._seed = seed
        self._between = between
        self._sees_divergence = sees_divergence

    def reports(self, recipe: Recipe) -> Iterator[Report]:
        """The reports of a recipe's trial, as `raygpt.search.trial` sends them."""
        text = recipe.model_dump_json().encode()
        draw = np.random.default_rng(derived_seed(self._seed, crc32(text)))
        breaks = self._divergence_step(recipe, draw)
        shared = draw.normal()
        per_step = budget.tokens_per_step(recipe)
        regular = budget.report_steps(recipe) if self._between else ()
        trained = 0
        for segment in segments(recipe):
            inner = [s for s in regular if segment.start < s < segment.stop]
            for step in [*inner, segment.stop]:
                steps = trained + step - segment.start
                broken = step > breaks
                if broken and self._sees_divergence:
                    steps -= step - max(segment.start, breaks)
                    yield steps * per_step, {"diverged": f"the loss is nan at step {breaks:.0f}"}
                    return
                figures = curve_figures(recipe, segment, step, steps)
                if step == segment.stop and segment.rung is not None:
                    value = GUESS if broken else self._measured(recipe, segment, shared, draw)
                    figures |= rung_figures(recipe, segment, value)
                elif not self._between:
                    continue
                yield steps * per_step, figures
            trained += segment.stop - segment.start

    def _divergence_step(self, recipe: Recipe, draw: np.random.Generator) -> float:
        diverges = draw.random() < divergence_probability(recipe)
        step = draw.exponential(DIVERGES_AT * budget.steps(recipe))
        return step if diverges else math.inf

    def _measured(
        self, recipe: Recipe, segment: Segment, shared: float, draw: np.random.Generator
    ) -> float:
        """Bits per byte at a rung."""
        step = segment.stop
        if segment.metric == "average":
            loss, noise = expected_loss(recipe, AVERAGE_AT * step, segment.budget)
            noise *= 1 - AVERAGED
        else:
            loss, noise = expected_loss(recipe, step, segment.budget)
        moment = MOMENT * noise * draw.normal()
        seed = math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * draw.normal()
        return (loss + noise + moment) * BITS_PER_BYTE + sigma(recipe, step) * seed


def curve_figures(recipe: Recipe, segment: Segment, step: int, steps: int) -> dict[str, float]:
    """The figures that every report has.

    Args:
        recipe: the trial's recipe.
        segment: the training segment that the run is in.
        step: its position in the schedule.
        steps: number of steps trained in all, cooldowns included.
    """
    tokens = steps * budget.tokens_per_step(recipe)
    return {
        "step": step,
        "tokens": step * budget.tokens_per_step(recipe),
        "tokens_trained": tokens,
        "cooldown": segment.cooldown,
        "learning_rate": recipe.training.learning_rate,
        "train_bits_per_token": 5.0,
        "gradient_norm": 0.5,
        "tokens_per_second": float(TOKENS_PER_SECOND),
        "seconds": tokens / TOKENS_PER_SECOND,
    }


def rung_figures(recipe: Recipe, segment: Segment, bits_per_byte: float) -> dict[str, float]:
    """The additional figures of a report at a rung."""
    return {
        "rung": segment.rung,
        "rung_metric": segment.metric,
        "rung_time": rung_time(segment.rung, recipe.search.reduction_factor),
        METRIC: bits_per_byte,
        "bits_per_token": bits_per_byte * BYTES_PER_TOKEN,
        "next_token_accuracy": 0.3,
    }
