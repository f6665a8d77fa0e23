"""The optimizers, a file each. `make_optimizer` is where they are registered."""

import torch
from torch import nn

from raygpt.recipe.sections import Training as TrainingRecipe
from raygpt.training.optimizers.adamw import adamw
from raygpt.training.parameter_groups import parameter_groups


def make_optimizer(model: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe, over all trainable parameters of a model.

    The training loop sets the learning rates at every step.
    """
    return adamw(parameter_groups(model, recipe.weight_decay), recipe)
