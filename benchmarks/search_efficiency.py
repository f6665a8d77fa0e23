"""How many tokens a search spends to find the best values: `python -m benchmarks.search_efficiency`

The search layer alone (sampler, rungs and scheduler) runs in virtual time
(`raygpt.search.simulation`) on simulated learning curves (`benchmarks.learning_curves`, which names
the model and its sources).

The five values of `search_spaces/lr_sched.yaml` are searched in the regimes of
`benchmarks.search_methods`. Every method may spend the tokens of `--trials` full trials. The result
is the number of tokens spent until the expected value of the incumbent is within one sigma of the
best expected value in the space. The incumbent is the trial with the lowest measured value among
those that completed the budget. Sigma is the standard deviation over seeds at the end of the
budget. The expected value has no noise, and no method knows it. Searches that never get there are
counted too.
"""

import argparse
import math
import multiprocessing
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from scipy.optimize import differential_evolution

from benchmarks.learning_curves import LearningCurves, final_value, sigma
from benchmarks.orchestration import in_virtual_time, on_ray
from benchmarks.search_efficiency_report import plot, report
from benchmarks.search_methods import AT_ONCE, METHODS, REGIMES, SEARCHED, STOCK
from raygpt.command import run_command
from raygpt.recipe import budget
from raygpt.recipe.ranges import LogUniform
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.search.cluster import Placement
from raygpt.search.sampler import StudySearcher, suggest_values
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.simulation import SimulatedTrial, Simulation
from raygpt.search.warm_start import seed_study

# Number of trials where the tokens limit a search.
NO_LIMIT = 10**6


@dataclass(frozen=True)
class Outcome:
    """The result of one search; tokens are in full budgets."""

    regime: str
    method: str
    seed: int
    tokens: float
    """Spent until the incumbent was within one sigma of the best; infinite if it never was."""
    excess: float
    """The incumbent's expected value minus the best one, at the end, in sigmas."""
    trials: int
    completed: int
    cpu_seconds: float


class StudyUpdater(Callback):
    """Tells a study how its trials ended, as `raygpt.search.recorder` does, without tables."""

    def __init__(self, searcher: StudySearcher, last_rung: int):
        self._searcher = searcher
        self._last_rung = last_rung

    def on_trial_complete(
        self, iteration: int, trials: list, trial: SimulatedTrial, **info: Any
    ) -> None:
        row: dict[str, Any] = {}
        for result in trial.results:
            row |= {name: result[name] for name in (METRIC, "tokens", "rung") if METRIC in result}
        row["status"] = "completed" if row.get("rung") == self._last_rung else "stopped"
        if "diverged" in trial.last_result:
            row |= {"status": "diverged", "error": trial.last_result["diverged"]}
        self._searcher.ended(trial.trial_id, row)


def simulate(
    search_file: SearchFile,
    stock: bool,
    seed: int,
    most_tokens: float = math.inf,
    at_once: int = AT_ONCE,
) -> Simulation:
    """Simulate a search of a file, limited by tokens or by the file's number of trials.

    Args:
        search_file: has the search's seed.
        stock: use Ray's own searcher and scheduler instead of raygpt's.
        seed: seed of the learning curves.
        most_tokens: limit on the tokens of all trials; if given, it replaces the number of trials.
        at_once: number of trials that run at the same time.
    """
    parts = stock_parts if stock else raygpt_parts
    searcher, scheduler, callbacks, recipe_of = parts(search_file)
    curves = LearningCurves(seed, sees_divergence=not stock)
    return Simulation(
        searcher,
        scheduler,
        lambda config: curves.reports(recipe_of(config)),
        trials=search_file.search.trials if math.isinf(most_tokens) else NO_LIMIT,
        at_once=at_once,
        callbacks=callbacks,
        most_tokens=most_tokens,
    ).run()


def raygpt_parts(search_file: SearchFile) -> tuple:
    """Searcher, scheduler, callbacks, and a function from a trial's configuration to its recipe."""
    study = optuna.create_study()
    seed_study(study, search_file)
    needed = Placement(workers=1, cpus=1, gpus=0)
    searcher = StudySearcher(study, search_file, needed, storage="/")
    last_rung = len(search_file.search.rungs) - 1
    return (
        searcher,
        make_scheduler(search_file.search),
        [StudyUpdater(searcher, last_rung)],
        lambda config: Recipe.model_validate_json(config["recipe"]),
    )


def stock_parts(search_file: SearchFile) -> tuple:
    """The same as `raygpt_parts`, with Ray's own searcher and scheduler."""
    recipe = search_file.baseline()
    per_step = budget.tokens_per_step(recipe)
    searcher = OptunaSearch(
        lambda trial: suggest_values(search_file, trial),
        metric=METRIC,
        mode="min",
        seed=search_file.search.seed,
    )
    scheduler = ASHAScheduler(
        time_attr="tokens",
        metric=METRIC,
        mode="min",
        max_t=budget.budget_tokens(recipe),
        grace_period=budget.rung_steps(recipe)[0] * per_step,
        reduction_factor=search_file.search.reduction_factor,
    )
    return searcher, scheduler, [], search_file.recipe


