"""Token streams cut into windows for language modelling: pure functions of (seed, position).

A window of `context` inputs comes with the `context` targets one token further on. Windows do not
overlap, so that each target is scored once.
"""

from collections.abc import Sequence

import numpy as np
import torch

from raygpt.data.dataset import TokenStream
from raygpt.data.split import count_windows

Batch = tuple[torch.Tensor, torch.Tensor]


class Windows:
    """The windows of the first `tokens_wanted` tokens of a stream, in order.

    Window i has the inputs [i * context, (i + 1) * context). Their number depends on
    `tokens_wanted`, not on how many more tokens the cache has. Raises UserError if there is no
    window.
    """

    def __init__(self, stream: TokenStream, context: int, tokens_wanted: int, split: str):
        self._stream = stream
        self._context = context
        self._count = count_windows(len(stream), context, tokens_wanted, split)

    def __len__(self) -> int:
        return self._count

    def sequences(self, start: int, stop: int) -> Batch:
        """Windows start..stop as (inputs, targets), int64 tensors (stop - start, context)."""
        return self.take(range(start, stop))

    def take(self, indices: Sequence[int]) -> Batch:
        """The windows of these indices as (inputs, targets), int64 tensors (n, context)."""
        tokens = np.empty((len(indices), self._context + 1), np.int64)
        for row, index in zip(tokens, indices, strict=True):
            if not 0 <= index < self._count:
                raise IndexError(f"window {index} of {self._count}")
            begin = int(index) * self._context
            row[:] = self._stream.read(begin, begin + self._context + 1)
        windows = torch.from_numpy(tokens)
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def validation_windows(stream: TokenStream, context: int, tokens_wanted: int) -> Windows:
    """The fixed windows on which every trial is evaluated."""
    return Windows(stream, context, tokens_wanted, "validation")


class TrainingBatches:
    """Training sequences, shuffled anew in every epoch.

    Sequence g, counted from the start of training, is a pure function of (seed, g) for a given
    stream, context and tokens_wanted: a trial that is resumed, or that runs on another number of
    workers, sees the same sequences at the same positions.
    """

    def __init__(self, stream: TokenStream, context: int, tokens_wanted: int, seed: int):
        self._windows = Windows(stream, context, tokens_wanted, "train")
        self._context = context
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}
        self.n_windows = len(self._windows)

    def sequences(self, start: int, stop: int, step: int = 1) -> Batch:
        """Sequences start, start + step, … below stop as (inputs, targets).

        Both are int64 tensors (n, context). Worker r of n takes (start + r, stop, n).
        """
        return self._windows.take([self._window_of(g) for g in range(start, stop, step)])

    def epochs(self, tokens: int) -> float:
        """The number of passes over the windows that `tokens` tokens of training make."""
        return tokens / (self.n_windows * self._context)

    def _window_of(self, sequence: int) -> int:
        epoch, place = divmod(sequence, self.n_windows)
        return self._order(epoch)[place]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            # A batch may extend into the next epoch; older orders are not needed again.
            self._orders = {
                known: order for known, order in self._orders.items() if abs(known - epoch) == 1
            }
            self._orders[epoch] = generator.permutation(self.n_windows)
        return self._orders[epoch]
