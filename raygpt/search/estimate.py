"""What a search is going to take, before it starts: its trials are simulated without training."""

import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from ray.tune.search import Searcher

from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.recipe.sections import Search
from raygpt.search.sampler import suggest_values
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.simulation import Report, Simulation
from raygpt.search.trial import rung_time
from raygpt.training.segments import tokens_trained

# More of small searches, whose tokens scatter more.
SIMULATED_TRIALS = 1200
LEAST_SIMULATIONS, MOST_SIMULATIONS = 8, 40
RECIPES = 64

# Once so many trials have ended, TPE proposes what is about as good as the best of so many random
# values, and more of it survives the rungs than in a search in random order. With this figure
# imagined searches take as many tokens as those of benchmarks.search_efficiency.
TPE_STARTUP_TRIALS = 10
TPE_BEST_OF = 4


@dataclass(frozen=True)
class Plan:
    """What a search takes, its confirmation included; all of it expected but the largest."""

    tokens: float
    """Of all trials together."""
    usual_tokens: tuple[float, float]
    """Eight searches of ten take more than the first and less than the second."""
    largest_tokens: int
    """If no trial is stopped."""
    rung_tokens: tuple[float, ...]
    """What a trial has trained when it is judged at each rung, the mean over values at random."""
    rung_trials: tuple[float, ...]
    """Trials that are judged at each rung."""
    confirming_runs: float
    confirming_tokens: float
    tokens_in_a_row: float
    """Of one trial after the other, from the first one's start to the last one's end."""


def plan_search(search_file: SearchFile, at_once: int) -> Plan:
    """What a search takes by the mean over simulated ones; the same for the same search.

    Args:
        search_file: of the search.
        at_once: trials that there is room for.
    """
    search = search_file.search
    at_once = min(at_once, search.concurrent or at_once)
    baseline = search_file.baseline()
    full = budget.budget_tokens(baseline)
    recipes = recipes_at_random(search_file)
    costs = [rung_costs(recipe) for recipe in recipes]
    simulations = max(LEAST_SIMULATIONS, min(SIMULATED_TRIALS // search.trials, MOST_SIMULATIONS))
    searches = [
        Simulation(
            ImaginedTrials(search, rung_costs(baseline), costs, random.Random(number)),
            make_scheduler(search),
            reports,
            trials=search.trials,
            at_once=at_once,
        ).run()
        for number in range(simulations)
    ]
    runs = [confirming_runs(search_file, simulation) for simulation in searches]
    tokens = [
        simulation.tokens() + number * full
        for simulation, number in zip(searches, runs, strict=True)
    ]
    in_a_row = [
        simulation.seconds + math.ceil(number / at_once) * full
        for simulation, number in zip(searches, runs, strict=True)
    ]
    corners = [rung_costs(recipe)[-1] for recipe in search_file.recipes_at_extremes()]
    deciles = statistics.quantiles(tokens, n=10, method="inclusive")
    return Plan(
        tokens=statistics.mean(tokens),
        usual_tokens=(deciles[0], deciles[-1]),
        largest_tokens=search.trials * max(*corners, *(cost[-1] for cost in costs))
        + most_confirming_runs(search_file) * full,
        rung_tokens=tuple(map(statistics.mean, zip(*costs, strict=True))),
        rung_trials=tuple(
            statistics.mean(
                sum(len(trial.results) > rung for trial in simulation.trials)
                for simulation in searches
            )
            for rung in range(len(search.rungs))
        ),
        confirming_runs=statistics.mean(runs),
        confirming_tokens=statistics.mean(runs) * full,
        tokens_in_a_row=statistics.mean(in_a_row),
    )


class ImaginedTrials(Searcher):
    """Proposes trials that have nothing but what they cost and how good they are.

    Args:
        search: the recipe's section.
        baseline: tokens that the first trial has trained at each rung.
        costs: the same of trials with random values, to draw from.
        draw: what decides it all.
    """

    def __init__(
        self,
        search: Search,
        baseline: Sequence[int],
        costs: Sequence[Sequence[int]],
        draw: random.Random,
    ):
        super().__init__(metric=METRIC, mode="min")
        self._search = search
        self._baseline = baseline
        self._costs = costs
        self._draw = draw
        self._begun = 0
        self._ended = 0

    def suggest(self, trial_id: str) -> dict[str, Any]:
        informed = self._search.sampler == "tpe" and self._ended >= TPE_STARTUP_TRIALS
        scores = [self._draw.random() for _ in range(TPE_BEST_OF if informed else 1)]
        self._begun += 1
        baseline = self._begun == 1
        return {
            "baseline": baseline,
            "tokens": self._baseline if baseline else self._draw.choice(self._costs),
            "score": min(scores),
            "factor": float(self._search.reduction_factor),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._ended += 1


def reports(config: Mapping[str, Any]) -> Iterator[Report]:
    """The reports of an imagined trial: as good at every rung."""
    for rung, tokens in enumerate(config["tokens"]):
        yield tokens, {METRIC: config["score"], "rung_time": rung_time(rung, config["factor"])}


def rung_costs(recipe: Recipe) -> list[int]:
    """The tokens that a trial has trained when it is judged at each rung."""
    return [tokens_trained(recipe, rung) for rung in range(len(recipe.search.rungs))]


def recipes_at_random(search_file: SearchFile) -> list[Recipe]:
    """Recipes with random values for the ranges; the one recipe of a search without ranges."""
    if not search_file.ranges:
        return [search_file.recipe()]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optuna.logging.set_verbosity(verbosity)
    return [search_file.recipe(suggest_values(search_file, study.ask())) for _ in range(RECIPES)]


def most_confirming_runs(search_file: SearchFile) -> int:
    """Runs that the confirmation has if there are enough configurations."""
    confirm = search_file.search.confirm
    if confirm is None or not search_file.ranges:
        return 0
    return min(confirm.top + 1, search_file.search.trials) * confirm.seeds


def confirming_runs(search_file: SearchFile, simulation: Simulation) -> int:
    """Runs of the confirmation after a simulated search: of the baseline and of the best."""
    last = len(search_file.search.rungs)
    completed = sum(len(trial.results) == last for trial in simulation.trials[1:])
    confirm = search_file.search.confirm
    most = most_confirming_runs(search_file)
    return min(most, (completed + 1) * confirm.seeds) if most else 0
