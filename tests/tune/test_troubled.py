"""A search with the MLflow tracker whose tokens are damaged half-way."""

import threading

import mlflow
import pytest
from optuna.trial import TrialState

from raygpt.results.tables import load_results
from tests.tune.searches import SPEED, assert_consistent, statuses, study

pytestmark = pytest.mark.slow

TROUBLED = {
    "search__trials": 5,
    "search__concurrent": 1,
    "search__scheduler": "fifo",
    "training__learning_rate": "{choice: [1e-2, 1e30]}",
}


@pytest.fixture(scope="module")
def troubled(run_here, place, environment):
    """Folder, exit status and output of a search with the MLflow tracker, one of whose token shards
    is cut short after a trial has completed and another has diverged.
    """
    environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    folder = place / "runs/troubled"
    over = threading.Event()

    def cut_short():
        while not set(statuses(folder)) >= {"completed", "diverged"}:
            if over.wait(0.05):
                return
        (shard,) = place.glob("cache/*/00000.tokens")
        # Replaced, so that processes that have it mapped are not disturbed.
        shard.with_name("short").write_bytes(shard.read_bytes()[:-2])
        shard.with_name("short").replace(shard)

    thread = threading.Thread(target=cut_short)
    thread.start()
    try:
        ended = run_here("tiny.yaml", "--name=troubled", "--tracker=mlflow", SPEED, **TROUBLED)
    finally:
        over.set()
        thread.join()
    return folder, *ended


def test_the_search_continues_after_trials_that_fail(troubled):
    folder, status, printed = troubled
    assert status == 0, printed
    trials = assert_consistent(folder).trials
    assert len(trials) == 5
    assert set(trials["status"]) == {"completed", "diverged", "failed"}
    for row in trials.to_dict("records"):
        if row["status"] == "failed":
            assert row["error"].startswith("The token shard ")
            assert "cache/" in row["error"]
            assert "00000.tokens is absent or damaged" in row["error"]
        if row["status"] == "diverged":
            assert "loss is" in row["error"]
        assert row["status"] == "completed" or "\n" not in row["error"]
        assert (row["training.learning_rate"] == 1e30) <= (row["status"] != "completed")
    states = [trial.state for trial in study(folder).trials]
    ends = {
        "completed": TrialState.COMPLETE,
        "diverged": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    assert states == [ends[status] for status in trials["status"]]
    assert "Traceback" not in printed


def test_the_tracker_has_every_trial(troubled):
    folder, *_ = troubled
    trials = load_results(folder).trials
    runs = mlflow.search_runs(experiment_names=["troubled"], order_by=["tags.mlflow.runName"])
    assert list(runs["tags.mlflow.runName"]) == list(trials["trial_id"])
    ends = {"completed": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}
    assert list(runs["status"]) == [ends[status] for status in trials["status"]]
    rates = runs["params.training.learning_rate"].astype(float)
    assert list(rates) == list(trials["training.learning_rate"])
    bits = list(trials["bits_per_byte"])
    assert list(runs["metrics.bits_per_byte"]) == pytest.approx(bits, nan_ok=True)
