"""Which searched values mattered: Optuna's PED-ANOVA, with its uncertainty.

PED-ANOVA (S. Watanabe, A. Bansal and F. Hutter, PED-ANOVA: Efficiently Quantifying Hyperparameter
Importance in Arbitrary Subspaces, 2023) compares where the best trials lie with where all of them
lie: the importance of a hyperparameter is the Pearson divergence of the two densities along it.

The only thing that it uses of a trial's result is whether it is among the best, by bits per byte at
the largest budget that any trial has reached. So, unlike other measures, it can use trials of
different budgets: trials that were stopped at a rung or diverged count as not among the best.

Two figures show its uncertainty:

- **The interval** is the middle 90% of the shares found on random halves of the trials. A half
  differs from the whole by as much as the whole differs from the truth (D. Politis and J. Romano,
  Large Sample Confidence Regions Based on Subsamples, 1994, for halves without replacement). For
  small numbers of trials it is only a rough estimate.
- **Chance**: the trials' ranks are shuffled, so that no hyperparameter matters, and the largest
  importance of any is recorded. An importance above 95% of these is called real: if no
  hyperparameter mattered, the probability that any is called real is 5% (P. Westfall and S. Young,
  Resampling-Based Multiple Testing, 1993). This holds for any number of trials if values were drawn
  at random. A sampler that learns draws good trials near each other, which looks a little like
  importance.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raygpt.analysis.groups import judged, short
from raygpt.errors import UserError
from raygpt.recipe.ranges import Range
from raygpt.results.tables import Results, ranked
from raygpt.wording import listed

FEWEST_BEST = 5
"""As Optuna advises; fewer are too few to estimate a density."""
BEST_SHARE = 0.1
FEWEST_TRIALS = 2 * FEWEST_BEST
REPEATS = 100
"""Number of random halves, and of shuffles."""
INTERVAL = (0.05, 0.95)
CONFIDENCE = 0.95


def importance(results: Results, ranges: Mapping[str, Range]) -> pd.DataFrame:
    """How much each searched value mattered for being among the best trials.

    Args:
        results: of a search with trials that ended.
        ranges: the searched ranges, by dotted name.

    Returns:
        A row for each hyperparameter, the most important first: name, importance (a share; they sum
        to 1), low and high (the middle 90% on halves of the trials), chance (the share that chance
        alone exceeds for any hyperparameter in 5 of 100 searches) and real (whether the importance
        is above it). `attrs` has trials (the number used) and best (the number that count as the
        best).

    Raises:
        UserError: nothing was searched, or too few trials have ended.
    """
    names = [name for name in results.searched if name in ranges]
    if not names:
        raise UserError("nothing was searched")
    trials = ranked(results.trials)
    trials = trials[trials["status"].isin(["completed", "stopped", "diverged"])]
    trials = trials.dropna(subset=names)
    of_most = trials["trial_id"].isin(judged(results)["trial_id"])
    trials = pd.concat([trials[of_most], trials[~of_most]])
    best = max(FEWEST_BEST, math.ceil(BEST_SHARE * len(trials)))
    if len(trials) < FEWEST_TRIALS or of_most.sum() < FEWEST_BEST:
        raise UserError(
            f"too few trials to say what mattered: at least {FEWEST_TRIALS} must have ended, "
            f"{FEWEST_BEST} of them at the largest budget; {len(trials)} have ended, "
            f"{of_most.sum()} of them there"
        )
    best = min(best, int(of_most.sum()))
    study = _Study(trials, {name: ranges[name] for name in names})
    places = np.arange(len(trials), dtype=float)
    share = best / len(trials)
    found = study.importances(places, share)
    random = np.random.default_rng(0)
    halves = []
    for _ in range(REPEATS):
        half = np.full(len(trials), np.inf)
        chosen = random.choice(len(trials), len(trials) // 2, replace=False)
        half[chosen] = places[chosen]
        halves.append(_shares(study.importances(half, share)))
    chance = [study.importances(random.permutation(places), share).max() for _ in range(REPEATS)]
    threshold = float(np.quantile(chance, CONFIDENCE))
    low, high = np.quantile(halves, INTERVAL, axis=0)
    frame = pd.DataFrame(
        {
            "name": names,
            "importance": _shares(found),
            "low": low,
            "high": high,
            "chance": min(1.0, threshold / found.sum()) if found.sum() else 1.0,
            "real": found > threshold,
        }
    )
    frame = frame.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
    frame.attrs = {"trials": len(trials), "best": best}
    return frame


def describe_importance(found: pd.DataFrame) -> str:
    """What a table of `importance` shows and what it does not, in a few sentences."""
    real = [short(name) for name in found.loc[found["real"], "name"]]
    what = f"{found.attrs['trials']} trials, of which {found.attrs['best']} count as the best"
    if not real:
        return (
            f"From {what}, no hyperparameter stands out from chance. That does not mean that none "
            f"mattered: with so few trials, only one that outweighs the others would stand out. "
            f"The order below is uncertain; it takes more trials to know."
        )
    verb = "stands" if len(real) == 1 else "stand"
    text = f"From {what}, {listed(real)} {verb} out from chance."
    if len(real) == len(found):
        return text
    return f"{text} For the others this is not shown, which does not mean that they do not matter."


def importance_bars(found: pd.DataFrame) -> go.Figure:
    """A bar for each hyperparameter with its interval, and a dotted line at the level of chance.

    Args:
        found: from `importance`.
    """
    found = found.iloc[::-1]
    figure = go.Figure()
    figure.add_bar(
        x=found["importance"],
        y=[short(name) for name in found["name"]],
        orientation="h",
        marker={"color": np.where(found["real"], "#3d8fd1", "#8e959e"), "opacity": 0.8},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": (found["high"] - found["importance"]).clip(lower=0),
            "arrayminus": (found["importance"] - found["low"]).clip(lower=0),
            "color": "#6d747d",
        },
        customdata=found[["low", "high"]],
        hovertemplate="%{y}: %{x:.0%} (90% interval %{customdata[0]:.0%} to %{customdata[1]:.0%})"
        "<extra></extra>",
    )
    chance = float(found["chance"].iloc[0])
    figure.add_vline(
        x=chance,
        line={"width": 1.5, "dash": "dot", "color": "#e0601f"},
        annotation={"text": "to beat chance", "font": {"color": "#e0601f"}, "yanchor": "bottom"},
        annotation_position="top",
    )
    figure.update_xaxes(title_text="share of the importance", tickformat=".0%", range=[0, 1.02])
    figure.update_layout(height=120 + 34 * len(found), showlegend=False)
    return figure


def _shares(importances: np.ndarray) -> np.ndarray:
    total = importances.sum()
    return importances / total if total else np.full(len(importances), 1 / len(importances))


class _Study:
    """The trials as an Optuna study, whose importances can be evaluated for any ranking."""

    def __init__(self, trials: pd.DataFrame, ranges: Mapping[str, Range]):
        import optuna

        self._names = list(ranges)
        sampler = optuna.samplers.RandomSampler()
        storage = optuna.storages.InMemoryStorage()
        with _quiet():
            self._study = optuna.create_study(sampler=sampler, storage=storage)
            self._study.add_trials(
                _frozen({name: row[name] for name in ranges}, ranges)
                for row in trials.to_dict("records")
            )

    def importances(self, places: np.ndarray, best_share: float) -> np.ndarray:
        """Every hyperparameter's importance, given the trials' ranks (infinite: left out)."""
        from optuna.importance import PedAnovaImportanceEvaluator

        with _quiet():
            evaluator = PedAnovaImportanceEvaluator(target_quantile=best_share)
            found = evaluator.evaluate(
                self._study, self._names, target=lambda trial: places[trial.number]
            )
        return np.array([found[name] for name in self._names])


def _frozen(values: dict[str, Any], ranges: Mapping[str, Range]) -> Any:
    import optuna

    trial = optuna.trial.FixedTrial(values)
    for name, found in ranges.items():
        found.suggest(trial, name)
    return optuna.trial.create_trial(
        params=trial.params, distributions=trial.distributions, value=0.0
    )


class _quiet(warnings.catch_warnings):
    """Silences Optuna's warnings on experimental features and its log of new studies."""

    def __enter__(self) -> None:
        import optuna

        super().__enter__()
        warnings.simplefilter("ignore")
        self._verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def __exit__(self, *error: Any) -> None:
        import optuna

        optuna.logging.set_verbosity(self._verbosity)
        super().__exit__(*error)
