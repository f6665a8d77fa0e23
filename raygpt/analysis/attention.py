"""Where the heads of a model look: how far back on the validation set, and at what in a text.

The weights are those of the model's own queries and keys, softmax(q kᵀ / √d) under the causal
mask, d being the width of a head (Vaswani et al., 2017, equation 1); in float32, without dropout.
Layers and heads are counted from 0.

    model = load_model(run.folder / run.best["checkpoint"]).gpt
    distances = attention_distances(model, windows)
    distances.heads.sort_values("mean_distance")
    maps = attention_maps(model, dataset.tokenizer, "The cat sat on the mat.")
    maps.frame().query("layer == 0 and head == 1")
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from raygpt.data.batches import Windows
from raygpt.data.tokenizer import Tokenizer
from raygpt.errors import UserError
from raygpt.training.model import GPT


@dataclass(frozen=True)
class AttentionDistances:
    """How far back the heads of a model look, in tokens: 0 is the token itself.

    All figures are weighted by attention and averaged over all positions of all windows. A position
    early in a window cannot look far, so that a head which spreads its attention evenly over all
    that it may see has a mean of (context - 1) / 4.
    """

    heads: pd.DataFrame
    """A row a head:

    | column | meaning |
    |---|---|
    | layer, head | |
    | mean_distance | in tokens |
    | first_token | share of the attention that the window's first token gets |

    Trained heads park attention that they have no use for on the first token ("attention sinks",
    Xiao et al., 2023): with a large first_token, a large distance does not mean long memory.
    """

    histogram: pd.DataFrame
    """A row a head and bin, the bins being 0, 1, 2–3, 4–7, … up to context - 1:

    | column | meaning |
    |---|---|
    | layer, head | |
    | bin | the bin's name, "4–7" |
    | nearest, farthest | its first and last distance, in tokens |
    | share | of the head's attention; the shares of a head sum to 1 |
    | even_share | the share if attention were spread evenly over all that may be seen |
    """

    context: int
    """Tokens in a window."""
    windows: int
    """How many were looked at."""


@dataclass(frozen=True)
class AttentionMaps:
    """Where every head looks from every token of a text."""

    tokens: list[str]
    """The text in tokens; bytes that are no UTF-8 by themselves read like "\\xe2"."""
    weights: np.ndarray
    """float32 (layers, heads, tokens, tokens): [layer, head, query, key], each row summing to 1;
    0 where the key comes after the query."""

    def frame(self) -> pd.DataFrame:
        """The weights as a table: layer, head, query, key (positions in the text), query_token,
        key_token, weight; a row for every key that the query may see.
        """
        query, key = np.tril_indices(len(self.tokens))
        layers, heads = self.weights.shape[:2]
        names = np.array(self.tokens, object)
        repeated = {
            "query": query,
            "key": key,
            "query_token": names[query],
            "key_token": names[key],
        }
        return pd.DataFrame(
            {
                "layer": np.repeat(np.arange(layers), heads * len(query)),
                "head": np.tile(np.repeat(np.arange(heads), len(query)), layers),
                **{name: np.tile(values, layers * heads) for name, values in repeated.items()},
                "weight": self.weights[:, :, query, key].ravel(),
            }
        )


def attention_distances(
    model: GPT, windows: Windows, n_windows: int = 32, queries_at_once: int = 128
) -> AttentionDistances:
    """How far back each head looks, measured on the first windows of the validation set.

    Documents follow each other in a window, and a head may look into the one before, as in
    training.

    Args:
        model: on whatever device; it is left as it was found.
        windows: of the model's context, as `raygpt.data.batches.validation_windows` makes them.
        n_windows: how many to look at; all if there are fewer.
        queries_at_once: positions whose weights are in memory at once, of one layer and window:
            n_heads * queries_at_once * context numbers. It changes speed and memory only; a
            model of 24 layers, 1,024 wide, with 16 heads and context 1,024 took 286 MiB beside
            its weights on a CPU.
    """
    count = min(n_windows, len(windows))
    if count < 1 or queries_at_once < 1:
        raise ValueError(f"n_windows {n_windows}, queries_at_once {queries_at_once}: at least 1")
    sums = first = torch.zeros(())
    with _evaluating(model):
        for number in range(count):
            tokens, _ = windows.sequences(number, number + 1)
            by_layer = [
                _summed_by_distance(query, key, queries_at_once)
                for query, key in _queries_and_keys(model, tokens[0])
            ]
            found, on_first = (torch.stack(layers) for layers in zip(*by_layer, strict=True))
            sums, first = sums + found, first + on_first
    context = sums.shape[-1]
    shares = (sums / (count * context)).numpy()
    return AttentionDistances(
        _heads(shares, (first / (count * context)).numpy()), _histogram(shares), context, count
    )


def attention_maps(model: GPT, tokenizer: Tokenizer, text: str) -> AttentionMaps:
    """Where every head looks in a text; all weights are held at once, so the text is to be short.

    Args:
        model: on whatever device; it is left as it was found.
        tokenizer: that of the data it was trained on.
        text: at most as many tokens as the model's context.

    Raises:
        UserError: the text is empty or too long, or the tokenizer is not the model's.
    """
    ids = tokenizer.encode(text).astype(np.int64)
    context = model.position_embedding.num_embeddings
    if not 1 <= len(ids) <= context:
        raise UserError(
            f"the text {text[:40]!r}{'…' if len(text) > 40 else ''} has {len(ids)} tokens; "
            f"attention is shown for 1 to {context}, the model's context"
        )
    vocab_size = int(model.logit_bias.isfinite().sum())
    if tokenizer.vocab_size != vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens and the model "
            f"{vocab_size}: take the tokenizer of the data that the model was trained on"
        )
    with _evaluating(model):
        weights = [
            attention_weights(query, key, 0, len(ids)).cpu()
            for query, key in _queries_and_keys(model, torch.from_numpy(ids))
        ]
    names = [tokenizer.decode_bytes([id_]).decode(errors="backslashreplace") for id_ in ids]
    return AttentionMaps(names, torch.stack(weights).numpy())


def attention_weights(
    query: torch.Tensor, key: torch.Tensor, start: int, stop: int
) -> torch.Tensor:
    """The weights of the queries start..stop on all keys before stop.

    Args:
        query, key: (heads, time, d).
        start, stop: positions of queries.

    Returns:
        (heads, stop - start, stop), each row summing to 1.
    """
    scores = query[:, start:stop] @ key[:, :stop].mT / math.sqrt(query.shape[-1])
    shape = scores.shape[1:]
    future = torch.ones(shape, dtype=torch.bool, device=scores.device).triu(start + 1)
    return scores.masked_fill_(future, -torch.inf).softmax(-1)


@contextlib.contextmanager
def _evaluating(model: GPT) -> Iterator[None]:
    """Without dropout and gradients meanwhile."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _queries_and_keys(
    model: GPT, tokens: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Queries and keys of one layer after the other, (heads, time, d), for ids (time,)."""
    x = model.embed(tokens[None].to(model.token_embedding.weight.device))
    for block in model.blocks:
        query, key, _ = block.attention.heads(block.attention_norm(x))
        yield query[0], key[0]
        x = block(x)


def _summed_by_distance(
    query: torch.Tensor, key: torch.Tensor, queries_at_once: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's weights summed over all pairs of the same distance, and over those on key 0.

    Returns:
        float64 (heads, time) by distance, and (heads,); on the CPU.
    """
    heads, time, _ = query.shape
    sums = torch.zeros(heads, time, dtype=torch.float64)
    first = torch.zeros(heads, dtype=torch.float64)
    positions = torch.arange(time, device=query.device)
    for start in range(0, time, queries_at_once):
        stop = min(start + queries_at_once, time)
        weights = attention_weights(query, key, start, stop)
        # What lies in the future has no weight to be counted anywhere.
        distance = (positions[start:stop, None] - positions[:stop]).clamp(min=0)
        of_chunk = weights.new_zeros(heads, stop)
        of_chunk.scatter_add_(1, distance.flatten().expand(heads, -1), weights.flatten(1))
        sums[:, :stop] += of_chunk.cpu()
        first += weights[:, :, 0].sum(-1).cpu()
    return sums, first


