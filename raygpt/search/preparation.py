"""Tokens on a cluster: made by all its cores, and brought once to each node that trains."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygpt.data.dataset import (
    MANIFEST,
    TOKENIZER,
    Dataset,
    holds,
    is_whole,
    read_manifest,
    shard_name,
    shards_for,
)
from raygpt.data.prepare import default_cache
from raygpt.data.shards import write_file
from raygpt.data.spread import Item, Result, ahead, in_processes
from raygpt.data.tokenizer import TOKENIZER_FILES
from raygpt.errors import UserError
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.schema import Recipe


def in_ray_tasks(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Spread work over the cores of the cluster; a `raygpt.data.spread.Spread`.

    Where no node is up that offers any, such as beside a head that only directs, over the cores of
    this machine.
    """
    cores = int(ray.cluster_resources().get("CPU", 0))
    if not cores:
        yield from in_processes()(function, items)
        return
    task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD", max_retries=3)(_call)
    shared = ray.put(function)
    calls = (task.remote(shared, item) for item in items)
    yield from map(_get, ahead(calls, cores + 2))


def _get(reference: ray.ObjectRef) -> Any:
    """What a task returned; an error of the user's as it was raised there."""
    try:
        return ray.get(reference)
    except RayError as error:
        if isinstance(cause := getattr(error, "cause", None), UserError):
            raise cause from None
        raise


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


@dataclass(frozen=True)
class PreparedTokens:
    """Where the tokens of a search are."""

    folder: str
    """On the node of the search itself."""
    node: str
    """Ray's id of that node."""
    train_tokens: int
    validation_tokens: int

    @classmethod
    def of(cls, dataset: Dataset, recipe: Recipe) -> "PreparedTokens":
        """Those of a dataset that was prepared on this node."""
        return cls(
            str(dataset.folder.absolute()),
            ray.get_runtime_context().get_node_id(),
            budget_tokens(recipe),
            recipe.data.validation_tokens,
        )

    def open(self) -> Dataset:
        """Open them on any node of the cluster, brought there first if need be.

        A folder that this node reaches under the same path is used as it is. Otherwise they come
        through Ray's object store into this node's cache, once for all trials here.

        Raises:
            UserError: they cannot be had.
        """
        folder, wanted = Path(self.folder), (self.train_tokens, self.validation_tokens)
        if not (folder / MANIFEST).exists():
            folder = default_cache() / folder.name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(folder / "lock"):
                    self._bring(folder)
            except OSError as error:
                raise UserError(
                    f"The token cache {folder} of the node {socket.gethostname()} cannot be "
                    f"written ({error}). Make room there, or name another folder in its "
                    f"environment variable RAYGPT_CACHE."
                ) from error
        return Dataset.open(folder, *wanted)

    def _bring(self, folder: Path) -> None:
        """Copy what a folder of this node lacks from the node of the search."""
        on_its_node = NodeAffinitySchedulingStrategy(self.node, soft=False)
        read = ray.remote(num_cpus=0, scheduling_strategy=on_its_node)(_read)

        def copy(name: str) -> None:
            write_file(folder / name, _get(read.remote(f"{self.folder}/{name}")))

        content = _get(read.remote(f"{self.folder}/{MANIFEST}"))
        manifest = json.loads(content)
        (folder / TOKENIZER).mkdir(exist_ok=True)
        for name in TOKENIZER_FILES:
            copy(f"{TOKENIZER}/{name}")
        needed = shards_for(manifest, self.train_tokens, self.validation_tokens)
        for number, entry in enumerate(manifest["shards"][:needed]):
            if not is_whole(folder / shard_name(number), entry):
                copy(shard_name(number))
        # Only now, because what a manifest lists is there.
        manifest["exhausted"] &= needed == len(manifest["shards"])
        manifest["shards"] = manifest["shards"][:needed]
        ours = read_manifest(folder)
        if not ours or not holds(ours, self.train_tokens, self.validation_tokens):
            write_file(folder / MANIFEST, json.dumps(manifest, indent=2).encode())


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UserError(
            f"The tokens of this search cannot be read where it runs, on {socket.gethostname()}: "
            f"{file}: {error.strerror}. Start it again with --resume to have them made again."
        ) from error
