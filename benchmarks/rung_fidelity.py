"""Do rungs rank trials as the full budget does? `python -m benchmarks.rung_fidelity FILE`

Trains random configurations from a search file's ranges to the full budget, and measures all three
rung metrics at every rung: the value in mid-schedule (raw), with averaged weights (average), and
after a cooldown. One run gives all of them, because measuring does not change the trunk. Then it
prints how well each metric at each rung ranks the final bits per byte.

Measurements are appended to OUT.csv as they come, and a second call continues from there.
"""

import argparse
import multiprocessing
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from scipy import stats

from raygpt.command import run_command
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.scale import describe_budget
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import load_search_file

METRICS = ("raw", "average", "cooldown")
RESAMPLES = 2000
KEPT = Fraction(1, 3)


def configurations(search_file: Any, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Values for every range, drawn as a search's random sampler draws them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(count):
        trial = study.ask()
        yield {name: found.suggest(trial, name) for name, found in search_file.ranges.items()}


def measure(number: int, values: dict[str, Any], recipe_json: str) -> list[dict[str, Any]]:
    """Train one configuration; returns a row for each metric at each rung."""
    from raygpt.data.prepare import prepare
    from raygpt.training.loop import TrainingDiverged, TrainingRun

    recipe = Recipe.model_validate_json(recipe_json)
    run = TrainingRun(recipe, prepare(recipe.data, budget_tokens(recipe)), rung_metrics=METRICS)
    rows = []
    try:
        for report in run.reports():
            if report.rung is None:
                continue
            rung = str(recipe.search.rungs[report.rung])
            rows.append(
                {
                    "configuration": number,
                    "rung": rung,
                    "metric": "final" if rung == "1" else report.rung_metric,
                    "bits_per_byte": report.bits_per_byte,
                    "tokens": report.tokens,
                    "seconds": report.seconds,
                    **values,
                }
            )
    except TrainingDiverged:
        rows.append({"configuration": number, "rung": "1", "metric": "final", **values})
    return rows


def fidelity(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """How well each metric at each rung predicts the final value.

    Args:
        rows: from `measure`. Configurations that diverged before the rung or the end are left out.
        seed: seed of the bootstrap.

    Returns:
        A row for each rung and metric: Spearman's and Kendall's correlation with the final bits
        per byte, and the regret of continuing with the best third only, which is the final value
        of the best of that third minus that of the best of all. Each has a 95% interval, from
        percentiles of a bootstrap over configurations.
    """
    final = rows[rows["metric"] == "final"].set_index("configuration")["bits_per_byte"].dropna()
    found = []
    for (rung, metric), group in rows[rows["metric"] != "final"].groupby(["rung", "metric"]):
        pairs = pd.concat(
            [
                group.set_index("configuration")["bits_per_byte"].rename("rung"),
                final.rename("final"),
            ],
            axis=1,
        ).dropna()
        generator = np.random.default_rng(seed)
        draws = [
            agreement(pairs.iloc[generator.integers(len(pairs), size=len(pairs))])
            for _ in range(RESAMPLES)
        ]
        row = {"rung": rung, "metric": metric, "configurations": len(pairs)}
        low, high = np.nanpercentile(draws, [2.5, 97.5], axis=0)
        for name, value, *interval in zip(
            ("spearman", "kendall", "regret"), agreement(pairs), low, high, strict=True
        ):
            row |= {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}
        found.append(row)
    order = {metric: place for place, metric in enumerate(METRICS)}
    return (
        pd.DataFrame(found)
        .sort_values(
            ["rung", "metric"],
            key=lambda column: column.map(Fraction if column.name == "rung" else order.__getitem__),
        )
        .reset_index(drop=True)
    )


def agreement(pairs: pd.DataFrame) -> tuple[float, float, float]:
    """Spearman's and Kendall's correlation, and the regret of keeping the best third."""
    if pairs["rung"].nunique() < 2 or pairs["final"].nunique() < 2:
        return np.nan, np.nan, np.nan
    kept = pairs.nsmallest(max(1, round(len(pairs) * KEPT)), "rung")
    return (
        stats.spearmanr(pairs["rung"], pairs["final"]).statistic,
        stats.kendalltau(pairs["rung"], pairs["final"]).statistic,
        kept["final"].min() - pairs["final"].min(),
    )


def as_markdown(table: pd.DataFrame) -> str:
    """The table of `fidelity` in Markdown, with intervals in brackets."""
    lines = ["| rung | metric | Spearman | Kendall | regret of the best third |", "|" + "---|" * 5]
    for row in table.to_dict("records"):
        cells = [
            f"{row[name]:.{digits}f} ({row[f'{name}_low']:.{digits}f} to "
            f"{row[f'{name}_high']:.{digits}f})"
            for name, digits in (("spearman", 2), ("kendall", 2), ("regret", 4))
        ]
        lines.append(f"| {row['rung']} | {row['metric']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: pd.DataFrame, path: Path) -> None:
    """Plot the final value over the value at a rung, a panel for each rung and metric."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rungs = sorted({rung for rung in rows["rung"] if rung != "1"}, key=Fraction)
    final = rows[rows["metric"] == "final"].set_index("configuration")["bits_per_byte"]
    figure, axes = pyplot.subplots(
        len(rungs), len(METRICS), figsize=(9, 2.8 * len(rungs)), squeeze=False, sharey=True
    )
    for line, rung in zip(axes, rungs, strict=True):
        for axis, metric in zip(line, METRICS, strict=True):
            chosen = rows[(rows["rung"] == rung) & (rows["metric"] == metric)]
            values = chosen.set_index("configuration")["bits_per_byte"]
            axis.scatter(values, final.reindex(values.index), s=14, color="tab:blue")
            axis.set_title(f"{metric} at {rung}", fontsize=10)
            axis.grid(alpha=0.3)
        line[0].set_ylabel("bits per byte at the end")
    for axis in axes[-1]:
        axis.set_xlabel("bits per byte at the rung")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """Train the configurations that are missing from the CSV file, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rung_fidelity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="search file")
    parser.add_argument("--scale", choices=("full", "mini"), default="mini")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--configurations", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="seed of the configurations drawn")
    parser.add_argument("--rungs", default="1/9,1/3", help="fractions of the budget")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("rung_fidelity"), metavar="STEM")
    options = parser.parse_args(arguments)

    from raygpt.data.prepare import prepare

    overrides = [*options.set, f"search.rungs=[{options.rungs},1]"]
    search_file = load_search_file(options.file, options.scale, overrides)
    drawn = list(configurations(search_file, options.configurations, options.seed))
    recipes = [search_file.recipe(values) for values in drawn]
    print(
        describe_budget(recipes[0], len(prepare(recipes[0].data, budget_tokens(recipes[0])).train)),
        flush=True,
    )

    path = options.out.with_suffix(".csv")
    rows = pd.read_csv(path, dtype={"rung": str}) if path.exists() else pd.DataFrame()
    done = set(rows["configuration"]) if len(rows) else set()
    wanted = [
        (number, values, recipe.model_dump_json())
        for number, (values, recipe) in enumerate(zip(drawn, recipes, strict=True))
        if number not in done
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for measured in pool.imap_unordered(_measure, wanted):
            rows = pd.concat([rows, pd.DataFrame(measured)], ignore_index=True)
            rows.to_csv(path, index=False)
            print(f"{rows['configuration'].nunique()} of {len(drawn)} configurations", flush=True)
    print(as_markdown(fidelity(rows)))
    plot(rows, options.out.with_suffix(".png"))


def _measure(job: tuple) -> list[dict[str, Any]]:
    return measure(*job)


if __name__ == "__main__":
    run_command(main)
