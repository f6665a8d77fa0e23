import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from raygpt.data.corpora import jsonl
from raygpt.data.dataset import Dataset
from raygpt.data.prepare import default_cache, prepare
from raygpt.data.spread import in_processes
from raygpt.data.tokenizer import train_tokenizer
from raygpt.errors import UserError
from raygpt.recipe.sections import Data

FRACTION = 0.2
EVERYTHING = 10**9
PART_BYTES = 4000
SHORT, LEAST_BYTES = "too short", 12
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def texts():
    """Different texts, none of them too short."""
    words = random.Random(0)
    pool = ["river", "town", "naïve", "ocean", "1815", "日本", "of", "the", "and", "Königsberg"]
    return [f"{n}: " + " ".join(words.choices(pool, k=words.randint(3, 60))) for n in range(1000)]


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory):
    """The texts in two files, some of them twice, and short ones between them."""
    lines = []
    for place, text in enumerate(texts):
        lines += [text, *[SHORT] * (place % 50 == 0), *[texts[place // 2]] * (place % 10 == 0)]
    folder = tmp_path_factory.mktemp("corpus")
    for name, part in (("a.jsonl", lines[:400]), ("b.jsonl", lines[400:])):
        (folder / name).write_text("\n".join(json.dumps({"text": text}) for text in part))
    return f"jsonl:{folder}/*.jsonl"


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    """Small parts, so that a small corpus has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "PART_BYTES", PART_BYTES)
        yield


def made(corpus, cache, train=EVERYTHING, validation=EVERYTHING, tasks=1, on_progress=None, **data):
    settings = {
        "tokenizer": "bpe-300",
        "validation_fraction": FRACTION,
        "min_document_bytes": LEAST_BYTES,
        "cache": str(cache),
    }
    data = Data(corpus=corpus, validation_tokens=validation, **settings | data)
    return prepare(data, train, on_progress, in_processes(tasks))


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    return made(corpus, tmp_path_factory.mktemp("whole"))


def tokens_of(dataset, split):
    stream = getattr(dataset, split)
    return stream.read(0, len(stream))


def texts_of(dataset, split):
    return [dataset.tokenizer.decode(tokens) for tokens in dataset.documents(split)]


def contents(folder):
    """The bytes of all files of a prepared folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def command(corpus, cache, tasks=1):
    """A process that prepares everything and prints a line a shard."""
    program = f"""
from raygpt.data.corpora import jsonl
from raygpt.data.prepare import prepare
from raygpt.data.spread import in_processes
from raygpt.recipe.sections import Data

jsonl.PART_BYTES = {PART_BYTES}
data = Data(corpus={corpus!r}, tokenizer="bpe-300", validation_fraction={FRACTION},
    validation_tokens={EVERYTHING}, min_document_bytes={LEAST_BYTES}, cache={str(cache)!r})
prepare(data, {EVERYTHING}, lambda *counts: print(*counts, flush=True), in_processes({tasks}))
print("done", flush=True)
"""
    return [sys.executable, "-c", program]


def test_every_document_is_in_one_split_once_and_in_order(whole, texts):
    train, validation = texts_of(whole, "train"), texts_of(whole, "validation")
    assert not set(train) & set(validation)
    assert sorted(train + validation) == sorted(texts)
    places = {text: place for place, text in enumerate(texts)}
    for split in (train, validation):
        assert [places[text] for text in split] == sorted(places[text] for text in split)
    assert 0.15 < len(validation) / len(texts) < 0.25


def test_the_split_follows_the_documented_rule(texts, whole):
    def place(text):
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    expected = [text for text in texts if place(text) < FRACTION]
    assert texts_of(whole, "validation") == expected


def test_the_manifest_counts_right(whole, texts):
    manifest = whole.manifest
    assert manifest["exhausted"] is True
    assert manifest["tokenizer"] == whole.tokenizer.name == "bpe-300"
    assert manifest["vocab_size"] == 300
    assert len(manifest["shards"]) > 20
    assert sum(shard["short"] for shard in manifest["shards"]) == 20
    assert sum(shard["duplicates"] for shard in manifest["shards"]) == 100
    sizes = [whole.count(split, "bytes") for split in ("train", "validation")]
    assert sum(sizes) == sum(len(text.encode()) for text in texts)
    for split, size in zip(("train", "validation"), sizes, strict=True):
        tokens = tokens_of(whole, split)
        assert whole.count(split, "documents") == len(texts_of(whole, split))
        assert whole.count(split, "tokens") == len(tokens)
        # The table over tokens agrees with the bytes counted from the text.
        assert size == whole.token_bytes[tokens].sum()


def test_a_small_budget_reads_the_beginning_only(corpus, whole, tmp_path):
    small = made(corpus, tmp_path, 2000, 300)
    assert small.folder.name == whole.folder.name
    assert not small.manifest["exhausted"]
    for split, wanted in (("train", 2000), ("validation", 300)):
        tokens = tokens_of(small, split)
        assert wanted < len(tokens) < len(tokens_of(whole, split))
        assert np.array_equal(tokens, tokens_of(whole, split)[: len(tokens)])
    assert not set(texts_of(small, "train")) & set(texts_of(whole, "validation"))


def test_a_small_budget_opens_only_the_beginning_of_a_large_cache(corpus, whole):
    small = made(corpus, whole.folder.parent, 2000, 300)
    assert 2000 < len(small.train) < len(whole.train)
    assert 300 < len(small.validation) < len(whole.validation)


def test_an_extended_cache_equals_one_prepared_at_once(corpus, whole, tmp_path):
    for budget in (1, 2000, 2001, 9000, EVERYTHING):
        grown = made(corpus, tmp_path, budget, budget // 10 + 1)
    assert contents(grown.folder) == contents(whole.folder)


@pytest.mark.parametrize("tasks", [2, 5])
def test_any_number_of_tasks_gives_the_same_bytes(corpus, whole, tmp_path, tasks):
    assert contents(made(corpus, tmp_path, tasks=tasks).folder) == contents(whole.folder)


def test_either_split_alone_makes_the_cache_grow(corpus, tmp_path):
    first = made(corpus, tmp_path, 1, 1)
    train, validation = len(first.train), len(first.validation)
    second = made(corpus, tmp_path, train, 1)
    assert len(second.train) > train
    third = made(corpus, tmp_path, 1, len(second.validation))
    assert len(third.validation) > len(second.validation) > validation


def test_no_document_is_read_if_the_cache_has_enough(corpus, tmp_path):
    seen = []
    made(corpus, tmp_path, 2000, 300, on_progress=lambda *counts: seen.append(counts))
    train_tokens, text_bytes = seen[-1]
    assert 2000 < train_tokens < text_bytes
    seen.clear()
    made(corpus, tmp_path, 1000, 300, on_progress=lambda *counts: seen.append(counts))
    assert not seen


def test_settings_that_decide_the_tokens_decide_the_folder(corpus, texts, tmp_path):
    other = tmp_path / "b.jsonl"
    other.write_text("\n".join(json.dumps({"text": text + "!"}) for text in texts))
    changes = [
        {},
        {"tokenizer": "bpe-301"},
        {"validation_fraction": 0.3},
        {"min_document_bytes": 100},
        {"corpus": f"jsonl:{other}"},
    ]
    datasets = [made(**{"corpus": corpus, "cache": tmp_path} | change) for change in changes]
    assert len({dataset.folder for dataset in datasets}) == len(changes)
    prints = [dataset.fingerprints(300, 16) for dataset in datasets]
    assert len({found["data"] for found in prints}) == len(changes)
    # The same articles are held out for a larger tokenizer, and 300 of its tokens reach further.
    assert len({found["validation_set"] for found in prints}) == len(changes)


def test_the_validation_set_is_identified_by_its_text(corpus, whole, tmp_path):
    small = made(corpus, tmp_path, 1, 300)
    assert small.fingerprints(300, 16) == whole.fingerprints(300, 16)
    other = whole.fingerprints(301, 16)
    assert other["validation_set"] != whole.fingerprints(300, 16)["validation_set"]


def test_the_tokenizer_is_trained_on_the_training_side_only(whole, tmp_path, corpus, texts):
    held_out = set(texts_of(whole, "validation"))
    lines = [json.loads(line)["text"] for line in read_lines(corpus)]
    expected = train_tokenizer("bpe-300", (text for text in lines if text not in held_out))
    expected.save(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (whole.folder / "tokenizer" / name).read_bytes()


def read_lines(corpus):
    folder = Path(corpus.removeprefix("jsonl:")).parent
    return [line for file in sorted(folder.iterdir()) for line in file.read_text().split("\n")]


def test_one_of_two_processes_prepares_and_both_read(corpus, whole, tmp_path):
    runs = [
        subprocess.Popen(command(corpus, tmp_path), stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=120)[0].splitlines() for run in runs]
    assert all(output[-1] == "done" for output in outputs)
    assert sorted(len(output) == 1 for output in outputs) == [False, True]
    assert contents(tmp_path / whole.folder.name) == contents(whole.folder)


@pytest.mark.parametrize(("shards", "tasks"), [(0, 1), (1, 1), (7, 1), (3, 2), (15, 2)])
def test_a_killed_preparation_resumes_with_the_same_bytes(corpus, whole, tmp_path, shards, tasks):
    run = subprocess.Popen(command(corpus, tmp_path, tasks), stdout=subprocess.PIPE, cwd=ROOT)
    for _ in range(shards):
        run.stdout.readline()
    if shards == 0:  # somewhere between the start and the saved tokenizer
        while not list(tmp_path.glob("*/lock")):
            time.sleep(0.001)
    time.sleep(random.uniform(0, 0.01))
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)  # its child processes hold the pipe
    assert run.returncode == -signal.SIGKILL  # it had not finished
    folder = tmp_path / whole.folder.name
    finished = set(folder.glob("*.tokens"))
    modified = {file: file.stat().st_mtime_ns for file in finished}
    (folder / "00099.tokens").write_bytes(b"left over")
    (folder / ".manifest.json.partial").write_bytes(b"{")
    assert contents(made(corpus, tmp_path).folder) == contents(whole.folder)
    # Finished shards were not made again, except one that the manifest did not list yet.
    assert sum(file.stat().st_mtime_ns != modified[file] for file in finished) <= 1


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_shard_is_found_and_made_again(corpus, whole, tmp_path, harm):
    shutil.copytree(whole.folder, folder := tmp_path / whole.folder.name)
    shard = folder / "00003.tokens"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    if harm == "delete":
        shard.unlink()
    else:
        shard.write_bytes(content if harm == "flip" else content[:-2])
    with pytest.raises(UserError, match=r"00003\.tokens is absent or damaged.*raygpt\.prepare"):
        Dataset.open(folder)
    modified = (folder / "00004.tokens").stat().st_mtime_ns
    assert contents(made(corpus, tmp_path).folder) == contents(whole.folder)
    assert (folder / "00004.tokens").stat().st_mtime_ns == modified


def test_a_damaged_shard_that_is_not_needed_is_left_alone(corpus, whole, tmp_path):
    shutil.copytree(whole.folder, folder := tmp_path / whole.folder.name)
    last = max(folder.glob("*.tokens"))
    last.write_bytes(b"")
    made(corpus, tmp_path, 2000, 300)
    assert last.read_bytes() == b""


def test_a_shard_that_cannot_be_made_again_is_refused(corpus, whole, tmp_path):
    shutil.copytree(whole.folder, folder := tmp_path / whole.folder.name)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["shards"][2]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"no longer has its text. Delete the folder"):
        made(corpus, tmp_path)


def test_a_cache_that_cannot_be_written_stays_usable(corpus, whole, tmp_path):
    # A limit on the size of files stands in for a full disk: both are errors of write(2).
    made(corpus, tmp_path, 2000, 300)
    before = contents(tmp_path / whole.folder.name)
    limit = max(map(len, before.values())) - 1
    program = "\n".join(
        [
            "import resource",
            "from raygpt.errors import UserError",
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))",
            "try:",
            *(f"    {line}" for line in command(corpus, tmp_path)[2].split("\n")),
            "except UserError as error:",
            "    print(error)",
        ]
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    *_, message = run.stdout.splitlines()
    assert "cannot be written" in message
    assert "RAYGPT_CACHE" in message
    assert "File too large" in message
    assert not list(tmp_path.glob("*/*.partial"))
    after = contents(tmp_path / whole.folder.name)
    assert all(after[name] == before[name] for name in before if name != "manifest.json")
    assert len(made(corpus, tmp_path, 2000, 300).train) > 2000
    assert contents(made(corpus, tmp_path).folder) == contents(whole.folder)


@pytest.mark.parametrize("tokenizer", ["gpt2", "bpe-300"])
def test_a_split_without_documents_is_refused(corpus, tmp_path, tokenizer):
    with pytest.raises(UserError, match=r"none into the validation set") as caught:
        made(corpus, tmp_path, tokenizer=tokenizer, validation_fraction=1e-9)
    assert "All 1000 documents" in str(caught.value)
    fraction = float(re.search(r"--set data\.validation_fraction=(\S+)", str(caught.value))[1])
    held_out = made(corpus, tmp_path, tokenizer=tokenizer, validation_fraction=fraction, context=8)
    assert held_out.count("validation", "documents") == 1


def test_a_corpus_of_short_documents_is_refused_and_says_why(corpus, tmp_path):
    with pytest.raises(UserError, match=r"All 1120 documents .*data\.min_document_bytes = 1000000"):
        made(corpus, tmp_path, tokenizer="gpt2", min_document_bytes=10**6)


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_cache_that_is_a_file_is_refused(corpus, tmp_path, below):
    file = tmp_path / "tokens"
    file.touch()
    with pytest.raises(UserError, match=r"tokens is a file\. Name a folder in data\.cache"):
        made(corpus, file / below)


def test_the_default_cache_honours_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("RAYGPT_CACHE", "/mine")
    assert default_cache() == Path("/mine")
    monkeypatch.delenv("RAYGPT_CACHE")
    assert default_cache() == Path("/xdg/raygpt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache() == Path("/home/someone/.cache/raygpt")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"shards": 3}'])
def test_no_shard_is_deleted_if_the_manifest_cannot_be_read(corpus, whole, tmp_path, content):
    shutil.copytree(whole.folder, folder := tmp_path / whole.folder.name)
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json cannot be read .*delete the folder"):
        made(corpus, tmp_path)
    before, after = contents(whole.folder), contents(folder)
    assert after == before | {"manifest.json": content}


def test_a_damaged_tokenizer_is_made_again(corpus, whole, tmp_path):
    shutil.copytree(whole.folder, folder := tmp_path / whole.folder.name)
    merges = folder / "tokenizer" / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"o f", b"f o"))
    with pytest.raises(UserError, match="tokenizer is absent or damaged"):
        Dataset.open(folder)
    assert contents(made(corpus, tmp_path).folder) == contents(whole.folder)


def test_a_tokenizer_that_cannot_be_made_again_is_refused(corpus, whole, tmp_path):
    shutil.copytree(whole.folder, folder := tmp_path / whole.folder.name)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"tokenizer_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"no longer yields the same one.* Delete the folder"):
        made(corpus, tmp_path)


def test_mending_a_shard_reads_the_corpus_only_up_to_it(corpus, whole, tmp_path, monkeypatch):
    shutil.copytree(whole.folder, folder := tmp_path / whole.folder.name)
    (folder / "00001.tokens").write_bytes(b"")
    read = []
    parts = jsonl._parts
    monkeypatch.setattr(
        jsonl, "_parts", lambda *all: (read.append(part) or part for part in parts(*all))
    )
    assert contents(made(corpus, tmp_path).folder) == contents(whole.folder)
    assert len(read) == 2


def test_more_shards_than_a_process_may_have_files_open(tmp_path, texts):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts[:400]))
    program = f"""
import resource
from raygpt.data import dataset
from raygpt.data.corpora import jsonl
from raygpt.data.prepare import prepare
from raygpt.data.spread import in_processes
from raygpt.recipe.sections import Data

jsonl.PART_BYTES = 1
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
data = Data(corpus="jsonl:{tmp_path}/a.jsonl", validation_fraction=0.1,
    min_document_bytes=0, cache={str(tmp_path)!r})
made = prepare(data, 10**9, spread=in_processes(1))
print(len(made.shards), sum(len(made.train.read(n, n + 1)) for n in range(len(made.train))))
print(len(made.train))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    shards, read, tokens = map(int, run.stdout.split())
    assert shards == 400
    assert read == tokens
