"""Continues a text with a model."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn


@torch.inference_mode()
def generate(
    model: nn.Module,
    prompt: Sequence[int],
    tokens: int,
    end_of_document: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Draw one token after the other, up to the end of the document, which is not yielded.

    The model sees the last tokens of the text, as many as its context holds. Tokens are drawn on
    the CPU, so that a seed gives the same ones on every kind of device, except for rounding.

    Args:
        model: as `raygpt.training.build` describes it; in evaluation mode, on the device to
            compute on.
        prompt: ids, at least one.
        tokens: most tokens to draw.
        end_of_document: id.
        temperature: what logits are divided by; 0 takes the most probable token.
        top_k: draw among this number of the most probable tokens; among all if left out.
        seed: seed of the draw.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    ids = list(prompt)
    for _ in range(tokens):
        tokens_BT = torch.tensor([ids[-model.context :]], device=device)
        logits_V = model.logits(tokens_BT)[0, -1].float().cpu()
        if top_k is not None:
            least = logits_V.topk(min(top_k, len(logits_V))).values[-1]
            logits_V[logits_V < least] = -torch.inf
        if temperature:
            # In double precision, in which no temperature above 0 makes a logit overflow.
            weights_V = (logits_V.double() / temperature).softmax(-1)
            drawn = int(torch.multinomial(weights_V, 1, generator=generator))
        else:
            drawn = int(logits_V.argmax())
        if drawn == end_of_document:
            return
        ids.append(drawn)
        yield drawn
