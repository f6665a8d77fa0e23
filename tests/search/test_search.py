import pytest

from raygpt.results.tables import load_results
from raygpt.search.search import rewind


@pytest.fixture
def interrupted(tables, begin, report, folder):
    """Three unfinished trials: with a checkpoint, with one that is gone, with none."""
    for number in range(3):
        begin(f"{number:04}")
        tables.add_report(f"{number:04}", report(0))
        if number < 2:
            tables.set_checkpoint(f"{number:04}", folder.absolute() / f"trials/{number}")
        tables.add_report(f"{number:04}", report(tokens=3072))
    (folder / "trials/0").mkdir(parents=True)
    return tables


def test_an_unfinished_trial_goes_on_from_its_checkpoint(interrupted, folder):
    checkpoints = rewind(interrupted, ["0000", "0001", "0002", "0003"])
    gone_on = str(folder.absolute() / "trials/0")
    assert checkpoints == {"0000": gone_on, "0001": None, "0002": None, "0003": None}
    history = load_results(folder).history
    assert history[["trial_id", "tokens"]].to_numpy().tolist() == [["0000", 2048]]


def test_other_trials_keep_their_reports(interrupted, folder):
    before = load_results(folder)
    assert rewind(interrupted, []) == {}
    after = load_results(folder)
    assert after.history.equals(before.history)
    assert after.trials.equals(before.trials)
