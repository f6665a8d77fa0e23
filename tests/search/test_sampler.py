import math
import statistics

import optuna
import pytest
from optuna.trial import FixedTrial, TrialState

from raygpt.recipe.schema import Recipe
from raygpt.results.tables import RunTables, load_results
from raygpt.search.names import trial_name
from raygpt.search.resume import Unfinished, rewind
from raygpt.search.sampler import (
    StudySearcher,
    make_sampler,
    open_study,
    settle_study,
    suggest_values,
    tell_outcome,
)
from raygpt.search.warm_start import seed_study

BUDGETS = (2048, 4096, 8192)
pytestmark = pytest.mark.filterwarnings("ignore:The reported value is ignored")


@pytest.fixture(autouse=True)
def quiet():
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture
def study(tmp_path):
    return open_study(tmp_path / "study.db", "tiny")


@pytest.fixture
def reopened(tmp_path):
    """The study, opened again from its file."""
    return lambda: optuna.load_study(
        study_name="tiny", storage=f"sqlite:///{tmp_path / 'study.db'}"
    )


@pytest.fixture
def searcher(study, search_file, needed):
    return StudySearcher(study, search_file, needed, "/runs/tiny/trials")


# --- make_sampler -------------------------------------------------------------------------------


def distances(search_file, trials):
    """Distances of proposed learning rates from 1e-2, which is reported as the best."""
    study = optuna.create_study()
    for number in range(trials):
        study.sampler = make_sampler(search_file.search, number)
        trial = study.ask()
        rate = suggest_values(search_file, trial)["training.learning_rate"]
        study.tell(trial, abs(math.log10(rate) + 2))
        yield study.trials[-1].value


def proposal(search_file, number):
    study = optuna.create_study()
    study.sampler = make_sampler(search_file.search, number)
    return suggest_values(search_file, study.ask())


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_proposal_depends_on_seed_and_number(make_search, name):
    search_file = make_search(f"search.sampler={name}")
    first = [proposal(search_file, number) for number in range(8)]
    assert first == [proposal(search_file, number) for number in range(8)]
    for key in search_file.ranges:
        assert len({values[key] for values in first}) == 8
    reseeded = make_search(f"search.sampler={name}", "search.seed=1")
    assert first != [proposal(reseeded, number) for number in range(8)]


def test_tpe_learns_and_random_does_not(make_search):
    tpe, chance = (
        statistics.mean(list(distances(make_search(f"search.sampler={name}"), 60))[30:])
        for name in ("tpe", "random")
    )
    # Of a uniform draw from 1e-4 to 1e-1 it is 0.83.
    assert tpe < 0.5
    assert chance > 0.6


def test_tpe_proposes_values_near_good_trials(search_file):
    assert list(distances(search_file, 20)) == list(distances(search_file, 20))


# --- StudySearcher ------------------------------------------------------------------------------


def test_a_suggestion_is_a_whole_trial(searcher, search_file):
    config = searcher.suggest("tune-id")
    assert (config["trial"], config["checkpoint"]) == ("0000", None)
    assert (config["workers"], config["cpus"], config["gpus"]) == (1, 1, 0)
    assert config["storage"] == "/runs/tiny/trials"
    assert config["values"].keys() == search_file.ranges.keys()
    assert all(search_file.ranges[key].contains(v) for key, v in config["values"].items())
    recipe = Recipe.model_validate_json(config["recipe"])
    assert recipe == search_file.recipe(config["values"])
    assert recipe.training.seed == 5
    assert (config["baseline"], config["confirms"]) == (False, None)
    assert searcher.suggest("other")["trial"] == "0001"


def test_suggestions_follow_the_search_seed(searcher, search_file, tmp_path, needed):
    other = StudySearcher(open_study(tmp_path / "2.db", "tiny"), search_file, needed, "/")
    numbers = range(3)
    values = [searcher.suggest(f"a{n}")["values"] for n in numbers]
    assert values == [other.suggest(f"b{n}")["values"] for n in numbers]
    assert values == [proposal(search_file, n) for n in numbers]


def test_without_ranges_trials_differ_in_their_seed(study, without_ranges, needed):
    searcher = StudySearcher(study, without_ranges, needed, "/")
    configs = [searcher.suggest(f"t{number}") for number in range(3)]
    recipes = [Recipe.model_validate_json(config["recipe"]) for config in configs]
    assert [recipe.training.seed for recipe in recipes] == [5, 6, 7]
    assert [config["values"] for config in configs] == [{}, {}, {}]
    assert {recipe.model for recipe in recipes} == {without_ranges.recipe().model}


