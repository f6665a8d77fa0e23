"""On a Ray of their own, which starts once for all of them."""

import json
import shutil
from functools import partial

import pytest

from raygpt.data import jsonl
from raygpt.data.dataset import MANIFEST, Dataset
from raygpt.data.prepare import prepare
from raygpt.data.spread import in_processes
from raygpt.errors import UserError
from raygpt.recipe.schema import Data
from raygpt.search import cluster
from raygpt.search.preparation import PreparedTokens, in_ray_tasks

# After `cluster`, which sets up what Ray reads when it is imported.
import ray  # isort: skip

EVERYTHING = 10**9


@pytest.fixture(autouse=True, scope="module")
def on_ray(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(jsonl, "PART_BYTES", 3000)  # so that a small corpus has many
        cluster.start_on_this_machine(dashboard=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Prepares so many tokens into a cache."""
    file = tmp_path_factory.mktemp("corpus") / "a.jsonl"
    texts = (f"the river {n} flows past the old town {n * n}" for n in range(800))
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))

    def make(cache, spread, train=EVERYTHING, validation=EVERYTHING):
        data = Data(
            corpus=f"jsonl:{file}",
            tokenizer="bpe-300",
            validation_fraction=0.2,
            validation_tokens=validation,
            min_document_bytes=0,
            cache=str(cache),
        )
        return prepare(data, train, spread=spread)

    return make


@pytest.fixture(scope="module")
def whole(make, tmp_path_factory):
    """Everything, made by one process."""
    dataset = make(tmp_path_factory.mktemp("whole"), in_processes(1))
    assert len(dataset.shards) > 10
    return dataset


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_tasks_give_the_same_bytes(make, whole, tmp_path):
    assert contents(make(tmp_path, in_ray_tasks).folder) == contents(whole.folder)


def test_an_error_of_the_users_arrives_as_it_is(tmp_path):
    with pytest.raises(UserError, match=r"^no 3$"):
        list(in_ray_tasks(refuse, range(5)))
    with pytest.raises(ray.exceptions.RayError, match="by zero"):
        list(in_ray_tasks(partial(divmod, 1), [1, 0]))


def refuse(number):
    if number == 3:
        raise UserError("no 3")
    return number


def tokens_of(dataset, train_tokens, validation_tokens):
    node = ray.get_runtime_context().get_node_id()
    return PreparedTokens(str(dataset.folder), node, train_tokens, validation_tokens)


def test_where_the_folder_is_reached_it_is_used(whole):
    opened = tokens_of(whole, 1000, 100).open()
    assert opened.folder == whole.folder
    assert 1 < len(opened.shards) < len(whole.shards)


def test_elsewhere_what_is_needed_is_brought_once(whole, tmp_path):
    some, more = tokens_of(whole, 1000, 100), tokens_of(whole, 4000, 100)
    some._bring(tmp_path)
    brought = Dataset.open(tmp_path, 1000, 100)
    assert brought.shards == Dataset.open(whole.folder, 1000, 100).shards
    assert brought.manifest["exhausted"] is False
    assert brought.tokenizer.decode(brought.train.read(0, 50)).startswith("the river ")
    untouched = (tmp_path / "00000.tokens").stat().st_ino
    more._bring(tmp_path)
    assert Dataset.open(tmp_path, 4000, 100).shards == Dataset.open(whole.folder, 4000, 100).shards
    assert (tmp_path / "00000.tokens").stat().st_ino == untouched
    # What is there beyond the need of another search stays listed.
    before = contents(tmp_path)
    some._bring(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("harm", [lambda c: c[:-2], lambda c: b"\0" + c[1:]])
def test_what_was_damaged_there_is_brought_again(whole, tmp_path, harm):
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    shard = tmp_path / "00001.tokens"
    shard.write_bytes(harm(shard.read_bytes()))
    tokens_of(whole, EVERYTHING, EVERYTHING)._bring(tmp_path)
    assert contents(tmp_path) == contents(whole.folder)


def test_a_node_that_has_lost_it_is_told_of(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYGPT_CACHE", str(tmp_path / "cache"))
    lost = tokens_of(whole, 1000, 100)
    lost = PreparedTokens(f"{whole.folder}-gone", lost.node, 1000, 100)
    with pytest.raises(UserError, match=f"{whole.folder}-gone/{MANIFEST}"):
        lost.open()
