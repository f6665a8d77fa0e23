"""AdamW with weight decay on matrices only."""

import torch
from torch import nn

from raygpt.recipe.sections import Training as TrainingRecipe


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two AdamW groups: the matrices, which decay, and embeddings, norms and biases, which don't.

    Decay pulls weights to zero; for a gain or an embedding row of a rare token that is no prior
    that anyone holds.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices, others = [], []
    for parameter in model.parameters():
        decays = parameter.dim() >= 2 and id(parameter) not in embeddings
        (matrices if decays else others).append(parameter)
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, recipe: TrainingRecipe) -> torch.optim.AdamW:
    """Fused AdamW over every parameter of the model; the loop sets the rate at every step."""
    return torch.optim.AdamW(
        parameter_groups(model, recipe.weight_decay),
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        fused=True,
    )
