import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from raygpt.data import shards as module
from raygpt.data.dataset import Dataset
from raygpt.data.shards import default_cache, prepare
from raygpt.errors import UserError

FRACTION = 0.2
EVERYTHING = 10**9
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def texts():
    words = random.Random(0)
    pool = ["river", "town", "naïve", "ocean", "1815", "日本", "of", "the", "and", "Königsberg"]
    return [f"{n}: " + " ".join(words.choices(pool, k=words.randint(3, 60))) for n in range(1000)]


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory):
    file = tmp_path_factory.mktemp("corpus") / "a.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return f"jsonl:{file}"


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    cache = tmp_path_factory.mktemp("whole")
    return prepare(corpus, "bpe-300", FRACTION, EVERYTHING, EVERYTHING, cache)


def tokens_of(dataset, split):
    stream = getattr(dataset, split)
    return stream.read(0, len(stream))


def documents_of(dataset, split):
    tokens = tokens_of(dataset, split)
    ends = np.flatnonzero(tokens == dataset.tokenizer.end_of_document)
    assert ends[-1] == len(tokens) - 1
    parts = np.split(tokens, ends + 1)[:-1]
    return [dataset.tokenizer.decode(part[:-1]) for part in parts]


def assert_same(dataset, whole):
    for split in ("train", "validation"):
        assert np.array_equal(tokens_of(dataset, split), tokens_of(whole, split))
        ours, theirs = (d.manifest["splits"][split].copy() for d in (dataset, whole))
        del ours["shards"], theirs["shards"]
        assert ours == theirs


def command(corpus, cache, train_tokens=EVERYTHING, shard_tokens=2**26):
    program = f"""
from pathlib import Path
from raygpt.data.shards import prepare
prepare({corpus!r}, "bpe-300", {FRACTION}, {train_tokens}, {train_tokens}, Path({str(cache)!r}),
        lambda *tokens: print(*tokens, flush=True), shard_tokens={shard_tokens})
print("done", flush=True)
"""
    return [sys.executable, "-c", program]


def test_every_document_is_in_one_split_and_in_order(whole, texts):
    train, validation = documents_of(whole, "train"), documents_of(whole, "validation")
    assert not set(train) & set(validation)
    assert sorted(train + validation) == sorted(texts)
    places = {text: place for place, text in enumerate(texts)}
    for split in (train, validation):
        assert [places[text] for text in split] == sorted(places[text] for text in split)
    assert 0.15 < len(validation) / len(texts) < 0.25


def test_the_split_is_the_published_rule(texts, whole):
    def place(text):
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    expected = [text for text in texts if place(text) < FRACTION]
    assert documents_of(whole, "validation") == expected


