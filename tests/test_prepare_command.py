"""The command that prepares tokens, as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from raygpt.data.dataset import Dataset

RECIPE = """\
data: {{corpus: "jsonl:{}", tokenizer: gpt2, context: 32, validation_fraction: 0.1,
  validation_tokens: 5000, min_document_bytes: 20}}
model: {{d_model: 16, n_layers: 1, n_heads: 2, dropout: {{uniform: [0, 0.2]}}}}
training: {{tokens: {}, batch_tokens: 256, learning_rate: 1e-2}}
"""
TEXTS = 7_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """About 28 MB in four parts; the first text is too short, the last one is there twice."""
    file = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    filling = " ".join(f"the {n}th of many houses in the old town" for n in range(100))
    texts = ["a stub", *(f"{n}: {filling}" for n in range(TEXTS)), f"{TEXTS - 1}: {filling}"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


@pytest.fixture
def start(corpus, tmp_path):
    """Starts the command for a budget, on two processes; its cache is below tmp_path by default."""

    def start(tokens, *arguments, cache=tmp_path / "cache"):
        recipe = tmp_path / f"{tokens}.yaml"
        recipe.write_text(RECIPE.format(corpus, tokens))
        return subprocess.Popen(
            [sys.executable, "-m", "raygpt.prepare", str(recipe), "--tasks", "2", *arguments],
            env=os.environ | {"RAYGPT_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process):
    output, errors = process.communicate(timeout=300)
    assert errors == ""
    assert process.returncode == 0
    return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache for all of the corpus."""
    return tmp_path_factory.mktemp("whole")


def test_the_command_describes_the_tokens(start, corpus, whole):
    output = ended(start("1G", cache=whole))
    said = dict(re.split(r"  +", line, maxsplit=1) for line in output.splitlines())
    dataset = Dataset.open(said["folder"])
    tokens = len(dataset.train) + len(dataset.validation)
    assert said["corpus"].startswith(f"jsonl:{corpus}, jsonl sha256:")
    assert said["licence"] == "not known"
    assert said["documents"] == (f"{TEXTS:,} (the whole corpus); left out: 1 short, 1 duplicates")
    assert said["tokens"].startswith(f"{tokens:,} by gpt2, ")
    share = len(dataset.validation) / tokens
    assert f"{share:.2%} of all tokens" in said["validation"]
    assert float(said["seconds"]) > 0
    again = ended(start("1G", cache=whole))
    assert re.sub(r"seconds .*", "", again) == re.sub(r"seconds .*", "", output)


def test_inspection_shows_whole_documents_of_both_splits(start):
    output = ended(start("1M", "--inspect", "2"))
    assert re.search(r"^tokens a document +shortest .* longest$", output, re.M)
    assert re.search(r"^train +[\d,]+ +", output, re.M)
    heads = re.findall(r"^--- (\w+), document ([\d,]+) of ([\d,]+): [\d,]+ tokens$", output, re.M)
    assert [split for split, *_ in heads] == ["train", "train", "validation", "validation"]
    assert [place for _, place, _ in heads[::2]] == ["1", "1"]
    shown = re.findall(r"^(\d+): the 0th of", output, re.M)
    assert len(set(shown)) == 4
    assert output.count("houses in the old town<|endoftext|>\n") == 4


@pytest.mark.slow
def test_repeated_kills_do_not_change_the_bytes(start, whole, tmp_path):
    if not any(whole.iterdir()):
        ended(start("1G", cache=whole))
    cache = tmp_path / "cache"
    kills = 0
    while (shards := len(list(cache.glob("*/*.tokens")))) < 3:
        process = start("1G")
        while len(list(cache.glob("*/*.tokens"))) <= shards and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    assert kills > 1
    ended(start("1G"))
    assert contents(cache) == contents(whole)


def contents(cache):
    files = (path for path in cache.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def test_bad_input_is_one_message(corpus, start, tmp_path):
    corpus = corpus.rename(corpus.with_suffix(".gone"))
    try:
        process = start("1M")
        output, errors = process.communicate(timeout=60)
    finally:
        corpus.rename(corpus.with_suffix(".jsonl"))
    assert (process.returncode, output) == (2, "")
    assert re.fullmatch(r"error: No file matches .*texts\.jsonl'.*\n", errors)
    assert not (tmp_path / "cache").exists()
