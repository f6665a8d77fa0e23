import pytest
from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from raygpt.results.tables import load_results
from raygpt.search.recorder import Recorder
from raygpt.search.sampler import StudySearcher, open_study
from raygpt.search.scheduler import make_scheduler
from raygpt.search.simulation import Simulation
from raygpt.search.warm_start import seed_study
from raygpt.training.segments import tokens_trained


class Log(Callback):
    """Records the events that searcher, scheduler and callback receive."""

    def __init__(self):
        self.lines = []

    def on_trial_start(self, iteration, trials, trial, **info):
        self.lines.append(("start", trial.trial_id))

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.lines.append(("callback", trial.trial_id, result["score"], result["done"]))

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.lines.append(("complete", trial.trial_id))


class Proposals(Searcher):
    """Proposes from a list; None in it means no proposal for now."""

    def __init__(self, proposals, log):
        super().__init__(metric="score", mode="min")
        self.proposals = list(proposals)
        self.log = log

    def suggest(self, trial_id):
        return self.proposals.pop(0) if self.proposals else Searcher.FINISHED

    def on_trial_result(self, trial_id, result):
        self.log.lines.append(("searcher", trial_id, result["score"]))

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.log.lines.append(("told", trial_id, result.get("score")))


class Logged(ASHAScheduler):
    """Stops the worse half at each of 1, 2 and 4."""

    def __init__(self, log):
        super().__init__("time", "score", "min", max_t=4, grace_period=1, reduction_factor=2)
        self.log = log

    def on_trial_add(self, controller, trial):
        self.log.lines.append(("add", trial.trial_id))
        super().on_trial_add(controller, trial)

    def on_trial_result(self, controller, trial, result):
        decision = super().on_trial_result(controller, trial, result)
        self.log.lines.append(("scheduler", trial.trial_id, decision))
        return decision


def curve(config):
    """Reports at 1, 2 and 4 tokens, worse by the score of the configuration."""
    for time in (1, 2, 4):
        yield 10 * time, {"time": time, "score": config["score"] - time / 10}


def simulate(proposals, trials=99, at_once=1, objective=curve, **options):
    log = Log()
    simulation = Simulation(
        Proposals(proposals, log),
        Logged(log),
        objective,
        trials=trials,
        at_once=at_once,
        callbacks=[log],
        **options,
    ).run()
    return simulation, log.lines


def scores(*values):
    return [{"score": value} for value in values]


def test_events_are_sent_in_tunes_order():
    simulation, lines = simulate(scores(1.0, 2.0))
    first, second = (trial.trial_id for trial in simulation.trials)
    assert lines == [
        ("add", first),
        ("start", first),
        ("scheduler", first, "CONTINUE"),
        ("searcher", first, 0.9),
        ("callback", first, 0.9, False),
        ("scheduler", first, "CONTINUE"),
        ("searcher", first, 0.8),
        ("callback", first, 0.8, False),
        ("scheduler", first, "STOP"),
        # Tune does not tell the searcher of the report at which it stops a trial.
        ("callback", first, 0.6, True),
        ("told", first, 0.6),
        ("complete", first),
        ("add", second),
        ("start", second),
        ("scheduler", second, "STOP"),
        ("callback", second, 1.9, True),
        ("told", second, 1.9),
        ("complete", second),
    ]


def test_virtual_time_is_proportional_to_tokens():
    simulation, _ = simulate(scores(1.0, 2.0, 0.5), tokens_per_second=5)
    assert [trial.began for trial in simulation.trials] == [0, 8, 10]
    assert [trial.ended for trial in simulation.trials] == [8, 10, 18]
    assert simulation.seconds == 18
    assert simulation.tokens() == 40 + 10 + 40
    assert simulation.tokens(9) == 45
    assert [result["time_total_s"] for result in simulation.trials[0].results] == [2, 4, 8]
    assert [result["training_iteration"] for result in simulation.trials[0].results] == [1, 2, 3]


def test_trials_run_side_by_side():
    simulation, lines = simulate(scores(1.0, 2.0, 0.5), at_once=2)
    assert [trial.began for trial in simulation.trials] == [0, 0, 10]
    assert simulation.tokens() == 90
    assert simulation.seconds == 50
    assert [line[0] for line in lines[:4]] == ["add", "start", "add", "start"]
    for seconds in (0, 5, 10, 25, 40, 50):
        running = [t for t in simulation.trials if t.began <= seconds < t.ended]
        assert len(running) <= 2
    assert simulation.tokens(20) == 20 + 10 + 10


