"""Estimates what a search takes before it starts, by simulating it without training."""

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
from raygpt.search.confirm import confirm_settings
from raygpt.search.cost import TokenCosts
from raygpt.search.sampler import suggest_values
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.simulation import Report, SimulatedTrial, Simulation
from raygpt.search.trial import rung_time
from raygpt.training.segments import tokens_trained

# Small searches are simulated more often, because their tokens vary more.
SIMULATED_TRIALS = 1200
LEAST_SIMULATIONS, MOST_SIMULATIONS = 8, 40
RECIPES = 64

# After its startup trials TPE proposes values about as good as the best of TPE_BEST_OF random ones,
# so more of its trials continue past the rungs. With these figures simulated searches take as many
# tokens as the searches of benchmarks.search_efficiency.
TPE_STARTUP_TRIALS = 10
TPE_BEST_OF = 4


@dataclass(frozen=True)
class Load:
    """What one trial slot of the cluster does during a search, one thing after the other.

    The speed of the baseline turns it into seconds.
    """

    work: float
    """Tokens times their cost (`TokenCosts`)."""
    evaluations: float
    """Evaluations times the cost of a token in the model evaluated."""
    starts: float
    """Trials started."""


@dataclass(frozen=True)
class Plan:
    """The cost of a search, including its confirmation. Figures are means over simulated searches
    unless they say otherwise."""

    tokens: float
    """Tokens trained by all trials together."""
    usual_tokens: tuple[float, float]
    """First and last decile of `tokens`: eight searches of ten lie between them."""
    largest_tokens: int
    """Tokens if no trial is stopped."""
    rung_tokens: tuple[float, ...]
    """Tokens that a trial has trained when it is judged at each rung; mean over random values."""
    rung_work: tuple[float, ...]
    """`rung_tokens` times their cost."""
    rung_trials: tuple[float, ...]
    """Number of trials that are judged at each rung."""
    confirming_runs: float
    confirming_tokens: float
    loads: tuple[Load, ...]
    """One for each simulated search."""
    largest_load: Load
    """The load if no trial is stopped and each is as expensive as the most expensive one."""
    token_costs: tuple[float, float]
    """The smallest and the largest cost of a token in the ranges, relative to the baseline."""
    operations: tuple[float, float]
    """The smallest and the largest operations per token, relative to the baseline."""


@dataclass(frozen=True)
class ImaginedTrial:
    """A recipe as the simulation sees it."""

    rung_tokens: tuple[int, ...]
    """Tokens trained when the trial is judged at each rung."""
    cost: float
    """Cost of a token, relative to the baseline."""
    operations: float
    """Operations per token, relative to the baseline."""

    @property
    def rung_work(self) -> tuple[float, ...]:
        return tuple(tokens * self.cost for tokens in self.rung_tokens)


def plan_search(search_file: SearchFile, at_once: int, fixed_share: float = 0.0) -> Plan:
    """Simulate a search; the same search always gets the same plan.

    Args:
        search_file: ranges and recipe.
        at_once: number of trials that the cluster can run side by side.
        fixed_share: the fixed share of a token's time, see `TokenCosts`.
    """
    search = search_file.search
    at_once = trials_side_by_side(search_file, at_once)
    full = budget.budget_tokens(search_file.baseline())
    costs = TokenCosts(search_file, fixed_share)

    def imagined(recipe: Recipe) -> ImaginedTrial:
        return ImaginedTrial(rung_tokens(recipe), costs(recipe), costs.operations(recipe))

    baseline = imagined(search_file.baseline())
    drawn = [imagined(recipe) for recipe in recipes_at_random(search_file)]
    extremes = [imagined(recipe) for recipe in search_file.recipes_at_extremes()]
    searches = [
        _SimulatedSearch(search_file, at_once, baseline, drawn, number)
        for number in range(simulations(search.trials))
    ]
    tokens = [simulated.tokens for simulated in searches]
    deciles = statistics.quantiles(tokens, n=10, method="inclusive")
    confirming = statistics.mean(simulated.confirming for simulated in searches)
    every = [baseline, *drawn, *extremes]
    most_confirming = most_confirming_runs(search_file)
    most_tokens = search.trials * max(trial.rung_tokens[-1] for trial in every)
    largest_cost = max(trial.cost for trial in every)
    rounds = math.ceil(search.trials / at_once)
    confirming_rounds = math.ceil(most_confirming / at_once)
    largest_work = max(trial.rung_work[-1] for trial in every)
    return Plan(
        tokens=statistics.mean(tokens),
        usual_tokens=(deciles[0], deciles[-1]),
        largest_tokens=most_tokens + most_confirming * full,
        rung_tokens=_means(trial.rung_tokens for trial in drawn),
        rung_work=_means(trial.rung_work for trial in drawn),
        rung_trials=_means(simulated.judged for simulated in searches),
        confirming_runs=confirming,
        confirming_tokens=confirming * full,
        loads=tuple(simulated.load for simulated in searches),
        largest_load=Load(
            work=rounds * largest_work + confirming_rounds * full * largest_cost,
            evaluations=(rounds + confirming_rounds) * len(search.rungs) * largest_cost,
            starts=rounds + confirming_rounds,
        ),
        token_costs=(min(trial.cost for trial in every), largest_cost),
        operations=(
            min(trial.operations for trial in every),
            max(trial.operations for trial in every),
        ),
    )


