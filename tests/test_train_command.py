import contextlib
import json
import random
import signal
import subprocess
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raygpt import train
from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.training.loop import TrainingRun
from raygpt.training.probe import Pace
from raygpt.training.step import Learner

RECIPE = """\
data: {{corpus: "jsonl:{}", min_document_bytes: 0, tokenizer: bpe-300, context: 16,
  validation_fraction: 0.1, validation_tokens: 500}}
model: {{d_model: 16, n_layers: 1, n_heads: 2, dropout: 0.1}}
training: {{tokens: 960, batch_tokens: 96, learning_rate: 1e-2, micro_batch: 3, report_every: 1/5,
  checkpoint_every: 1/2}}
search: {{rungs: [1/2, 1]}}
"""
WORDS = "the of and river city model wide small learning rate long night tree stone house".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A small corpus, prepared once; a recipe of ten steps on it, reports at every second."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=40)) for _ in range(200))
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def file(tmp_path, corpus, cache, monkeypatch):
    """The recipe in a folder of its own, where the commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYGPT_CACHE", str(cache))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(corpus))
    return path


# --- in this process ----------------------------------------------------------------------------


@pytest.fixture
def main(file, monkeypatch, capsys):
    """Runs the command; its exit status and what it printed."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    pace = Pace(tokens_per_second=1000.0, evaluation_seconds=1.0)
    monkeypatch.setattr("raygpt.training.probe.measure_pace", lambda *_: pace)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments):
        try:
            status = train.main([str(argument) for argument in arguments])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return status, capsys.readouterr().out

    return run


def refusal(main, *arguments):
    with pytest.raises(UserError) as error:
        main(*arguments)
    return str(error.value)


def weights(folder):
    """Weights and optimizer state of a run's checkpoint."""
    state = torch.load(folder / "checkpoint" / "checkpoint.pt", weights_only=True)
    state = state["state"]
    moments = state["optimizer"]["state"]
    return [
        *state["model"].values(),
        *(tensor for number in sorted(moments) for tensor in moments[number].values()),
    ]


def curve(folder):
    """The history, timings aside."""
    return load_results(folder).history.drop(columns=["time", "seconds", "tokens_per_second"])


def drawn(folder):
    """The learning rates that TensorBoard shows, with their tokens."""
    events = EventAccumulator(str(folder / files.EVENT_FILES / "0000")).Reload()
    return [(event.step, event.value) for event in events.Scalars("training/learning_rate")]


