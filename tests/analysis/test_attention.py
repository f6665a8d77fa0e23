import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from raygpt.analysis.attention import attention_distances, attention_maps
from raygpt.data.tokenizer import train_tokenizer
from raygpt.errors import UserError


def direct_weights(model, tokens):
    """(layers, heads, time, time) by the plain formula, from the inputs of a forward pass.

    With them each layer's output is computed as well, and must be what the model has.
    """
    seen = []
    hooks = [
        block.attention.register_forward_hook(lambda _, args, output: seen.append((*args, output)))
        for block in model.blocks
    ]
    with torch.no_grad():
        model.eval()(tokens[None])
    for hook in hooks:
        hook.remove()
    weights = []
    for block, (x, output) in zip(model.blocks, seen, strict=True):
        attention = block.attention
        time, width = x.shape[1:]
        size = width // attention.n_heads
        qkv = (x[0] @ attention.qkv.weight.T + attention.qkv.bias).detach()
        of_layer, attended = [], []
        for head in range(attention.n_heads):
            begin = head * size
            query, key, value = (
                qkv[:, part * width + begin : part * width + begin + size] for part in range(3)
            )
            scores = query @ key.T / size**0.5
            scores[torch.ones(time, time).triu(1).bool()] = -torch.inf
            of_layer.append(scores.softmax(-1))
            attended.append(of_layer[-1] @ value)
        by_hand = torch.cat(attended, -1) @ attention.projection.weight.T
        by_hand = by_hand + attention.projection.bias
        torch.testing.assert_close(by_hand, output[0], rtol=1e-4, atol=1e-4)
        weights.append(torch.stack(of_layer))
    return torch.stack(weights).numpy()


def test_distances_are_those_of_a_direct_computation(gpt_of, windows_of):
    model, windows = gpt_of(), windows_of(count=5)
    found = attention_distances(model, windows, n_windows=3)
    assert (found.context, found.windows) == (16, 3)
    weights = np.stack(
        [direct_weights(model, windows.sequences(i, i + 1)[0][0]) for i in range(3)]
    ).astype(float)
    query, key = np.indices((16, 16))
    means = (weights * (query - key)).sum(-1).mean((0, 3))
    assert np.ptp(means) > 1
    assert found.heads["mean_distance"].to_numpy() == pytest.approx(means.ravel(), rel=1e-5)
    first = weights[..., 0].mean((0, 3))
    assert found.heads["first_token"].to_numpy() == pytest.approx(first.ravel(), rel=1e-5)
    for row in found.histogram.itertuples():
        inside = (query - key >= row.nearest) & (query - key <= row.farthest)
        share = (weights[:, row.layer, row.head] * inside).sum(-1).mean()
        assert row.share == pytest.approx(share, rel=1e-4, abs=1e-7)


def test_rows_are_in_order_and_bins_are_powers_of_two(gpt_of, windows_of):
    found = attention_distances(gpt_of(context=20), windows_of(context=20))
    assert found.heads[["layer", "head"]].to_numpy().tolist() == [
        [layer, head] for layer in range(3) for head in range(4)
    ]
    bins = ["0", "1", "2–3", "4–7", "8–15", "16–19"]
    assert found.histogram["bin"].tolist() == bins * 12
    one = found.histogram.query("layer == 2 and head == 3")
    assert list(zip(one["nearest"], one["farthest"], strict=True)) == [
        *[(0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 19)]
    ]


def test_the_shares_of_a_head_sum_to_one(gpt_of, windows_of):
    histogram = attention_distances(gpt_of(), windows_of()).histogram
    sums = histogram.groupby(["layer", "head"])[["share", "even_share"]].sum()
    assert sums.to_numpy() == pytest.approx(np.ones((12, 2)), abs=1e-6)


