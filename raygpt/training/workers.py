"""The workers that train one model together; a process on its own is worker 0 of 1."""

import torch
import torch.distributed as dist


def worker_rank() -> int:
    """This worker's number, 0 to `worker_count() - 1`."""
    return dist.get_rank() if dist.is_initialized() else 0


def worker_count() -> int:
    """How many workers train this model."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    """The elementwise sum of every worker's tensor, on every worker; in place."""
    if worker_count() > 1:
        dist.all_reduce(values)
    return values
