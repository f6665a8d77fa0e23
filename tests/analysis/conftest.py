import math

import numpy as np
import pytest
import torch

from raygpt.analysis.run import load_results
from raygpt.data.batches import Windows
from raygpt.data.dataset import TokenStream
from raygpt.data.tokenizer import train_tokenizer
from raygpt.recipe.search_file import load_search_file
from raygpt.recipe.sections import Model
from raygpt.results.tables import RunTables
from raygpt.training.model import GPT

SEARCH = """\
name: made
data: {corpus: sample, tokenizer: bpe-1024, context: 128, validation_tokens: 32000}
model: {d_model: 32, n_layers: 2, n_heads: 2, dropout: {uniform: [0.0, 0.2]}}
training:
  tokens: 1200000
  batch_tokens: 512
  learning_rate: {loguniform: [2e-3, 2e-2], start: 4e-3}
  weight_decay: {loguniform: [1e-3, 1.0]}
search: {rungs: [1/3, 1]}
"""
RUNG, BUDGET = 399_872, 1_200_128
BYTES_PER_TOKEN = 2.5
VOCABULARY = 270


# --- searches -----------------------------------------------------------------------------------


def true_bits_per_byte(values, tokens):
    """A smooth bowl: the learning rate matters most, then dropout, weight decay hardly."""
    rate = math.log(values["training.learning_rate"] / 6e-3)
    decay = math.log(values["training.weight_decay"] / 0.1)
    bowl = 0.15 * rate**2 + 6 * (values["model.dropout"] - 0.05) ** 2 + 0.0005 * decay**2
    return 2.6 + bowl + 0.9 * math.exp(-3 * tokens / BUDGET)


def figures(tokens, values, noise, cooldown=False, rung=None, before=0):
    """The figures of a report."""
    bits = true_bits_per_byte(values, tokens) + noise - 0.02 * cooldown
    peak = values["training.learning_rate"]
    found = {
        "tokens": tokens,
        "tokens_trained": tokens + before,
        "cooldown": cooldown,
        "train_bits_per_token": BYTES_PER_TOKEN * (bits + 0.01),
        "learning_rate": peak * (1 - tokens / (RUNG if cooldown else BUDGET)),
        "gradient_norm": 0.5,
        "tokens_per_second": 25_000.0,
        "seconds": (tokens + before) / 25_000,
    }
    if rung is None:
        return found
    scores = {"bits_per_byte": bits, "bits_per_token": BYTES_PER_TOKEN * bits}
    return found | scores | {"rung": rung, "next_token_accuracy": 0.1}


def make_search(folder, trials, seed=0, reports=10, search=SEARCH):
    """A finished search of a smooth objective: random values, the best third continues at the rung.

    Of every 50 trials one diverges and one fails; the first is the baseline, which continues.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.yaml").write_text(
        search.replace("search: {", f"search: {{trials: {trials}, ")
    )
    ranges = load_search_file(folder / "search.yaml").ranges
    tables = RunTables(folder, ranges)
    random = np.random.default_rng(seed)
    judged = []
    for number in range(trials):
        name = f"{number:04}"
        values = {
            "model.dropout": float(random.uniform(0, 0.2)),
            "training.learning_rate": float(2e-3 * 10 ** random.uniform()),
            "training.weight_decay": float(10 ** random.uniform(-3, 0)),
        }
        if number == 0:
            values = {
                name: load_search_file(folder / "search.yaml").start_values()[name]
                for name in values
            }
        tables.begin_trial(name, 0, values, baseline=number == 0)
        noise = float(random.normal(0, 0.005))
        train(tables, name, values, noise, reports, judged, number)
    tables.flush()
    return tables


def train(tables, name, values, noise, reports, judged, number):
    leaves = RUNG // 2
    steps = [BUDGET * n // reports for n in range(1, reports)]
    for tokens in (step for step in steps if step < leaves):
        tables.add_report(name, figures(tokens, values, noise))
    if number % 50 == 7:
        tables.end_trial(name, "failed", "OSError: [/disk] is full </script><b>")
        return
    for tokens in (step for step in steps if leaves <= step < RUNG):
        tables.add_report(name, figures(tokens, values, noise, cooldown=True))
    tables.add_report(name, figures(RUNG, values, noise, cooldown=True, rung=0))
    if number % 50 == 13:
        tables.end_trial(name, "diverged", "the training loss is nan")
        return
    judged.append(tables.trial(name)["bits_per_byte"])
    if number and judged[-1] > np.quantile(judged, 1 / 3):
        tables.end_trial(name, "stopped")
        return
    for tokens in (step for step in steps if step >= leaves):
        tables.add_report(name, figures(tokens, values, noise, before=RUNG - leaves))
    tables.add_report(name, figures(BUDGET, values, noise, rung=1, before=RUNG - leaves))
    tables.end_trial(name, "completed")


@pytest.fixture(scope="session")
def made_search(tmp_path_factory):
    """Makes a finished search with a number of trials in a new folder, and returns its tables."""
    return lambda trials, **options: make_search(
        tmp_path_factory.mktemp("runs") / "made", trials, **options
    )


@pytest.fixture(scope="session")
def hundred(made_search):
    """The results of a finished search of 100 trials. Not to be changed."""
    return load_results(made_search(100).folder)


@pytest.fixture(scope="session")
def confirmed(tmp_path_factory):
    """The folder of a search of 16 whose baseline and best trial were confirmed by three runs."""
    tables = make_search(tmp_path_factory.mktemp("runs") / "confirmed", 16)
    best = tables.best()
    values = {name: best[name] for name in tables.searched}
    start = {name: tables.trial("0000")[name] for name in tables.searched}
    for number in range(1, 4):
        for trial_id, its, noise in (("0000", start, 0.1), (best["trial_id"], values, 0.0)):
            name = f"{trial_id}-{number}"
            tables.begin_trial(name, number, its, confirms=trial_id)
            tables.add_report(name, figures(BUDGET, its, noise + 0.002 * number, rung=1))
            tables.end_trial(name, "completed")
    tables.flush()
    return tables.folder


# --- models -------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The models are so small that threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    """The models' tokenizer."""
    text = "the cat sat on the mat and that was that, said the cat " * 9
    return train_tokenizer(f"bpe-{VOCABULARY}", [text])


@pytest.fixture(scope="session")
def gpt_of():
    """Makes a model, the same at every call, whose heads prefer some keys strongly to others."""

    def make(context=16, **shape):
        torch.manual_seed(0)
        recipe = Model(**{"d_model": 24, "n_layers": 3, "n_heads": 4, "dropout": 0} | shape)
        model = GPT(recipe, VOCABULARY, context)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return model

    return make


@pytest.fixture(scope="session")
def windows_of():
    """Makes windows of random tokens."""

    def make(context=16, count=5):
        tokens = np.random.default_rng(1).integers(0, VOCABULARY, count * context + 1)
        stream = TokenStream([tokens.astype(np.uint16)])
        return Windows(stream, context, count * context, "validation")

    return make
