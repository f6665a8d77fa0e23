import pytest

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.checkpoints import best_saved, find_checkpoint
from raygpt.results.tables import load_results


def saved(tables, trial_id, name="checkpoint"):
    """Makes the parts of a trial's checkpoint that these tests need."""
    folder = tables.folder.absolute() / files.TRIAL_FOLDERS / trial_id / name
    folder.mkdir(parents=True)
    (folder / files.CHECKPOINT_FILE).touch()
    tables.set_checkpoint(trial_id, folder)
    return folder


def refusal(path):
    with pytest.raises(UserError) as error:
        find_checkpoint(path)
    return str(error.value)


def test_a_runs_best_trials_checkpoint(search):
    saved(search, "0000")
    best = saved(search, "0003")
    found = find_checkpoint(search.folder)
    assert found.folder.resolve() == best.resolve()
    assert found.trial["trial_id"] == "0003"
    assert found.trial["bits_per_byte"] == 1.75
    assert list(found.results.trials["trial_id"])[:2] == ["0000", "0001"]


def test_a_checkpoint_is_that_of_its_trial(search, monkeypatch):
    folder = saved(search, "0001")
    monkeypatch.chdir(folder.parent)
    for path in (folder, folder.relative_to(folder.parent)):
        found = find_checkpoint(path)
        assert found.folder == path
        assert found.trial["trial_id"] == "0001"


def test_a_checkpoint_without_a_row_or_a_run(search, tmp_path):
    saved(search, "0001", "checkpoint_0")
    old = search.folder / files.TRIAL_FOLDERS / "0001" / "checkpoint_0"
    saved(search, "0001", "checkpoint_1")
    assert find_checkpoint(old).trial is None
    alone = tmp_path / "alone"
    old.rename(alone)
    assert find_checkpoint(alone).results is None


def test_the_further_run_with_the_largest_budget_is_used(tables, begin, report):
    """The best configuration is a baseline that was stopped in the search."""
    for trial_id, rung in (("0000", 0), ("0000-1", 2), ("0000-2", 2), ("0001", 2)):
        begin(trial_id, confirms=trial_id[:4] if "-" in trial_id else None)
        tables.add_report(trial_id, report(300 * (rung + 1), 2.0, rung))
        tables.end_trial(trial_id, "completed" if rung else "stopped")
    assert best_saved(load_results(tables.folder)) is None
    saved(tables, "0001")
    saved(tables, "0000")
    results = load_results(tables.folder)
    assert results.best["trial_id"] == "0000"
    assert best_saved(results)["trial_id"] == "0000"
    saved(tables, "0000-1")
    assert best_saved(load_results(tables.folder))["trial_id"] == "0000-1"


def test_a_path_without_a_checkpoint_is_one_message(search, tmp_path):
    assert refusal(tmp_path / "absent") == f"{tmp_path / 'absent'}: no such folder"
    message = refusal(tmp_path)
    assert "neither a run folder (no trials.parquet in it) nor a checkpoint" in message
    assert message.endswith(f"; in it: {search.folder}")
    folder = saved(search, "0004")
    assert refusal(folder.parent).endswith(f"; in it: {folder}")


def test_a_run_without_a_saved_model_lists_its_trials_statuses(search):
    assert refusal(search.folder).endswith(
        "its trials: completed, stopped, running, completed, running, diverged, failed"
    )


def test_a_run_that_has_not_begun(tables):
    assert refusal(tables.folder).endswith("its trials: none yet")
