"""The page and the plot of the results of `benchmarks.search_efficiency`."""

import math
import multiprocessing
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from scipy.stats import mannwhitneyu, spearmanr

from benchmarks.learning_curves import LearningCurves, final_value
from benchmarks.orchestration import SECONDS_IN_FULL, OnRay
from benchmarks.search_methods import AT_ONCE, DEFAULT, REFERENCE, REGIMES, SEARCHED
from raygpt.recipe import budget
from raygpt.recipe.search_file import load_search_file
from raygpt.search.sampler import suggest_values
from raygpt.search.scheduler import METRIC

PAGE = """\
# How many tokens a search spends to find the best values

This page measures the search layer alone (sampler, rungs, scheduler). It runs through Ray Tune's
interfaces in virtual time on simulated learning curves, {seeds} searches for each method. **The
curves are a model**, described with its sources in
[`benchmarks/learning_curves.py`](../benchmarks/learning_curves.py): the multi-power law of Luo et
al. (2025) with its published constants for the effects of the schedule, and around it a quadratic
bowl over the hyperparameters, noise and divergence, whose sizes we chose. The results hold for that
model. They show how the parts of a search work together, not how long your search will take.

The searches are over the five values of [`lr_sched.yaml`](../search_spaces/lr_sched.yaml), with
{at_once} trials at a time. The regimes differ only in the budget of a trial:

{budgets}

The largest budget is one at which learning-rate noise separates the trials in mid-schedule, the
smallest one at which they differ by how far they have converged. In between is the budget of the
shipped recipes.

## Tokens until the search is within one sigma of the best

The *incumbent* is the trial with the lowest measured value among those that completed the budget.
*Lower*, *median* and *upper* are quartiles over searches of the tokens spent, in full budgets,
until the incumbent's expected value was within one standard deviation over seeds of the best
expected value in the space. Expected values have no noise, and a search does not know them. Every
search ended when it had spent {trials} full budgets, including cooldowns and stopped trials. “–”
means that fewer than that share of the searches got there; *reached* is the share that did. *Ratio*
is the median divided by the median of random search in full, *p* the p-value of a Mann-Whitney test
against raygpt's default: differences with p above 0.05 may well be chance. *Excess* is the median
over searches of the last incumbent's expected value minus the best, in sigmas.

{tables}

![Share of searches within one sigma of the best, by tokens spent]({plot})

{verdict}

`raygpt` is the search as the file gives it: TPE over an Optuna study in which stopped trials are
pruned and diverged ones infeasible, and ASHA at rungs that are reached by cooldowns. *In full*
methods stop no trial, except diverged ones. *OptunaSearch, ASHA* are Ray's own, connected by their
defaults to `tokens` and the mid-schedule value. There a diverged trial continues and reports the
value of random guessing, like a training loop that does not check for divergence.

## How rungs rank trials in this model

Spearman's correlation between the value measured at a rung and the expected value at the end, over
random configurations.

{ranks}

[docs/rung_fidelity.md](rung_fidelity.md) measures the same on trained models.

## What the search layer costs per trial

One search of {ray_trials:,} trials with the complete search layer, with the study in SQLite, the
tables on disk and about twenty reports per completed trial, in virtual time. CPU milliseconds per
trial:

{layer}

On Ray, with trials that wait {wait_seconds:g} s instead of training a full budget and report as
often, {ray_trials:,} trials took {ray_seconds:,.0f} s, of which the waiting, {at_once} at a time,
accounts for {waited:,.0f} s. That leaves **{seconds_a_trial:.2f} s per trial** to place it in a
reused process, transfer its reports and checkpoints, and write everything to disk;
{driver_cpu:.2f} s of it is CPU time of the driver.

## How this was made

`python -m benchmarks.search_efficiency --seeds {seeds} --trials {trials}`, seeds 0 to
{last_seed}, on {cores} CPU cores: ray {ray}, optuna {optuna}, numpy {numpy}.
"""


def report(outcomes: pd.DataFrame, layer: pd.DataFrame, on_ray: OnRay, plot: str) -> str:
    """The page in Markdown.

    Args:
        outcomes: a row for each `Outcome`.
        layer: what `orchestration.in_virtual_time` returned.
        on_ray: measured with the same number of trials.
        plot: file name of the plot.
    """
    table = summary(outcomes)
    tables, ranks, budgets = [], [], []
    for regime, overrides in REGIMES.items():
        search_file = load_search_file(SEARCHED, overrides=overrides)
        recipe = search_file.baseline()
        budgets.append(
            f"- *{regime}*: {budget.budget_tokens(recipe) / 1e6:,.0f} M tokens in "
            f"{budget.steps(recipe):,} steps"
        )
        tables.append(f"### {regime}\n\n{as_markdown(formatted(table.loc[regime]), 'method')}")
        correlations = rank_correlations(regime).map("{:.2f}".format)
        ranks.append(f"### {regime}\n\n{as_markdown(correlations, 'metric')}")
    return PAGE.format(
        seeds=outcomes["seed"].nunique(),
        last_seed=outcomes["seed"].max(),
        trials=outcomes["limit"].max(),
        at_once=AT_ONCE,
        budgets="\n".join(budgets),
        tables="\n\n".join(tables),
        verdict=verdict(table),
        ranks="\n\n".join(ranks),
        layer=as_markdown(layer.map("{:.1f}".format), "part"),
        plot=plot,
        ray_trials=on_ray.trials,
        ray_seconds=on_ray.seconds,
        waited=on_ray.waited,
        seconds_a_trial=on_ray.seconds_a_trial,
        driver_cpu=on_ray.driver_cpu_seconds / on_ray.trials,
        wait_seconds=SECONDS_IN_FULL,
        cores=multiprocessing.cpu_count(),
        **{name: version(name) for name in ("ray", "optuna", "numpy")},
    )


