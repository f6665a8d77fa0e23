"""How long a search is going to take, before it starts."""

import random
import statistics
from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from raygpt.recipe.schema import Search
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.trial import rung_time

SIMULATIONS = 20

# Of searches of the mini scale on two cores: starting Ray and the first trials, and what trials
# side by side, evaluation and the last one on its own add to the bare training time.
START_SECONDS = 25
OVERHEAD = 1.25


def expected_seconds(search: Search, budget_tokens: int, tokens_per_second: float) -> float:
    """How long a search takes.

    Args:
        search: the recipe's section.
        budget_tokens: of one trial.
        tokens_per_second: of all trials at once, by bare training steps.
    """
    tokens = expected_budgets(search) * budget_tokens
    return START_SECONDS + OVERHEAD * tokens / tokens_per_second


def expected_budgets(search: Search) -> float:
    """How many full budgets of tokens a search takes, were its trials to end in random order."""
    totals = []
    for simulation in range(SIMULATIONS):
        figures = random.Random(simulation)
        scheduler = make_scheduler(search)
        total = 0.0
        for number in range(search.trials):
            trial = SimpleNamespace(trial_id=str(number))
            scheduler.on_trial_add(None, trial)
            score = figures.random()
            for rung, fraction in enumerate(search.rungs):
                result = {
                    METRIC: score,
                    "rung_time": rung_time(rung, float(search.reduction_factor)),
                }
                decision = scheduler.on_trial_result(None, trial, result)
                if decision == TrialScheduler.STOP or fraction == 1:
                    total += float(fraction)
                    break
        totals.append(total)
    return statistics.mean(totals)
