"""A search that is killed while it confirms its best trials, and resumed."""

import pytest
import torch

from raygpt import leaderboard
from raygpt.data.prepare import prepare
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import RunTables, load_results
from raygpt.search.confirm import confirming_runs
from raygpt.training.loop import TrainingRun
from tests.tune.searches import SPEED, assert_consistent

pytestmark = pytest.mark.slow

CONFIRMED = {
    "search__trials": 3,
    "search__scheduler": "fifo",
    "search__confirm": "{top: 1, seeds: 2}",
    "training__tokens": "16Ki",
    "training__checkpoint_every": "1/8",
    "training__learning_rate": "{loguniform: [1e-3, 3e-2], start: 1e-2}",
}


@pytest.fixture(scope="module")
def confirmed(start, run_here, place):
    """A search that is killed during its confirmation, and resumed to confirm more.

    Returns the folder, the tables after the kill, and the last session's exit status and output.
    """
    folder = place / "runs/confirmed"

    def underway():
        """Whether a confirming run has ended and another has saved its state."""
        if not (folder / files.TRIALS).exists():
            return False
        trials = load_results(folder).trials
        runs = trials[trials["confirms"].notna()]
        running = runs[runs["status"] == "running"]
        return "completed" in set(runs["status"]) and running["checkpoint"].notna().any()

    command = start("tiny.yaml", "--name=confirmed", SPEED, **CONFIRMED)
    command.stop_when(underway)
    command.process.kill()
    command.ended()
    killed = assert_consistent(folder)
    options = ("--name=confirmed", "--resume")
    more = run_here("tiny.yaml", *options, search__confirm="{top: 2, seeds: 2}")
    return folder, killed, more


def test_the_best_trials_are_confirmed_with_further_seeds(confirmed):
    folder, killed, (status, printed) = confirmed
    assert status == 0, printed
    assert "3 of 3 trials ended (3 completed). 6 of 6 runs that confirm them ended (6" in printed
    results = assert_consistent(folder)
    runs = results.trials[results.trials["confirms"].notna()]
    best = results.trials[results.trials["confirms"].isna()].sort_values("bits_per_byte")
    assert set(runs["confirms"]) == set(best["trial_id"])
    assert len(killed.trials["confirms"].dropna().unique()) == 2
    assert results.trials.loc[runs.index, "seed"].is_unique
    assert set(runs["seed"]) == {1, 2, 3, 4, 5, 6}
    assert set(runs["tokens"]) == {16_384}
    own = results.trials.set_index("trial_id")
    for row in runs.to_dict("records"):
        values = own.loc[row["confirms"], "training.learning_rate"]
        assert row["training.learning_rate"] == values
        assert row["trial_id"].rpartition("-")[0] == row["confirms"]
    # What had ended before the kill was not touched again.
    ended = killed.trials[killed.trials["status"] != "running"].set_index("trial_id")
    assert own.loc[ended.index].equals(ended)


def test_a_resumed_confirming_run_ends_like_an_uninterrupted_one(confirmed):
    folder, killed, _ = confirmed
    trials = killed.trials
    resumed = trials[(trials["status"] == "running") & trials["checkpoint"].notna()].iloc[0]
    search_file = load_search_file(folder / files.SEARCH)
    runs = confirming_runs(RunTables(folder, search_file.ranges).trials, search_file)
    run = next(run for run in runs if run.trial_id == resumed["trial_id"])
    assert run.seed == resumed["seed"]
    recipe = run.recipe(search_file)
    *_, last = TrainingRun(
        recipe, prepare(recipe.data, budget_tokens(recipe)), torch.device("cpu")
    ).reports()
    rows = load_results(folder).trials.set_index("trial_id")
    assert last.bits_per_byte == pytest.approx(rows.loc[run.trial_id, "bits_per_byte"], rel=1e-4)


def test_the_leaderboard_ends_with_the_confirmation(confirmed, capsys):
    folder, _, (_, printed) = confirmed
    leaderboard.main([str(folder)])
    text = capsys.readouterr().out
    assert "6 runs of 3 configurations, each with a seed of its own." in text
    assert "Tukey's HSD test" in text
    assert "baseline 0000" in text
    first = text.splitlines()[1].split()
    assert first[:2] == [load_results(folder).best["trial_id"], "2"]
    assert "runs of 3 configurations" in printed


def test_the_winner_is_a_recipe_that_trains(confirmed, train_main, tmp_path):
    folder, *_ = confirmed
    best = load_results(folder).best
    text = (folder / files.BEST_RECIPE).read_text()
    assert text.startswith(f"# Trial {best['trial_id']}: ")
    assert " bits per byte at 16,384 tokens, mean and standard error of 2 runs" in text
    _, row = train_main(folder / files.BEST_RECIPE, tmp_path)
    # The recipe has the seed of the search, so this repeats the trial and not a confirming run.
    assert row["bits_per_byte"] == pytest.approx(best["bits_per_byte"], rel=1e-4)
