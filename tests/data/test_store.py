import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from raygpt.data import shards
from raygpt.data.dataset import read_manifest
from raygpt.data.prepare import prepare
from raygpt.data.shards import Shards
from raygpt.data.store import Store
from raygpt.errors import UserError
from raygpt.recipe.corpora import is_uri
from raygpt.recipe.sections import Data

KEY = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The address of a bucket on a server that speaks S3, on this machine."""
    pytest.importorskip("moto.server", reason="needs moto, which the extra test has")
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("w") as stderr:
        program = "from moto.server import main; main(['-p', '0'])"
        server = subprocess.Popen([sys.executable, "-c", program], stderr=stderr)
    try:
        while not (found := re.search(r"Running on http://(\S+)", log.read_text())):
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        address = found[1]
        request = urllib.request.Request(f"http://{address}/bucket", method="PUT")
        urllib.request.urlopen(request).close()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in KEY.items():
                patch.setenv(name, value)
            yield f"s3://bucket/{{}}?endpoint_override={address}&scheme=http&region=us-east-1"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(params=["file", "s3"])
def uri(request, tmp_path):
    """The URI of an empty folder in a store."""
    if request.param == "file":
        return f"file://{tmp_path}/store"
    return request.getfixturevalue("s3").format(tmp_path.name)


@pytest.fixture
def corpus(tmp_path):
    texts = (f"the river {n} flows past the old town {n * n}" for n in range(600))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return f"jsonl:{tmp_path}/a.jsonl"


@pytest.fixture
def machine(tmp_path, monkeypatch, corpus, uri):
    """Prepares the corpus as on a machine of that name; returns how many shards it made itself."""
    monkeypatch.setattr("raygpt.data.corpora.jsonl.PART_BYTES", 4000)
    data = Data(
        corpus=corpus,
        tokenizer="bpe-280",
        validation_fraction=0.2,
        validation_tokens=10,
        min_document_bytes=10,
        cache=uri,
    )

    def prepared(name, train_tokens):
        monkeypatch.setenv("RAYGPT_CACHE", str(tmp_path / name))
        made = []
        dataset = prepare(data, train_tokens, lambda *counts: made.append(counts))
        assert dataset.folder.parent == tmp_path / name
        return dataset, len(made)

    return prepared


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_files_are_read_as_they_were_written(uri):
    store = Store(uri, "folder")
    assert store.read("a/b") is None
    store.write("a/b", b"content")
    assert Store(uri, "folder").read("a/b") == b"content"
    assert Store(uri, "other").read("a/b") is None


def test_machines_reuse_the_shards_of_another_machine(machine):
    first, made = machine("one", 10**9)
    assert made > 5
    second, made = machine("two", 10**9)
    assert made == 0
    assert contents(second.folder) == contents(first.folder)


def test_only_needed_shards_are_copied_and_further_ones_are_added(machine):
    machine("one", 3000)
    few, made = machine("two", 1)
    assert made == 0
    assert len(list(few.folder.glob("*.tokens"))) == 1
    _, made = machine("two", 10**9)
    assert made > 0
    all_of_it, made = machine("one", 10**9)
    assert made == 0
    assert all_of_it.manifest["exhausted"]
    # The store still has all shards.
    machine("two", 1)
    assert machine("three", 10**9)[1] == 0


@pytest.mark.parametrize("harm", [lambda c: c[:-2], lambda c: b"\0" + c[1:]])
def test_a_shard_damaged_in_the_store_is_made_again(machine, uri, harm):
    first, _ = machine("one", 10**9)
    store = Store(uri, first.folder.name)
    whole = store.read("00002.tokens")
    store.write("00002.tokens", harm(whole))
    second, _ = machine("two", 10**9)
    assert contents(second.folder) == contents(first.folder)
    assert store.read("00002.tokens") == whole


def test_a_shard_lost_here_is_copied_from_the_store(machine):
    first, _ = machine("one", 10**9)
    before = contents(first.folder)
    (first.folder / "00001.tokens").write_bytes(b"damaged")
    _, made = machine("one", 10**9)
    assert made == 0
    assert contents(first.folder) == before
    shutil.rmtree(first.folder)
    machine("one", 10**9)
    assert contents(first.folder) == before
    assert read_manifest(first.folder) == first.manifest


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http&region=x", "nowhere://bucket/x"],
    ids=["nobody answers", "no such kind"],
)
def test_a_store_that_cannot_be_reached_is_one_message(uri, corpus, monkeypatch):
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    data = Data(corpus=corpus, tokenizer="bpe-280", min_document_bytes=10, cache=uri)
    with pytest.raises(UserError, match=r"data\.cache: .* cannot be .*name a folder instead"):
        prepare(data, 10)


def test_uris_and_paths():
    assert is_uri("s3://bucket/x")
    assert not any(map(is_uri, ("/data/cache", "C:\\data", "cache", "~/x", "")))
    cache = Data(cache="relative").cache
    assert cache == os.path.abspath("relative")  # noqa: PTH100
    assert Data(cache="s3://bucket/x").cache == "s3://bucket/x"


def test_a_new_store_gets_the_shards_of_this_machine(machine, uri, monkeypatch):
    with monkeypatch.context() as refusing:
        refusing.setattr(Store, "write", refuse)
        with pytest.raises(UserError, match="it refuses"):
            machine("one", 10**9)
    # It was refused before the tokenising.
    assert not list(Path(os.environ["RAYGPT_CACHE"]).glob("*/*.tokens"))
    with monkeypatch.context() as silent:
        silent.setattr(Store, "write", lambda *_: None)
        first, _ = machine("one", 10**9)
    assert Store(uri, first.folder.name).read("manifest.json") is None
    assert machine("one", 10**9)[1] == 0
    second, made = machine("two", 10**9)
    assert made == 0
    assert contents(second.folder) == contents(first.folder)


def refuse(store, name, content):
    raise UserError("it refuses")


def test_a_lost_machine_has_sent_most_shards(machine, monkeypatch):
    write_shard = Shards._write_shard

    def die(shards, number, part):
        if number == 8:
            raise KeyboardInterrupt
        write_shard(shards, number, part)

    with monkeypatch.context() as dying:
        dying.setattr("raygpt.data.prepare.SENT_TOGETHER", 3)
        dying.setattr(Shards, "_write_shard", die)
        with pytest.raises(KeyboardInterrupt):
            machine("one", 10**9)
    whole, made = machine("two", 10**9)
    assert made == len(whole.shards) - 6


def test_mending_a_shard_from_the_store_keeps_later_shards(machine):
    first, _ = machine("one", 10**9)
    before = contents(first.folder)
    (first.folder / "00000.tokens").write_bytes(b"damaged")
    machine("one", 1)
    assert contents(first.folder) == before


def test_a_machine_with_fewer_shards_does_not_overwrite_the_manifest(machine, uri, monkeypatch):
    few, _ = machine("one", 1)
    stored = Store(uri, few.folder.name)
    whole, _ = machine("two", 10**9)
    # A machine that had read the manifest before the others wrote.
    outdated = iter([None])
    now = shards.manifest_in
    monkeypatch.setattr(shards, "manifest_in", lambda source: next(outdated, now(source)))
    Shards(few.folder, read_manifest(few.folder)).send(stored)
    assert json.loads(stored.read("manifest.json")) == whole.manifest


def test_other_tokenizers_are_not_mixed(machine, uri):
    first, _ = machine("one", 1)
    manifest = first.manifest | {"tokenizer_sha256": "0" * 64}
    Store(uri, first.folder.name).write("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(UserError, match="different tokenizers"):
        machine("one", 10**9)


def test_keys_in_an_address_are_not_shown():
    store = Store("s3://KEY:SECRET@bucket/x?region=us-east-1", "folder")
    assert str(store) == "s3://…@bucket/x?region=us-east-1"
