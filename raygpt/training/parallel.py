"""Data parallelism: several workers train one model, each with a whole copy and part of the data.

Everything that depends on this is here: which sequences a worker takes, when gradients are summed,
and what of the model's state a checkpoint needs. A process on its own is worker 0 of 1.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# Shapes in names: B sequences, T tokens of each.


def worker_rank() -> int:
    """This worker's number, 0 to `worker_count() - 1`."""
    return dist.get_rank() if dist.is_initialized() else 0


def worker_count() -> int:
    """Number of workers that train this model."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    """The elementwise sum of every worker's tensor, on every worker; in place."""
    if worker_count() > 1:
        dist.all_reduce(values)
    return values


# --- data ---------------------------------------------------------------------------------------


def own_sequences(start: int, stop: int) -> range:
    """The sequences that this worker takes of the sequences start..stop of an optimizer step."""
    return range(start + worker_rank(), stop, worker_count())


def own_windows(count: int, size: int) -> Iterator[tuple[int, int]]:
    """The validation windows that this worker scores, as (start, stop) of at most `size` windows.

    Workers may get different numbers of batches: scoring waits for no other worker.
    """
    for start in range(size * worker_rank(), count, size * worker_count()):
        yield start, min(start + size, count)


# --- gradients ----------------------------------------------------------------------------------


def synchronised(model: nn.Module) -> nn.Module:
    """The module to call in training; after a step's last backward pass all workers' gradients are
    the same.
    """
    if worker_count() == 1:
        return model
    # The model's only buffer is a constant: broadcasting it at every step would be wasted time.
    return DistributedDataParallel(model, broadcast_buffers=False)


def micro_batches(
    module: nn.Module, inputs_BT: torch.Tensor, targets_BT: torch.Tensor, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """This worker's sequences of a step in micro-batches, each for one forward and backward pass.

    Workers may make different numbers of passes: only the last one of each sums the gradients.

    Args:
        module: the result of `synchronised`.
        inputs_BT, targets_BT: this worker's sequences; there may be none.
        size: most sequences in a micro-batch.
    """
    parts = list(zip(inputs_BT.split(size), targets_BT.split(size), strict=True))
    for number, part in enumerate(parts, 1):
        keeps_gradients = number < len(parts) and isinstance(module, DistributedDataParallel)
        with module.no_sync() if keeps_gradients else contextlib.nullcontext():
            yield part


def gradient_divisor() -> int:
    """The number by which the last backward pass has divided the gradients."""
    return worker_count()


def clip_gradients(model: nn.Module, largest_norm: float) -> torch.Tensor:
    """Scale the model's gradients down to at most a norm; returns their norm before."""
    return nn.utils.clip_grad_norm_(model.parameters(), largest_norm)


# --- state --------------------------------------------------------------------------------------


def state_dict(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state of model and optimizer, the same on every worker."""
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def load_state_dict(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Load what `state_dict` returned, on any worker.

    The optimizer keeps the settings that it was made with, except the learning rate: a checkpoint
    of an older version lacks newer settings.
    """
    model.load_state_dict(state["model"])
    # Dropped first, so that the device need not hold the old state and the new one.
    optimizer.state.clear()
    saved = state["optimizer"]
    own = optimizer.state_dict()["param_groups"]
    groups = [
        settings | {"params": group["params"], "lr": group["lr"]}
        for settings, group in zip(own, saved["param_groups"], strict=True)
    ]
    optimizer.load_state_dict(saved | {"param_groups": groups})
