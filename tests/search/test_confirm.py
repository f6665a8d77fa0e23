import pytest
from ray.tune.search import Searcher

from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import RunTables
from raygpt.search.confirm import (
    RunSearcher,
    confirming_runs,
    expected_runs,
    unfinished_runs,
    write_confirmed_best,
)
from raygpt.search.resume import Unfinished

CONFIRM = "search.confirm={top: 2, seeds: 2}"


@pytest.fixture
def searched(tables, begin, report):
    """Runs the search's trials, first the baseline, given each one's status and score.

    Each has a dropout of its own: its number, in hundredths.
    """

    def run(*outcomes, dropouts=None):
        for number, (status, bits) in enumerate(outcomes):
            name = f"{number:04}"
            dropout = dropouts[number] if dropouts else number / 100
            begin(name, dropout=dropout, baseline=not number)
            if bits is not None:
                tables.add_report(name, report(2 if status == "completed" else 0, bits))
            tables.end_trial(name, status)

    return run


@pytest.fixture
def confirmed(tables, begin, report):
    """Ends a run that confirms a trial."""

    def end(run, bits, status="completed"):
        begin(run.trial_id, seed=run.seed, confirms=run.confirms)
        if bits is not None:
            tables.add_report(run.trial_id, report(2, bits))
        tables.end_trial(run.trial_id, status)

    return end


FIVE = [
    ("stopped", 3.0),
    ("completed", 2.5),
    ("completed", 2.25),
    ("completed", 2.75),
    ("stopped", 1.0),
]


def names(runs):
    return [run.trial_id for run in runs]


# --- which runs ---------------------------------------------------------------------------------


def test_the_best_completed_trials_and_the_baseline_are_confirmed(searched, tables, make_search):
    searched(*FIVE)
    runs = confirming_runs(tables.trials, make_search(CONFIRM))
    # One run of each first, so that an interrupted confirmation has equally many of each.
    assert names(runs) == ["0000-1", "0002-1", "0001-1", "0000-2", "0002-2", "0001-2"]
    assert [run.confirms for run in runs] == ["0000", "0002", "0001"] * 2
    assert runs[1].values == {"model.dropout": 0.02, "training.learning_rate": 1e-3}
    assert runs == unfinished_runs(tables.trials, make_search(CONFIRM))


def test_every_run_has_a_seed_of_its_own(searched, tables, make_search):
    searched(*FIVE)
    runs = confirming_runs(tables.trials, make_search(CONFIRM))
    assert [run.seed for run in runs] == [6, 7, 8, 9, 10, 11]


def test_nothing_is_confirmed_without_the_setting(searched, tables, search_file):
    searched(*FIVE)
    assert confirming_runs(tables.trials, search_file) == []
    assert expected_runs(tables.trials, search_file) == 0


def test_without_ranges_all_trials_are_the_same(tables, make_search, report):
    search_file = make_search("model.dropout=0.1", "training.learning_rate=1e-3", CONFIRM)
    tables = RunTables(tables.folder, ())
    tables.begin_trial("0000", 5, {})
    tables.add_report("0000", report(2))
    tables.end_trial("0000", "completed")
    assert confirming_runs(tables.trials, search_file) == []
    assert expected_runs(tables.trials, search_file) == 0


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        # The baseline is not confirmed twice if it is among the best.
        ([("completed", 2.0), ("completed", 2.5), ("completed", 3.0)], ["0000", "0001", "0002"]),
        ([("completed", 2.75), *[("completed", 2.5)] * 3], ["0000", "0001", "0002"]),
        ([("diverged", 3.0), ("completed", 2.5)], ["0000", "0001"]),
        ([("diverged", None), ("completed", 2.5)], ["0001"]),
        ([("failed", None), ("completed", 2.5), ("failed", 1.0)], ["0001"]),
        ([("stopped", 3.0), ("stopped", 2.0)], []),
    ],
)
def test_trials_to_confirm_by_their_outcomes(searched, tables, make_search, outcomes, expected):
    searched(*outcomes)
    runs = confirming_runs(tables.trials, make_search(CONFIRM))
    assert [run.confirms for run in runs] == expected * 2


def test_trials_of_the_same_values_are_one_configuration(searched, tables, make_search):
    searched(*FIVE[:4], dropouts=[0.1, 0.2, 0.1, 0.2])
    runs = confirming_runs(tables.trials, make_search(CONFIRM))
    assert names(runs) == ["0000-1", "0001-1", "0000-2", "0001-2"]


def test_finished_runs_do_not_change_the_list_of_runs(searched, confirmed, tables, make_search):
    searched(*FIVE)
    search_file = make_search(CONFIRM)
    planned = confirming_runs(tables.trials, search_file)
    for done, (run, bits) in enumerate(zip(planned, [1.0, 9.0, 2.0, 3.0, None, 2.0], strict=True)):
        assert names(unfinished_runs(tables.trials, search_file)) == names(planned[done:])
        confirmed(run, bits, "completed" if bits else "failed")
        again = RunTables(tables.folder, tables.searched)
        assert confirming_runs(again.trials, search_file) == planned
    # A failed run is not repeated either.
    assert unfinished_runs(tables.trials, search_file) == []


