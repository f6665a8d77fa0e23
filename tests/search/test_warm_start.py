import optuna
import pytest
from optuna.trial import TrialState

from raygpt.errors import UserError
from raygpt.recipe.own_model import COPY
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import RunTables
from raygpt.search.resume import Unfinished
from raygpt.search.sampler import StudySearcher, make_sampler, open_study, settle_study
from raygpt.search.warm_start import earlier_runs, seed_study

RATE, DROPOUT = "training.learning_rate", "model.dropout"
BUDGETS = (2048, 4096, 8192)
START = {DROPOUT: 0.1, RATE: 0.003162}


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
def earlier(search_file, tmp_path, report):
    """Makes the folder of an earlier search: of trials with a status, a rate and the last rung."""

    def make(*trials, name="earlier", search=search_file):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / files.SEARCH).write_text(search.to_yaml())
        tables = RunTables(folder, search.ranges)
        for number, (status, rate, rung) in enumerate(trials):
            trial_id = f"{number:04}"
            tables.begin_trial(trial_id, 5, {DROPOUT: 0.05, RATE: rate}, baseline=not number)
            for reached in range(-1 if rung is None else 0, 0 if rung is None else rung + 1):
                if reached >= 0:
                    tables.add_report(trial_id, report(tokens=BUDGETS[reached] - 256))
                    tables.add_report(trial_id, report(reached, 3 - rate))
            if status != "running":
                tables.end_trial(trial_id, status, None if status == "completed" else "why")
        return folder

    return make


@pytest.fixture
def warm(make_search):
    """A search that starts from earlier runs."""
    return lambda *folders, **settings: make_search(
        f"search.warm_start=[{', '.join(map(str, folders))}]",
        *(f"{key.replace('__', '.')}={value}" for key, value in settings.items()),
    )


# --- the baseline -------------------------------------------------------------------------------


def test_the_first_trial_is_the_starting_point(study, make_search, needed):
    search_file = make_search(f"{RATE}={{loguniform: [1e-4, 1e-1], start: 6e-4}}")
    assert seed_study(study, search_file) == []
    searcher = StudySearcher(study, search_file, needed, "/")
    first, second, third = (searcher.suggest(name) for name in "abc")
    assert first["values"] == {DROPOUT: 0.1, RATE: 6e-4}
    assert [config["trial"] for config in (first, second, third)] == ["0000", "0001", "0002"]
    assert [config["baseline"] for config in (first, second, third)] == [True, False, False]
    # The other trials are the same as without it.
    undisturbed = optuna.create_study()
    undisturbed.sampler = make_sampler(search_file.search, 1)
    trial = undisturbed.ask()
    values = {key: found.suggest(trial, key) for key, found in search_file.ranges.items()}
    assert second["values"] == values


def test_a_study_is_seeded_once(study, search_file, needed):
    for _ in range(2):
        assert seed_study(study, search_file) == []
        assert [trial.state for trial in study.trials] == [TrialState.WAITING]
    StudySearcher(study, search_file, needed, "/").suggest("a")
    assert settle_study(study, {}) == ["0000"]
    seed_study(study, search_file)
    again = StudySearcher(study, search_file, needed, "/", [Unfinished("0000")])
    config = again.suggest("b")
    assert (config["trial"], config["values"], config["baseline"]) == ("0000", START, True)
    assert again.suggest("c")["baseline"] is False


def test_a_baseline_killed_while_it_was_proposed_stays_the_baseline(study, search_file, needed):
    seed_study(study, search_file)
    study.ask()
    assert settle_study(study, {}) == ["0000"]
    config = StudySearcher(study, search_file, needed, "/", [Unfinished("0000")]).suggest("a")
    assert (config["trial"], config["values"], config["baseline"]) == ("0000", START, True)


def test_a_recipe_without_ranges_has_no_baseline(study, without_ranges, needed):
    assert seed_study(study, without_ranges) == []
    assert study.trials == []
    assert not StudySearcher(study, without_ranges, needed, "/").suggest("a")["baseline"]


# --- earlier runs -------------------------------------------------------------------------------

EVERY_KIND = (
    ("completed", 0.01, 2),
    ("stopped", 0.02, 0),
    ("diverged", 0.09, None),
    ("diverged", 0.08, 1),
    ("failed", 0.03, 0),
    ("running", 0.04, 1),
)


def test_earlier_trials_have_the_same_states_as_the_searchs_own(study, warm, earlier):
    folder = earlier(*EVERY_KIND)
    lines = seed_study(study, warm(folder))
    assert lines == [f"Warm start: 4 of 6 trials of {folder}, 2 failed or unfinished."]
    *taken, baseline = study.trials
    assert baseline.state == TrialState.WAITING
    states = [TrialState.COMPLETE, *[TrialState.PRUNED] * 3]
    assert [trial.state for trial in taken] == states
    assert taken[0].value == 2.99
    assert [trial.params[RATE] for trial in taken] == [0.01, 0.02, 0.09, 0.08]
    assert [list(trial.intermediate_values) for trial in taken] == [
        [2048, 4096, 8192],
        [2048],
        [],
        [2048, 4096],
    ]
    assert set(taken[0].intermediate_values.values()) == {2.99}
    diverged = {"diverged": 1.0}
    assert [trial.constraints for trial in taken] == [{}, {}, diverged, diverged]
    for trial, number in zip(taken, range(4), strict=True):
        assert trial.user_attrs == {"warm_start": str(folder), "trial": f"{number:04}"}


