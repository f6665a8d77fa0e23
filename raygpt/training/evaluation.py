"""How well a model predicts the validation set."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from raygpt.data.batches import Windows
from raygpt.training.model import summed_loss
from raygpt.training.workers import sum_over_workers, worker_count, worker_rank

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
    """Tokens that the model held the most probable."""

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
    """Score every window once, shared out over the workers; the model is left as it was found.

    Args:
        model: maps ids (batch, time) to logits (batch, time, padded vocabulary).
        windows: the fixed validation set.
        token_bytes: bytes of each token, (vocabulary,), 0 for the end-of-document token.
        batch_size: windows in one forward pass.
        autocast: the context to compute in.
    """
    was_training = model.training
    model.eval()
    device = token_bytes.device
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    stride = batch_size * worker_count()
    for start in range(batch_size * worker_rank(), len(windows), stride):
        inputs, targets = windows.sequences(start, min(start + batch_size, len(windows)))
        inputs, targets = inputs.to(device), targets.to(device)
        with autocast:
            logits = model(inputs)
        target_bytes = token_bytes[targets]
        scored = target_bytes > 0
        nats = summed_loss(logits, targets.masked_fill(~scored, IGNORED))
        correct = (logits.argmax(-1) == targets) & scored
        sums += torch.stack([nats.double(), scored.sum(), target_bytes.sum(), correct.sum()])
    model.train(was_training)
    nats, tokens, n_bytes, correct = sum_over_workers(sums).tolist()
    return Evaluation(nats, int(tokens), int(n_bytes), int(correct))
