"""Floating-point operations of training, counted from a recipe.

The count is that of PaLM (Chowdhery et al. 2022, appendix B), which follows Kaplan et al. (2020,
section 2.1): training on one token takes 6·N operations for the weights (2 forward, 4 backward)
and 12·L·d·T for the attention scores and their weighted sums, with L layers of width d at context
T. The causal mask is not discounted, and recomputed activations are not counted.

N is the number of parameters that every token is multiplied with. Embedding tables are looked up,
not multiplied, so they do not count, but the output head does: where the head's weights are tied to
the token embedding, that table counts once.
"""

import torch
from torch import nn

from raygpt.errors import UserError
from raygpt.recipe.schema import Recipe
from raygpt.training.build import build_model


def flops_per_token(recipe: Recipe, vocab_size: int) -> float:
    """Floating-point operations of training on one token, forward and backward.

    Args:
        recipe: without ranges.
        vocab_size: number of tokens in the vocabulary.
    """
    model = recipe.model
    weights = multiplied_parameters(_shape(recipe, vocab_size), vocab_size)
    return 6.0 * weights + 12.0 * model.n_layers * model.d_model * recipe.data.context


def multiplied_parameters(model: nn.Module, vocab_size: int) -> int:
    """N of the module's docstring, of any model that maps tokens to logits."""
    parameters = dict.fromkeys(model.parameters())  # tied tensors once
    tables = [part.weight for part in model.modules() if isinstance(part, nn.Embedding)]
    heads = [part.weight for part in model.modules() if isinstance(part, nn.Linear)]
    looked_up = [table for table in tables if not any(table is head for head in heads)]
    if not any(len(head) >= vocab_size for head in heads):
        # No linear layer makes the logits, so the token embedding does. A table of positions can be
        # as long as the vocabulary too.
        large = [table for table in looked_up if len(table) >= vocab_size]
        head = min(large, key=len, default=None)
        looked_up = [table for table in looked_up if table is not head]
    return sum(map(torch.numel, parameters)) - sum(map(torch.numel, dict.fromkeys(looked_up)))


def _shape(recipe: Recipe, vocab_size: int) -> nn.Module:
    """The recipe's model, if possible with parameters that take no memory and no time to draw."""
    try:
        with torch.device("meta"):
            return build_model(recipe, vocab_size)
    except UserError:  # a user's own model that computes with its tensors while it is made
        return build_model(recipe, vocab_size)