def test_the_searchs_own_trials_are_numbered_from_0(study, warm, earlier, needed, report):
    search_file = warm(earlier(*EVERY_KIND))
    seed_study(study, search_file)
    searcher = StudySearcher(study, search_file, needed, "/")
    configs = [searcher.suggest(name) for name in "abc"]
    assert [config["trial"] for config in configs] == ["0000", "0001", "0002"]
    assert configs[0]["values"] == START
    searcher.ended("b", report(0) | {"status": "stopped"})
    assert [trial.user_attrs["trial"] for trial in study.trials[4:]] == ["0000", "0001", "0002"]
    # Killed here.
    rows = {"0000": report(0) | {"status": "running"}, "0001": report(0) | {"status": "stopped"}}
    assert seed_study(study, search_file) == []
    assert settle_study(study, rows) == ["0000", "0002"]
    again = StudySearcher(study, search_file, needed, "/", [Unfinished("0000"), Unfinished("0002")])
    resumed = [again.suggest(name) for name in "def"]
    assert [config["trial"] for config in resumed] == ["0000", "0002", "0003"]
    assert [config["values"] for config in resumed[:2]] == [
        configs[0]["values"],
        configs[2]["values"],
    ]
    again.ended("d", report(2, 2.0) | {"status": "completed"})
    assert study.trials[4].value == 2.0


def test_the_sampler_learns_from_them(warm, earlier, search_file, needed):
    """Earlier trials were better at higher rates; this search's own trials stop at once."""
    rates = [10 ** (-4 + 0.2 * number) for number in range(16)]
    folder = earlier(*(("completed", rate, 2) for rate in rates))
    high = {}
    for name, search in (("warm", warm(folder)), ("cold", search_file)):
        study = optuna.create_study()
        seed_study(study, search)
        searcher = StudySearcher(study, search, needed, "/")
        proposed = []
        for number in range(9):  # without earlier trials the first ten are random
            proposed.append(searcher.suggest(str(number))["values"][RATE])
            row = {"tokens": 2048, "bits_per_byte": 3 - proposed[-1], "status": "stopped"}
            searcher.ended(str(number), row)
        high[name] = sum(rate > 1e-2 for rate in proposed[1:])
    assert high["warm"] >= 6
    assert high["warm"] > high["cold"]


def test_trials_outside_the_ranges_are_left_out(study, warm, earlier):
    folder = earlier(*(("completed", rate, 2) for rate in (1e-4, 1e-3, 1e-2, 1e-1)))
    lines = seed_study(study, warm(folder, **{RATE: "{loguniform: [1e-3, 1e-2]}"}))
    assert lines == [f"Warm start: 2 of 4 trials of {folder}, 2 outside the ranges."]
    assert [trial.params[RATE] for trial in study.trials[:-1]] == [1e-3, 1e-2]
    assert study.trials[0].distributions[RATE].low == 1e-3


def test_bounds_are_compared_up_to_rounding(study, warm, earlier):
    rate = 1e-3 * (1 - 1e-13)
    lines = seed_study(
        study, warm(earlier(("completed", rate, 2)), **{RATE: "{loguniform: [1e-3, 1e-2]}"})
    )
    assert lines[0].startswith("Warm start: 1 of 1")
    assert study.trials[0].params[RATE] == 1e-3


def test_runs_that_confirm_are_not_taken(study, warm, earlier, search_file, report):
    folder = earlier(("completed", 0.01, 2))
    tables = RunTables(folder, search_file.ranges)
    tables.begin_trial("0000-1", 6, {DROPOUT: 0.05, RATE: 0.01}, confirms="0000")
    tables.add_report("0000-1", report(2))
    tables.end_trial("0000-1", "completed")
    assert seed_study(study, warm(folder)) == [f"Warm start: 1 of 1 trials of {folder}."]


def test_several_runs_are_added_once_even_after_a_kill(study, warm, earlier):
    folders = [earlier(("completed", 0.01, 2), ("stopped", 0.02, 0), name=n) for n in ("a", "b")]
    search_file = warm(*folders, folders[0])
    add_trial, added = study.add_trial, []

    def killed(trial):
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(trial)
        add_trial(trial)

    study.add_trial = killed
    with pytest.raises(KeyboardInterrupt):
        seed_study(study, search_file)
    del study.add_trial
    assert len(study.trials) == 3
    assert len(seed_study(study, search_file)) == 2
    taken = [(t.user_attrs.get("warm_start"), t.user_attrs.get("trial")) for t in study.trials]
    names = ["0000", "0001"]
    assert taken == [(str(f), name) for f in folders for name in names] + [(None, None)]


