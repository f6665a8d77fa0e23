"""What `benchmarks.search_efficiency` found, as a page and a plot."""

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
from benchmarks.search_efficiency import AT_ONCE, DEFAULT, REFERENCE, REGIMES, SEARCHED
from raygpt.recipe import budget
from raygpt.recipe.search_file import load_search_file
from raygpt.search.sampler import suggest_values
from raygpt.search.scheduler import METRIC

PAGE = """\
# How many tokens a search takes to find the best

The search layer alone (sampler, rungs, scheduler), run by Ray Tune's interfaces in virtual time
against made-up learning curves, {seeds} searches of each kind. **The curves are a model**,
described with its sources in [`benchmarks/learning_curves.py`](../benchmarks/learning_curves.py):
the multi-power law of Luo et al. (2025) with its published constants for the effects of the
schedule, and around it a bowl over the hyperparameters, noise and divergence whose sizes are
ours. What follows is true of that model. It says how the parts of a search work together, not
what a search of yours will take.

Searched are the five values of [`lr_sched.yaml`](../search_spaces/lr_sched.yaml), {at_once}
trials at once. The two regimes differ in the budget of a trial alone: {steps}.

## Tokens to come within one sigma of the best

In full budgets, until the *incumbent* (the lowest measured value among the trials that came to
the end of the budget) had an expected value within one standard deviation over seeds of the best
of the space. Expected values have no noise; a search does not know them. Every search ended when
it had spent {trials} full budgets, cooldowns and stopped trials included. Quartiles are over
searches; “–” where fewer than that share came there at all, which is what *reached* counts.
*Ratio* is the median over that of random search in full, *p* that of a Mann-Whitney test against
raygpt's default: differences with a p above 0.05 may well be chance. *Excess* is what the last
incumbent was above the best, in sigmas, the median.

{tables}

![Share of searches that had come there, by tokens spent]({plot})

{verdict}

`raygpt` is the search as the file has it: TPE over an Optuna study to which a stopped trial is
pruned and a diverged one infeasible, and ASHA at rungs reached by cooldowns. *In full* stops no
trial (but diverged ones). *OptunaSearch, ASHA* are Ray's own, wired by their defaults to `tokens`
and the mid-run value; a diverged trial goes on there and reports what a guess has, as a loop that
does not look would.

## How rungs rank trials in this model

Spearman's correlation between what is measured at a rung and the expected value at the end, over
configurations at random.

{ranks}

[docs/rung_fidelity.md](rung_fidelity.md) has the same of trained models.

## What the search layer costs a trial

One search of {ray_trials:,} trials by the whole assembly, with the study in SQLite, the tables on
disk and about twenty reports for a trial that is completed, in virtual time: CPU milliseconds a
trial.

{layer}

On Ray, with trials that wait {wait_seconds:g} s in place of a full budget and report as often,
{ray_trials:,} trials took {ray_seconds:,.0f} s where the waiting of {at_once} at once came to
{waited:,.0f} s: **{seconds_a_trial:.2f} s a trial** for placing it in a reused process, carrying
its reports and checkpoints and writing everything down, {driver_cpu:.2f} s of it CPU time of the
driver.

## How this was made

`python -m benchmarks.search_efficiency --seeds {seeds} --trials {trials}`, seeds 0 to
{last_seed}, on {cores} CPU cores: ray {ray}, optuna {optuna}, numpy {numpy}.
"""


def report(outcomes: pd.DataFrame, layer: pd.DataFrame, on_ray: OnRay, plot: str) -> str:
    """The page.

    Args:
        outcomes: a row an `Outcome`.
        layer: of `orchestration.in_virtual_time`.
        on_ray: of a search of as many trials.
        plot: the name of the plot's file.
    """
    table = summary(outcomes)
    tables, ranks, steps = [], [], []
    for regime, overrides in REGIMES.items():
        search_file = load_search_file(SEARCHED, overrides=overrides)
        recipe = search_file.baseline()
        steps.append(f"{budget.steps(recipe):,} steps (“{regime}”)")
        tables.append(f"### {regime}\n\n{as_markdown(formatted(table.loc[regime]), 'method')}")
        correlations = rank_correlations(regime).map("{:.2f}".format)
        ranks.append(f"### {regime}\n\n{as_markdown(correlations, 'metric')}")
    return PAGE.format(
        seeds=outcomes["seed"].nunique(),
        last_seed=outcomes["seed"].max(),
        trials=outcomes["limit"].max(),
        at_once=AT_ONCE,
        steps=" and ".join(steps),
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
    """A row a regime and method, of the tokens to the best and of what else counts.

    Columns: quartiles `lower`, `median` and `upper` in full budgets, infinite where too few came
    there; `ratio` of the median to that of random search in full, if it has one; `p` of a
    Mann-Whitney test of the tokens against raygpt's default; `reached`, a share; medians of the
    rest.
    """
    rows = {}
    for (regime, method), group in outcomes.groupby(["regime", "method"], sort=False):
        # Always one of the searches: between one that came there and one that did not is nothing.
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
    """The rows of one regime, for people."""
    formats = {"ratio": ".2f", "p": ".2f", "reached": ".0%", "excess": ".1f"}

    def text(name: str, value: float) -> str:
        return format(value, formats.get(name, ".0f")) if math.isfinite(value) else "–"

    return pd.DataFrame({name: [text(name, v) for v in table[name]] for name in table}, table.index)


def verdict(table: pd.DataFrame) -> str:
    """Where raygpt's default does not win, in words."""
    sentences = []
    for regime in table.index.unique(0):
        ours = table.loc[regime, DEFAULT]
        for method, row in table.loc[regime].iterrows():
            if (row["median"], -row["reached"]) < (ours["median"], -ours["reached"]):
                chance = "" if row["p"] < 0.05 else f"; it may be chance (p = {row['p']:.2f})"
                sentences.append(
                    f"- {regime}: **{method}** came there {came(row)}, raygpt {came(ours)}{chance}."
                )
    if not sentences:
        return "No other method came there sooner than raygpt's default."
    return "**Where raygpt's default does not win:**\n\n" + "\n".join(sentences)


def came(row: pd.Series) -> str:
    """When, and how often."""
    when = f"after {row['median']:.0f} full budgets (median)"
    often = f"in {row['reached']:.0%} of searches"
    return f"{when} and {often}" if math.isfinite(row["median"]) else f"only {often}"


def rank_correlations(regime: str, configurations: int = 300) -> pd.DataFrame:
    """Spearman's between what is measured at a rung and the expected value at the end.

    A row a metric, a column a rung; over configurations at random, those that diverge aside.
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
    """A table of texts, its index under a heading."""
    rows = [[heading, *frame.columns], ["---"] + ["---:"] * len(frame.columns)]
    rows += [[name, *cells] for name, cells in zip(frame.index, frame.values, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plot(outcomes: pd.DataFrame, path: Path) -> None:
    """The share of searches that had come to the best, by the tokens spent; a panel a regime."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # The same picture from the same figures, byte for byte.
    pyplot.rcParams["svg.hashsalt"] = "raygpt"
    figure, axes = pyplot.subplots(1, len(REGIMES), figsize=(10, 4), sharey=True)
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
    axes[-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
