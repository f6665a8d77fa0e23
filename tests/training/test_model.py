import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raygpt.training.model import GPT, summed_loss

VOCABULARY, PADDED, CONTEXT = 300, 320, 16


@pytest.fixture
def gpt_of(recipe_of):
    """Makes a model, the same at every call."""

    def make(vocab_size=VOCABULARY, **shape):
        torch.manual_seed(0)
        return GPT(recipe_of(model=shape).model, vocab_size, CONTEXT)

    return make


@pytest.fixture
def tokens():
    return torch.randint(VOCABULARY, (3, CONTEXT), generator=torch.Generator().manual_seed(1))


def scatter(model):
    """Moves every parameter off its initial value, so that zero biases and unit gains count."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def gradients(model, tokens):
    torch.manual_seed(7)
    model.zero_grad()
    summed_loss(model(tokens), tokens.roll(-1, dims=1)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_the_initial_loss_is_that_of_a_uniform_guess(gpt_of, tokens):
    model = gpt_of(d_model=64, n_heads=4).eval()
    targets = torch.randint(VOCABULARY, tokens.shape)
    loss = summed_loss(model(tokens), targets).item() / targets.numel()
    assert loss == pytest.approx(math.log(VOCABULARY), abs=0.03)  # ln 320 is 0.065 above ln 300


@pytest.mark.parametrize(("vocab_size", "rows"), [(300, 320), (320, 320), (321, 384)])
def test_the_vocabulary_is_padded_to_a_multiple_of_64(gpt_of, vocab_size, rows):
    model = gpt_of(vocab_size)
    assert model.token_embedding.weight.shape == (rows, 16)
    logits = model(torch.zeros(1, 4, dtype=torch.int64))
    assert logits.shape == (1, 4, rows)
    assert torch.isfinite(logits).sum() == 4 * vocab_size


@pytest.mark.parametrize("bf16", [False, True])
def test_the_padding_is_never_predicted_and_gets_no_gradient(gpt_of, tokens, bf16):
    model = scatter(gpt_of())
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(tokens)
    assert (logits[..., VOCABULARY:] == -torch.inf).all()
    assert torch.isfinite(logits[..., :VOCABULARY]).all()
    mass = logits.float().softmax(-1)[..., :VOCABULARY].sum(-1)
    torch.testing.assert_close(mass, torch.ones_like(mass))
    summed_loss(logits, tokens.roll(-1, dims=1)).backward()
    gradient = model.token_embedding.weight.grad
    assert (gradient[VOCABULARY:] == 0).all()
    assert (gradient[:VOCABULARY] != 0).any(dim=1).all()


def test_a_later_token_does_not_change_earlier_logits(gpt_of, tokens):
    model = scatter(gpt_of()).eval()
    logits = model(tokens)
    for position in (1, 7, CONTEXT - 1):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % VOCABULARY
        new = model(changed)
        assert torch.equal(new[:, :position], logits[:, :position])
        differs = (new != logits).any(-1).any(0)
        assert differs[position:].all()


def test_a_prefix_gives_the_same_logits_as_the_whole(gpt_of, tokens):
    model = scatter(gpt_of()).eval()
    torch.testing.assert_close(model(tokens[:, :5]), model(tokens)[:, :5])


def test_the_order_of_earlier_tokens_matters(gpt_of):
    model = scatter(gpt_of()).eval()
    one, other = (model(torch.tensor([ids]))[0, -1] for ids in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one, other)


def test_dropout_acts_in_training_only(gpt_of, tokens):
    with_dropout, without = scatter(gpt_of(dropout=0.5)), scatter(gpt_of())
    assert not torch.equal(with_dropout(tokens), with_dropout(tokens))
    assert torch.equal(with_dropout.eval()(tokens), without(tokens))


@pytest.mark.parametrize("where", ["embedding", "attention", "projection", "mlp"])
def test_dropout_acts_at_each_of_gpt2s_four_places(gpt_of, tokens, where):
    model = scatter(gpt_of())
    exact = model(tokens)
    assert torch.equal(model(tokens), exact)
    block = model.blocks[0]
    dropping = {"embedding": model, "mlp": block.mlp}.get(where, block.attention)
    dropping.dropout = 0.5
    if where == "attention":  # on the weights: the output's own dropout is kept out of it
        attended = []
        block.attention.projection.register_forward_hook(lambda m, i, o: attended.append(i[0]))
        model(tokens), model(tokens)
        assert not torch.equal(*attended)
    else:
        assert not torch.equal(model(tokens), exact)


@pytest.mark.parametrize(("d_model", "n_layers", "n_heads"), [(16, 2, 2), (24, 3, 4)])
def test_the_number_of_parameters(gpt_of, d_model, n_layers, n_heads):
    model = gpt_of(d_model=d_model, n_layers=n_layers, n_heads=n_heads)
    embeddings = (PADDED + CONTEXT) * d_model  # the output shares the token embedding
    block = 12 * d_model**2 + 13 * d_model
    expected = embeddings + n_layers * block + 2 * d_model
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_gpt2_itself_has_124_million_parameters(recipe_of):
    shape = recipe_of(model={"d_model": 768, "n_layers": 12, "n_heads": 12}).model
    with torch.device("meta"):
        model = GPT(shape, 50257, 1024)
    padding = (50304 - 50257) * 768
    assert sum(p.numel() for p in model.parameters()) - padding == 124_439_808


def test_initial_weights_are_gpt2s(gpt_of):
    n_layers = 8
    model = gpt_of(d_model=64, n_layers=n_layers, n_heads=4)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), name
        else:
            residual = "attention.projection" in name or "mlp.projection" in name
            std = 0.02 / math.sqrt(2 * n_layers) if residual else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.1), name
            assert parameter.mean().item() == pytest.approx(0, abs=0.1 * std), name


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activation_checkpointing_changes_no_gradient(gpt_of, tokens, dropout):
    usual = gradients(scatter(gpt_of(dropout=dropout)), tokens)
    model = scatter(gpt_of(dropout=dropout, activation_checkpointing=True))
    calls = []
    model.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    recomputed = gradients(model, tokens)
    assert len(calls) == 2, "the block should have run again in the backward pass"
    for name, gradient in usual.items():
        torch.testing.assert_close(recomputed[name], gradient, msg=name)
        assert gradient.abs().sum() > 0


def test_the_loss_is_the_sum_over_the_targets_in_float32():
    logits = torch.randn(2, 5, 7).bfloat16()
    targets = torch.randint(7, (2, 5))
    loss = summed_loss(logits, targets)
    assert loss.dtype == torch.float32
    by_hand = -sum(
        logits.double().log_softmax(-1)[row, column, targets[row, column]].item()
        for row in range(2)
        for column in range(5)
    )
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)


def transformers_twin(model, shape):
    """GPT-2 as transformers has it, carrying the weights of `model`."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=shape["d_model"],
        n_layer=shape["n_layers"],
        n_head=shape["n_heads"],
    )
    ours = model.state_dict()
    theirs = {
        "transformer.wte.weight": ours["token_embedding.weight"][:VOCABULARY],
        "lm_head.weight": ours["token_embedding.weight"][:VOCABULARY],
        "transformer.wpe.weight": ours["position_embedding.weight"],
        "transformer.ln_f.weight": ours["final_norm.weight"],
        "transformer.ln_f.bias": ours["final_norm.bias"],
    }
    names = {
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.projection": "attn.c_proj",
        "mlp_norm": "ln_2",
        "mlp.expansion": "mlp.c_fc",
        "mlp.projection": "mlp.c_proj",
    }
    for layer in range(shape["n_layers"]):
        for our_name, their_name in names.items():
            for kind in ("weight", "bias"):
                value = ours[f"blocks.{layer}.{our_name}.{kind}"]
                # transformers' Conv1D holds its matrices the other way round.
                theirs[f"transformer.h.{layer}.{their_name}.{kind}"] = value.t()
    twin = GPT2LMHeadModel(config)
    twin.load_state_dict(theirs)
    return twin.eval()


def test_the_names_that_sampling_and_analysis_use(gpt_of, tokens):
    model = scatter(gpt_of()).eval()
    assert (model.context, model.vocab_size) == (CONTEXT, VOCABULARY)
    assert torch.equal(model.logits(tokens), model(tokens))


def test_queries_and_keys_are_those_that_attention_multiplies(gpt_of, tokens, monkeypatch):
    model = scatter(gpt_of()).eval()
    used = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def record(queries, keys, *rest, **options):
        used.append((queries, keys))
        return attend(queries, keys, *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    model(tokens)
    expected, used = used, []
    with torch.no_grad():
        found = list(model.queries_and_keys(tokens))
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[0].shape == ours[1].shape == (3, 2, CONTEXT, 8)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_the_logits_are_those_of_transformers_gpt2(gpt_of, tokens):
    shape = {"d_model": 32, "n_layers": 3, "n_heads": 4}
    model = scatter(gpt_of(**shape, dropout=0.2)).eval()
    with torch.no_grad():
        ours = model(tokens)[..., :VOCABULARY]
        theirs = transformers_twin(model, shape)(tokens).logits
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
