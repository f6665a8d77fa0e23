"""A search over a model of the user's own: the example of docs/own_model.md."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raygpt.analysis.run import load_results
from raygpt.recipe.own_model import COPY
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from tests.tune.searches import SPEED, assert_consistent

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "rotary_gpt"
BASE = "model.rotary_base"
TINY = {
    "model__module": "my_model.py:RotaryGPT",
    "data__tokenizer": "bpe-300",
    "data__context": "32",
    "data__min_document_bytes": "0",
    "data__validation_tokens": "500",
    "model__d_model": "16",
    "model__n_layers": "1",
    "training__tokens": "8192",
    "training__batch_tokens": "256",
    "training__micro_batch": "8",
    "search__trials": "4",
    "search__concurrent": "2",
}


def command(place, name, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"raygpt.{name}", *map(str, arguments)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def searched(start, place):
    """The run folder of a search, whose model's file was edited when it had begun."""
    shutil.copy(EXAMPLE / "model.py", place / "my_model.py")
    corpus = {"data__corpus": f"jsonl:{place}/texts.jsonl"}
    arguments = (EXAMPLE / "search.yaml", "--scale=mini", "--name=rotary", SPEED)
    folder = place / "runs" / "rotary"
    search = start(*arguments, **corpus, **TINY)
    # Before the trials' processes are there: they must not need the file.
    search.wait_until((folder / files.SEARCH).exists)
    (place / "my_model.py").write_text("raise SystemExit('nobody may run this')\n")
    status, printed = search.ended()
    assert status == 0, printed
    return folder


def test_the_models_own_keys_are_searched(searched):
    results = assert_consistent(searched)
    trials = results.trials
    assert set(trials["status"]) <= {"completed", "stopped"}
    assert len(trials) == trials[BASE].nunique() == 4
    assert trials.loc[trials["trial_id"] == "0000", BASE].item() == 10_000
    assert trials[BASE].between(100, 100_000).all()
    assert all(float(f"{value:.4g}") == value for value in trials[BASE])


def test_the_run_folder_keeps_the_searched_model(searched):
    assert (searched / COPY).read_bytes() == (EXAMPLE / "model.py").read_bytes()
    found = load_search_file(searched / files.SEARCH)
    assert BASE in found.ranges
    assert found.fixed["model.mlp_ratio"] == 4.0
    best = load_search_file(searched / files.BEST_RECIPE).single_recipe()
    assert best.model.own == found.own
    assert best.model.rotary_base in list(load_results(searched).trials[BASE])


def test_an_edited_model_file_is_not_resumed(searched, place):
    shutil.copy(EXAMPLE / "model.py", place / "edited.py")
    (place / "my_model.py").write_text((place / "edited.py").read_text() + "\n# edited\n")
    module = f"--set=model.module={TINY['model__module']}"
    refused = command(place, "tune", EXAMPLE / "search.yaml", module, "--name=rotary", "--resume")
    assert refused.returncode == 2
    assert f"the file of model.module ({place}/my_model.py) has changed" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_best_own_model_continues_a_text(searched, place):
    sampled = command(place, "sample", searched, "the river", "--tokens=5", "--seed=1")
    assert sampled.returncode == 0, sampled.stderr
    assert sampled.stdout.startswith("the river")
    assert len(sampled.stdout.strip()) > len("the river")


def test_export_and_attention_refuse_an_own_model(searched, place):
    exported = command(place, "export", searched, "--out", place / "exported")
    assert exported.returncode == 2
    (line,) = exported.stderr.splitlines()
    assert "raygpt's own GPT" in line
    assert "Traceback" not in exported.stderr
    report = command(place, "report", searched)
    assert report.returncode == 0, report.stderr
    assert "raygpt's own GPT" in report.stderr
    assert BASE.rpartition(".")[2] in (searched / "report.html").read_text()
