import pickle
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.train import Checkpoint
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY

from raygpt.errors import UserError
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.search.recorder import Recorder
from raygpt.search.trial import trial_config


@pytest.fixture
def ended():
    """The calls of `ended`, for trials that are over."""
    return []


@pytest.fixture
def recorder(tables, progress, folder, ended):
    def tell(trial_id, row):
        on_disk = load_results(folder).trials.set_index("trial_id")["status"]
        assert on_disk[row["trial_id"]] == row["status"]
        ended.append((trial_id, row["status"], row.get("error")))

    return Recorder(tables, progress, last_rung=2, ended=tell)


@pytest.fixture
def make_trial(search_file, needed):
    """Makes what Tune hands to its callbacks."""

    def make(trial_id, learning_rate=1e-3, baseline=False, confirms=None):
        values = {"model.dropout": 0.1, "training.learning_rate": learning_rate}
        config = trial_config(
            trial_id,
            search_file.recipe(values),
            needed,
            "/",
            values=values,
            baseline=baseline,
            confirms=confirms,
        )
        return SimpleNamespace(
            trial_id=f"tune-{trial_id}",
            config=config,
            pickled_error_file=None,
            error_file=None,
        )

    return make


@pytest.fixture
def tell(recorder):
    """Tells the recorder of an event, as Tune does."""
    trials = []

    def tell(event, trial, *args, **kwargs):
        if trial not in trials:
            trials.append(trial)
        getattr(recorder, f"on_trial_{event}")(1, trials, trial, *args, **kwargs)

    return tell


@pytest.fixture
def row(folder):
    """A trial's row on disk."""
    return lambda trial_id: load_results(folder).trials.set_index("trial_id").loc[trial_id]


def printed(console):
    """The lines, without the clock."""
    return [line.split(" ", 1)[1] for line in console.file.getvalue().splitlines()]


def test_a_completed_trial(tell, make_trial, report, row, folder, plain, ended):
    trial = make_trial("0000")
    tell("start", trial)
    assert row("0000")[["status", "seed"]].tolist() == ["running", 5]
    assert row("0000")["training.learning_rate"] == 1e-3
    for rung, bits in enumerate([3.0, 2.5, 2.25]):
        tell("result", trial, report(rung, bits))
        assert row("0000")["status"] == "running"
    assert ended == []
    tell("complete", trial)
    assert ended == [("tune-0000", "completed", None)]
    assert row("0000")[["status", "tokens", "rung"]].tolist() == ["completed", 8192, 2]
    assert row("0000")["bits_per_byte"] == 2.25
    assert list(load_results(folder).history["bits_per_byte"]) == [3.0, 2.5, 2.25]
    assert printed(plain) == [
        "trial 0000 started  dropout=0.1 learning_rate=0.001",
        "trial 0000 completed at 8,192 tokens: 2.2500 bits per byte",
    ]


def test_a_trials_purpose_is_recorded(tell, make_trial, row):
    tell("start", make_trial("0000", baseline=True))
    tell("start", make_trial("0001"))
    tell("start", make_trial("0001-1", confirms="0001"))
    names = ["0000", "0001", "0001-1"]
    assert [row(name)["baseline"] for name in names] == [True, False, False]
    assert [row(name)["confirms"] for name in names[2:]] == ["0001"]
    assert row("0000")[["confirms"]].isna().all()


def test_signs_of_life_are_not_recorded_as_reports(tell, make_trial, row, folder, report):
    trial = make_trial("0000")
    tell("start", trial)
    before = row("0000")
    for steps in (0, 1, 4):
        tell("result", trial, {"alive": steps})
    assert len(load_results(folder).history) == 0
    assert row("0000").equals(before)


@pytest.mark.parametrize("rung", [0, 1])
def test_a_stopped_trial(tell, make_trial, report, row, rung, ended):
    trial = make_trial("0000")
    tell("start", trial)
    tell("result", trial, report(rung))
    tell("complete", trial)
    assert row("0000")[["status", "rung"]].tolist() == ["stopped", rung]
    assert ended == [("tune-0000", "stopped", None)]


