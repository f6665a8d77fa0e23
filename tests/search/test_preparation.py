"""Tests on one Ray, which starts once for all of them."""

import json
import shutil
from functools import partial

import pytest

from raygpt.data.corpora import jsonl
from raygpt.data.dataset import Dataset
from raygpt.data.prepare import prepare
from raygpt.data.spread import in_processes
from raygpt.data.store import Store
from raygpt.errors import UserError
from raygpt.recipe.sections import Data
from raygpt.search import cluster, preparation
from raygpt.search.preparation import PreparedTokens, in_ray_tasks

# Imported after `cluster`, which sets the environment variables that Ray reads then.
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
    """Prepares a number of tokens into a cache."""
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


def test_a_user_error_is_raised_unchanged():
    with pytest.raises(UserError, match=r"^no 3$"):
        list(in_ray_tasks(refuse, range(5)))
    with pytest.raises(ray.exceptions.RayError, match="by zero"):
        list(in_ray_tasks(partial(divmod, 1), [1, 0]))


def refuse(number):
    if number == 3:
        raise UserError("no 3")
    return number


def tokens_of(folder, train_tokens, validation_tokens):
    """Tokens as another node opens them, which may not have the folder's path."""
    node = ray.get_runtime_context().get_node_id()
    return PreparedTokens(str(folder), node, None, train_tokens, validation_tokens)


def test_a_folder_that_the_node_can_read_is_used(whole):
    opened = tokens_of(whole.folder, 1000, 100).open()
    assert opened.folder == whole.folder
    assert 1 < len(opened.shards) < len(whole.shards)


@pytest.fixture
def node(monkeypatch, tmp_path):
    """The cache of a node that has the path of the search's cache, with something else in it."""
    monkeypatch.setenv("RAYGPT_CACHE", str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture
def elsewhere(whole, monkeypatch):
    """Makes tokens that this node cannot open where the search has them."""
    openly = Dataset.open

    def open_here(folder, *wanted):
        if folder == whole.folder:
            raise PermissionError(folder)
        return openly(folder, *wanted)

    monkeypatch.setattr(Dataset, "open", open_here)
    return lambda train, validation: tokens_of(whole.folder, train, validation)


def test_needed_shards_are_copied_to_another_node_once(whole, elsewhere, node):
    brought = elsewhere(1000, 100).open()
    assert brought.folder == node / whole.folder.name
    assert brought.shards == whole.shards[: len(brought.shards)]
    assert 1 < len(brought.shards) < len(whole.shards)
    assert brought.manifest["exhausted"] is False
    assert brought.tokenizer.decode(brought.train.read(0, 50)).startswith("the river ")
    untouched = (brought.folder / "00000.tokens").stat().st_ino
    more = elsewhere(4000, 100).open()
    assert more.shards == whole.shards[: len(more.shards)]
    assert len(more.shards) > len(brought.shards)
    assert (brought.folder / "00000.tokens").stat().st_ino == untouched
    # Shards that only another search needs stay listed.
    before = contents(node)
    elsewhere(1000, 100).open()
    assert contents(node) == before
    assert contents(elsewhere(EVERYTHING, EVERYTHING).open().folder) == contents(whole.folder)


@pytest.mark.parametrize("harm", [lambda c: c[:-2], lambda c: b"\0" + c[1:]])
@pytest.mark.parametrize("name", ["00001.tokens", "tokenizer/merges.txt"])
def test_damaged_files_on_another_node_are_copied_again(whole, elsewhere, node, name, harm):
    shutil.copytree(whole.folder, node / whole.folder.name)
    file = node / whole.folder.name / name
    file.write_bytes(harm(file.read_bytes()))
    elsewhere(EVERYTHING, EVERYTHING).open()
    assert contents(node / whole.folder.name) == contents(whole.folder)


def test_a_node_that_has_less_at_the_same_path_gets_the_rest(make, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYGPT_CACHE", str(tmp_path))
    some = make(tmp_path, in_processes(1), 1000, 100)
    source = tokens_of(some.folder, EVERYTHING, EVERYTHING)
    monkeypatch.setattr(
        preparation,
        "NodeFolder",
        lambda *_: Store(f"file://{whole.folder.parent}", whole.folder.name),
    )
    assert contents(source.open().folder) == contents(whole.folder)


def test_an_object_store_is_preferred_to_the_node(whole, node):
    uri = f"file://{whole.folder.parent}"
    tokens = PreparedTokens(f"/nowhere/{whole.folder.name}", "no node", uri, 1000, 100)
    assert tokens.open().folder == node / whole.folder.name


def test_missing_tokens_are_reported(node):
    with pytest.raises(UserError, match=r"/nowhere/0123 holds no prepared data"):
        tokens_of("/nowhere/0123", 1000, 100).open()
