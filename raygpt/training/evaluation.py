"""How well a model predicts the validation set.

Shapes in names: B sequences, T tokens of each, V the vocabulary with its padding.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from raygpt.data.batches import Windows
from raygpt.training import parallel
from raygpt.training.model import summed_loss

IGNORED = -100
"""The target that PyTorch's cross entropy leaves out."""


@dataclass(frozen=True)
class Evaluation:
    """Sums over the scored tokens of a validation set; the end-of-document token isn't scored."""

    nats: float
    """Summed negative log-likelihood."""
    tokens: int
    bytes: int
    """UTF-8 bytes of the scored tokens' own byte sequences."""
    correct: int
    """Number of tokens that were the model's first choice."""

    @property
    def bits_per_byte(self) -> float:
        """Σ nll / (ln 2 · Σ bytes): sums first, one division last."""
        return self.nats / (math.log(2) * self.bytes)

    @property
    def bits_per_token(self) -> float:
        """Σ nll / (ln 2 · Σ tokens)."""
        return self.nats / (math.log(2) * self.tokens)

    @property
    def next_token_accuracy(self) -> float:
        """Share of the scored tokens that were the model's first choice."""
        return self.correct / self.tokens


@torch.no_grad()
def evaluate(
    model: nn.Module,
    windows: Windows,
    token_bytes: torch.Tensor,
    batch_size: int,
    autocast: torch.autocast,
) -> Evaluation:
    """Score every window once, each worker its share; the model's mode is restored afterwards.

    Args:
        model: maps tokens_BT to logits_BTV.
        windows: the fixed validation set.
        token_bytes: bytes of each token, (vocabulary,), 0 for the end-of-document token.
        batch_size: windows in one forward pass.
        autocast: the context to compute in.
    """
    was_training = model.training
    model.eval()
    device = token_bytes.device
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for start, stop in parallel.own_windows(len(windows), batch_size):
        inputs_BT, targets_BT = (part.to(device) for part in windows.sequences(start, stop))
        with autocast:
            logits_BTV = model(inputs_BT)
        bytes_BT = token_bytes[targets_BT]
        scored_BT = bytes_BT > 0
        nats = summed_loss(logits_BTV, targets_BT.masked_fill(~scored_BT, IGNORED))
        correct_BT = (logits_BTV.argmax(-1) == targets_BT) & scored_BT
        sums += torch.stack([nats.double(), scored_BT.sum(), bytes_BT.sum(), correct_BT.sum()])
    model.train(was_training)
    nats, tokens, n_bytes, correct = parallel.sum_over_workers(sums).tolist()
    return Evaluation(nats, int(tokens), int(n_bytes), int(correct))
