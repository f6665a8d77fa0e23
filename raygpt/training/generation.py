"""Text that a model goes on with."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn


@torch.inference_mode()
def generate(
    gpt: nn.Module,
    prompt: Sequence[int],
    tokens: int,
    end_of_document: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Draw one token after the other, up to the end of the document, which is not given out.

    The model sees as much of what comes before as its context takes. Tokens are drawn on the CPU,
    so that a seed gives the same ones on every kind of device, but for rounding.

    Args:
        gpt: in evaluation mode, on the device to compute on.
        prompt: ids, at least one.
        tokens: at most so many.
        end_of_document: id.
        temperature: what logits are divided by; 0 takes the most probable token.
        top_k: draw among so many of the most probable; among all if left out.
        seed: of the draw.
    """
    context, device = gpt.context, next(gpt.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    ids = list(prompt)
    for _ in range(tokens):
        logits = gpt(torch.tensor([ids[-context:]], device=device))[0, -1].float().cpu()
        if top_k is not None:
            least = logits.topk(min(top_k, len(logits))).values[-1]
            logits[logits < least] = -torch.inf
        if temperature:
            # In double precision, in which no temperature above 0 makes a logit overflow.
            weights = (logits.double() / temperature).softmax(-1)
            drawn = int(torch.multinomial(weights, 1, generator=generator))
        else:
            drawn = int(logits.argmax())
        if drawn == end_of_document:
            return
        ids.append(drawn)
        yield drawn
