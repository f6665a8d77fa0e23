"""How long a search is going to take, before it starts."""

import random
import statistics
from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from raygpt.recipe.schema import Search
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.trial import rung_time

SIMULATIONS = 20


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
