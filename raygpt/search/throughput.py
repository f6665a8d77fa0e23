"""Measures how fast the cluster trains the recipes of a search."""

import statistics
from dataclasses import replace

import ray
from ray.exceptions import RayError, RayTaskError

from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.search.cluster import Placement, workers_that_fit
from raygpt.search.cost import TokenCosts
from raygpt.search.estimate import largest_model, trials_side_by_side
from raygpt.training.probe import Pace, measure_pace

MOST_PROBES = 16
PATIENCE_SECONDS = 180


def search_pace(search_file: SearchFile, needed: Placement, at_once: int) -> Pace | None:
    """The pace of the baseline, and how it depends on the size of the model if that is searched.

    Args:
        search_file: ranges and recipe.
        needed: resources of a trial.
        at_once: number of trials that the cluster can run side by side.

    Returns:
        None if nothing could be measured, see `cluster_pace`.

    Raises:
        MicroBatchTooLarge: the micro-batch of the baseline, or of the largest model, does not fit
            in the device's memory.
    """
    at_once = trials_side_by_side(search_file, at_once)
    pace = cluster_pace(search_file.baseline(), needed, at_once)
    costs = TokenCosts(search_file)
    if pace is None or not costs.vary:
        return pace
    largest = largest_model(search_file, costs)
    if costs.operations(largest) == 1:
        return pace
    of_largest = cluster_pace(largest, needed, at_once)
    if of_largest is None:
        return pace
    times_as_long = pace.tokens_per_second / of_largest.tokens_per_second
    share = fixed_share(costs.operations(largest), times_as_long)
    return replace(pace, fixed_share=share)


def fixed_share(operations: float, times_as_long: float) -> float:
    """The share of a model's time that does not grow with its operations; from 0 to 0.95.

    Args:
        operations: operations per token of a larger model, relative to the model.
        times_as_long: how many times the model's time the larger one takes.
    """
    return min(max((operations - times_as_long) / (operations - 1), 0.0), 0.95)


def cluster_pace(recipe: Recipe, needed: Placement, at_once: int) -> Pace | None:
    """The pace of one worker while as many others run as in the search, at most 16.

    They run side by side because trials share memory bandwidth, caches and, with hyper-threading,
    cores: a worker on its own can be twice as fast.

    Args:
        recipe: without ranges.
        needed: resources of a trial.
        at_once: number of trials side by side.

    Returns:
        None if no running node has room for a worker (an autoscaler starts none for this), or if
        other users of the cluster take it.

    Raises:
        MicroBatchTooLarge: the micro-batch does not fit in the device's memory.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    probes = min(workers_that_fit(needed, nodes), at_once * needed.workers, MOST_PROBES)
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
        return None  # its process died; if a trial's process dies, the tables say why
    if not paces:
        return None
    return Pace(
        statistics.mean(pace.tokens_per_second for pace in paces),
        statistics.mean(pace.evaluation_seconds for pace in paces),
        # Workers are slowed down together, so it is their common speed that varies.
        tuple(map(statistics.mean, zip(*(pace.blocks for pace in paces), strict=False))),
    )