def test_a_trial_that_returns_is_complete():
    simulation, lines = simulate(scores(1.0), objective=lambda config: [(5, {"score": 3.0})])
    assert lines[-3:] == [
        ("callback", simulation.trials[0].trial_id, 3.0, False),
        ("told", simulation.trials[0].trial_id, 3.0),
        ("complete", simulation.trials[0].trial_id),
    ]
    assert simulation.trials[0].last_result["done"]
    assert simulation.seconds == 5


def test_trials_without_a_report():
    simulation, _ = simulate(scores(1.0, 2.0), objective=lambda config: [])
    assert [trial.ended for trial in simulation.trials] == [0, 0]


def test_no_more_trials_than_wanted():
    assert len(simulate(scores(*range(9)), trials=4)[0].trials) == 4


def test_a_searcher_that_waits_is_asked_again():
    proposals = [{"score": 1.0}, None, {"score": 2.0}]
    simulation, _ = simulate(proposals, at_once=2)
    assert [trial.began for trial in simulation.trials] == [0, 10]
    with pytest.raises(RuntimeError, match="proposes nothing"):
        simulate([None], at_once=2)


def test_the_simulation_stops_when_the_tokens_are_spent():
    simulation, _ = simulate(scores(1.0, 0.9, 0.8), at_once=2, most_tokens=50)
    assert simulation.seconds == 25
    assert [trial.ended for trial in simulation.trials] == [None, None]
    assert simulation.tokens() == 50
    assert len(simulate(scores(1.0, 0.9, 0.8), most_tokens=120)[0].trials) == 3


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_whole_search_runs_in_virtual_time(make_search, needed, folder, at_once, plain):
    from raygpt.recipe.schema import Recipe
    from raygpt.results import files
    from raygpt.results.tables import RunTables
    from raygpt.search.progress import Progress

    search_file = make_search("search.trials=12")
    tables = RunTables(folder, search_file.ranges)
    study = open_study(folder / files.STUDY, search_file.name)
    seed_study(study, search_file)
    searcher = StudySearcher(study, search_file, needed, str(folder))
    recorder = Recorder(
        tables, Progress(tables, search_file, plain), last_rung=2, ended=searcher.ended
    )

    def objective(config):
        recipe = Recipe.model_validate_json(config["recipe"])
        rate = recipe.training.learning_rate
        for rung, tokens in enumerate((2048, 4096, 8192)):
            trained = tokens_trained(recipe, rung)
            if rate > 0.05:
                yield trained - 100, {"diverged": "the loss is nan"}
                return
            yield (
                trained,
                {
                    "tokens": tokens,
                    "tokens_trained": trained,
                    "seconds": 1.0,
                    "rung": rung,
                    "rung_time": 2.0**rung,
                    "bits_per_byte": 2 + abs(rate - 0.01) + recipe.model.dropout,
                    "bits_per_token": 8.0,
                    "next_token_accuracy": 0.3,
                },
            )

    scheduler = make_scheduler(search_file.search)
    simulation = Simulation(
        searcher, scheduler, objective, trials=12, at_once=at_once, callbacks=[recorder]
    ).run()
    results = load_results(folder)
    assert len(results.trials) == len(study.trials) == 12
    counts = results.trials["status"].value_counts()
    assert set(counts.index) == {"completed", "stopped", "diverged"}
    scored = results.trials[results.trials["status"] != "diverged"]
    spent = scored["tokens_trained"].sum() + sum(
        trial.ended - trial.began for trial in simulation.trials if "diverged" in trial.last_result
    )
    assert simulation.tokens() == pytest.approx(spent)
    assert [trial.state.name for trial in study.trials].count("COMPLETE") == counts["completed"]
    assert results.trials["baseline"].tolist() == [True] + [False] * 11


def test_fifo_runs_all_to_the_end():
    log = Log()
    simulation = Simulation(
        Proposals(scores(1.0, 2.0, 3.0), log), FIFOScheduler(), curve, trials=3, at_once=3
    ).run()
    assert simulation.tokens() == 120
    assert simulation.seconds == 40
