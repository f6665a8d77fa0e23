import random
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler

from raygpt.recipe.sections import Search
from raygpt.search.scheduler import SCHEDULERS, make_scheduler
from raygpt.search.trial import rung_time

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE
RUNGS = ("1/4", "1/2", "1")


def test_every_scheduler_of_the_schema_is_there():
    assert set(SCHEDULERS) == set(get_args(Search.model_fields["scheduler"].annotation))


def search(**settings):
    return Search(**{"rungs": RUNGS, "reduction_factor": 2} | settings)


class Judge:
    """Tells a scheduler of reports, as Tune does."""

    def __init__(self, search, history=(), known=()):
        self.factor = search.reduction_factor
        self.scheduler = make_scheduler(search, history)
        self.known = set(known)

    def __call__(self, trial_id, rung, score, baseline=False):
        trial = SimpleNamespace(trial_id=trial_id, config={"baseline": baseline})
        if trial_id not in self.known:
            self.known.add(trial_id)
            self.scheduler.on_trial_add(None, trial)
        result = {"rung_time": rung_time(rung, self.factor), "training_iteration": 1}
        if score is not None:
            result["bits_per_byte"] = score
        return self.scheduler.on_trial_result(None, trial, result)


def test_the_better_half_continues():
    judge = Judge(search())
    assert judge("a", 0, 2.0) == CONTINUE  # nothing to compare with
    assert judge("b", 0, 3.0) == STOP
    assert judge("c", 0, 1.0) == CONTINUE
    assert judge("d", 0, 2.5) == STOP
    assert judge("a", 1, 1.5) == CONTINUE
    assert judge("c", 1, 1.6) == STOP
    assert judge("a", 2, 1.4) == STOP  # the budget is spent


def test_the_baseline_continues_to_the_end():
    judge = Judge(search())
    assert judge("a", 0, 1.0) == CONTINUE
    assert judge("baseline", 0, 3.0, baseline=True) == CONTINUE
    assert judge("a", 1, 1.0) == CONTINUE
    assert judge("baseline", 1, 3.0, baseline=True) == CONTINUE
    assert judge("baseline", 2, 3.0, baseline=True) == STOP  # the budget is spent
    # The others are compared with it as with any trial.
    assert judge("b", 0, 2.5) == STOP
    assert judge("c", 0, 1.0) == CONTINUE


def test_trials_with_equal_scores_continue():
    judge = Judge(search())
    assert [judge(str(number), 0, 2.0) for number in range(4)] == [CONTINUE] * 4


@pytest.mark.parametrize("factor", [1.5, 2, 3, 4])
@pytest.mark.parametrize("rungs", [("1/4", "1/2", "1"), ("1/100", "9/10", "1"), ("1/3", "1")])
def test_one_in_reduction_factor_trials_continues_at_any_rungs(factor, rungs):
    judge = Judge(search(rungs=rungs, reduction_factor=factor))
    draw = random.Random(0)
    seen = [[] for _ in rungs]
    for number in range(200):
        for rung in range(len(rungs)):
            score = draw.uniform(1, 3)
            worst = np.percentile(seen[rung], 100 / factor) if seen[rung] else score
            seen[rung].append(score)
            expected = CONTINUE if score <= worst and rung < len(rungs) - 1 else STOP
            assert judge(str(number), rung, score) == expected
            if expected == STOP:
                break
    assert len(seen[1]) / len(seen[0]) == pytest.approx(1 / factor, abs=0.1)


def test_a_single_rung_is_the_end():
    assert Judge(search(rungs=("1",)))("a", 0, 1.0) == STOP


def story(search, trials=24, at_once=3):
    """The reports of a search in which several trials run side by side, and the decisions."""
    draw = random.Random(1)
    judge = Judge(search)
    running, waiting = [], [str(number) for number in range(trials)]
    rungs = dict.fromkeys(waiting, 0)
    reports = []
    while running or waiting:
        while waiting and len(running) < at_once:
            running.append(waiting.pop(0))
        trial = draw.choice(running)
        score = draw.uniform(1, 3)
        decision = judge(trial, rungs[trial], score)
        reports.append((trial, rungs[trial], score, decision))
        rungs[trial] += 1
        if decision == STOP:
            running.remove(trial)
    return reports


def rows(reports):
    """The reports as in the history table, including some between rungs."""
    for trial, rung, score, _ in reports:
        yield {"trial_id": trial, "tokens": 100, "seconds": 1.0}
        yield {"trial_id": trial, "rung": rung, "bits_per_byte": score, "tokens": 200}


def test_decisions_after_an_interruption_are_the_same():
    reports = story(search())
    assert {decision for *_, decision in reports} == {STOP, CONTINUE}
    for cut in range(len(reports) + 1):
        judge = Judge(search(), rows(reports[:cut]))
        # All trials of the second session are new to Tune, also those that resume.
        assert [judge(*report[:3]) for report in reports[cut:]] == [r[3] for r in reports[cut:]]


def test_reports_before_an_interruption_influence_decisions():
    judge = Judge(search(), rows([("a", 0, 1.0, CONTINUE)]))
    assert judge("b", 0, 2.0) == STOP
    assert Judge(search())("b", 0, 2.0) == CONTINUE


def test_fifo_stops_nothing():
    judge = Judge(search(scheduler="fifo"), rows([("a", 0, 1.0, CONTINUE)]))
    scores = [2.0, 3.0, 9.0]
    assert [judge(str(n), 0, score) for n, score in enumerate(scores)] == [CONTINUE] * 3


def test_a_nan_does_not_change_other_decisions():
    judge = Judge(search())
    judge("a", 0, 2.0)
    judge("nan", 0, float("nan"))
    assert judge("b", 0, 3.0) == STOP
    assert judge("c", 0, 1.0) == CONTINUE


def test_a_report_without_a_score_is_no_rung():
    judge = Judge(search())
    assert judge("a", 0, None) == CONTINUE
    judge("b", 0, 2.0)
    assert judge("a", 0, 3.0) == STOP


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_rung_times_ascend(factor):
    times = [rung_time(rung, factor) for rung in range(4)]
    assert times[0] == 1
    assert times == sorted(set(times))
