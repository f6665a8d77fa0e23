"""The machines at hand: joining or starting Ray, and how many trials they have room for."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging.handlers import MemoryHandler
from pathlib import Path

# Read by Ray when it is imported: no telemetry, no second layer of result files and of progress,
# and reports between rungs that have no validation figure.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
# Tune's snapshots of its own state are not what a run is resumed from.
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"

import psutil
import ray
import torch
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.utils import read_ray_address

from raygpt.errors import UserError
from raygpt.recipe.sections import Search


@dataclass(frozen=True)
class Placement:
    """What one trial takes."""

    workers: int
    cpus: float
    """Of each worker."""
    gpus: float
    """Of each worker."""

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers, each"
        return f"{workers} with {self.cpus:g} CPU and {self.gpus:g} GPU"


def join_running_cluster() -> bool:
    """Connect to the cluster that this machine is part of, or that RAY_ADDRESS names, if any.

    Not by Ray's "auto" address: that also finds the private Ray of another search on this
    machine, which ends with that search.

    Raises:
        UserError: there should be one, and it does not answer.
    """
    address = os.environ.get("RAY_ADDRESS") or read_ray_address()
    if not address or address == "local":
        return False
    # Ray itself does this for the address "auto" only; a cluster that `ray start` starts after any
    # search on this machine asks for the token that the search has made.
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError) as error:
        where = "RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else "ray start"
        raise UserError(
            f"the Ray cluster at {address} (from {where}) cannot be joined: {error}; start it, or "
            f"end it with “ray stop” (or unset RAY_ADDRESS) to search on this machine alone"
        ) from None
    return True


STARTS = 3
"""How many times starting Ray is tried: it gives up after 30 seconds, too few on a busy machine, or
before Ray's files were first read."""


def start_on_this_machine(dashboard: bool) -> None:
    """Start Ray here.

    Args:
        dashboard: needed for trials of several workers: what frees a stopped trial's workers
            asks the dashboard's State API about them.

    Raises:
        UserError: it does not start.
    """
    others = psutil.Process().children()
    for start in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",
                include_dashboard=dashboard,
                # Nobody but this machine's user is to reach it.
                _node_ip_address="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
            return
        except Exception as error:  # Ray raises Exception itself where it has waited long enough
            logging.getLogger("ray").warning("start %d of %d failed: %s", start, STARTS, error)
            ray.shutdown()
            _end_all(set(psutil.Process().children()) - set(others))
            if start == STARTS:
                raise UserError(
                    f"Ray did not start on this machine, {STARTS} times: {error} Where the machine "
                    f"is not busy with other things, the logs in /tmp/ray/session_latest/logs may "
                    f"tell why."
                ) from error


def _end_all(processes: Iterable[psutil.Process]) -> None:
    """Kill processes and all that they have started, which Ray leaves where it does not start."""
    found = set(processes)
    for process in list(found):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=10)


def gpus_at_hand() -> float:
    """GPUs of the joined cluster, those that it may yet start included, or of this machine."""
    if not ray.is_initialized():
        return torch.cuda.device_count()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(node.get("GPU", 0.0) for node in [*nodes, *nodes_to_come(len(nodes))])


def nodes_to_come(running: int) -> list[Mapping[str, float]]:
    """Resources of the nodes that `ray up`'s autoscaler may still start, if this is its head.

    Ray itself does not tell; the file that `ray up` leaves on the head does.

    Args:
        running: nodes there already, the head among them.
    """
    try:
        cluster = json.loads((Path.home() / "ray_bootstrap_config.yaml").read_text())
    except (OSError, ValueError):
        return []
    head = cluster.get("head_node_type")
    workers = [
        node.get("resources", {})
        for name, node in cluster.get("available_node_types", {}).items()
        for _ in range(node.get("max_workers", 0) if name != head else 0)
    ]
    return workers[: cluster.get("max_workers", len(workers))][running - 1 :]


def describe_hardware(gpus: float) -> str:
    """What was found, for a person."""
    cpus = ray.cluster_resources().get("CPU", 0)
    found = f"{gpus:g} GPU{'s' if gpus != 1 else ''}" if gpus else "no GPU"
    return f"Found {found} and {cpus:g} CPU cores"


def placement(search: Search, gpus: float) -> Placement:
    """What a trial of this search takes; by default a GPU, too, where there are any."""
    return Placement(
        workers=search.workers_per_trial,
        cpus=search.cpus_per_worker,
        gpus=min(1, gpus) if search.gpus_per_worker is None else search.gpus_per_worker,
    )


def room_for_workers(needed: Placement, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many workers the nodes, given by their resources, have room for."""

    def on_node(resources: Mapping[str, float]) -> int:
        wanted = {"CPU": needed.cpus, "GPU": needed.gpus}
        # A small tolerance: ten tenths of a GPU are one GPU.
        rooms = [
            math.floor(resources.get(name, 0) / amount + 1e-6)
            for name, amount in wanted.items()
            if amount
        ]
        return min(rooms)

    return sum(map(on_node, nodes))


def trials_at_once(needed: Placement, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many trials the cluster has room for.

    Args:
        needed: by one trial.
        nodes: the resources of each node.

    Raises:
        UserError: there is not room for one.
    """

    workers = room_for_workers(needed, nodes)
    if workers < needed.workers:
        has = ", ".join(
            f"a node with {node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU"
            for node in nodes
        )
        raise UserError(
            f"a trial needs {needed}, and the cluster ({has}) has room for {workers} such "
            f"workers; lower search.workers_per_trial, search.cpus_per_worker or "
            f"search.gpus_per_worker, or start more nodes"
        )
    return workers // needed.workers


def cluster_trials_at_once(needed: Placement) -> int:
    """`trials_at_once` on the joined cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return trials_at_once(needed, [*nodes, *nodes_to_come(len(nodes))])


LOGGERS = ("ray", "optuna", "py.warnings")


def hold_logs() -> MemoryHandler:
    """Keep what Ray and Optuna have to say from the terminal until `send_logs_to`."""
    held = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
    logging.captureWarnings(True)
    # It misses the result files that TUNE_DISABLE_AUTO_CALLBACK_LOGGERS does without.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    _handle_logs(held)
    return held


def send_logs_to(path: Path, held: MemoryHandler) -> None:
    """Write what was held, and all that follows, to a file."""
    target = logging.FileHandler(path)
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Again, because a library that was imported meanwhile has set up its own.
    _handle_logs(target)
    held.setTarget(target)
    held.flush()


def _handle_logs(handler: logging.Handler) -> None:
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
