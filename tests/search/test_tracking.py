import pickle
from types import SimpleNamespace

import mlflow
import pytest
from ray.tune.logger import LoggerCallback

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.search.tracking import TensorBoard, Tracker, open_tracker


@pytest.fixture
def make_trial():
    """Makes what Tune hands to its callbacks."""
    return lambda name: SimpleNamespace(
        trial_id=f"tune-{name}", config={"trial": name, "recipe": "{}"}
    )


@pytest.fixture
def send_events(tables, make_trial, report):
    """Sends events of a trial to the tables, then to a callback."""

    def send_events(callback, name, *reports, status=None, begins=True):
        trial = make_trial(name)
        if begins:
            callback.on_trial_start(1, [], trial)
            callback.on_trial_result(1, [], trial, {"alive": 0})
        for each in reports:
            tables.add_report(name, each)
            callback.on_trial_result(1, [], trial, each)
        if status == "diverged":
            callback.on_trial_result(1, [], trial, {"diverged": "the loss is nan"})
        if status:
            tables.end_trial(name, status)
            event = "on_trial_error" if status == "failed" else "on_trial_complete"
            getattr(callback, event)(1, [], trial)

    return send_events


@pytest.fixture
def event_files(folder):
    return lambda: sorted(path.name for path in (folder / files.EVENT_FILES).iterdir())


@pytest.mark.parametrize("status", ["completed", "stopped", "diverged", "failed"])
def test_every_trial_has_event_files(tables, begin, send_events, report, event_files, status):
    follower = TensorBoard(tables)
    for name in ("0000", "0001"):
        begin(name)
        send_events(follower, name, report(tokens=256), report(0), status=status)
    assert event_files() == ["0000", "0001"]


def test_a_trial_that_dies_before_it_starts_has_event_files(
    tables, begin, send_events, event_files
):
    begin("0000")
    send_events(TensorBoard(tables), "0000", status="failed", begins=False)
    assert event_files() == ["0000"]


class Log(LoggerCallback):
    """Records the events that an integration would send."""

    def __init__(self, fail_at=None):
        self.told = []
        self.fail_at = fail_at

    def _keep(self, *what):
        self.told.append(what)
        if what[0] == self.fail_at:
            raise ConnectionError("nobody\nanswers")

    def log_trial_start(self, trial):
        self._keep("start", str(trial), dict(trial.config), trial.experiment_dir_name)

    def log_trial_result(self, iteration, trial, result):
        self._keep("result", str(trial), result)

    def log_trial_end(self, trial, failed=False):
        self._keep("end", str(trial), failed)

    def on_experiment_end(self, trials, **info):
        self._keep("over")


def test_a_tracker_sees_values_and_figures_and_nothing_else(
    tables, begin, send_events, report, plain
):
    log = Log()
    follower = Tracker(log, tables, plain)
    begin("0000", dropout=0.2, learning_rate=0.5, seed=3)
    send_events(follower, "0000", report(0, 2.5), status="stopped")
    follower.on_experiment_end([])
    start, (_, name, figures), end, over = log.told
    values = {"model.dropout": 0.2, "training.learning_rate": 0.5, "seed": 3}
    assert start == ("start", "0000", values, tables.folder.name)
    assert name == "0000"
    assert (figures["tokens"], figures["bits_per_byte"]) == (2048, 2.5)
    # Ray's integrations use this as the step.
    assert figures["training_iteration"] == 2048
    assert not {"rung_time", "step", "alive"} & set(figures)
    assert (end, over) == (("end", "0000", False), ("over",))


@pytest.mark.parametrize(("status", "failed"), [("diverged", True), ("failed", True)])
def test_a_tracker_receives_failed_trials_as_failed(
    tables, begin, send_events, plain, status, failed
):
    log = Log()
    begin("0000")
    send_events(Tracker(log, tables, plain), "0000", status=status)
    assert log.told[-1] == ("end", "0000", failed)


def test_a_tracker_that_fails_is_not_called_again(tables, begin, send_events, report, plain):
    log = Log(fail_at="result")
    follower = Tracker(log, tables, plain)
    for name in ("0000", "0001"):
        begin(name)
        send_events(follower, name, report(0), report(1), status="stopped")
    assert [what for what, *_ in log.told] == ["start", "result"]
    assert plain.file.getvalue() == (
        "The tracker failed, and the search continues without it: ConnectionError: nobody answers\n"
    )


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_one_message(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"--tracker {name}: .* pip install {name}$"):
        open_tracker(name, "tiny")


def test_followers_are_pickled_without_state(tables, plain):
    for follower in (TensorBoard(tables), Tracker(Log(), tables, plain)):
        assert b"tables" not in pickle.dumps(follower)


# --- MLflow -------------------------------------------------------------------------------------


@pytest.fixture
def _local_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.usefixtures("_local_store")
def test_trials_in_mlflows_local_store(tables, begin, send_events, report, plain):
    follower = Tracker(open_tracker("mlflow", "tiny"), tables, plain)
    for name, bits, status in (("0000", 2.5, "stopped"), ("0001", 2.25, "diverged")):
        begin(name, learning_rate=0.5, seed=3)
        send_events(follower, name, report(tokens=256), report(0, bits), status=status)
    assert plain.file.getvalue() == ""
    runs = mlflow.search_runs(experiment_names=["tiny"], order_by=["tags.mlflow.runName"])
    assert list(runs["tags.mlflow.runName"]) == ["0000", "0001"]
    assert list(runs["status"]) == ["FINISHED", "FAILED"]
    assert list(runs["metrics.bits_per_byte"]) == [2.5, 2.25]
    assert set(runs["params.training.learning_rate"]) == {"0.5"}
    assert {name for name in runs if name.startswith("params.")} == {
        *("params.training.learning_rate", "params.model.dropout", "params.seed")
    }
    history = mlflow.MlflowClient().get_metric_history(runs["run_id"][0], "train_bits_per_token")
    assert [(point.step, point.value) for point in history] == [(256, 5.25), (2048, 5.25)]


def test_an_unreachable_mlflow_is_one_message(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(UserError, match=r"--tracker mlflow: .*nonsense") as error:
        open_tracker("mlflow", "tiny")
    assert "\n" not in str(error.value)