def trials_side_by_side(search_file: SearchFile, at_once: int) -> int:
    """Number of trials that run side by side where the cluster has room for `at_once`."""
    search = search_file.search
    most = max(search.trials, most_confirming_runs(search_file))
    return min(at_once, search.concurrent or at_once, most)


def simulations(trials: int) -> int:
    """The number of simulations of a search with this number of trials."""
    return max(LEAST_SIMULATIONS, min(SIMULATED_TRIALS // trials, MOST_SIMULATIONS))


def _means(rows: Iterator[Sequence[float]]) -> tuple[float, ...]:
    return tuple(map(statistics.mean, zip(*rows, strict=True)))


class _SimulatedSearch:
    """One search and its confirmation in virtual time.

    Args:
        search_file: ranges and recipe.
        at_once: trials side by side.
        baseline: the first trial.
        drawn: trials with random values, which the others are drawn from.
        seed: decides which trials are drawn, and their scores.
    """

    def __init__(
        self,
        search_file: SearchFile,
        at_once: int,
        baseline: ImaginedTrial,
        drawn: Sequence[ImaginedTrial],
        seed: int,
    ):
        search = search_file.search
        full = budget.budget_tokens(search_file.baseline())
        simulation = Simulation(
            ImaginedTrials(search, baseline, drawn, random.Random(seed)),
            make_scheduler(search),
            reports,
            trials=search.trials,
            at_once=at_once,
        ).run()
        trials = simulation.trials
        # A virtual second is the time that the baseline takes for one token.
        work = simulation.seconds
        evaluations = sum(len(trial.results) * trial.config["imagined"].cost for trial in trials)
        confirmed = confirmed_costs(search_file, trials)
        runs = len(confirmed)
        mean_cost = statistics.mean(confirmed) if confirmed else 0.0

        self.confirming = runs
        self.tokens = runs * full + sum(
            trial.config["imagined"].rung_tokens[len(trial.results) - 1] for trial in trials
        )
        self.judged = [
            sum(len(trial.results) > rung for trial in trials) for rung in range(len(search.rungs))
        ]
        self.load = Load(
            work=work + math.ceil(runs / at_once) * full * mean_cost,
            evaluations=(evaluations + sum(confirmed) * len(search.rungs)) / at_once,
            starts=(search.trials + runs) / at_once,
        )


class ImaginedTrials(Searcher):
    """Proposes trials that have nothing but a cost and a score.

    Args:
        search: the recipe's section.
        baseline: the first trial.
        drawn: trials with random values, which the others are drawn from.
        draw: makes all random choices.
    """

    def __init__(
        self,
        search: Search,
        baseline: ImaginedTrial,
        drawn: Sequence[ImaginedTrial],
        draw: random.Random,
    ):
        super().__init__(metric=METRIC, mode="min")
        self._search = search
        self._baseline = baseline
        self._drawn = drawn
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
            "imagined": self._baseline if baseline else self._draw.choice(self._drawn),
            "score": min(scores),
            "factor": float(self._search.reduction_factor),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._ended += 1


def reports(config: Mapping[str, Any]) -> Iterator[Report]:
    """The reports of an imagined trial, which has the same score at every rung."""
    for rung, work in enumerate(config["imagined"].rung_work):
        yield work, {METRIC: config["score"], "rung_time": rung_time(rung, config["factor"])}


def rung_tokens(recipe: Recipe) -> tuple[int, ...]:
    """Tokens that a trial has trained when it is judged at each rung."""
    return tuple(tokens_trained(recipe, rung) for rung in range(len(recipe.search.rungs)))


def recipes_at_random(search_file: SearchFile) -> list[Recipe]:
    """Recipes with random values for the ranges; the one recipe of a search without ranges."""
    if not search_file.ranges:
        return [search_file.recipe()]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optuna.logging.set_verbosity(verbosity)
    return [search_file.recipe(suggest_values(search_file, study.ask())) for _ in range(RECIPES)]


def largest_model(search_file: SearchFile, costs: TokenCosts) -> Recipe:
    """The recipe with the most operations per token among the recipes that the plan considers."""
    recipes = [*recipes_at_random(search_file), *search_file.recipes_at_extremes()]
    return max(recipes, key=costs.operations)


def most_confirming_runs(search_file: SearchFile) -> int:
    """Number of runs of the confirmation if there are enough configurations to confirm."""
    confirm = confirm_settings(search_file)
    if confirm is None:
        return 0
    return min(confirm.top + 1, search_file.search.trials) * confirm.seeds


def confirmed_costs(search_file: SearchFile, trials: Sequence[SimulatedTrial]) -> list[float]:
    """The cost of a token in each run of the confirmation: of the baseline and of the best trials.

    Args:
        search_file: ranges and recipe.
        trials: trials of a simulated search, the baseline first.
    """
    confirm = confirm_settings(search_file)
    if confirm is None:
        return []
    baseline, *others = trials
    last = len(search_file.search.rungs)
    completed = [trial for trial in others if len(trial.results) == last]
    best = sorted(completed, key=lambda trial: trial.config["score"])[: confirm.top]
    return [trial.config["imagined"].cost for trial in (baseline, *best)] * confirm.seeds
