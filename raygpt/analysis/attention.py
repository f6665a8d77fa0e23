"""What the heads of a model attend to: how far back on the validation set, and where in a text.

The weights are computed from the model's own queries and keys, softmax(q kᵀ / √D) under the causal
mask, where D is the width of a head (Vaswani et al., 2017, equation 1); in float32, without
dropout. Layers and heads are counted from 0.

    model = load_model(run.folder / run.best["checkpoint"]).model
    distances = attention_distances(model, windows)
    distances.heads.sort_values("mean_distance")
    maps = attention_maps(model, dataset.tokenizer, "The cat sat on the mat.")
    maps.frame().query("layer == 0 and head == 1")

The analysis uses a model's `queries_and_keys`, `context` and `vocab_size`, which raygpt's own GPT
has. Shapes in names: B sequences, T tokens of each, H heads, D the width of a head, Q and K the
positions of queries and keys.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from raygpt.data.batches import Windows
from raygpt.data.tokenizer import Tokenizer
from raygpt.errors import UserError


@dataclass(frozen=True)
class AttentionDistances:
    """How far back the heads of a model attend, in tokens: 0 is the token itself.

    All figures are weighted by attention and averaged over all positions of all windows. A position
    early in a window cannot look far back, so a head that attends evenly to all visible tokens has
    a mean of (context - 1) / 4.
    """

    heads: pd.DataFrame
    """A row per head:

    | column | meaning |
    |---|---|
    | layer, head | |
    | mean_distance | in tokens |
    | first_token | share of the attention on the window's first token |

    Trained heads put attention that they do not need on the first token ("attention sinks", Xiao et
    al., 2023): with a large first_token, a large distance does not mean long memory.
    """

    histogram: pd.DataFrame
    """A row per head and bin; the bins are 0, 1, 2–3, 4–7, … up to context - 1:

    | column | meaning |
    |---|---|
    | layer, head | |
    | bin | the bin's name, "4–7" |
    | nearest, farthest | the bin's first and last distance, in tokens |
    | share | of the head's attention; the shares of a head sum to 1 |
    | even_share | the share of a head that attends evenly to all visible tokens |
    """

    context: int
    """Tokens in a window."""
    windows: int
    """Number of windows that the figures are averaged over."""


@dataclass(frozen=True)
class AttentionMaps:
    """The attention of every head in a text."""

    tokens: list[str]
    """The text in tokens; bytes that are not UTF-8 by themselves are written as "\\xe2"."""
    weights: np.ndarray
    """float32 (layers, heads, tokens, tokens): [layer, head, query, key], each row summing to 1;
    0 where the key comes after the query."""

    def frame(self) -> pd.DataFrame:
        """The weights as a table: layer, head, query, key (positions in the text), query_token,
        key_token, weight; a row for every key that is visible to the query.
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
    model: nn.Module, windows: Windows, n_windows: int = 32, queries_at_once: int = 128
) -> AttentionDistances:
    """How far back each head attends, measured on the first windows of the validation set.

    A window holds several documents, and a head may attend to an earlier one, as in training.

    Args:
        model: on any device; its mode is restored afterwards.
        windows: as long as the model's context, from `raygpt.data.batches.validation_windows`.
        n_windows: number of windows to measure on; all if there are fewer.
        queries_at_once: positions whose weights are in memory at once, of one layer and window:
            n_heads * queries_at_once * context numbers. It changes speed and memory only; a
            model of 24 layers, 1,024 wide, with 16 heads and context 1,024 took 286 MiB beside
            its weights on a CPU.

    Raises:
        UserError: the model does not show its queries and keys.
    """
    count = min(n_windows, len(windows))
    if count < 1 or queries_at_once < 1:
        raise ValueError(f"n_windows {n_windows}, queries_at_once {queries_at_once}: at least 1")
    sums = first = torch.zeros(())
    with _evaluating(model):
        for number in range(count):
            tokens_BT, _ = windows.sequences(number, number + 1)
            by_layer = [
                _summed_by_distance(queries_HTD, keys_HTD, queries_at_once)
                for queries_HTD, keys_HTD in _queries_and_keys(model, tokens_BT[0])
            ]
            found, on_first = (torch.stack(layers) for layers in zip(*by_layer, strict=True))
            sums, first = sums + found, first + on_first
    context = sums.shape[-1]
    shares = (sums / (count * context)).numpy()
    return AttentionDistances(
        _heads(shares, (first / (count * context)).numpy()), _histogram(shares), context, count
    )


