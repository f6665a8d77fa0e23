"""What further runs of a search's best configurations show: means with errors, real differences.

The search's own run of a configuration is no part of its mean: it was picked for being low. Only
the runs made afterwards count, each at the full budget and with a seed that no other run has, so
that all of them are independent.

With n runs of each of k configurations, N in all, the variance s² of one run is pooled over the
configurations, with N − k degrees of freedom:

    standard error of a mean         s / √n
    95% interval of a mean           ± t(0.975; N − k) · s / √n
    95% interval of a difference     ± q(0.95; k, N − k) / √2 · s · √(1/n₁ + 1/n₂)

The last one is Tukey's HSD test (in Kramer's form where numbers of runs differ; J. Tukey, The
Problem of Multiple Comparisons, 1953): t and q are the quantiles of Student's t and of the
studentized range. If all configurations are equal, the chance that even one of the differences is
called real is 5%; with two configurations it is the t test. It takes runs to scatter normally and
by the same variance in every configuration: if of four with three runs each one has three times
the standard deviation of the others, the 5% become 10%.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import pandas as pd
from scipy.special import stdtrit

from raygpt.results.comparability import at_largest_budget

CONFIDENCE = 0.95
MOST_TIES = 2
"""So many configurations without a difference get a line each, more share one."""


@dataclass(frozen=True)
class Configuration:
    """The further runs of one configuration; scores are in bits per byte."""

    trial_id: str
    """Of the search's trial that has these values."""
    scores: tuple[float, ...]
    """Of the runs that came to the end of the budget."""
    diverged: int = 0
    failed: int = 0
    unfinished: int = 0
    baseline: bool = False

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores) if self.scores else math.nan

    @property
    def judged(self) -> int:
        """Runs that say something of the configuration."""
        return len(self.scores) + self.diverged

    @property
    def begun(self) -> int:
        return self.judged + self.failed + self.unfinished

    def __str__(self) -> str:
        return f"baseline {self.trial_id}" if self.baseline else self.trial_id


@dataclass(frozen=True)
class Difference:
    """Between the means of two configurations, in bits per byte; intervals hold for all at once."""

    better: Configuration
    worse: Configuration
    half_width: float
    """Of the interval; NaN where there are too few runs for one."""

    @property
    def amount(self) -> float:
        """Not negative."""
        return self.worse.mean - self.better.mean

    @property
    def real(self) -> bool:
        return self.amount > self.half_width

    @property
    def figures(self) -> str:
        low, high = self.amount - self.half_width, self.amount + self.half_width
        share = self.amount / self.worse.mean
        return (
            f"{self.amount:.4f} bits per byte, {share:.1%}; "
            f"{CONFIDENCE:.0%} interval {low:.4f} to {high:.4f}"
        )

    def __str__(self) -> str:
        if not self.real:
            return f"{self.better} and {self.worse}: no difference shown ({self.figures})"
        return f"{self.better} is better than {self.worse} ({self.figures})"


