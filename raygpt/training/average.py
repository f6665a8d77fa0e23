"""Averaged weights: an estimate of the model after a cooldown that costs no tokens."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

SHARE = 0.1


def averaged(model: nn.Module) -> AveragedModel:
    """A model of the running average of another one's weights, over the last tenth of its steps.

    At step n the average moves by 1/(0.1 n) of the way to the weights: an exponential average
    whose memory grows with the run (polynomial-decay averaging; Shamir and Zhang, 2013). Call
    `update_parameters(model)` after every step.
    """
    return AveragedModel(model, multi_avg_fn=_move)


@torch.no_grad()
def _move(
    averages: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], steps_before: torch.Tensor
) -> None:
    # A tensor, because the count lies on the device and reading it would make the host wait.
    share = (1 / (SHARE * (steps_before + 1))).clamp(max=1)
    torch._foreach_lerp_(averages, weights, share)
