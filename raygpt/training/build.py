"""The model of a recipe."""

from torch import nn

from raygpt.recipe.schema import Recipe
from raygpt.training.model import GPT


def build_model(recipe: Recipe, vocab_size: int) -> nn.Module:
    """The untrained model of a recipe, on the CPU; weights are drawn from torch's generator.

    It maps tokens_BT to logits_BTV (B sequences of T tokens, V entries of the vocabulary), and has

    - `context`: the longest sequence in tokens;
    - `logits(tokens_BT)`: the same map by name, for sampling and analysis.

    Args:
        recipe: without ranges.
        vocab_size: tokens in the vocabulary.
    """
    return GPT(recipe.model, vocab_size, recipe.data.context)
