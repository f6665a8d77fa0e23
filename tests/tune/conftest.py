import contextlib
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from raygpt import train, tune
from raygpt.command import run_command
from raygpt.results.tables import load_results
from raygpt.training.probe import Pace

pytest.register_assert_rewrite("tests.tune.searches")

from tests.tune.searches import (  # noqa: E402
    Command,
    holds_trial,
    overrides,
    restored_signals_and_logging,
)

# 32 steps of 256 tokens; reports at half of the budget and at the rungs.
RECIPE = """\
data: {{corpus: "jsonl:{}", min_document_bytes: 0, tokenizer: bpe-300, context: 32,
  validation_fraction: 0.1, validation_tokens: 500}}
model: {{d_model: 16, n_layers: 1, n_heads: 2, dropout: 0}}
training: {{tokens: 8192, batch_tokens: 256, micro_batch: 8, learning_rate: 1e-2,
  report_every: 1/2, checkpoint_every: 1/2}}
search: {{rungs: [1/4, 1], reduction_factor: 2, sampler: random}}
"""
WORDS = "the of and river city model wide small learning rate long night tree stone house".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def environment():
    """Sets environment variables of the commands for the tests of one file."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def place(tmp_path_factory, environment):
    """The folder in which the commands run, with a recipe `tiny.yaml` on a small corpus.

    It also sets the environment of the commands and the tests: Ray has room for two workers.
    """
    folder = tmp_path_factory.mktemp("tune")
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=40)) for _ in range(200))
    corpus = folder / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "tiny.yaml").write_text(RECIPE.format(corpus))
    environment.chdir(folder)
    environment.setenv("RAYGPT_CACHE", str(folder / "cache"))
    environment.setenv("CUDA_VISIBLE_DEVICES", "")
    environment.setenv("RAY_ADDRESS", "local")  # not a cluster that runs here for other reasons
    environment.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')
    return folder


@pytest.fixture(scope="module")
def start(place):
    """Starts a command. Processes that are left are killed after the tests."""
    started = []

    def start(*arguments, **settings):
        sets = (f"--set={setting}" for setting in overrides(settings))
        started.append(Command(place, *arguments, *sets))
        return started[-1]

    yield start
    for command in started:
        for process in command.processes():
            process.kill()
        command.process.wait()


@pytest.fixture(scope="session")
def running_ray():
    """The address of a Ray that runs already, with room for two workers."""
    program = Path(__file__).with_name("run_ray.py")
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    address = process.stdout.readline().strip()
    assert address, "Ray did not start"
    yield address
    process.communicate()


@pytest.fixture(scope="module")
def run_here(place, running_ray):
    """Runs a command in this process, where it joins the running Ray. This is cheaper than `start`:
    neither Ray nor a process with the driver's imports has to start.

    Returns its exit status and what it printed, after the processes of its trials have ended.
    """
    import ray

    def run(*arguments, **settings):
        sets = (f"--set={setting}" for setting in overrides(settings))
        command_line = [*map(str, arguments), *sets]
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            restored_signals_and_logging(),
        ):
            patch.setenv("RAY_ADDRESS", running_ray)
            try:
                with pytest.raises(SystemExit) as ended:
                    run_command(lambda: tune.main(command_line))
            finally:
                ray.shutdown()
        until = time.monotonic() + 30
        while any(map(holds_trial, psutil.Process().children(recursive=True))):
            assert time.monotonic() < until, "the processes of its trials do not end"
            time.sleep(0.1)
        return ended.value.code, printed.getvalue()

    return run


@pytest.fixture(scope="module")
def poison(place, environment):
    """Poisons the trials of later commands. Those that freeze write their process numbers to the
    file `frozen`.
    """
    environment.setenv("PYTHONPATH", str(Path(__file__).parent / "poisoned"), prepend=os.pathsep)
    environment.setenv("FROZEN", str(place / "frozen"))


@pytest.fixture
def train_main(place, monkeypatch, capsys):
    """Trains a recipe in this process; returns the name of its run and the row of its table."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    pace = Pace(tokens_per_second=1000.0, evaluation_seconds=1.0)
    monkeypatch.setattr("raygpt.training.probe.measure_pace", lambda *_: pace)

    def run(recipe, runs):
        with restored_signals_and_logging():
            assert train.main([str(recipe), "--runs-dir", str(runs)]) == 0
        (folder,) = runs.iterdir()
        return folder.name, load_results(folder).trials.loc[0]

    return run
