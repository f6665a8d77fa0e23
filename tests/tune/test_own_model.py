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
    "search__confirm": "{top: 1, seeds: 2}",
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
    """The run folder of the search. The model's file has been edited since."""
    shutil.copy(EXAMPLE / "model.py", place / "my_model.py")
    corpus = {"data__corpus": f"jsonl:{place}/texts.jsonl"}
    arguments = (EXAMPLE / "search.yaml", "--scale=mini", "--name=rotary", SPEED)
    status, printed = start(*arguments, **corpus, **TINY).ended()
    assert status == 0, printed
    (place / "my_model.py").write_text("raise SystemExit('nobody may run this')\n")
    return place / "runs" / "rotary"


def test_its_own_keys_are_searched(searched):
    results = assert_consistent(searched)
    trials = results.trials
    assert set(trials["status"]) <= {"completed", "stopped"}
    assert trials["confirms"].notna().sum() == 4
    own = trials[trials["confirms"].isna()]
    assert len(own) == 4
    assert own.loc[0, BASE] == 10_000
    assert own[BASE].nunique() == 4
    assert own[BASE].between(100, 100_000).all()
    assert all(float(f"{value:.4g}") == value for value in own[BASE])


def test_its_run_folder_has_what_was_searched(searched):
    assert (searched / COPY).read_bytes() == (EXAMPLE / "model.py").read_bytes()
    found = load_search_file(searched / files.SEARCH)
    assert BASE in found.ranges
    assert found.fixed["model.mlp_ratio"] == 4.0
    best = load_search_file(searched / files.BEST_RECIPE).single_recipe()
    assert best.model.own == found.own
    assert best.model.rotary_base in list(load_results(searched).trials[BASE])


def test_an_edited_file_is_no_resumption(searched, place):
    shutil.copy(EXAMPLE / "model.py", place / "edited.py")
    (place / "my_model.py").write_text((place / "edited.py").read_text() + "\n# edited\n")
    refused = command(
        place, "tune", EXAMPLE / "search.yaml", "--scale=mini", "--name=rotary", "--resume"
    )
    assert refused.returncode == 2
    assert f"the file of model.module ({place}/my_model.py) has changed" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_its_best_model_continues_a_text(searched, place):
    sampled = command(place, "sample", searched, "the river", "--tokens=5", "--seed=1")
    assert sampled.returncode == 0, sampled.stderr
    assert sampled.stdout.startswith("the river")
    assert len(sampled.stdout.strip()) > len("the river")


def test_what_needs_to_look_inside_says_that_it_cannot(searched, place):
    exported = command(place, "export", searched, "--out", place / "exported")
    assert exported.returncode == 2
    (line,) = exported.stderr.splitlines()
    assert "raygpt's own GPT" in line
    assert "Traceback" not in exported.stderr
    report = command(place, "report", searched)
    assert report.returncode == 0, report.stderr
    assert "raygpt's own GPT" in report.stderr
    assert BASE.rpartition(".")[2] in (searched / "report.html").read_text()
