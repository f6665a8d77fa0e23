"""From a recipe to the tokens that it trains on."""

from collections.abc import Callable
from pathlib import Path

from raygpt.data.dataset import Dataset
from raygpt.data.shards import prepare
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.schema import Recipe


def prepare_for(recipe: Recipe, on_progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The token shards of a recipe's `data` section, made on this machine if they are not here.

    `on_progress` is given the tokens of train and validation so far.
    """
    data = recipe.data
    return prepare(
        data.corpus,
        data.tokenizer,
        data.validation_fraction,
        budget_tokens(recipe),
        data.validation_tokens,
        Path(data.cache) if data.cache else None,
        on_progress,
    )
