import json

import numpy as np
import pytest

from raygpt.data.batches import validation_windows
from raygpt.data.corpora import jsonl
from raygpt.data.dataset import Dataset, TokenStream
from raygpt.data.prepare import prepare
from raygpt.errors import UserError
from raygpt.recipe.sections import Data


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "PART_BYTES", 4000)
    lines = (json.dumps({"text": f"document {n} of many, the {n % 7}th"}) for n in range(500))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    data = Data(
        corpus=f"jsonl:{tmp_path}/a.jsonl",
        tokenizer="bpe-300",
        validation_fraction=0.2,
        min_document_bytes=0,
        cache=str(tmp_path / "cache"),
    )
    return prepare(data, 10**6)


def test_a_stream_reads_across_shards():
    tokens = np.arange(100, dtype=np.uint16)
    stream = TokenStream([tokens[:10], tokens[10:11], tokens[11:60], tokens[60:]])
    assert len(stream) == 100
    for start in range(101):
        for stop in range(start, 101):
            assert stream.read(start, stop).tolist() == list(range(start, stop))


def test_a_read_within_a_shard_copies_nothing():
    shards = [np.arange(10, dtype=np.uint16), np.arange(10, 20, dtype=np.uint16)]
    stream = TokenStream(shards)
    assert np.shares_memory(stream.read(10, 20), shards[1])
    assert stream.read(9, 11).dtype == np.uint16


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 11)])
def test_a_read_outside_the_stream_is_refused(start, stop):
    with pytest.raises(IndexError):
        TokenStream([np.arange(10, dtype=np.uint16)]).read(start, stop)


def test_opening_gives_what_was_prepared(dataset):
    again = Dataset.open(str(dataset.folder))
    assert len(again.shards) > 2
    assert again.manifest == dataset.manifest
    assert again.vocab_size == again.tokenizer.vocab_size == len(again.token_bytes) == 300
    everything = again.train.read(0, len(again.train))
    assert np.array_equal(everything, dataset.train.read(0, len(dataset.train)))
    assert again.tokenizer.decode(everything).startswith("document ")


@pytest.mark.parametrize("harm", [lambda c: c[:-2], lambda c: b"\0" + c[1:], lambda c: c + c])
def test_a_damaged_or_missing_shard_is_refused(dataset, harm):
    shard = dataset.folder / "00001.tokens"
    shard.write_bytes(harm(shard.read_bytes()))
    with pytest.raises(UserError, match=f"{shard.name} is absent or damaged"):
        Dataset.open(dataset.folder)
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} is absent or damaged"):
        Dataset.open(dataset.folder)


def test_documents_come_back_whole(dataset):
    texts = {
        dataset.tokenizer.decode(tokens)
        for split in ("train", "validation")
        for tokens in dataset.documents(split)
    }
    assert texts == {f"document {n} of many, the {n % 7}th" for n in range(500)}


def test_the_validation_set_is_identified_by_its_text(dataset):
    whole = dataset.fingerprints(10**9, 16)
    assert dataset.fingerprints(len(dataset.validation), 16) == whole
    some = dataset.fingerprints(100, 16)
    assert some["data"] == whole["data"]
    assert some["validation_set"] != whole["validation_set"]


@pytest.mark.parametrize("context", [8, 16, 100])
@pytest.mark.parametrize("wanted", [100, 101, 10**9])
def test_the_scored_tokens_are_those_of_the_validation_windows(dataset, context, wanted):
    windows = validation_windows(dataset.validation, context, wanted)
    _, targets = windows.sequences(0, len(windows))
    scored = targets[targets != dataset.tokenizer.end_of_document]
    found = dataset.fingerprints(wanted, context)
    assert found["context"] == context
    assert found["scored_tokens"] == len(scored) < targets.numel()
    assert found["scored_bytes"] == len(dataset.tokenizer.decode(scored.numpy()).encode())


def test_a_validation_set_of_less_than_a_window_has_nothing_to_score(dataset):
    found = dataset.fingerprints(10, 16)
    assert (found["scored_tokens"], found["scored_bytes"]) == (0, 0)


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no prepared data"):
        Dataset.open(tmp_path)