@pytest.mark.parametrize("queries_at_once", [1, 5, 16, 1000])
def test_the_size_of_chunks_changes_no_result(gpt_of, windows_of, queries_at_once):
    usual = attention_distances(gpt_of(), windows_of(), queries_at_once=7)
    other = attention_distances(gpt_of(), windows_of(), queries_at_once=queries_at_once)
    for name, column in usual.heads.items():
        assert other.heads[name].to_numpy() == pytest.approx(column.to_numpy(), rel=1e-5)
    shares = usual.histogram["share"].to_numpy()
    assert other.histogram["share"].to_numpy() == pytest.approx(shares, rel=1e-4, abs=1e-7)


def test_there_may_be_fewer_windows_than_asked_for(gpt_of, windows_of):
    assert attention_distances(gpt_of(), windows_of(count=2), n_windows=9).windows == 2


def model_with_heads_made_by_hand(gpt_of, context):
    """One layer: head 0 attends to the token before, head 1 to the token itself, head 2 evenly to
    all tokens, and head 3 to the first token.
    """
    model = gpt_of(context=context, d_model=4 * context, n_layers=1, n_heads=4)
    attention = model.blocks[0].attention
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.blocks[0].attention_norm.weight.fill_(1)
        # The residual stream holds the position only, as a one-hot vector.
        model.position_embedding.weight.copy_(torch.eye(context, 4 * context))
        query, key, _ = attention.qkv.weight.view(3, 4, context, 4 * context)
        query[0, :-1, 1:context] = 100 * torch.eye(context - 1)
        query[1, :, :context] = 100 * torch.eye(context)
        key[:, :, :context] = torch.eye(context)
        # The norm changes all positions alike; the bias is constant.
        attention.qkv.bias.view(3, 4, context)[0, 3, 0] = 100
    return model


def test_heads_made_by_hand_attend_where_they_should(gpt_of, windows_of):
    context = 16
    model = model_with_heads_made_by_hand(gpt_of, context)
    found = attention_distances(model, windows_of(context))
    # The first token attends to itself; p + 1 tokens are visible to position p.
    before = (context - 1) / context
    mean_position = (context - 1) / 2
    assert found.heads["mean_distance"].to_numpy() == pytest.approx(
        [before, 0, mean_position / 2, mean_position], abs=1e-4
    )
    evenly = sum(1 / (position + 1) for position in range(context)) / context
    assert found.heads["first_token"].to_numpy() == pytest.approx(
        [2 / context, 1 / context, evenly, 1], abs=1e-4
    )
    shares = found.histogram.pivot(index="head", columns="nearest", values="share").to_numpy()
    assert shares[0] == pytest.approx([1 - before, before, 0, 0, 0], abs=1e-4)
    assert shares[1] == pytest.approx([1, 0, 0, 0, 0], abs=1e-4)
    even = found.histogram.query("head == 2")["even_share"].to_numpy()
    assert shares[2] == pytest.approx(even, abs=1e-5)
    assert shares[3] == pytest.approx(np.array([1, 1, 2, 4, 8]) / context, abs=1e-4)


def test_dropout_is_off_during_analysis_and_the_models_mode_restored(gpt_of, windows_of, tokenizer):
    exact, dropping = gpt_of().eval(), gpt_of(dropout=0.5).train()
    usual, other = (attention_distances(model, windows_of()) for model in (exact, dropping))
    assert usual.heads.equals(other.heads)
    text = "the cat sat"
    usual, other = (attention_maps(model, tokenizer, text) for model in (exact, dropping))
    assert np.array_equal(usual.weights, other.weights)
    assert dropping.training
    assert not exact.training


def test_no_tensor_has_the_weights_of_all_queries(gpt_of, windows_of):
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.numbers = max(self.numbers, result.numel())
            return result

    model, windows = gpt_of(context=256), windows_of(context=256, count=2)
    with Largest() as largest:
        attention_distances(model, windows, queries_at_once=16)
    assert largest.numbers == max(4 * 16 * 256, 256 * 4 * 24)
    with Largest() as largest:
        attention_distances(model, windows, queries_at_once=256)
    assert largest.numbers == 4 * 256 * 256


