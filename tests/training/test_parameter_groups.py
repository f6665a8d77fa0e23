import pytest
import torch
from torch import nn

from raygpt.training.model import GPT
from raygpt.training.parameter_groups import assert_complete, parameter_groups, set_learning_rate


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


def test_any_module_is_grouped_by_what_its_parameters_are():
    module = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    decaying, others = (group["params"] for group in parameter_groups(module, 0.1))
    assert [parameter.shape for parameter in decaying] == [(3, 4)]
    assert [parameter.shape for parameter in others] == [(5, 4), (4,), (4,), (3,)]


def test_parameters_that_are_not_trained_are_in_no_group():
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    module[0].requires_grad_(False)
    groups = parameter_groups(module, 0.1)
    assert [[p.shape for p in group["params"]] for group in groups] == [[(2, 3)], [(2,)]]


def test_a_parameter_in_no_group_is_an_error(model):
    groups = parameter_groups(model, 0.1)
    groups[0]["params"].pop()
    with pytest.raises(AssertionError, match=r"in no parameter group: blocks\.1\.mlp\.projection"):
        assert_complete(groups, model)


def test_a_parameter_in_two_groups_is_an_error(model):
    groups = parameter_groups(model, 0.1)
    groups[1]["params"].append(model.blocks[0].mlp.expansion.weight)
    with pytest.raises(AssertionError, match=r"in several parameter groups: blocks\.0\.mlp\.expan"):
        assert_complete(groups, model)


def test_a_parameter_of_another_model_is_an_error(model):
    groups = parameter_groups(model, 0.1)
    groups[0]["params"].append(nn.Parameter(torch.zeros(2, 2)))
    with pytest.raises(AssertionError, match="holds what the model does not train"):
        assert_complete(groups, model)


def test_groups_train_at_a_multiple_of_the_schedules_rate(model):
    groups = parameter_groups(model, 0.1)
    set_learning_rate(groups, 3e-4)
    assert [group["lr"] for group in groups] == [3e-4, 3e-4]
    groups[1]["rate_multiple"] = 0.5
    set_learning_rate(groups, 3e-4)
    assert [group["lr"] for group in groups] == [3e-4, 1.5e-4]