def attention_maps(model: nn.Module, tokenizer: Tokenizer, text: str) -> AttentionMaps:
    """The attention of every head in a text. All weights are held at once: keep the text short.

    Args:
        model: on any device; its mode is restored afterwards.
        tokenizer: the tokenizer of the data that the model was trained on.
        text: at most as many tokens as the model's context.

    Raises:
        UserError: the text is empty or too long, the tokenizer is not the model's, or the model
            does not show its queries and keys.
    """
    _refuse_other_models(model)
    ids = tokenizer.encode(text).astype(np.int64)
    context = model.context
    if not 1 <= len(ids) <= context:
        raise UserError(
            f"the text {text[:40]!r}{'…' if len(text) > 40 else ''} has {len(ids)} tokens; "
            f"attention is shown for 1 to {context}, the model's context"
        )
    if tokenizer.vocab_size != model.vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens and the model "
            f"{model.vocab_size}: use the tokenizer of the data that the model was trained on"
        )
    with _evaluating(model):
        weights = [
            attention_weights(queries_HTD, keys_HTD, 0, len(ids)).cpu()
            for queries_HTD, keys_HTD in _queries_and_keys(model, torch.from_numpy(ids))
        ]
    names = [tokenizer.decode_bytes([id_]).decode(errors="backslashreplace") for id_ in ids]
    return AttentionMaps(names, torch.stack(weights).numpy())


def attention_weights(
    queries_HTD: torch.Tensor, keys_HTD: torch.Tensor, start: int, stop: int
) -> torch.Tensor:
    """The weights of the queries start..stop on all keys before stop.

    Returns:
        weights_HQK of stop - start queries and stop keys, each row summing to 1.
    """
    scores_HQK = queries_HTD[:, start:stop] @ keys_HTD[:, :stop].mT
    scores_HQK = scores_HQK / math.sqrt(queries_HTD.shape[-1])
    shape = scores_HQK.shape[1:]
    future_QK = torch.ones(shape, dtype=torch.bool, device=scores_HQK.device).triu(start + 1)
    return scores_HQK.masked_fill_(future_QK, -torch.inf).softmax(-1)


def _refuse_other_models(model: nn.Module) -> None:
    """Raise UserError if a model does not show its queries and keys."""
    if not hasattr(model, "queries_and_keys"):
        raise UserError(
            f"attention is shown for raygpt's own GPT only: the model {type(model).__name__} has "
            f"no method queries_and_keys"
        )


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Turn dropout and gradients off within the block."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _queries_and_keys(
    model: nn.Module, tokens_T: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """queries_HTD and keys_HTD of one layer after the other."""
    _refuse_other_models(model)
    tokens_BT = tokens_T[None].to(next(model.parameters()).device)
    for queries_BHTD, keys_BHTD in model.queries_and_keys(tokens_BT):
        yield queries_BHTD[0], keys_BHTD[0]


def _summed_by_distance(
    queries_HTD: torch.Tensor, keys_HTD: torch.Tensor, queries_at_once: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's weights summed over all pairs of the same distance, and over all pairs with key 0.

    Returns:
        float64 (heads, distances), and (heads,); on the CPU.
    """
    heads, time, _ = queries_HTD.shape
    sums_HT = torch.zeros(heads, time, dtype=torch.float64)
    first_H = torch.zeros(heads, dtype=torch.float64)
    positions_T = torch.arange(time, device=queries_HTD.device)
    for start in range(0, time, queries_at_once):
        stop = min(start + queries_at_once, time)
        weights_HQK = attention_weights(queries_HTD, keys_HTD, start, stop)
        # Keys in the future have no weight, so it does not matter which distance they count for.
        distance_QK = (positions_T[start:stop, None] - positions_T[:stop]).clamp(min=0)
        chunk_HK = weights_HQK.new_zeros(heads, stop)
        chunk_HK.scatter_add_(1, distance_QK.flatten().expand(heads, -1), weights_HQK.flatten(1))
        sums_HT[:, :stop] += chunk_HK.cpu()
        first_H += weights_HQK[:, :, 0].sum(-1).cpu()
    return sums_HT, first_H


def _heads(shares: np.ndarray, first_token: np.ndarray) -> pd.DataFrame:
    """The table of heads from shares (layers, heads, distances) and first_token (layers, heads)."""
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
    """The histogram from shares (layers, heads, distances)."""
    layers, heads, time = shares.shape
    nearest = np.array([0, *(2**power for power in range((time - 1).bit_length()))])
    farthest = np.append(nearest[1:], time) - 1
    names = [
        f"{low}" if low == high else f"{low}–{high}"
        for low, high in zip(nearest, farthest, strict=True)
    ]
    # A query at position p gives each of its p + 1 distances the same share.
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