def test_maps_are_those_of_a_direct_computation(gpt_of, tokenizer):
    text = "the cat sat on the mat"
    maps = attention_maps(gpt_of(), tokenizer, text)
    assert "".join(maps.tokens) == text
    assert maps.weights.dtype == np.float32
    ids = torch.from_numpy(tokenizer.encode(text).astype(np.int64))
    assert maps.weights.shape == (3, 4, len(ids), len(ids))
    np.testing.assert_allclose(maps.weights, direct_weights(gpt_of(), ids), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(maps.weights.sum(-1), 1, rtol=1e-5)


def test_the_table_of_maps_has_a_row_per_visible_key(gpt_of, tokenizer):
    maps = attention_maps(gpt_of(), tokenizer, "the cat sat on the mat")
    table = maps.frame()
    n = len(maps.tokens)
    assert len(table) == 3 * 4 * n * (n + 1) / 2
    assert (table["key"] <= table["query"]).all()
    for row in table.sample(50, random_state=0).itertuples():
        assert row.weight == maps.weights[row.layer, row.head, row.query, row.key]
        assert (row.query_token, row.key_token) == (maps.tokens[row.query], maps.tokens[row.key])


def test_tokens_that_are_not_utf8_by_themselves_are_shown_as_bytes(gpt_of, tokenizer):
    assert attention_maps(gpt_of(), tokenizer, "東").tokens == ["\\xe6", "\\x9d", "\\xb1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "'' has 0 tokens; .* 1 to 16"), ("z" * 50, r"'z{40}'… has 50 tokens; .* 1 to 16,")],
)
def test_a_text_that_does_not_fit_is_refused(gpt_of, tokenizer, text, message):
    with pytest.raises(UserError, match=message):
        attention_maps(gpt_of(), tokenizer, text)


def test_another_models_tokenizer_is_refused(gpt_of):
    other = train_tokenizer("bpe-265", ["the cat sat on the mat and that was that " * 9])
    with pytest.raises(UserError, match="bpe-265 has 265 tokens and the model 270"):
        attention_maps(gpt_of(), other, "the cat")


def test_a_model_that_does_not_show_its_queries_and_keys_is_refused(tokenizer, windows_of):
    class Other(torch.nn.Linear):
        context = 16

    message = "raygpt's own GPT only: the model Other has no method queries_and_keys"
    with pytest.raises(UserError, match=message):
        attention_maps(Other(1, 1), tokenizer, "the cat")
    with pytest.raises(UserError, match=message):
        attention_distances(Other(1, 1), windows_of())


def test_queries_and_keys_alone_decide_the_weights(windows_of):
    """The model has nothing else in common with a GPT."""

    class Mixed(torch.nn.Module):
        context, vocab_size = 16, 270

        def __init__(self):
            super().__init__()
            self.codes = torch.nn.Parameter(torch.randn(270, 2, 5, generator=torch.manual_seed(0)))

        def queries_and_keys(self, tokens_BT):
            for layer in range(2):
                codes_BHTD = self.codes[tokens_BT][:, :, layer].unsqueeze(1)
                yield codes_BHTD, codes_BHTD.flip(-1)

    model, windows = Mixed(), windows_of(count=1)
    found = attention_distances(model, windows)
    tokens_T = windows.sequences(0, 1)[0][0]
    means = []
    for layer in range(2):
        codes = model.codes[tokens_T, layer].detach()
        scores = codes @ codes.flip(-1).T / 5**0.5
        scores[torch.ones(16, 16).triu(1).bool()] = -torch.inf
        query, key = np.indices((16, 16))
        means.append((scores.softmax(-1).numpy() * (query - key)).sum() / 16)
    assert found.heads["mean_distance"].to_numpy() == pytest.approx(means, rel=1e-5)