def measure(regime: str, method: str, seed: int, trials: int) -> Outcome:
    """Simulate one search.

    Args:
        regime, method: keys of REGIMES and METHODS.
        seed: seed of the search and of the noise.
        trials: number of full trials whose tokens the search may spend.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    overrides = (*REGIMES[regime], *METHODS[method], f"search.seed={seed}")
    search_file = load_search_file(SEARCHED, overrides=overrides)
    some_recipe = search_file.baseline()
    full = budget.budget_tokens(some_recipe)
    best, noise = best_value(regime), sigma(some_recipe)

    started = time.process_time()
    simulation = simulate(search_file, method in STOCK, seed, trials * full)
    cpu_seconds = time.process_time() - started

    tokens, expected = math.inf, math.inf
    lowest = math.inf
    completed = finished(simulation, full)
    for seconds, trial in completed:
        if trial.last_result[METRIC] < lowest:
            lowest = trial.last_result[METRIC]
            expected = final_value(recipe_of(trial, search_file))
            if expected <= best + noise:
                tokens = min(tokens, simulation.tokens(seconds) / full)
    return Outcome(
        regime=regime,
        method=method,
        seed=seed,
        tokens=tokens,
        excess=(expected - best) / noise,
        trials=len(simulation.trials),
        completed=len(completed),
        cpu_seconds=cpu_seconds,
    )


def finished(simulation: Simulation, full: int) -> list[tuple[float, SimulatedTrial]]:
    """The trials that completed the full budget, each with the time at which it did; in order."""
    found = [
        (trial.began + trial.last_result["time_total_s"], trial)
        for trial in simulation.trials
        if METRIC in trial.last_result and trial.last_result["tokens"] == full
    ]
    return sorted(found, key=lambda pair: pair[0])


def recipe_of(trial: SimulatedTrial, search_file: SearchFile) -> Recipe:
    """The recipe of a trial; Ray's own searcher gives only the values."""
    if "recipe" in trial.config:
        return Recipe.model_validate_json(trial.config["recipe"])
    return search_file.recipe(trial.config)


@cache
def best_value(regime: str) -> float:
    """The lowest expected bits per byte in the search space."""
    search_file = load_search_file(SEARCHED, overrides=REGIMES[regime])

    def expected(shares: np.ndarray) -> float:
        pairs = zip(search_file.ranges.items(), shares, strict=True)
        return final_value(search_file.recipe({name: at(r, share) for (name, r), share in pairs}))

    unit = [(0, 1)] * len(search_file.ranges)
    return float(differential_evolution(expected, unit, seed=0, popsize=8).fun)


def at(found: Any, share: float) -> float:
    """The value at a share of the distance between the bounds of a range of floats."""
    low, high = found.extremes()
    return (
        low * (high / low) ** share if isinstance(found, LogUniform) else low + share * (high - low)
    )


def searches(seeds: int, trials: int, processes: int, path: Path) -> pd.DataFrame:
    """Simulate all searches; a row for each with its `Outcome` and `limit`, its number of trials.

    Args:
        seeds: number of searches for each regime and method.
        trials: number of full trials whose tokens each search may spend.
        processes: number of processes.
        path: a CSV file to which outcomes are appended; searches in it are not run again.
    """
    columns = [*(field.name for field in fields(Outcome)), "limit"]
    known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=columns)
    done = set(known[["regime", "method", "seed", "limit"]].itertuples(index=False, name=None))
    wanted = [
        (regime, method, seed, trials)
        for regime in REGIMES
        for method in METHODS
        for seed in range(seeds)
    ]
    jobs = [job for job in wanted if job not in done]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, outcome in enumerate(pool.imap_unordered(_measure, jobs), 1):
            row = pd.DataFrame([asdict(outcome) | {"limit": trials}])
            row.to_csv(path, mode="a", header=not path.exists(), index=False)
            print(f"\r{number} of {len(jobs)} searches", end="", flush=True)
    print()
    found = pd.read_csv(path).set_index(["regime", "method", "seed", "limit"])
    return found.loc[wanted].reset_index()


def _measure(job: tuple[str, str, int, int]) -> Outcome:
    return measure(*job)


def main(arguments: list[str] | None = None) -> None:
    """Run the searches that are missing from the CSV file, and write the page and the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_efficiency", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=20, help="searches of each method")
    parser.add_argument(
        "--trials", type=int, default=160, help="tokens of a search, as a number of full trials"
    )
    parser.add_argument(
        "--layer-trials", type=int, default=1000, help="trials that measure the search layer's cost"
    )
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("docs/search_efficiency"), metavar="STEM")
    options = parser.parse_args(arguments)

    stem = options.out
    stem.parent.mkdir(parents=True, exist_ok=True)
    outcomes = searches(options.seeds, options.trials, options.processes, stem.with_suffix(".csv"))
    with tempfile.TemporaryDirectory() as folder:
        layer = in_virtual_time(options.layer_trials, Path(folder) / "virtual")
        ray = on_ray(options.layer_trials, Path(folder) / "ray")
    picture = stem.with_suffix(".svg")
    stem.with_suffix(".md").write_text(report(outcomes, layer, ray, picture.name))
    plot(outcomes, picture)


if __name__ == "__main__":
    run_command(main)
