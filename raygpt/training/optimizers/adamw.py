"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

from typing import Any

import torch

from raygpt.recipe.sections import Training as TrainingRecipe


def adamw(groups: list[dict[str, Any]], recipe: TrainingRecipe) -> torch.optim.AdamW:
    """Fused AdamW over parameter groups."""
    return torch.optim.AdamW(
        groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), fused=True
    )
