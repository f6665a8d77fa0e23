"""What further runs of a search's best configurations show: means with errors, and differences.

The search's own run of a configuration is not part of its mean, because it was selected for being
low. Only the runs made afterwards count. Each has the full budget and a seed that no other run has,
so all of them are independent.

With n runs of each of k configurations, N in all, the variance s² of one run is pooled over the
configurations, with N − k degrees of freedom:

    standard error of a mean         s / √n
    95% interval of a mean           ± t(0.975; N − k) · s / √n
    95% interval of a difference     ± q(0.95; k, N − k) / √2 · s · √(1/n₁ + 1/n₂)

The last one is Tukey's HSD test (in Kramer's form where numbers of runs differ; J. Tukey, The
Problem of Multiple Comparisons, 1953): t and q are the quantiles of Student's t and of the
studentized range. If all configurations are equal, the chance that any of the differences is called
real is 5%; with two configurations it is the t test. It assumes that runs are distributed normally,
with the same variance in every configuration: if one of four configurations with three runs each
has three times the standard deviation of the others, the 5% become 10%.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import pandas as pd
from scipy.special import stdtrit

from raygpt.results.comparability import at_largest_budget
from raygpt.wording import counted

CONFIDENCE = 0.95
MOST_TIES = 2
"""Up to this many configurations without a difference get a line each; more share one."""


@dataclass(frozen=True)
class Configuration:
    """The further runs of one configuration; scores are in bits per byte."""

    trial_id: str
    """The search's trial that has these values."""
    scores: tuple[float, ...]
    """Bits per byte of the runs that completed the budget."""
    diverged: int = 0
    failed: int = 0
    unfinished: int = 0
    baseline: bool = False

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores) if self.scores else math.nan

    @property
    def judged(self) -> int:
        """The number of runs that count: completed and diverged."""
        return len(self.scores) + self.diverged

    @property
    def begun(self) -> int:
        return self.judged + self.failed + self.unfinished

    def __str__(self) -> str:
        return f"baseline {self.trial_id}" if self.baseline else self.trial_id


@dataclass(frozen=True)
class Difference:
    """The difference of two configurations' means, in bits per byte; all intervals hold at once."""

    better: Configuration
    worse: Configuration
    half_width: float
    """Half the width of the 95% interval; NaN if there are too few runs for one."""

    @property
    def amount(self) -> float:
        """The difference, not negative."""
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
        configurations: the best first: by the share of runs that diverged, then by mean, except
            that those with a single completed run, whose others failed, come last.
        compared: the configurations that never diverged. The mean of one that did would leave out
            its worst runs.
        degrees: degrees of freedom of the pooled variance.
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
        """The best configuration that is compared and has at least two runs.

        None until two runs of every configuration have ended; otherwise the first to have two runs
        would win.
        """
        if any(c.judged + c.failed < 2 for c in self.configurations):
            return None
        return next((c for c in self.compared if len(c.scores) > 1), None)

    @property
    def baseline(self) -> Configuration | None:
        return next((c for c in self.configurations if c.baseline), None)

    def standard_error(self, configuration: Configuration) -> float:
        """The standard error of a mean; NaN if the configuration is not compared."""
        if configuration not in self.compared:
            return math.nan
        return self.deviation / math.sqrt(len(configuration.scores))

    def half_width(self, configuration: Configuration) -> float:
        """Half the width of a mean's 95% interval; NaN if the configuration is not compared."""
        if not self.degrees:
            return math.nan
        quantile = stdtrit(self.degrees, (1 + CONFIDENCE) / 2)
        return float(quantile) * self.standard_error(configuration)

    def difference(self, one: Configuration, other: Configuration) -> Difference:
        """The difference between two compared configurations, by Tukey's HSD test."""
        better, worse = sorted((one, other), key=lambda c: c.mean)
        if not self.degrees:
            return Difference(better, worse, math.nan)
        quantile = studentized_range(len(self.compared), self.degrees) / math.sqrt(2)
        runs = 1 / len(one.scores) + 1 / len(other.scores)
        return Difference(better, worse, quantile * self.deviation * math.sqrt(runs))

    def standings(self) -> pd.DataFrame:
        """A row for each configuration with a result, the best first.

        Columns: trial_id, runs (completed ones), diverged_runs, mean, standard_error, ci_low and
        ci_high (the last four in bits per byte; standard error and interval are missing for a
        configuration that diverged).
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
        """Which differences are shown and which are not, in sentences."""
        return [*self._noise(), *self._differences(), *self._exceptions()]

    def _noise(self) -> Iterator[str]:
        if not self.compared:
            return
        runs = sum(len(c.scores) for c in self.compared)
        text = (
            f"{counted(runs, 'run')} of {counted(len(self.compared), 'configuration')}, each with "
            f"a seed of its own"
        )
        if not self.degrees:
            yield f"{text}: too few to tell any difference from noise."
            return
        yield (
            f"{text}. From run to run the standard deviation is {self.deviation:.4f} bits per byte "
            f"({counted(self.degrees, 'degree')} of freedom)."
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
            f"Differences are tested by Tukey's HSD test, with 95% confidence for all of them "
            f"together. It shows differences above {self.difference(*fewest).half_width:.4f} bits "
            f"per byte; to see smaller ones takes more runs."
        )

    def _exceptions(self) -> Iterator[str]:
        for c in self.configurations:
            if c.diverged:
                yield (
                    f"{c} diverged in {c.diverged} of {counted(c.judged, 'run')}, so it ranks "
                    f"after configurations that never diverged, and is not compared."
                )
            if c.failed:
                yield f"Left out: {c.failed} of {counted(c.begun, 'run')} of {c}, which failed."
            if c.unfinished:
                yield f"Not finished yet: {c.unfinished} of {counted(c.begun, 'run')} of {c}."


def confirmation(trials: pd.DataFrame) -> Confirmation | None:
    """The further runs in a table of trials; None if none were begun.

    Only completed runs of the same, full budget have scores that count.

    Args:
        trials: a table with the columns of `results.columns`.
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
    # Imported here because it is slow, and needed only if something was confirmed.
    from scipy import stats

    return float(stats.studentized_range.ppf(CONFIDENCE, groups, degrees))


def _standing(c: Configuration) -> tuple:
    share = c.diverged / c.judged if c.judged else 0
    alone = len(c.scores) < 2 and c.judged + c.failed > 1
    return share, alone, c.mean if c.scores else math.inf


def _each_or_together(reference: Configuration, differences: list[Difference]) -> Iterator[str]:
    """The differences from one configuration; if many are not shown, they share a sentence."""
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
