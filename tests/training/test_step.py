import copy
import math

import pytest
import torch

from raygpt.training.step import Learner


@pytest.fixture
def batch():
    """Inputs and targets: 4 sequences of 16 tokens."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(300, (2, 4, 16), generator=generator)


def learner_of(recipe):
    return Learner(recipe, 300, torch.device("cpu"))


def test_a_step_returns_the_summed_loss_and_the_norm_of_the_gradient(recipe_of, batch):
    recipe = recipe_of(training={"gradient_clipping": 1e9, "micro_batch": 3})
    learner, plain = learner_of(recipe), learner_of(recipe)
    logs_BTV = plain.model(batch[0]).double().log_softmax(-1)
    expected = -logs_BTV.gather(-1, batch[1][..., None]).sum()
    (expected / 64).backward()
    gradients = torch.cat([p.grad.flatten() for p in plain.model.parameters()])
    nats, norm = learner.step(*batch, 1e-3, seed=1)
    assert nats.item() == pytest.approx(expected.item(), rel=1e-6)
    assert nats.item() / 64 == pytest.approx(math.log(300), rel=0.05)
    assert norm.item() == pytest.approx(gradients.norm().item(), rel=1e-5)
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def test_each_group_trains_at_its_multiple_of_the_rate(recipe_of, batch):
    """AdamW's first step moves a weight by the learning rate, whatever its gradient."""
    learner = learner_of(recipe_of(training={"weight_decay": 0.0, "gradient_clipping": 1e9}))
    matrices, others = learner.optimizer.param_groups
    others["rate_multiple"] = 0.25
    weight, gain = learner.model.blocks[0].mlp.expansion.weight, learner.model.final_norm.weight
    assert any(weight is parameter for parameter in matrices["params"])
    assert any(gain is parameter for parameter in others["params"])
    before = weight.detach().clone(), gain.detach().clone()
    learner.step(*batch, 1e-2, seed=1)
    assert (weight - before[0]).abs().median().item() == pytest.approx(1e-2, rel=1e-2)
    assert (gain - before[1]).abs().median().item() == pytest.approx(2.5e-3, rel=1e-2)


def test_a_learner_with_the_state_of_another_trains_identically(recipe_of, batch):
    recipe = recipe_of(model={"dropout": 0.3})
    one, other = learner_of(recipe), learner_of(recipe)
    one.step(*batch, 1e-2, seed=1)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for learner in (one, other):
        learner.step(*batch, 5e-3, seed=2)
    for name, value in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name


def test_a_loaded_state_does_not_change_the_settings_of_the_groups(recipe_of, batch):
    """A state of an older version lacks those that came later."""
    learner = learner_of(recipe_of())
    learner.step(*batch, 1e-2, seed=1)
    state = learner.state_dict()
    for group in state["optimizer"]["param_groups"]:
        del group["rate_multiple"]
        group["betas"] = (0.1, 0.2)
    other = learner_of(recipe_of())
    other.load_state_dict(state)
    for group in other.optimizer.param_groups:
        assert (group["rate_multiple"], group["betas"], group["lr"]) == (1.0, (0.9, 0.95), 1e-2)
    other.step(*batch, 1e-2, seed=2)


def test_a_state_of_other_groups_is_refused(recipe_of, batch):
    learner = learner_of(recipe_of())
    learner.step(*batch, 1e-2, seed=1)
    state = learner.state_dict()
    groups = state["optimizer"]["param_groups"]
    groups[1]["params"].append(groups[0]["params"].pop())
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        learner_of(recipe_of()).load_state_dict(state)