def _heads(shares: np.ndarray, first_token: np.ndarray) -> pd.DataFrame:
    """Of (layers, heads, time) by distance, and (layers, heads)."""
    layers, heads, time = shares.shape
    layer, head = np.indices((layers, heads))
    return pd.DataFrame(
        {
            "layer": layer.ravel(),
            "head": head.ravel(),
            "mean_distance": (shares @ np.arange(time)).ravel(),
            "first_token": first_token.ravel(),
        }
    )


def _histogram(shares: np.ndarray) -> pd.DataFrame:
    """Of (layers, heads, time) by distance."""
    layers, heads, time = shares.shape
    nearest = np.array([0, *(2**power for power in range((time - 1).bit_length()))])
    farthest = np.append(nearest[1:], time) - 1
    names = [
        f"{low}" if low == high else f"{low}–{high}"
        for low, high in zip(nearest, farthest, strict=True)
    ]
    # A query at position p gives each of its p + 1 distances the same.
    even = np.cumsum(1 / np.arange(time, 0, -1))[::-1] / time
    layer, head, place = np.indices((layers, heads, len(nearest)))
    return pd.DataFrame(
        {
            "layer": layer.ravel(),
            "head": head.ravel(),
            "bin": np.array(names, object)[place.ravel()],
            "nearest": nearest[place.ravel()],
            "farthest": farthest[place.ravel()],
            "share": np.add.reduceat(shares, nearest, axis=-1).ravel(),
            "even_share": np.add.reduceat(even, nearest)[place.ravel()],
        }
    )