def row(figures, status, error=None):
    """A row of the trials' table after these reports."""
    return {**figures, "status": status, **({"error": error} if error else {})}


def test_a_completed_trial_is_complete(searcher, report, reopened):
    searcher.suggest("t")
    searcher.on_trial_result("t", report(0, 3.0))
    searcher.on_trial_result("t", report(tokens=3072))
    searcher.on_trial_result("t", report(1, 2.5))
    # Tune does not tell of the report at which it stops a trial.
    searcher.on_trial_complete("t", report(2, 2.25))
    assert reopened().trials[0].state == TrialState.RUNNING
    searcher.ended("t", row(report(2, 2.25), "completed"))
    (trial,) = reopened().trials
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 2.25)
    assert trial.intermediate_values == dict(zip(BUDGETS, [3.0, 2.5, 2.25], strict=True))
    assert trial.user_attrs == {"trial": "0000"}
    assert trial.constraints == {}


def test_a_trial_stopped_at_a_rung_is_pruned(searcher, report, reopened):
    searcher.suggest("at once")
    searcher.ended("at once", row(report(0, 3.5), "stopped"))
    searcher.suggest("later")
    searcher.on_trial_result("later", report(0, 3.0))
    searcher.ended("later", row(report(1, 2.75), "stopped"))
    one, other = reopened().trials
    assert one.state == other.state == TrialState.PRUNED
    assert one.intermediate_values == {2048: 3.5}
    assert other.intermediate_values == {2048: 3.0, 4096: 2.75}
    assert other.params.keys() == {"model.dropout", "training.learning_rate"}
    assert one.constraints == other.constraints == {}


@pytest.mark.filterwarnings("error:The reported value is ignored")
@pytest.mark.parametrize("passed", [0, 2])
def test_a_diverged_trial_is_infeasible_despite_earlier_reports(searcher, report, reopened, passed):
    searcher.suggest("t")
    figures = {}
    for rung in range(passed):
        figures = report(rung, 2.5)
        searcher.on_trial_result("t", figures)
    searcher.on_trial_result("t", {"diverged": "the loss is nan"})
    searcher.on_trial_complete("t", {"diverged": "the loss is nan"})
    searcher.ended("t", row(figures, "diverged", "the loss is nan"))
    (trial,) = reopened().trials
    assert trial.state == TrialState.PRUNED
    assert trial.constraints == {"diverged": 1.0}
    assert trial.intermediate_values == dict.fromkeys(BUDGETS[:passed], 2.5)
    assert trial.user_attrs["error"] == "the loss is nan"


@pytest.mark.parametrize("passed", [0, 1])
def test_a_failed_trial_has_failed_despite_earlier_reports(searcher, report, reopened, passed):
    searcher.suggest("t")
    figures = report(0, 2.5) if passed else {}
    if passed:
        searcher.on_trial_result("t", figures)
    searcher.on_trial_complete("t", error=True)
    searcher.ended("t", row(figures, "failed", "OSError: no space left"))
    (trial,) = reopened().trials
    assert (trial.state, trial.value) == (TrialState.FAIL, None)
    assert trial.user_attrs["error"] == "OSError: no space left"


def test_signs_of_life_are_no_results(searcher, reopened):
    searcher.suggest("t")
    searcher.on_trial_result("t", {"alive": 0})
    (trial,) = reopened().trials
    assert (trial.state, trial.intermediate_values) == (TrialState.RUNNING, {})


# --- what divergence teaches --------------------------------------------------------------------


def proposed_above(search_file, diverging, status):
    """How many of 40 proposals have a learning rate above 1e-2, after 6 of such trials.

    Args:
        search_file: a search of learning rates from 1e-4 to 1e-1.
        diverging: whether trials above 1e-2 diverge.
        status: the status that the study gets for them.
    """
    study = optuna.create_study()
    above = 0
    for number in range(56):
        study.sampler = make_sampler(search_file.search, number)
        if number < 16:
            exponent = -1.9 + 0.15 * number if number < 6 else -4 + 0.19 * (number - 6)
            study.enqueue_trial({"training.learning_rate": 10**exponent, "model.dropout": 0.1})
        trial = study.ask()
        rate = suggest_values(search_file, trial)["training.learning_rate"]
        high = rate > 1e-2
        above += high and number >= 16
        # They had the best values at the lowest rung.
        outcome = row({"bits_per_byte": 1.0 if high else 3.0, "tokens": 2048}, "stopped")
        if high and diverging:
            outcome["status"] = status
        tell_outcome(study, trial, outcome)
    return above


