import torch

from raygpt.training.build import build_model
from raygpt.training.model import GPT


def test_a_recipe_without_a_model_of_its_own_gets_a_gpt(recipe_of):
    model = build_model(recipe_of(data={"context": 32}, model={"n_layers": 3}), 300)
    assert isinstance(model, GPT)
    assert (model.context, model.vocab_size, len(model.blocks)) == (32, 300, 3)
    tokens_BT = torch.zeros(2, 32, dtype=torch.int64)
    logits_BTV = model.logits(tokens_BT)
    assert logits_BTV.shape == (2, 32, 320)
    assert torch.equal(logits_BTV.isfinite().sum(-1), torch.full((2, 32), 300))


def test_the_weights_are_drawn_from_torchs_generator(recipe_of):
    def weights(seed):
        torch.manual_seed(seed)
        return build_model(recipe_of(), 300).token_embedding.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