class Confirmation:
    """The configurations that were confirmed, compared.

    Attributes:
        configurations: the best first: by the share of runs that diverged, then by mean, but
            those last of which only one run came to an end and others failed.
        compared: those of them that never diverged. Of one that did, a mean would leave out the
            worst runs.
        degrees: of freedom of the pooled variance.
        deviation: standard deviation of one run, in bits per byte; NaN without a degree of freedom.
    """

    def __init__(self, configurations: Iterable[Configuration]):
        self.configurations = sorted(configurations, key=_standing)
        self.compared = [c for c in self.configurations if c.scores and not c.diverged]
        self.degrees = sum(len(c.scores) - 1 for c in self.compared)
        squares = sum((score - c.mean) ** 2 for c in self.compared for score in c.scores)
        self.deviation = math.sqrt(squares / self.degrees) if self.degrees else math.nan

    @property
    def winner(self) -> Configuration | None:
        """The first that is compared and has two runs; one alone says too little.

        None before two runs of every configuration have ended: the first to have them would win.
        """
        if any(c.judged + c.failed < 2 for c in self.configurations):
            return None
        return next((c for c in self.compared if len(c.scores) > 1), None)

    @property
    def baseline(self) -> Configuration | None:
        return next((c for c in self.configurations if c.baseline), None)

    def standard_error(self, configuration: Configuration) -> float:
        """Of a mean; NaN if the configuration is not compared."""
        if configuration not in self.compared:
            return math.nan
        return self.deviation / math.sqrt(len(configuration.scores))

    def half_width(self, configuration: Configuration) -> float:
        """Of the 95% interval of a mean; NaN if the configuration is not compared."""
        if not self.degrees:
            return math.nan
        quantile = stdtrit(self.degrees, (1 + CONFIDENCE) / 2)
        return float(quantile) * self.standard_error(configuration)

    def difference(self, one: Configuration, other: Configuration) -> Difference:
        """Between two configurations that are compared, by Tukey's HSD test."""
        better, worse = sorted((one, other), key=lambda c: c.mean)
        if not self.degrees:
            return Difference(better, worse, math.nan)
        quantile = studentized_range(len(self.compared), self.degrees) / math.sqrt(2)
        runs = 1 / len(one.scores) + 1 / len(other.scores)
        return Difference(better, worse, quantile * self.deviation * math.sqrt(runs))

    def standings(self) -> pd.DataFrame:
        """A row for each configuration with a result, the best first.

        Columns: trial_id, runs (that came to the end), diverged_runs, mean, standard_error, ci_low
        and ci_high (all in bits per byte; missing for one that diverged).
        """
        rows = [
            {
                "trial_id": c.trial_id,
                "runs": len(c.scores),
                "diverged_runs": c.diverged,
                "mean": c.mean,
                "standard_error": self.standard_error(c),
                "ci_low": c.mean - self.half_width(c),
                "ci_high": c.mean + self.half_width(c),
            }
            for c in self.configurations
            if c.judged
        ]
        types = {"trial_id": "string", "runs": "Int64", "diverged_runs": "Int64"}
        figures = dict.fromkeys(("mean", "standard_error", "ci_low", "ci_high"), "float64")
        return pd.DataFrame(rows, columns=[*types, *figures]).astype(types | figures)

    def words(self) -> list[str]:
        """What is shown and what is not, a sentence each."""
        return [*self._noise(), *self._differences(), *self._exceptions()]

    def _noise(self) -> Iterator[str]:
        if not self.compared:
            return
        runs = sum(len(c.scores) for c in self.compared)
        text = (
            f"{_count(runs, 'run')} of {_count(len(self.compared), 'configuration')}, each with a "
            f"seed of its own"
        )
        if not self.degrees:
            yield f"{text}: too few to tell any difference from noise."
            return
        yield (
            f"{text}. From run to run the standard deviation is {self.deviation:.4f} bits per byte "
            f"({_count(self.degrees, 'degree')} of freedom)."
        )

    def _differences(self) -> Iterator[str]:
        if len(self.compared) < 2 or not self.degrees:
            return
        best, *others = self.compared
        baseline = self.baseline if self.baseline in others else None
        if baseline:
            others.remove(baseline)
            yield str(self.difference(best, baseline))
        for reference in (best, baseline) if baseline else (best,):
            yield from _each_or_together(reference, [self.difference(reference, c) for c in others])
        fewest = sorted(self.compared, key=lambda c: len(c.scores))[:2]
        yield (
            f"These are by Tukey's HSD test, at 95% confidence for all of them together. A "
            f"difference shows where it is above {self.difference(*fewest).half_width:.4f} bits "
            f"per byte; smaller ones may be there all the same, and take more runs to see."
        )

    def _exceptions(self) -> Iterator[str]:
        for c in self.configurations:
            if c.diverged:
                yield (
                    f"{c} diverged in {c.diverged} of {_count(c.judged, 'run')}, so it ranks after "
                    f"those that never did and is not compared."
                )
            if c.failed:
                yield f"Left out: {c.failed} of {_count(c.begun, 'run')} of {c}, which failed."
            if c.unfinished:
                yield f"Not finished yet: {c.unfinished} of {_count(c.begun, 'run')} of {c}."


def confirmation(trials: pd.DataFrame) -> Confirmation | None:
    """What the table of trials holds of further runs; None where none were begun.

    Args:
        trials: with the columns of `results.tables`.
    """
    runs = trials[trials["confirms"].notna()]
    if runs.empty:
        return None
    completed = at_largest_budget(runs[runs["status"] == "completed"])
    runs = runs[(runs["status"] != "completed") | runs.index.isin(completed.index)]
    baselines = set(trials.loc[trials["baseline"].fillna(False), "trial_id"])
    ended: dict[str, dict[str, list[float]]] = {}
    for trial_id, status, score in zip(
        runs["confirms"], runs["status"], runs["bits_per_byte"], strict=True
    ):
        ended.setdefault(trial_id, defaultdict(list))[status].append(score)
    return Confirmation(
        Configuration(
            trial_id,
            scores=tuple(by_status["completed"]),
            diverged=len(by_status["diverged"]),
            failed=len(by_status["failed"]),
            unfinished=len(by_status["running"]),
            baseline=trial_id in baselines,
        )
        for trial_id, by_status in ended.items()
    )


@cache
def studentized_range(groups: int, degrees: int) -> float:
    """The quantile of Tukey's test at 95%."""
    # Slow to import and to compute, and needed only where something was confirmed.
    from scipy import stats

    return float(stats.studentized_range.ppf(CONFIDENCE, groups, degrees))


def _standing(c: Configuration) -> tuple:
    share = c.diverged / c.judged if c.judged else 0
    alone = len(c.scores) < 2 and c.judged + c.failed > 1
    return share, alone, c.mean if c.scores else math.inf


def _each_or_together(reference: Configuration, differences: list[Difference]) -> Iterator[str]:
    """The differences to one configuration; those not shown in one sentence where they are many."""
    ties = [difference for difference in differences if not difference.real]
    together = len(ties) > MOST_TIES
    yield from (str(d) for d in differences if d.real or not together)
    if together:
        names = [str(d.worse if d.better is reference else d.better) for d in ties]
        largest = max(ties, key=lambda d: d.amount)
        yield (
            f"{reference} and each of {', '.join(names)}: no difference shown "
            f"(at most {largest.figures})"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