def test_the_sampler_avoids_values_that_diverge(search_file):
    as_diverged = proposed_above(search_file, True, "diverged")
    as_stopped = proposed_above(search_file, False, "stopped")
    as_failed = proposed_above(search_file, True, "failed")
    # By chance it would be a third of 40.
    assert as_diverged <= 4
    assert as_diverged < as_failed
    assert as_stopped > 25


# --- resumed searches ---------------------------------------------------------------------------


def test_resumed_trials_come_first_with_their_values(searcher, study, search_file, needed):
    before = [searcher.suggest(f"a{number}") for number in range(3)]
    again = StudySearcher(
        study,
        search_file,
        needed,
        "/2",
        [Unfinished("0000", "/runs/checkpoint"), Unfinished("0002")],
    )
    first, second, third = (again.suggest(f"b{number}") for number in range(3))
    for config, original, checkpoint in (
        (first, before[0], "/runs/checkpoint"),
        (second, before[2], None),
    ):
        same = ("trial", "recipe", "values")
        assert [config[key] for key in same] == [original[key] for key in same]
        assert (config["checkpoint"], config["storage"]) == (checkpoint, "/2")
    assert (third["trial"], third["checkpoint"]) == ("0003", None)
    assert len(study.trials) == 4


def test_a_resumed_trial_is_reported_under_its_number(searcher, study, search_file, needed, report):
    searcher.suggest("a")
    searcher.on_trial_result("a", report(0, 3.0))
    again = StudySearcher(study, search_file, needed, "/2", [Unfinished("0000")])
    again.suggest("b")
    again.on_trial_result("b", report(0, 3.0))  # made again
    again.ended("b", row(report(2, 2.0), "completed"))
    (trial,) = study.trials
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 2.0)
    assert trial.intermediate_values == {2048: 3.0, 8192: 2.0}


# --- settle_study -------------------------------------------------------------------------------


def ask(study, search_file):
    trial = study.ask()
    suggest_values(search_file, trial)
    return trial


def test_settling_a_study_after_a_kill(study, search_file, report, reopened):
    ended = ask(study, search_file)
    study.tell(ended, 1.0)
    rows = {}
    for status, rung in (
        ("completed", 2),
        ("stopped", 0),
        ("diverged", None),
        ("diverged", 1),
        ("failed", 1),
        ("running", 0),
        ("running", None),
    ):
        trial = ask(study, search_file)
        name = trial_name(trial.number)
        rows[name] = {"status": status}
        if status in ("failed", "diverged"):
            rows[name]["error"] = "it went wrong"
        if rung is not None:
            rows[name] |= report(rung, 2.5)
    # The study heard of the rung, but not of the end.
    optuna.Trial(study, study.trials[1]._trial_id).report(2.5, step=8192)
    ask(study, search_file)  # 8: proposed, not started
    study.ask()  # 9: killed before its values were all proposed
    study.ask().suggest_float("model.dropout", 0, 0.2)  # 10

    assert settle_study(study, rows) == ["0006", "0007", "0008", "0009", "0010"]
    trials = reopened().trials
    state = TrialState
    assert [trial.state for trial in trials] == [
        state.COMPLETE,
        state.COMPLETE,
        *[state.PRUNED] * 3,
        state.FAIL,
        *[state.RUNNING] * 5,
    ]
    assert (trials[0].value, trials[1].value) == (1.0, 2.5)
    assert trials[1].intermediate_values == {8192: 2.5}
    assert trials[2].intermediate_values == {2048: 2.5}
    assert [trial.constraints for trial in trials[2:5]] == [{}, *[{"diverged": 1.0}] * 2]
    assert trials[5].user_attrs["error"] == "it went wrong"


def test_settling_twice_changes_nothing(study, search_file, report):
    ask(study, search_file)
    ask(study, search_file)
    rows = {"0000": report(2, 2.0) | {"status": "completed"}}
    assert settle_study(study, rows) == ["0001"]
    before = study.trials
    assert settle_study(study, rows) == ["0001"]
    assert study.trials == before


def test_settling_without_ranges(study):
    study.ask()
    assert settle_study(study, {}) == ["0000"]


