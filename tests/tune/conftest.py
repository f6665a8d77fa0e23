import json
import os
import random
import signal
from pathlib import Path

import pytest

from raygpt import train
from raygpt.results.tables import load_results
from raygpt.training.probe import Pace

pytest.register_assert_rewrite("tests.tune.searches")

from tests.tune.searches import Command, overrides  # noqa: E402

# Of 8,192 tokens: 32 steps of 256, with a report in the middle and at the rungs.
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
    """Changes the environment of the commands, until the file's tests are over."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def place(tmp_path_factory, environment):
    """Where the commands run: a recipe on a small corpus, and an environment for the commands and
    the tests, in which Ray has room for two workers.
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
    environment.delenv("RAY_ADDRESS", raising=False)
    environment.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')
    return folder


@pytest.fixture(scope="module")
def start(place):
    """Starts a command; whatever it leaves is ended with the tests."""
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


@pytest.fixture(scope="module")
def poison(place, environment):
    """Poisons the trials of the commands that follow; those that freeze write their process numbers
    to the file `frozen`.
    """
    environment.setenv("PYTHONPATH", str(Path(__file__).parent / "poisoned"), prepend=os.pathsep)
    environment.setenv("FROZEN", str(place / "frozen"))


@pytest.fixture
def train_main(place, monkeypatch, capsys):
    """Trains a recipe in this process; the name of its run, and the row of its table."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    pace = Pace(tokens_per_second=1000.0, evaluation_seconds=1.0)
    monkeypatch.setattr("raygpt.training.probe.measure_pace", lambda *_: pace)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(recipe, runs):
        try:
            assert train.main([str(recipe), "--runs-dir", str(runs)]) == 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        (folder,) = runs.iterdir()
        return folder.name, load_results(folder).trials.loc[0]

    return run
