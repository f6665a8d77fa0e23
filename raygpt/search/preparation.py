"""Tokens on a cluster: tokenised on all its cores, and copied once to each node that trains."""

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygpt.data.dataset import Dataset
from raygpt.data.prepare import default_cache
from raygpt.data.shards import fetch
from raygpt.data.spread import Item, Result, ahead, in_processes
from raygpt.data.store import Store
from raygpt.errors import UserError
from raygpt.recipe.corpora import is_uri
from raygpt.recipe.search_file import SearchFile


def in_ray_tasks(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Spread work over the cores of the cluster; a `raygpt.data.spread.Spread`.

    If no running node offers cores to Ray, as with a head without CPUs and no worker yet, the cores
    of this machine are used.
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
    """The result of a task.

    Raises:
        UserError: the task raised it, or Ray lost the task even after retries.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    except RayError as error:
        raise UserError(
            f"Ray lost a task that handled tokens ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}). Finished parts are kept; run the same command "
            f"again."
        ) from error


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


@dataclass(frozen=True)
class PreparedTokens:
    """Where the tokens of a search are stored."""

    folder: str
    """Path on the node that runs the search."""
    node: str
    """Ray's id of that node."""
    store: str | None
    """URI of the object store that also has them; None if there is none."""
    train_tokens: int
    validation_tokens: int

    @classmethod
    def of(cls, dataset: Dataset, search_file: SearchFile) -> "PreparedTokens":
        """The tokens of a dataset that was prepared for a search on this node."""
        data = search_file.data
        return cls(
            str(dataset.folder.absolute()),
            ray.get_runtime_context().get_node_id(),
            data.cache if is_uri(data.cache or "") else None,
            search_file.largest_budget(),
            data.validation_tokens,
        )

    def open(self) -> Dataset:
        """Open the tokens on any node of the cluster, copying them there first if necessary.

        A folder that this node reaches under the same path is used if it has all that is needed.
        Otherwise the tokens are copied from the object store, or else through Ray, into this node's
        cache, once for all trials on this node.

        Raises:
            UserError: they cannot be copied or opened.
        """
        folder, wanted = Path(self.folder), (self.train_tokens, self.validation_tokens)
        with contextlib.suppress(UserError, OSError):
            return Dataset.open(folder, *wanted)
        folder = default_cache() / folder.name
        source = (
            Store(self.store, folder.name) if self.store else NodeFolder(self.node, self.folder)
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                fetch(folder, source, *wanted)
        except OSError as error:
            raise UserError(
                f"The token cache {folder} of the node {socket.gethostname()} cannot be "
                f"written ({error}). Free some space there, or set the environment variable "
                f"RAYGPT_CACHE of that node to another folder."
            ) from error
        return Dataset.open(folder, *wanted)


class NodeFolder:
    """A folder on another node, read through Ray's object store.

    Args:
        node: Ray's id of the node.
        folder: its path on that node.
    """

    def __init__(self, node: str, folder: str):
        on_the_node = NodeAffinitySchedulingStrategy(node, soft=False)
        self._read = ray.remote(num_cpus=0, scheduling_strategy=on_the_node)(_read)
        self._folder = folder

    def __str__(self) -> str:
        return self._folder

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no such file."""
        return _get(self._read.remote(f"{self._folder}/{name}"))


def _read(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} on {socket.gethostname()} cannot be read: {error}") from error