def test_a_trial_killed_while_it_was_proposed_is_proposed_again(study, search_file, needed):
    study.ask()
    study.ask().suggest_float("model.dropout", 0, 0.2)
    assert settle_study(study, {}) == ["0000", "0001"]
    again = StudySearcher(study, search_file, needed, "/", [Unfinished("0000"), Unfinished("0001")])
    assert again.suggest("a")["values"] == proposal(search_file, 0)
    values = again.suggest("b")["values"]
    proposed = study.trials[1].params["model.dropout"]
    assert values["model.dropout"] == proposed
    assert search_file.ranges["training.learning_rate"].contains(values["training.learning_rate"])
    assert len(study.trials) == 2


# --- values on the grid of their ranges ---------------------------------------------------------

STEPPED = (
    "model.dropout={uniform: [0.1, 0.9], step: 0.2}",
    "training.hold={uniform: [0, 1]}",
    "training.batch_tokens={choice: [256, 512]}",
    "model.n_layers={int: [1, 4]}",
)


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_study_tables_and_recipe_have_the_same_short_values(
    make_search, study, tmp_path, needed, report, name
):
    search_file = make_search(f"search.sampler={name}", "search.trials=16", *STEPPED)
    seed_study(study, search_file)
    searcher = StudySearcher(study, search_file, needed, "/")
    (tmp_path / "run").mkdir()
    tables = RunTables(tmp_path / "run", search_file.ranges)
    for number in range(16):
        config = searcher.suggest(str(number))
        tables.begin_trial(config["trial"], 5, config["values"])
        searcher.ended(str(number), row(report(2, 2.0 + number / 100), "completed"))
    on_disk = load_results(tmp_path / "run").trials
    for frozen, in_table in zip(study.trials, on_disk.to_dict("records"), strict=True):
        values = {key: in_table[key] for key in search_file.ranges}
        assert frozen.params == values
        assert values["model.dropout"] in (0.1, 0.3, 0.5, 0.7, 0.9)
        for key in ("training.learning_rate", "training.hold"):
            assert float(f"{values[key]:.4g}") == values[key]
        recipe = search_file.recipe(values)
        # Pasted into a recipe as they are shown, they are the same run.
        pasted = make_search(*(f"{key}={value!r}" for key, value in values.items()))
        assert pasted.single_recipe().training == recipe.training
        assert pasted.single_recipe().model == recipe.model
    assert len({frozen.params["training.learning_rate"] for frozen in study.trials}) == 16


OF_AN_EARLIER_VERSION = {
    "model.dropout": 0.30000000000000004,
    "training.learning_rate": 0.0012345678901234567,
}


def older_trial(study, search_file):
    """A running trial as it was proposed before values were points of a grid."""
    trial = study.ask()
    for key, value in OF_AN_EARLIER_VERSION.items():
        spec = search_file.ranges[key]
        asked = FixedTrial({key: value})
        spec.suggest(asked, key)
        distribution = asked.distributions[key]
        internal = distribution.to_internal_repr(value)
        study._storage.set_trial_param(trial._trial_id, key, internal, distribution)


@pytest.mark.parametrize("began", [True, False])
def test_a_trial_of_an_earlier_version_keeps_its_values(make_search, study, tables, needed, began):
    search_file = make_search("model.dropout={uniform: [0.1, 0.9], step: 0.1}")
    older_trial(study, search_file)
    if began:
        tables.begin_trial("0000", 5, OF_AN_EARLIER_VERSION)
        tables = RunTables(tables.folder, tables.searched)
    unfinished = settle_study(study, {row["trial_id"]: row for row in tables.trials})
    resumed = rewind(tables, search_file, unfinished)
    searcher = StudySearcher(study, search_file, needed, "/", resumed)
    config = searcher.suggest("a")
    assert (config["trial"], config["values"]) == ("0000", OF_AN_EARLIER_VERSION)
    assert study.trials[0].params == OF_AN_EARLIER_VERSION
    recipe = Recipe.model_validate_json(config["recipe"])
    assert recipe.model.dropout == 0.30000000000000004
    assert recipe.training.learning_rate == 0.0012345678901234567
    # New trials have values on the grid.
    new = searcher.suggest("b")["values"]
    assert new["model.dropout"] in [tenths / 10 for tenths in range(1, 10)]
    assert float(f"{new['training.learning_rate']:.4g}") == new["training.learning_rate"]
