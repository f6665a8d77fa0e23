"""How fast the cluster trains a recipe."""

import statistics

import ray
from ray.exceptions import RayError, RayTaskError

from raygpt.recipe.schema import Recipe
from raygpt.search.cluster import Placement, room_for_workers
from raygpt.training.probe import Pace, measure_pace

MOST_PROBES = 16
PATIENCE_SECONDS = 180


def cluster_pace(recipe: Recipe, needed: Placement, at_once: int) -> Pace | None:
    """The pace of one worker beside as many others as the search will run, at most 16.

    Side by side, because trials share caches and memory, and cores that are only threads of one: a
    worker on its own can be twice as fast.

    Args:
        recipe: without ranges.
        needed: by a trial.
        at_once: trials that are to run side by side.

    Returns:
        None where no node is up that has room for a worker (an autoscaler starts none for this),
        or where others hold it.

    Raises:
        MicroBatchTooLarge: the micro-batch does not fit in the device's memory.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    probes = min(room_for_workers(needed, nodes), at_once * needed.workers, MOST_PROBES)
    if not probes:
        return None
    probe = ray.remote(num_cpus=needed.cpus, num_gpus=needed.gpus, max_retries=0)(measure_pace)
    asked = [probe.remote(recipe) for _ in range(probes)]
    ended, waiting = ray.wait(asked, num_returns=probes, timeout=PATIENCE_SECONDS)
    for task in waiting:
        ray.cancel(task, force=True)
    try:
        paces = ray.get(ended)
    except RayTaskError as error:
        raise error.cause from None
    except RayError:
        return None  # its process died; a trial that does is told of in the tables
    if not paces:
        return None
    return Pace(
        statistics.mean(pace.tokens_per_second for pace in paces),
        statistics.mean(pace.evaluation_seconds for pace in paces),
    )
