"""The model of a recipe."""

import torch
from torch import nn

from raygpt.errors import UserError
from raygpt.recipe.own_model import OwnModel, describe_error
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

    Raises:
        UserError: a model of the user's own cannot be made, or gives no logits.
    """
    if recipe.model.own:
        # Messages name a model by its type.
        named = type(recipe.model.own.class_name, (UsersModel,), {})
        return named(recipe, vocab_size)
    return GPT(recipe.model, vocab_size, recipe.data.context)


class UsersModel(nn.Module):
    """A model of the user's own (`model.module`), with the names that raygpt uses."""

    def __init__(self, recipe: Recipe, vocab_size: int):
        super().__init__()
        own = recipe.model.own
        self.context = recipe.data.context
        try:
            self.model = own.model_class(recipe.model, vocab_size, self.context)
        except Exception as error:
            raise UserError(f"{_name(own)} cannot be made: {describe_error(error, own)}") from error
        if not isinstance(self.model, nn.Module) or not any(True for _ in self.model.parameters()):
            raise UserError(f"{_name(own)} has no parameters to train")
        if not any(parameter.is_meta for parameter in self.model.parameters()):
            self._try(own, vocab_size)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        return self.model(tokens_BT)

    def logits(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        return self(tokens_BT)

    @torch.no_grad()
    def _try(self, own: OwnModel, vocab_size: int) -> None:
        """Raise UserError unless the model maps a few tokens to logits that look at no later token.

        A model that sees the token that it predicts would win every search.
        """
        length = min(self.context, 16)
        tokens_BT = torch.arange(2 * length).view(2, length) % vocab_size
        changed_BT = tokens_BT.clone()
        changed_BT[:, -1] = (tokens_BT[:, -1] + 1) % vocab_size
        self.model.eval()
        try:
            logits_BTV, changed_BTV = self.model(tokens_BT), self.model(changed_BT)
        except Exception as error:
            raise UserError(
                f"{_name(own)} fails on ids of shape {tuple(tokens_BT.shape)}: "
                f"{describe_error(error, own)}"
            ) from error
        finally:
            self.model.train()
        shape = tuple(getattr(logits_BTV, "shape", ()))
        if len(shape) != 3 or shape[:2] != tokens_BT.shape or shape[2] < vocab_size:
            found = f"a tensor of shape {shape}" if shape else f"a {type(logits_BTV).__name__}"
            raise UserError(
                f"{_name(own)} maps ids of shape {tuple(tokens_BT.shape)} to {found}; they must be "
                f"logits of shape (batch, time, {vocab_size} or more)"
            )
        if not torch.allclose(
            logits_BTV[:, :-1], changed_BTV[:, :-1], rtol=1e-3, atol=1e-4, equal_nan=True
        ):
            raise UserError(
                f"{_name(own)} is not causal: its logits at earlier positions change with the last "
                f"token; a position must see itself and what comes before only"
            )


def _name(own: OwnModel) -> str:
    return f"model.module: {own.class_name} of {own.path}"
