"""Copies of a run's state in memory, for returning to it."""

from typing import Any

import torch


def snapshot(state: Any, device: torch.device) -> Any:
    """A copy of nested dictionaries and lists of tensors, which training does not change.

    The tensors are kept on the device if they fit there beside the most memory that this process
    has needed for training so far, else in the host's memory.
    """
    place = device if _has_room(device, _size(state)) else torch.device("cpu")
    return _copied(state, place)


def _copied(state: Any, place: torch.device) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach().to(place, copy=True)
    if isinstance(state, dict):
        return {key: _copied(value, place) for key, value in state.items()}
    if isinstance(state, list):
        return [_copied(value, place) for value in state]
    return state


def _size(state: Any) -> int:
    """Bytes of all tensors of a state."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        state = list(state.values())
    return sum(map(_size, state)) if isinstance(state, list) else 0


def _has_room(device: torch.device, size: int) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    most = torch.cuda.max_memory_allocated(device)
    kept = torch.cuda.memory_reserved(device) - most
    # Before the first step only weights and optimizer state have been allocated, which says nothing
    # about what a step needs. A tenth is for what the allocator loses between blocks.
    return most > 1.1 * size < free + kept