def test_the_manifest_counts_right(whole, texts):
    manifest = whole.manifest
    assert manifest["exhausted"] is True
    assert manifest["tokenizer"] == whole.tokenizer.name == "bpe-300"
    assert manifest["vocab_size"] == 300
    assert manifest["dtype"] == "<u2"
    splits = manifest["splits"]
    assert sum(s["bytes"] for s in splits.values()) == sum(len(t.encode()) for t in texts)
    for split, counts in splits.items():
        tokens = tokens_of(whole, split)
        assert counts["documents"] == len(documents_of(whole, split))
        assert counts["tokens"] == len(tokens) == sum(s["tokens"] for s in counts["shards"])
        # The table over tokens agrees with the bytes counted from the text.
        assert counts["bytes"] == whole.token_bytes[tokens].sum()
        for shard in counts["shards"]:
            content = (whole.folder / shard["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == shard["sha256"]


def test_a_small_budget_reads_the_beginning_only(corpus, whole, tmp_path):
    small = prepare(corpus, "bpe-300", FRACTION, 2000, 300, tmp_path)
    assert small.folder.name == whole.folder.name
    assert not small.manifest["exhausted"]
    for split, wanted in (("train", 2000), ("validation", 300)):
        tokens = tokens_of(small, split)
        assert wanted < len(tokens) < len(tokens_of(whole, split))
        assert np.array_equal(tokens, tokens_of(whole, split)[: len(tokens)])
    assert not set(documents_of(small, "train")) & set(documents_of(whole, "validation"))


def test_an_extended_cache_equals_one_prepared_at_once(corpus, whole, tmp_path):
    for budget in (1, 2000, 2001, 9000, EVERYTHING):
        grown = prepare(corpus, "bpe-300", FRACTION, budget, budget // 10, tmp_path)
    assert len(grown.manifest["splits"]["train"]["shards"]) >= 3
    assert_same(grown, whole)


def test_either_split_alone_makes_the_cache_grow(corpus, tmp_path):
    first = prepare(corpus, "bpe-300", FRACTION, 1, 1, tmp_path)
    train, validation = len(first.train), len(first.validation)
    second = prepare(corpus, "bpe-300", FRACTION, train, 1, tmp_path)
    assert len(second.train) > train
    third = prepare(corpus, "bpe-300", FRACTION, 1, len(second.validation), tmp_path)
    assert len(third.validation) > len(second.validation) > validation


def test_small_shards_hold_the_same_stream(corpus, whole, tmp_path):
    cut = prepare(corpus, "bpe-300", FRACTION, EVERYTHING, EVERYTHING, tmp_path, shard_tokens=1000)
    assert len(cut.manifest["splits"]["train"]["shards"]) > 5
    assert_same(cut, whole)


def test_enough_in_the_cache_means_no_document_is_read(corpus, tmp_path):
    seen = []
    prepare(corpus, "bpe-300", FRACTION, 2000, 300, tmp_path, lambda *t: seen.append(t))
    assert seen
    assert seen[-1][0] > 2000
    assert seen[-1][1] > 300
    seen.clear()
    prepare(corpus, "bpe-300", FRACTION, 1000, 300, tmp_path, lambda *t: seen.append(t))
    assert not seen


def test_what_decides_the_tokens_decides_the_folder(corpus, texts, tmp_path):
    other = tmp_path / "b.jsonl"
    other.write_text("\n".join(json.dumps({"text": text + "!"}) for text in texts))
    folders = {
        prepare(c, t, f, 100, 10, tmp_path).folder
        for c, t, f in [
            (corpus, "bpe-300", 0.2),
            (corpus, "bpe-301", 0.2),
            (corpus, "bpe-300", 0.3),
            (f"jsonl:{other}", "bpe-300", 0.2),
        ]
    }
    assert len(folders) == 4


def test_the_tokenizer_is_trained_on_the_training_side_only(corpus, texts, whole, tmp_path):
    training_side = documents_of(whole, "train")
    expected = module.train_tokenizer("bpe-300", training_side)
    expected.save(tmp_path)
    assert (tmp_path / "merges.txt").read_bytes() == (
        whole.folder / "tokenizer" / "merges.txt"
    ).read_bytes()


def test_large_vocabularies_take_four_bytes_a_token(tmp_path):
    # Three new merges a line, of which each line says its own twice, pass 65,536 tokens.
    letters = random.Random(0)
    alphabet = [chr(c) for c in range(0x4E00, 0x4E00 + 20000)]
    lines = ["".join(letters.choices(alphabet, k=4)) for _ in range(24000)]
    text = "\n".join(json.dumps({"text": f"{line} {line}"}) for line in lines)
    (tmp_path / "a.jsonl").write_text(text)
    dataset = prepare(f"jsonl:{tmp_path}/a.jsonl", "bpe-66000", 0.01, 5000, 10, tmp_path)
    assert dataset.manifest["dtype"] == "<u4"
    tokens = tokens_of(dataset, "train")
    assert tokens.dtype == np.uint32
    assert tokens.max() == dataset.tokenizer.end_of_document == 65999
    documents = documents_of(dataset, "train")
    assert set(documents) <= {f"{line} {line}" for line in lines}


def test_of_two_processes_one_prepares_and_both_read(corpus, whole, tmp_path):
    runs = [
        subprocess.Popen(command(corpus, tmp_path), stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=120)[0].splitlines() for run in runs]
    assert all(output[-1] == "done" for output in outputs)
    assert sorted(len(output) == 1 for output in outputs) == [False, True]
    assert_same(Dataset.open(tmp_path / whole.folder.name), whole)


@pytest.mark.parametrize("batches", [0, 1, 3, 6, 11])
def test_a_kill_while_writing_leaves_nothing_wrong(corpus, whole, tmp_path, batches):
    run = subprocess.Popen(
        command(corpus, tmp_path, shard_tokens=100), stdout=subprocess.PIPE, cwd=ROOT
    )
    for _ in range(batches):
        run.stdout.readline()
    if batches == 0:  # somewhere between the start and the saved tokenizer
        while not list(tmp_path.glob("*/lock")):
            time.sleep(0.001)
    time.sleep(random.uniform(0, 0.01))
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL  # it had not come to its end
    folder = tmp_path / whole.folder.name
    (folder / "train-00099.bin").write_bytes(b"left over")
    (folder / "manifest.json.part").write_bytes(b"{")
    (folder / "tokenizer.part").mkdir(exist_ok=True)
    dataset = prepare(corpus, "bpe-300", FRACTION, EVERYTHING, EVERYTHING, tmp_path)
    assert_same(dataset, whole)
    listed = {s["file"] for c in dataset.manifest["splits"].values() for s in c["shards"]}
    assert {path.name for path in folder.iterdir()} <= listed | {
        "manifest.json",
        "tokenizer",
        "lock",
    }


def test_a_cache_that_cannot_be_written_stays_usable(corpus, whole, tmp_path):
    # A limit on the size of files stands in for a full disk: both are errors of write(2).
    program = f"""
import resource
from pathlib import Path
from raygpt.data.shards import prepare
from raygpt.errors import UserError
cache = Path({str(tmp_path)!r})
prepare({corpus!r}, "bpe-300", {FRACTION}, 1, 1, cache)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    prepare({corpus!r}, "bpe-300", {FRACTION}, 10**9, 10**9, cache)
except UserError as error:
    print(error)
print(len(prepare({corpus!r}, "bpe-300", {FRACTION}, 1, 1, cache).train) > 1)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    message, usable = run.stdout.splitlines()
    assert "cannot be written" in message
    assert "RAYGPT_CACHE" in message
    assert "File too large" in message
    assert usable == "True"
    assert not list(tmp_path.glob("*/*.part"))
    dataset = prepare(corpus, "bpe-300", FRACTION, EVERYTHING, EVERYTHING, tmp_path)
    assert_same(dataset, whole)


@pytest.mark.parametrize(
    ("fraction", "split", "change"), [(1e-9, "validation", "Raise"), (1 - 1e-9, "train", "Lower")]
)
def test_a_split_without_documents_is_refused(corpus, tmp_path, fraction, split, change):
    with pytest.raises(
        UserError, match=rf"{split} split .*data\.validation_fraction.* {change} it"
    ):
        prepare(corpus, "gpt2", fraction, EVERYTHING, EVERYTHING, tmp_path)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_a_fraction_outside_its_range_is_refused(corpus, tmp_path, fraction):
    with pytest.raises(UserError, match=r"data\.validation_fraction is"):
        prepare(corpus, "gpt2", fraction, 1, 1, tmp_path)


def test_the_default_cache_honours_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("RAYGPT_CACHE", "/mine")
    assert default_cache() == Path("/mine")
    monkeypatch.delenv("RAYGPT_CACHE")
    assert default_cache() == Path("/xdg/raygpt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache() == Path("/home/someone/.cache/raygpt")
