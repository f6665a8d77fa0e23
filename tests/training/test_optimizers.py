import pytest
import torch

from raygpt.training.model import GPT
from raygpt.training.optimizers import make_optimizer


@pytest.fixture
def model(recipe_of):
    return GPT(recipe_of().model, vocab_size=300, context=16)


def test_a_step_without_gradient_shrinks_the_matrices_alone(model, recipe_of):
    recipe = recipe_of(training={"weight_decay": 0.5, "learning_rate": 0.1}).training
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, recipe).step()
    for name, parameter in model.named_parameters():
        decays = name.startswith("blocks") and parameter.dim() == 2
        expected = before[name] * (1 - 0.1 * 0.5) if decays else before[name]
        torch.testing.assert_close(parameter, expected, msg=name)


def test_adamw_is_fused_and_has_the_recipes_numbers(model, recipe_of):
    recipe = recipe_of(training={"beta1": 0.8, "beta2": 0.9, "weight_decay": 0.3}).training
    optimizer = make_optimizer(model, recipe)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert [group["rate_multiple"] for group in optimizer.param_groups] == [1.0, 1.0]
    for group in optimizer.param_groups:
        assert (group["fused"], group["betas"]) == (True, (0.8, 0.9))
