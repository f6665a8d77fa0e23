"""The available machines: joining or starting Ray, and how many trials can run side by side."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging.handlers import MemoryHandler
from pathlib import Path

# Ray reads these when it is imported: no telemetry, no result files and progress view of its own,
# and reports between rungs may lack the validation figure.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
# Tune's snapshots of its state are not used to resume a run.
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
    """The resources of one trial."""

    workers: int
    cpus: float
    """CPU cores of each worker."""
    gpus: float
    """GPUs of each worker."""

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers, each"
        return f"{workers} with {self.cpus:g} CPU and {self.gpus:g} GPU"


def join_running_cluster() -> bool:
    """Connect to the cluster that this machine is part of, or that RAY_ADDRESS names, if any.

    Ray's "auto" address is not used: it also finds the private Ray of another search on this
    machine, which ends with that search.

    Raises:
        UserError: such a cluster is configured, but it does not answer.
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
            f"run “ray stop” (or unset RAY_ADDRESS) to search on this machine alone"
        ) from None
    return True


STARTS = 3
"""Number of attempts to start Ray. One attempt times out after 30 seconds, which is too short on a
busy machine, or when Ray's files are read for the first time."""


def start_on_this_machine(dashboard: bool) -> None:
    """Start Ray here.

    Args:
        dashboard: needed for trials of several workers: the process that frees a stopped trial's
            workers asks the dashboard's State API about them.

    Raises:
        UserError: it does not start.
    """
    others = psutil.Process().children()
    for start in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",
                include_dashboard=dashboard,
                # Not reachable from other machines.
                _node_ip_address="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
            return
        except Exception as error:  # after a timeout Ray raises Exception itself
            logging.getLogger("ray").warning("start %d of %d failed: %s", start, STARTS, error)
            ray.shutdown()
            _end_all(set(psutil.Process().children()) - set(others))
            if start == STARTS:
                raise UserError(
                    f"Ray did not start on this machine in {STARTS} attempts: {error} Try again "
                    f"when the machine is less busy; if it is not busy, the logs in "
                    f"/tmp/ray/session_latest/logs may say why."
                ) from error


def _end_all(processes: Iterable[psutil.Process]) -> None:
    """Kill processes and their descendants, which Ray leaves running when it fails to start."""
    found = set(processes)
    for process in list(found):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=10)


def available_gpus() -> float:
    """GPUs of the joined cluster, including nodes that it may still start, or of this machine."""
    if not ray.is_initialized():
        return torch.cuda.device_count()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(node.get("GPU", 0.0) for node in [*nodes, *nodes_that_may_start(len(nodes))])


def nodes_that_may_start(running: int) -> list[Mapping[str, float]]:
    """Resources of the nodes that `ray up`'s autoscaler may still start, if this is its head.

    They are read from the file that `ray up` leaves on the head, because Ray has no API for it.

    Args:
        running: number of running nodes, including the head.
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
    """The GPUs and CPU cores that were found, in words."""
    cpus = ray.cluster_resources().get("CPU", 0)
    found = f"{gpus:g} GPU{'s' if gpus != 1 else ''}" if gpus else "no GPU"
    return f"Found {found} and {cpus:g} CPU cores"


def placement(search: Search, gpus: float) -> Placement:
    """The resources of a trial of this search; by default that includes a GPU if there is one."""
    return Placement(
        workers=search.workers_per_trial,
        cpus=search.cpus_per_worker,
        gpus=min(1, gpus) if search.gpus_per_worker is None else search.gpus_per_worker,
    )


def workers_that_fit(needed: Placement, nodes: Sequence[Mapping[str, float]]) -> int:
    """Number of workers that fit on nodes with these resources."""

    def on_node(resources: Mapping[str, float]) -> int:
        wanted = {"CPU": needed.cpus, "GPU": needed.gpus}
        # The tolerance is for rounding: ten tenths of a GPU are one GPU.
        fitting = [
            math.floor(resources.get(name, 0) / amount + 1e-6)
            for name, amount in wanted.items()
            if amount
        ]
        return min(fitting)

    return sum(map(on_node, nodes))


def trials_at_once(needed: Placement, nodes: Sequence[Mapping[str, float]]) -> int:
    """Number of trials that fit on the cluster.

    Args:
        needed: resources of one trial.
        nodes: the resources of each node.

    Raises:
        UserError: not even one fits.
    """

    workers = workers_that_fit(needed, nodes)
    if workers < needed.workers:
        has = ", ".join(
            f"a node with {node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU"
            for node in nodes
        )
        raise UserError(
            f"a trial needs {needed}, but the cluster ({has}) has room for only {workers} such "
            f"workers; lower search.workers_per_trial, search.cpus_per_worker or "
            f"search.gpus_per_worker, or start more nodes"
        )
    return workers // needed.workers


def cluster_trials_at_once(needed: Placement) -> int:
    """`trials_at_once` on the joined cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return trials_at_once(needed, [*nodes, *nodes_that_may_start(len(nodes))])


LOGGERS = ("ray", "optuna", "py.warnings")


def hold_logs() -> MemoryHandler:
    """Keep the log messages of Ray and Optuna off the terminal until `send_logs_to`."""
    held = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
    logging.captureWarnings(True)
    # It warns about missing result files, which TUNE_DISABLE_AUTO_CALLBACK_LOGGERS turned off.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    _handle_logs(held)
    return held


def send_logs_to(path: Path, held: MemoryHandler) -> None:
    """Write the held messages, and all later ones, to a file."""
    target = logging.FileHandler(path)
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Again, because a library that was imported meanwhile may have set its own handlers.
    _handle_logs(target)
    held.setTarget(target)
    held.flush()


def _handle_logs(handler: logging.Handler) -> None:
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
