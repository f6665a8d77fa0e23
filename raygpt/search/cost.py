"""How long a token takes in the recipes of a search, relative to the search's baseline."""

from typing import Any

from raygpt.data.tokenizer import tokenizer_size
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.training.flops import flops_per_token

SAME_OPERATIONS = {"model.dropout", "model.compile", "model.activation_checkpointing"}
"""Settings of the model that leave the counted operations as they are."""


class TokenCosts:
    """The cost of a token: the time that it takes, relative to the baseline.

    It grows with the floating-point operations of the model, apart from a fixed share: small models
    leave a processor partly idle. A measured speed of the baseline, divided by a recipe's cost,
    estimates that recipe's speed. Tokens times their cost are *work*: the number of the baseline's
    tokens that take as long.

    Args:
        search_file: ranges and recipe.
        fixed_share: share of the baseline's time that does not grow with the operations.
    """

    def __init__(self, search_file: SearchFile, fixed_share: float = 0.0):
        self.vary = any(
            key.startswith("model.") and key not in SAME_OPERATIONS for key in search_file.ranges
        )
        """Whether recipes of the search differ in their operations."""
        self._fixed_share = fixed_share
        self._vocab_size = tokenizer_size(search_file.data.tokenizer)
        self._known: dict[Any, float] = {}
        self._baseline = self._flops(search_file.baseline()) if self.vary else 1.0

    def __call__(self, recipe: Recipe) -> float:
        """The cost of a token in a recipe; 1 in the baseline."""
        return self._fixed_share + (1 - self._fixed_share) * self.operations(recipe)

    def operations(self, recipe: Recipe) -> float:
        """Floating-point operations per token in a recipe, relative to the baseline."""
        return self._flops(recipe) / self._baseline if self.vary else 1.0

    def _flops(self, recipe: Recipe) -> float:
        if recipe.model not in self._known:
            self._known[recipe.model] = flops_per_token(recipe, self._vocab_size)
        return self._known[recipe.model]
