"""The file that holds the state of a training run, and how to read the model alone from it."""

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
from raygpt.recipe.json_text import recipe_to_json
from raygpt.recipe.schema import Recipe
from raygpt.results.files import CHECKPOINT_FILE
from raygpt.training.build import build_model
from raygpt.training.identity import read_recipe


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of a run into a checkpoint's folder; a kill leaves the old file whole."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / CHECKPOINT_FILE, lambda partial: torch.save(state, partial))


def read_state(folder: Path, mapped: bool = False) -> dict[str, Any]:
    """The state that `write_state` wrote, on the CPU.

    Args:
        folder: the checkpoint's folder.
        mapped: whether to read a tensor from the file only when it is used.

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


def describe_origin(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """The part of a checkpoint that describes its model to readers without recipe and data."""
    return {
        "recipe": recipe_to_json(recipe, with_source=True),
        "data": dataset.provenance(),
        "tokenizer": {name: text.decode() for name, text in dataset.tokenizer.files.items()},
    }


@dataclass(frozen=True)
class TrainedModel:
    """The model of a checkpoint, and how it was trained."""

    model: nn.Module
    """On the CPU, in float32, in evaluation mode; as `raygpt.training.build` describes it."""
    tokenizer: Tokenizer
    recipe: Recipe
    data: dict[str, Any]
    """The result of `Dataset.provenance`."""
    tokens: int
    """Position in the budget."""
    tokens_trained: int
    """All tokens that the run had processed, cooldowns included."""

    @property
    def finished(self) -> bool:
        """Whether it was trained to the end of the budget."""
        return self.tokens == budget_tokens(self.recipe)


def load_model(folder: Path) -> TrainedModel:
    """The model of a checkpoint.

    Raises:
        UserError: there is no readable checkpoint, or another version wrote it.
    """
    state = read_state(folder, mapped=True)
    try:
        origin = state["origin"]
        recipe = read_recipe(origin["recipe"])
    except (KeyError, ValueError):
        raise UserError(
            f"{folder / CHECKPOINT_FILE}: was saved by another version of raygpt, without its "
            f"tokenizer or with settings that this version does not have; train its recipe again"
        ) from None
    tokenizer = Tokenizer(*(origin["tokenizer"][name].encode() for name in TOKENIZER_FILES))
    model = build_model(recipe, tokenizer.vocab_size)
    model.load_state_dict(state["state"]["model"])
    per_step = tokens_per_step(recipe)
    return TrainedModel(
        model.eval(),
        tokenizer,
        recipe,
        origin["data"],
        state["state"]["step"] * per_step,
        state["steps_trained"] * per_step,
    )
