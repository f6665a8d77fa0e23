"""How fast this machine trains a recipe."""

import time

import torch

from raygpt.data.dataset import Dataset
from raygpt.recipe.schema import Recipe
from raygpt.training.loop import TrainingRun

STEPS = 4
MOST_SECONDS = 5


class _Enough(Exception):
    pass


def tokens_per_second(recipe: Recipe, dataset: Dataset, threads: int) -> float:
    """Measured over a few optimizer steps in this process, after one to warm up.

    Two steps at least, and then no more than a few seconds.
    """
    torch.set_num_threads(threads)
    run = TrainingRun(recipe, dataset)
    ends: list[float] = []

    def after_step() -> None:
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        ends.append(time.perf_counter())
        if len(ends) > STEPS or (len(ends) > 1 and ends[-1] - started > MOST_SECONDS):
            raise _Enough

    started = time.perf_counter()
    try:
        for _ in run.reports(after_step):
            pass
    except _Enough:
        started = ends.pop(0)
    return run.tokens_per_step * len(ends) / (ends[-1] - started)
