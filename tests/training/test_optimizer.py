import pytest
import torch
from torch import nn

from raygpt.training.model import GPT
from raygpt.training.optimizer import make_optimizer, parameter_groups


@pytest.fixture
def model(recipe_of):
    return GPT(recipe_of().model, vocab_size=300, context=16)


def test_every_parameter_is_in_exactly_one_group(model):
    groups = parameter_groups(model, 0.1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert len(set(grouped)) == len(grouped) == 4 + 2 * 12


def test_the_matrices_decay_and_nothing_else_does(model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, others = (
        ({names[id(parameter)] for parameter in group["params"]}, group["weight_decay"])
        for group in parameter_groups(model, 0.1)
    )
    matrices = ["attention.qkv", "attention.projection", "mlp.expansion", "mlp.projection"]
    assert decaying == ({f"blocks.{n}.{name}.weight" for n in (0, 1) for name in matrices}, 0.1)
    assert others[1] == 0
    assert {"token_embedding.weight", "position_embedding.weight"} <= others[0]


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
    for group in optimizer.param_groups:
        assert (group["fused"], group["betas"]) == (True, (0.8, 0.9))


def test_any_module_is_grouped_by_what_its_parameters_are():
    module = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    decaying, others = (group["params"] for group in parameter_groups(module, 0.1))
    assert [parameter.shape for parameter in decaying] == [(3, 4)]
    assert [parameter.shape for parameter in others] == [(5, 4), (4,), (4,), (3,)]
