"""The hardware of this process: device, precision, threads, random generators, memory."""

import ctypes
import sys

import torch


def default_device() -> torch.device:
    """The GPU of this process if it has one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def supports_bf16(device: torch.device) -> bool:
    """Whether a device has hardware for bf16 products; emulated, they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context to compute in. Weights and optimizer state stay in float32.

    Args:
        precision: "bf16", "fp32", or "auto": bf16 if the hardware has it.
    """
    use_bf16 = precision == "bf16" or (precision == "auto" and supports_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bf16)


def set_threads(cpus: float) -> int:
    """Set the number of threads that this process computes with, and return it.

    Sums depend on it in their last digits, so the recipe decides it and not the machine.

    Args:
        cpus: cores of the process; rounded down, but to at least one thread.
    """
    threads = max(1, int(cpus))
    torch.set_num_threads(threads)
    return threads


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the generators that initialisation and dropout draw from.

    `torch.manual_seed` would record a stack trace at every call on a machine without a GPU, and
    this is called at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)


class HostCopy:
    """A number that is copied from the device to the host while the device continues to work."""

    def __init__(self, value: torch.Tensor):
        self._arrived = None
        if value.device.type == "cuda":
            self._value = torch.empty((), dtype=value.dtype, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._value = value.clone()

    def item(self) -> float:
        """The number; waits until it has been copied."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._value.item()


def keep_freed_memory() -> None:
    """Let the allocator reuse the large blocks that a training step frees, on glibc.

    By default glibc returns them to the system, which then clears every page again: a small model
    on a CPU trains 1.4 times as fast without that.
    """
    if libc := _glibc():
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)  # the largest that glibc accepts


def return_freed_memory() -> None:
    """Return the memory that `keep_freed_memory` kept to the system."""
    if libc := _glibc():
        libc.malloc_trim(0)


# Parameter numbers of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