def test_runs_that_began_out_of_order_keep_their_seeds(searched, confirmed, tables, make_search):
    searched(*FIVE)
    search_file = make_search(CONFIRM)
    planned = confirming_runs(tables.trials, search_file)
    confirmed(planned[4], 2.0)
    again = confirming_runs(tables.trials, search_file)
    assert again[4] == planned[4]
    assert len({run.seed for run in again}) == 6


def test_more_runs_can_be_requested_later(searched, confirmed, tables, make_search):
    searched(*FIVE)
    for run in confirming_runs(tables.trials, make_search(CONFIRM)):
        confirmed(run, 2.0)
    more = make_search("search.confirm={top: 3, seeds: 3}")
    runs = unfinished_runs(tables.trials, more)
    assert names(runs) == ["0003-1", "0003-2", "0000-3", "0002-3", "0001-3", "0003-3"]
    assert [run.seed for run in runs] == [12, 13, 14, 15, 16, 17]
    fewer = make_search("search.confirm={top: 1, seeds: 2}")
    assert unfinished_runs(tables.trials, fewer) == []


def test_seeds_wrap_around_after_the_largest(searched, tables, make_search):
    searched(*FIVE)
    runs = confirming_runs(tables.trials, make_search(CONFIRM, f"training.seed={2**32 - 1}"))
    # 5 is the seed of the search's own trials.
    assert [run.seed for run in runs] == [0, 1, 2, 3, 4, 6]


def test_a_searched_seed_is_replaced(tmp_path, report, make_search):
    search_file = make_search(CONFIRM, "training.seed={int: [0, 9]}")
    tables = RunTables(tmp_path, search_file.ranges)
    for number, seed in enumerate([3, 4]):
        values = {"model.dropout": 0.1, "training.learning_rate": 1e-3, "training.seed": seed}
        tables.begin_trial(f"{number:04}", seed, values)
        tables.add_report(f"{number:04}", report(2, 2.0 + number))
        tables.end_trial(f"{number:04}", "completed")
    # The two differ only in their seeds.
    runs = confirming_runs(tables.trials, search_file)
    assert names(runs) == ["0000-1", "0000-2"]
    assert [run.values["training.seed"] for run in runs] == [run.seed for run in runs] == [1, 2]
    assert runs[0].recipe(search_file).training.seed == 1


def test_the_expected_number_of_runs(searched, begin, tables, make_search):
    search_file = make_search("search.trials=5", CONFIRM)
    assert expected_runs(tables.trials, search_file) == 4
    begin("0000", baseline=True)
    assert expected_runs(tables.trials, search_file) == 6
    searched(*FIVE[:2], *FIVE[4:] * 3)
    assert expected_runs(tables.trials, search_file) == 4


# --- what is trained ----------------------------------------------------------------------------


def test_a_run_trains_the_same_recipe_with_another_seed(searched, tables, make_search):
    searched(*FIVE)
    search_file = make_search(CONFIRM)
    run = confirming_runs(tables.trials, search_file)[1]
    recipe = run.recipe(search_file)
    expected = search_file.recipe({"model.dropout": 0.02, "training.learning_rate": 1e-3})
    assert recipe.training == expected.training.model_copy(update={"seed": 7})
    assert (recipe.model, recipe.data) == (expected.model, expected.data)
    # It has no cooldowns, because no run is stopped at a rung.
    assert recipe.search == expected.search.model_copy(update={"rung_metric": "raw"})


def test_the_searcher_proposes_runs_in_order(searched, tables, make_search, needed):
    searched(*FIVE)
    search_file = make_search(CONFIRM)
    runs = confirming_runs(tables.trials, search_file)[:2]
    checkpoint = "/runs/tiny/trials-2/0002-1/checkpoint"
    resumed = [Unfinished("0000-1"), Unfinished("0002-1", checkpoint)]
    searcher = RunSearcher(runs, search_file, needed, "/runs/tiny/trials-3", resumed)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    searcher.on_trial_complete("a")
    assert searcher.suggest("c") == Searcher.FINISHED
    assert (first["trial"], first["confirms"], first["checkpoint"]) == ("0000-1", "0000", None)
    assert (second["trial"], second["checkpoint"]) == ("0002-1", checkpoint)
    assert (second["baseline"], second["storage"]) == (False, "/runs/tiny/trials-3")
    assert second["values"] == runs[1].values
    assert Recipe.model_validate_json(second["recipe"]) == runs[1].recipe(search_file)


# --- the best recipe ----------------------------------------------------------------------------


def test_the_winner_is_written_as_a_recipe(searched, confirmed, tables, make_search, folder):
    searched(*FIVE)
    search_file = make_search(CONFIRM)
    path = folder / files.BEST_RECIPE
    write_confirmed_best(tables, search_file)
    assert not path.exists()
    runs = confirming_runs(tables.trials, search_file)
    for run, bits in zip(runs, [3.0, 2.5, 2.25, 3.02, 2.52, 2.27], strict=True):
        confirmed(run, bits)
    write_confirmed_best(tables, search_file)
    # 0002 was the best of the search.
    assert path.read_text().startswith(
        "# Trial 0001: 2.2600 ± 0.0100 bits per byte at 8,192 tokens, mean and standard error of "
        "2 runs with other seeds.\n"
    )
    recipe = load_search_file(path).single_recipe()
    assert recipe.name == "tiny-best"
    assert (recipe.model.dropout, recipe.training.seed) == (0.01, 5)
    assert recipe.search.rung_metric == "cooldown"