def test_choices_and_whole_numbers_come_back_as_they_were(tmp_path, report, study):
    path = tmp_path / "kinds.yaml"
    path.write_text(
        "data: {corpus: sample, tokenizer: bpe-300, context: 32}\n"
        "model: {d_model: 16, n_heads: {choice: [2, 4]}, n_layers: {int: [1, 3]},\n"
        "  compile: {choice: [true, false]}}\n"
        "training: {tokens: 8192, batch_tokens: 256, learning_rate: 1e-3,\n"
        "  precision: fp32, seed: {int: [0, 99]}}\n"
    )
    search_file = load_search_file(path)
    values = {"model.n_heads": 4, "model.n_layers": 3, "model.compile": False, "training.seed": 7}
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / files.SEARCH).write_text(search_file.to_yaml())
    tables = RunTables(folder, search_file.ranges)
    tables.begin_trial("0000", 7, values)
    tables.add_report("0000", report(2))
    tables.end_trial("0000", "completed")
    seed_study(study, load_search_file(path, overrides=[f"search.warm_start=[{folder}]"]))
    params = study.trials[0].params
    assert params == values
    assert {key: type(value) for key, value in params.items()} == {
        key: type(value) for key, value in values.items()
    }


# --- refusals -----------------------------------------------------------------------------------


def test_settings_that_change_no_figures_may_differ(warm, earlier):
    folder = earlier(("completed", 0.01, 2))
    search_file = warm(
        folder,
        **{
            "name": "other",
            "data.cache": "/elsewhere",
            "model.compile": "true",
            "training.micro_batch": 2,
            "training.seed": 9,
            "training.report_every": "1/2",
            "search.trials": 3,
            "search.seed": 9,
            "search.rungs": "[1/2, 1]",
            RATE: "{loguniform: [1e-3, 1]}",
        },
    )
    assert [results.folder for results in earlier_runs(search_file)] == [folder]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training.tokens": 4096}, "training.tokens is 8192 there and 4096 here"),
        ({"training.warmup": 0.02}, "training.warmup is 0.01 there and 0.02 here"),
        ({"data.context": 16}, "data.context is 32 there and 16 here"),
        ({DROPOUT: 0.1}, "model.dropout is searched there and 0.1 here"),
        (
            {"training.hold": "{uniform: [0, 1]}"},
            "training.hold is 0.0 there and searched here",
        ),
        (
            {"search.rung_metric": "raw"},
            "search.rung_metric is cooldown there and raw here",
        ),
    ],
)
def test_earlier_runs_with_other_settings_are_refused(study, warm, earlier, settings, message):
    folder = earlier(("completed", 0.01, 2))
    search_file = warm(folder, **settings)
    for look in (earlier_runs, lambda search_file: seed_study(study, search_file)):
        with pytest.raises(UserError) as error:
            look(search_file)
        assert str(error.value).startswith(f"search.warm_start: the trials of {folder} cannot be")
        assert message in str(error.value)
    assert study.trials == []


def test_another_text_is_refused_although_the_settings_are_the_same(study, warm, search_file):
    """A file of the corpus may have changed although its name has not."""
    there = {"validation_set": "0123", "context": 32, "scored_tokens": 480, "scored_bytes": 900}
    folder = search_file.path.parent / "runs" / "earlier"
    folder.mkdir(parents=True)
    (folder / files.SEARCH).write_text(search_file.to_yaml())
    RunTables(folder, search_file.ranges, there).begin_trial("0000", 5, {DROPOUT: 0.1, RATE: 0.01})
    here = there | {"scored_bytes": 901}
    for look in (earlier_runs, lambda *given: seed_study(study, *given)):
        with pytest.raises(UserError, match=r"scored_bytes \(there: 900; here: 901\)"):
            look(warm(folder), here)
    assert study.trials == []
    assert len(earlier_runs(warm(folder), there)) == 1
    assert seed_study(study, warm(folder), there) == [
        f"Warm start: 0 of 1 trials of {folder}, 1 failed or unfinished."
    ]


def test_a_folder_without_a_search_is_refused(warm, tmp_path, search_file):
    with pytest.raises(UserError, match=r"search\.warm_start: .*nowhere: no such folder"):
        earlier_runs(warm(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"search\.warm_start: .*: not a run folder"):
        earlier_runs(warm(tmp_path))
    assert earlier_runs(search_file) == []
    with pytest.raises(UserError, match="has no ranges that it could help with"):
        earlier_runs(warm(tmp_path, **{DROPOUT: 0.1, RATE: 0.1}))


def test_an_edited_file_of_the_users_own_model_is_refused(earlier, warm, make_search, tmp_path):
    model = tmp_path / "my_model.py"
    model.write_text("from torch import nn\n\nclass MyGPT(nn.Module):\n    pass\n")
    module = f"{model}:MyGPT"
    folder = earlier(("completed", 0.01, 2), search=make_search(f"model.module={module}"))
    (folder / COPY).write_bytes(model.read_bytes())
    assert len(earlier_runs(warm(folder, model__module=module))) == 1
    model.write_text(model.read_text() + "# edited\n")
    with pytest.raises(UserError, match=r"the file of model\.module \(.*\) has changed"):
        earlier_runs(warm(folder, model__module=module))