def summary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Summary of the outcomes, a row for each regime and method.

    Columns: quartiles `lower`, `median` and `upper` of the tokens in full budgets, infinite where
    too few searches got within one sigma; `ratio` of the median to that of random search in full,
    if that is finite; `p` of a Mann-Whitney test of the tokens against raygpt's default; `reached`,
    the share of searches that got there; medians of `excess`, `trials` and `completed`.
    """
    rows = {}
    for (regime, method), group in outcomes.groupby(["regime", "method"], sort=False):
        # No interpolation: there is no value between a finite and an infinite one.
        quartiles = np.quantile(group["tokens"], [0.25, 0.5, 0.75], method="higher")
        default = outcomes[(outcomes["regime"] == regime) & (outcomes["method"] == DEFAULT)]
        test = mannwhitneyu(group["tokens"], default["tokens"], method="asymptotic")
        rows[regime, method] = dict(zip(("lower", "median", "upper"), quartiles, strict=True)) | {
            "p": test.pvalue,
            "reached": np.isfinite(group["tokens"]).mean(),
            **group[["excess", "trials", "completed"]].median(),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    reference = table.index.get_level_values(0).map(table["median"].xs(REFERENCE, level=1))
    ratio = (table["median"] / reference).where(np.isfinite(reference))
    table.insert(3, "ratio", ratio)
    return table


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one regime as texts."""
    formats = {"ratio": ".2f", "p": ".2f", "reached": ".0%", "excess": ".1f"}

    def text(name: str, value: float) -> str:
        return format(value, formats.get(name, ".0f")) if math.isfinite(value) else "–"

    return pd.DataFrame({name: [text(name, v) for v in table[name]] for name in table}, table.index)


def verdict(table: pd.DataFrame) -> str:
    """Sentences that say where raygpt's default does not win."""
    sentences = []
    for regime in table.index.unique(0):
        ours = table.loc[regime, DEFAULT]
        for method, row in table.loc[regime].iterrows():
            if (row["median"], -row["reached"]) < (ours["median"], -ours["reached"]):
                chance = "" if row["p"] < 0.05 else f"; it may be chance (p = {row['p']:.2f})"
                sentences.append(
                    f"- {regime}: **{method}** {in_words(row)}, raygpt {in_words(ours)}{chance}."
                )
    if not sentences:
        return "No other method was within one sigma sooner than raygpt's default."
    return "**Where raygpt's default does not win:**\n\n" + "\n".join(sentences)


def in_words(row: pd.Series) -> str:
    """The median number of full budgets, and the share of the searches, as a phrase."""
    share = f"in {row['reached']:.0%} of searches"
    if not math.isfinite(row["median"]):
        return f"was within one sigma only {share}"
    return f"was within one sigma after {row['median']:.0f} full budgets (median) and {share}"


def rank_correlations(regime: str, configurations: int = 300) -> pd.DataFrame:
    """Spearman's correlation between the value at a rung and the expected value at the end.

    A row for each metric, a column for each rung; over random configurations that do not diverge.
    """
    rungs = "search.rungs=[1/9, 1/3, 1/2, 1]"
    search_file = load_search_file(SEARCHED, overrides=(*REGIMES[regime], rungs))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest_values(search_file, study.ask()) for _ in range(configurations)]
    table = {}
    for metric in ("cooldown", "average", "raw"):
        overrides = (*REGIMES[regime], rungs, f"search.rung_metric={metric}")
        rows = []
        for recipe in map(load_search_file(SEARCHED, overrides=overrides).recipe, drawn):
            reports = [figures for _, figures in LearningCurves(seed=0).reports(recipe)]
            if METRIC in reports[-1]:
                at_rungs = [figures[METRIC] for figures in reports[:-1]]
                rows.append([*at_rungs, final_value(recipe)])
        *columns, final = np.array(rows).T
        table[metric] = [spearmanr(column, final).statistic for column in columns]
    names = [f"at {rung}" for rung in search_file.search.rungs[:-1]]
    return pd.DataFrame.from_dict(table, orient="index", columns=names)


def as_markdown(frame: pd.DataFrame, heading: str) -> str:
    """A table of texts in Markdown.

    Args:
        frame: a table of texts.
        heading: heading of its index.
    """
    rows = [[heading, *frame.columns], ["---"] + ["---:"] * len(frame.columns)]
    rows += [[name, *cells] for name, cells in zip(frame.index, frame.values, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plot(outcomes: pd.DataFrame, path: Path) -> None:
    """Draw the share of searches within one sigma by the tokens spent, a panel for each regime."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # With a fixed salt the same outcomes give the same file.
    pyplot.rcParams["svg.hashsalt"] = "raygpt"
    figure, axes = pyplot.subplots(1, len(REGIMES), figsize=(13, 4), sharey=True)
    limit = outcomes["limit"].max()
    for axis, regime in zip(axes, REGIMES, strict=True):
        of_regime = outcomes[outcomes["regime"] == regime]
        for method, group in of_regime.groupby("method", sort=False):
            reached = np.sort(group["tokens"][np.isfinite(group["tokens"])])
            shares = np.arange(1, len(reached) + 1) / len(group)
            last = shares[-1] if len(shares) else 0
            axis.step(
                [0, *reached, limit],
                [0, *shares, last],
                where="post",
                label=method,
                linewidth=2.5 if method == DEFAULT else 1.2,
            )
        axis.set_title(regime)
        axis.set_xlabel("tokens spent, in full budgets")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("searches within one sigma of the best")
    axes[0].set_ylim(0, 1)
    axes[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
