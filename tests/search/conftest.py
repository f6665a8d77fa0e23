from io import StringIO

import pytest
from rich.console import Console

from raygpt.recipe.search_file import load_search_file
from raygpt.results.tables import RunTables
from raygpt.search.cluster import Placement
from raygpt.search.progress import Progress

# 32 steps of 256 tokens; the rungs are at 2,048, 4,096 and 8,192 tokens.
RECIPE = """\
data: {corpus: sample, tokenizer: bpe-300, context: 32}
model: {d_model: 16, n_layers: 1, n_heads: 2, dropout: {uniform: [0, 0.2]}}
training: {tokens: 8192, batch_tokens: 256, learning_rate: {loguniform: [1e-4, 1e-1]}, seed: 5}
search: {trials: 9, rungs: [1/4, 1/2, 1], reduction_factor: 2}
"""
BUDGETS = (2048, 4096, 8192)
FIXED = ("model.dropout=0.1", "training.learning_rate=1e-3")


@pytest.fixture
def make_search(tmp_path):
    """Makes a search file of two ranges, with overrides of its recipe."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return lambda *overrides: load_search_file(path, overrides=overrides)


@pytest.fixture
def search_file(make_search):
    return make_search()


@pytest.fixture
def without_ranges(make_search):
    return make_search(*FIXED)


@pytest.fixture
def needed():
    """The resources of a trial."""
    return Placement(workers=1, cpus=1, gpus=0)


@pytest.fixture
def folder(tmp_path):
    """The run folder."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def tables(folder, search_file):
    return RunTables(folder, search_file.ranges)


@pytest.fixture
def begin(tables):
    """Begins a trial."""

    def begin_trial(trial_id, dropout=0.1, learning_rate=1e-3, seed=5, **what):
        values = {"model.dropout": dropout, "training.learning_rate": learning_rate}
        tables.begin_trial(trial_id, seed, values, **what)

    return begin_trial


def figures(rung=None, bits_per_byte=2.0, tokens=None):
    """The metrics of a report; of one between rungs if `rung` is None."""
    tokens = tokens or BUDGETS[rung]
    found = {
        "step": tokens // 256,
        "tokens": tokens,
        "tokens_trained": tokens,
        "train_bits_per_token": 5.25,
        "learning_rate": 1e-3,
        "gradient_norm": 0.5,
        "tokens_per_second": 1024.0,
        "seconds": tokens / 1024,
    }
    if rung is None:
        return found
    return found | {
        "rung": rung,
        "rung_time": 2.0**rung,
        "bits_per_byte": bits_per_byte,
        "bits_per_token": 4 * bits_per_byte,
        "next_token_accuracy": 0.25,
    }


@pytest.fixture
def report():
    return figures


@pytest.fixture
def plain():
    """A console that is not a terminal."""
    return Console(file=StringIO(), highlight=False, markup=False, emoji=False)


@pytest.fixture
def progress(tables, search_file, plain):
    return Progress(tables, search_file, plain)