def test_a_diverged_trial(tell, make_trial, report, row, folder, plain, ended):
    trial = make_trial("0000")
    tell("start", trial)
    tell("result", trial, report(0))
    tell("result", trial, {"diverged": "the training loss is nan"})
    assert len(load_results(folder).history) == 1
    tell("complete", trial)
    assert row("0000")[["status", "error"]].tolist() == ["diverged", "the training loss is nan"]
    assert ended == [("tune-0000", "diverged", "the training loss is nan")]
    assert printed(plain)[-1].endswith(": the training loss is nan")
    # A later trial in the same search has nothing to do with it.
    other = make_trial("0001")
    tell("start", other)
    tell("result", other, report(0))
    tell("complete", other)
    assert row("0001")["status"] == "stopped"


class Wrapped(Exception):
    """Wraps an error as Ray's errors wrap the one that a user wants to see."""

    def __init__(self, cause):
        super().__init__("Traceback (most recent call last):\n  File ...")
        self.cause = cause


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Wrapped(ValueError("first line\nwhat went wrong\n")), "ValueError: what went wrong"),
        (Wrapped(Wrapped(OSError(28, "No space left"))), "OSError: [Errno 28] No space left"),
        (Wrapped(UserError("the token shard is broken")), "the token shard is broken"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError(), "RuntimeError: "),
        (
            RayActorError(
                error_msg="The actor is dead because its worker process has died. Worker exit "
                "type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits. Some common "
                "causes include: (1) the process was killed"
            ),
            "its process died: Worker unexpectedly exits.",
        ),
        (
            RayActorError(error_msg="The actor died because its node has died.\nThe node is lost."),
            "its process died: The node is lost.",
        ),
    ],
)
def test_a_failed_trial_says_why_in_one_line(tell, make_trial, row, tmp_path, error, said, ended):
    trial = make_trial("0000")
    tell("start", trial)
    trial.pickled_error_file = str(tmp_path / "error.pkl")
    (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(error))
    tell("error", trial)
    assert row("0000")[["status", "error"]].tolist() == ["failed", said]
    assert ended == [("tune-0000", "failed", said)]


def test_a_trial_that_was_given_up_has_the_reason(recorder, tell, make_trial, row, tmp_path, ended):
    trial = make_trial("0000")
    tell("start", trial)
    trial.pickled_error_file = str(tmp_path / "error.pkl")
    (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(RayActorError()))
    recorder.give_up("0000", "no sign of life")
    tell("error", trial)
    assert row("0000")[["status", "error"]].tolist() == ["failed", "no sign of life"]
    assert ended == [("tune-0000", "failed", "no sign of life")]


def test_a_trial_that_dies_before_it_starts_has_failed(tell, make_trial, row, ended):
    tell("error", make_trial("0000"))
    assert row("0000")[["status", "training.learning_rate"]].tolist() == ["failed", 1e-3]
    assert len(ended) == 1


def test_a_chained_error_says_its_cause(tell, make_trial, row, tmp_path):
    class Outer(Exception):
        def __reduce__(self):
            return chained, ()

    def chained():
        error = Outer("around it")
        error.__cause__ = ValueError("what went wrong")
        return error

    trial = make_trial("0000")
    tell("start", trial)
    trial.pickled_error_file = str(tmp_path / "error.pkl")
    (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(chained()))
    tell("error", trial)
    assert row("0000")["error"] == "ValueError: what went wrong"


def test_errors_without_a_pickled_exception(tell, make_trial, row, tmp_path):
    (tmp_path / "error.txt").write_text("Traceback\n  somewhere\nthe actor died\n\n")
    for number, path in enumerate([str(tmp_path / "error.txt"), None]):
        trial = make_trial(f"{number:04}")
        tell("start", trial)
        trial.error_file = path
        tell("error", trial)
    assert row("0000")["error"] == "the actor died"
    assert "log" in row("0001")["error"]


# --- checkpoints --------------------------------------------------------------------------------


@pytest.fixture
def save(folder):
    """Makes a checkpoint folder."""

    def save(name):
        path = folder / "trials" / "0000" / name
        path.mkdir(parents=True)
        (path / "checkpoint.pt").write_bytes(b"state")
        return path

    return save


