"""The file that a training run is saved in, and the model alone out of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raygpt.atomic import replace_file
from raygpt.data.dataset import Dataset
from raygpt.data.tokenizer import TOKENIZER_FILES, Tokenizer
from raygpt.errors import UserError
from raygpt.recipe.budget import budget_tokens, tokens_per_step
from raygpt.recipe.json_text import read_recipe_json, recipe_to_json
from raygpt.recipe.schema import Recipe
from raygpt.results.files import CHECKPOINT_FILE
from raygpt.training.build import build_model


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Put the state of a run into a checkpoint's folder, in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / CHECKPOINT_FILE, lambda partial: torch.save(state, partial))


def read_state(folder: Path, mapped: bool = False) -> dict[str, Any]:
    """The state that `write_state` wrote, on the CPU.

    Args:
        folder: of the checkpoint.
        mapped: whether a tensor is read from the file only when it is used.

    Raises:
        UserError: there is no readable checkpoint.
    """
    path = folder / CHECKPOINT_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        state["recipe"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:
        raise UserError(
            f"{path}: not a readable checkpoint ({error!r}); delete it to start its run over"
        ) from None
    return state


def origin(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint says of its model, to those who have neither the recipe nor the data."""
    return {
        "recipe": recipe_to_json(recipe, with_source=True),
        "data": dataset.provenance(),
        "tokenizer": {name: text.decode() for name, text in dataset.tokenizer.files.items()},
    }


@dataclass(frozen=True)
class TrainedModel:
    """The model of a checkpoint, and where it is from."""

    gpt: nn.Module
    """On the CPU, in float32, in evaluation mode."""
    tokenizer: Tokenizer
    recipe: Recipe
    data: dict[str, Any]
    """As `Dataset.provenance` has it."""
    tokens: int
    """Position in the budget."""
    tokens_trained: int
    """All tokens that the run had processed, cooldowns that it went back from included."""

    @property
    def finished(self) -> bool:
        """Whether it has been trained to the end of the budget."""
        return self.tokens == budget_tokens(self.recipe)


def load_model(folder: Path) -> TrainedModel:
    """The model of a checkpoint.

    Raises:
        UserError: there is no readable checkpoint, or another version wrote it.
    """
    state = read_state(folder, mapped=True)
    try:
        of = state["origin"]
        recipe = read_recipe_json(of["recipe"])
    except (KeyError, ValueError):
        raise UserError(
            f"{folder / CHECKPOINT_FILE}: was saved by another version of raygpt, with another "
            f"recipe's settings or without its tokenizer; train its recipe again"
        ) from None
    tokenizer = Tokenizer(*(of["tokenizer"][name].encode() for name in TOKENIZER_FILES))
    gpt = build_model(recipe, tokenizer.vocab_size)
    gpt.load_state_dict(state["state"]["model"])
    per_step = tokens_per_step(recipe)
    return TrainedModel(
        gpt.eval(),
        tokenizer,
        recipe,
        of["data"],
        state["state"]["step"] * per_step,
        state["steps_trained"] * per_step,
    )