def assert_same_run(folder, expected):
    pairs = zip(weights(folder), weights(expected), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert curve(folder).equals(curve(expected))
    assert drawn(folder) == drawn(expected)
    row, other = (load_results(run).trials.loc[0] for run in (folder, expected))
    for name in ("status", "tokens", "tokens_trained", "bits_per_byte", "checkpoint_tokens"):
        assert row[name] == other[name]


@pytest.fixture
def uninterrupted(main, file, tmp_path):
    """The folder of a run from beginning to end."""
    assert main(file, "--name", "uninterrupted")[0] == 0
    return tmp_path / "runs" / "uninterrupted"


def test_a_whole_run(main, file, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    status, printed = main(file)
    assert status == 0
    lines = printed.splitlines()
    assert lines[0].startswith(f"Found no GPU: running {file} in full (one run of 960 tokens; ")
    assert lines[0].endswith(", about 10 seconds with 1 of 4 CPU cores (search.cpus_per_worker).")
    assert lines[1] == "The budget is 960 tokens: 10 steps of 96."
    tokens = [line.split()[0] for line in lines[2:-1]]
    assert tokens == ["192", "384", "480", "576", "768", "960"]
    assert ["bits per byte" in line for line in lines[2:-1]] == [
        t in ("480", "960") for t in tokens
    ]
    assert lines[-1] == "Done: tables and checkpoint are in runs/tiny"

    results = load_results(tmp_path / "runs/tiny")
    (row,) = results.trials.to_dict("records")
    assert (row["trial_id"], row["status"], row["seed"]) == ("0000", "completed", 0)
    assert (row["tokens"], row["checkpoint"], row["checkpoint_tokens"]) == (960, "checkpoint", 960)
    assert 0 < row["bits_per_byte"] < 8
    assert list(results.history["tokens"]) == [192, 384, 480, 576, 768, 960]
    assert [tokens for tokens, _ in drawn(tmp_path / "runs/tiny")] == [192, 384, 480, 576, 768, 960]


def test_rounding_and_epochs_are_printed(main, file):
    _, printed = main(file, "--set", "training.tokens=30K", "--set", "training.batch_tokens=1000")
    assert "29,760 tokens: 30 steps of 992 (30,000 asked for). The corpus holds " in printed
    assert "epochs." in printed


def test_overrides_are_run_and_kept(main, file, tmp_path):
    main(file, "--set", "training.tokens=480", "--set", "training.seed=5", "--runs-dir", "a/b")
    folder = tmp_path / "a/b/tiny"
    assert load_results(folder).trials.loc[0, ["tokens", "seed"]].tolist() == [480, 5]
    kept = json.loads((folder / files.ENVIRONMENT).read_text())
    assert kept["overrides"] == ["training.tokens=480", "training.seed=5"]
    assert "tokens: 480" in (folder / files.SEARCH).read_text()


def test_a_file_with_ranges_is_refused_with_the_list(main, file, tmp_path):
    file.write_text(file.read_text().replace("dropout: 0.1", "dropout: {uniform: [0, 0.2]}"))
    message = refusal(main, file)
    assert "give each range a value:\n  --set model.dropout=VALUE for {uniform" in message
    assert not (tmp_path / "runs/tiny").exists()
    assert main(file, "--set", "model.dropout=0.1")[0] == 0


def test_a_range_at_the_other_scale_does_not_matter(main, file):
    searched = file.read_text().replace("dropout: 0.1", "dropout: {uniform: [0, 0.2]}")
    file.write_text(searched + "mini: {model: {dropout: 0}}\n")
    status, printed = main(file)
    assert status == 0
    assert "running the mini scale instead" in printed
    assert "is a search" in refusal(main, file, "--scale", "full", "--allow-cpu", "--name", "x")


def test_full_scale_needs_a_gpu_or_allow_cpu(main, file):
    file.write_text(file.read_text() + "mini: {training: {tokens: 480}}\n")
    message = refusal(main, file, "--scale", "full")
    assert message.startswith("--scale full needs a GPU, and there is none here: ")
    assert "960 tokens" in message
    assert "--allow-cpu" in message
    status, printed = main(file, "--scale", "full", "--allow-cpu")
    assert status == 0
    assert "in full (one run of 960 tokens" in printed


def test_a_finished_run_is_left_as_it_is(main, file, uninterrupted):
    def content():
        return {
            p: (p.read_bytes(), p.stat().st_mtime) for p in uninterrupted.rglob("*") if p.is_file()
        }

    before = content()
    status, printed = main(file, "--name", "uninterrupted", "--resume")
    assert status == 0
    assert printed == "Nothing to do: the run in runs/uninterrupted is finished.\n"
    assert content() == before


def test_runs_that_cannot_be_resumed(main, file, uninterrupted):
    assert "there is no run in runs/tiny" in refusal(main, file, "--resume")
    again = (file, "--name", "uninterrupted", "--resume")
    assert "training.seed was 0 and is 1" in refusal(main, *again, "--set", "training.seed=1")
    (uninterrupted / files.STUDY).write_bytes(b"")
    assert "python -m raygpt.tune" in refusal(main, *again)


def test_an_invalid_name(main, file, capsys):
    for name in ("a/b", "../x", "", "-x"):
        with pytest.raises(SystemExit) as error:
            main(file, f"--name={name}")
        assert error.value.code == 2
        assert "argument --name" in capsys.readouterr().err


@contextlib.contextmanager
def signals_at(step, *numbers):
    """Raises signals before a step of any training in the block."""
    train_step = TrainingRun.train_step

    def interrupted_step(run, segment):
        if run.step == step:
            for number in numbers:
                signal.raise_signal(number)
        train_step(run, segment)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "train_step", interrupted_step)
        yield


@pytest.mark.parametrize(
    ("number", "steps"),
    [(signal.SIGINT, [0, 1, 4, 6, 9]), (signal.SIGTERM, [6])],
    ids=["INT", "TERM"],
)
def test_a_run_interrupted_at_any_step_resumes_identically(
    main, file, uninterrupted, tmp_path, number, steps
):
    for step in steps:
        with signals_at(step, number):
            status, printed = main(file, "--name", f"at-{step}")
        folder = tmp_path / "runs" / f"at-{step}"
        if step == 9:
            # Nothing is left but the last report.
            assert status == 0
        else:
            assert status == 130
            assert f"Interrupted at {(step + 1) * 96} tokens; everything is saved" in printed
            row = load_results(folder).trials.loc[0]
            assert (row["status"], row["checkpoint_tokens"]) == ("running", (step + 1) * 96)
            assert main(file, "--name", f"at-{step}", "--resume")[0] == 0
        assert_same_run(folder, uninterrupted)


def test_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_is_used(
    main, file, uninterrupted, tmp_path
):
    with signals_at(7, signal.SIGINT, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        main(file)
    assert load_results(tmp_path / "runs/tiny").trials.loc[0, "checkpoint_tokens"] == 480
    assert main(file, "--resume")[0] == 0
    assert_same_run(tmp_path / "runs/tiny", uninterrupted)


def test_an_interrupted_run_does_not_go_on_with_other_texts(main, file, corpus, tmp_path):
    with signals_at(7, signal.SIGINT):
        assert main(file)[0] == 130
    other = tmp_path / "other.jsonl"
    other.write_text(corpus.read_text() * 2)
    changed = (file, "--resume", "--set", f"data.corpus=jsonl:{other}")
    assert "runs/tiny was run on other data" in refusal(main, *changed)


def test_a_run_that_diverges(main, file, tmp_path):
    message = refusal(main, file, "--set", "training.learning_rate=1e30")
    assert message.startswith("the run diverged: ")
    row = load_results(tmp_path / "runs/tiny").trials.loc[0]
    assert row["status"] == "diverged"
    assert "loss is" in row["error"]


def test_a_run_that_needs_too_much_memory(main, file, tmp_path, monkeypatch):
    def too_large(learner, inputs, targets):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Learner, "_backward", too_large)
    assert "--set training.micro_batch=1" in refusal(main, file)
    row = load_results(tmp_path / "runs/tiny").trials.loc[0]
    assert row["status"] == "failed"
    assert "not fit in the memory" in row["error"]


# --- as a command -------------------------------------------------------------------------------


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "raygpt.train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_reports(process, wanted):
    for line in process.stdout:
        wanted -= "tokens/s" in line
        if not wanted:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_a_run_resumes_identically_after_ctrl_c_and_a_kill(main, file, tmp_path):
    length = ("--set", "training.tokens=30K", "--set", "training.report_every=1/20")
    folder = tmp_path / "runs/tiny"
    process = command(file, *length)
    read_reports(process, 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, err) == (130, "")
    # Plain lines: neither a bar nor a colour where there is no terminal.
    assert {character for character in out if not character.isprintable()} == {"\n"}
    assert "Interrupted at " in out
    assert list(load_results(folder).trials["status"]) == ["running"]

    process = command(file, *length, "--resume")
    read_reports(process, 9)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(load_results(folder).trials["status"]) == ["running"]

    assert main(file, *length, "--resume")[0] == 0
    assert main(file, *length, "--name", "uninterrupted")[0] == 0
    assert_same_run(folder, tmp_path / "runs/uninterrupted")


def test_every_bad_input_is_one_message(file, tmp_path):
    (tmp_path / "runs/tiny").mkdir(parents=True)
    (tmp_path / "a-file").write_text("")
    attempts = {
        "runs/tiny exists and is not overwritten": [file],
        "tiny.yml: there is no such file": ["tiny.yml"],
        "--set training.tokns=1: training.tokns: unknown key": [file, "--set", "training.tokns=1"],
        "a-file/tiny cannot be made": [file, "--runs-dir", "a-file"],
        "runs/tiny is not a run folder": [file, "--resume"],
        "is a search; to train one": [file, "--set", "model.dropout={uniform: [0, 0.2]}"],
    }
    started = {message: command(*arguments) for message, arguments in attempts.items()}
    for message, process in started.items():
        out, err = process.communicate()
        assert (process.returncode, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err
        assert "Traceback" not in err
    assert list((tmp_path / "runs/tiny").iterdir()) == []