def test_the_last_checkpoint_is_kept_and_no_other(
    recorder, tell, make_trial, report, row, save, folder
):
    trial = make_trial("0000")
    tell("start", trial)
    for rung, name in enumerate(["a", "b", "c"]):
        path = save(name)
        tell("result", trial, report(rung))
        recorder.on_checkpoint(1, [trial], trial, Checkpoint.from_directory(str(path)))
        assert row("0000")["checkpoint"] == f"trials/0000/{name}"
        assert row("0000")["checkpoint_tokens"] == report(rung)["tokens"]
        assert [child.name for child in (folder / "trials/0000").iterdir()] == [name]
        assert (path / "checkpoint.pt").read_bytes() == b"state"


def test_a_worker_groups_checkpoint_comes_with_its_report(
    tell, make_trial, report, row, save, folder
):
    trial = make_trial("0000")
    tell("start", trial)
    for rung, name in enumerate(["a", "b"]):
        tell("result", trial, report(rung) | {CHECKPOINT_PATH_KEY: str(save(name))})
    assert row("0000")["checkpoint"] == "trials/0000/b"
    assert row("0000")["checkpoint_tokens"] == 4096
    assert [child.name for child in (folder / "trials/0000").iterdir()] == ["b"]


def test_the_old_checkpoint_goes_only_when_the_tables_name_the_new_one(
    tell, make_trial, report, save, tables, monkeypatch
):
    trial = make_trial("0000")
    tell("start", trial)
    old, new = save("a"), save("b")
    tell("result", trial, report(0) | {CHECKPOINT_PATH_KEY: str(old)})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "set_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        tell("result", trial, report(1) | {CHECKPOINT_PATH_KEY: str(new)})
    assert old.is_dir()
    assert new.is_dir()


# --- the best recipe ----------------------------------------------------------------------------


def test_the_best_recipe_is_written_when_there_is_one(tell, make_trial, report, folder):
    path = folder / files.BEST_RECIPE

    def run(trial_id, rate, rung, bits):
        trial = make_trial(trial_id, rate)
        tell("start", trial)
        assert trial_id == "0000" or path.exists()
        tell("result", trial, report(tokens=256))
        tell("result", trial, report(rung, bits))
        tell("complete", trial)
        return load_search_file(path)

    assert not path.exists()
    best = run("0000", 1e-3, 2, 2.5)
    recipe = best.single_recipe()
    assert (recipe.name, recipe.training.learning_rate) == ("tiny-best", 1e-3)
    assert (recipe.model.dropout, recipe.training.seed, recipe.training.tokens) == (0.1, 5, 8192)
    assert path.read_text().startswith("# Trial 0000: 2.5000 bits per byte at 8,192 tokens.\n")
    assert run("0001", 2e-3, 2, 3.0) == best  # worse
    assert run("0002", 2e-3, 0, 1.0) == best  # of a smaller budget
    assert run("0003", 4e-3, 2, 2.25).single_recipe().training.learning_rate == 4e-3
    assert path.read_text().startswith("# Trial 0003")


@pytest.mark.parametrize("event", ["complete", "error"])
def test_a_trial_that_diverges_or_fails_is_no_longer_the_best(
    recorder, tell, make_trial, report, folder, event
):
    path = folder / files.BEST_RECIPE
    best, other = make_trial("0000", 1e-3), make_trial("0001", 2e-3)
    for trial, bits in ((best, 2.0), (other, 2.5)):
        tell("start", trial)
        tell("result", trial, report(1, bits))
    assert path.read_text().startswith("# Trial 0000: 2.0000")
    if event == "complete":
        tell("result", best, {"diverged": "the loss is nan"})
    tell(event, best)
    assert path.read_text().startswith("# Trial 0001: 2.5000 bits per byte at 4,096 tokens.\n")
    assert load_search_file(path).single_recipe().training.learning_rate == 2e-3


def test_the_recorder_is_pickled_without_state(recorder):
    assert b"tables" not in pickle.dumps(recorder)
