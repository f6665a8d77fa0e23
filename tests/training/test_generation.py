import pytest
import torch

from raygpt.training.generation import generate
from raygpt.training.model import GPT

VOCABULARY, CONTEXT, END = 300, 16, 299


@pytest.fixture
def gpt(recipe_of):
    """A model without confident predictions, so that the seed matters."""
    torch.manual_seed(0)
    model = GPT(recipe_of().model, VOCABULARY, CONTEXT).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def drawn(gpt, prompt=(1, 2, 3), tokens=40, end=-1, **how):
    return list(generate(gpt, prompt, tokens, end, **how))


def test_the_seed_decides_the_tokens(gpt):
    tokens = drawn(gpt, seed=1)
    torch.manual_seed(9)
    assert drawn(gpt, seed=1) == tokens
    assert drawn(gpt, seed=2) != tokens
    assert len(tokens) == 40 > CONTEXT
    assert max(tokens) < VOCABULARY, "the rows that pad the vocabulary are no tokens"


@pytest.mark.parametrize("how", [{"temperature": 0}, {"top_k": 1}, {"temperature": 1e-300}])
def test_the_most_probable_token_follows_from_the_last_context_tokens(gpt, how):
    tokens = drawn(gpt, **how)
    ids = [1, 2, 3, *tokens]
    for place in range(3, len(ids)):
        seen = torch.tensor([ids[max(0, place - CONTEXT) : place]])
        with torch.no_grad():
            assert gpt(seen)[0, -1].argmax() == ids[place]


def test_tokens_are_drawn_by_their_probability(gpt):
    with torch.no_grad():
        logits = gpt(torch.tensor([[1, 2, 3]]))[0, -1].double()
    for temperature, top_k in ((1.0, None), (0.5, None), (1.0, 5)):
        expected = (logits / temperature).softmax(-1)
        if top_k:
            rare = logits.argsort(descending=True)[top_k:]
            expected[rare] = 0
            expected /= expected.sum()
        first = [
            drawn(gpt, tokens=1, temperature=temperature, top_k=top_k, seed=seed)[0]
            for seed in range(300)
        ]
        found = torch.bincount(torch.tensor(first), minlength=len(expected)) / len(first)
        assert (found[expected == 0] == 0).all()
        for token in expected.topk(5).indices:
            error = (expected[token] * (1 - expected[token]) / len(first)).sqrt()
            assert abs(found[token] - expected[token]) < 4 * error


def test_the_end_of_the_document_ends_the_text(gpt):
    tokens = drawn(gpt, seed=3)
    place = 10
    assert tokens[place] not in tokens[:place]
    assert drawn(gpt, seed=3, end=tokens[place]) == tokens[:place]


def test_a_top_k_above_the_vocabulary_draws_among_all_tokens(gpt):
    assert drawn(gpt, top_k=10**6) == drawn(gpt)
