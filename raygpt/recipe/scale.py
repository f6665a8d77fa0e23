"""Full or mini: which scale of a recipe the hardware is for, and what that will take."""

from collections.abc import Iterable
from pathlib import Path

from raygpt.errors import UserError
from raygpt.recipe.budget import budget_tokens, tokens_per_step
from raygpt.recipe.errors import RecipeError, all_of
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SCALES, SearchFile, load_search_file


class Scales:
    """A recipe file at its full and its mini scale, equal where it has no mini section.

    What `--set` gives may be impossible at one of them only. That is an error where this one is
    run, and only there.

    Args:
        path: of the file.
        overrides: each `KEY=VALUE`.
        asked: "full", "mini", or "auto": the mini scale where there is no GPU.

    Raises:
        RecipeError: what was asked for cannot be run on any hardware.
    """

    def __init__(self, path: str | Path, overrides: Iterable[str] = (), asked: str = "auto"):
        self.asked = asked
        self._wanted = SCALES if asked == "auto" else (asked,)
        self._files: dict[str, SearchFile] = {}
        self._errors: dict[str, RecipeError] = {}
        for scale in SCALES:
            try:
                self._files[scale] = load_search_file(path, scale, overrides)
            except RecipeError as error:
                self._errors[scale] = error
        if all(scale in self._errors for scale in self._wanted):
            lines = {scale: str(self._errors[scale]).splitlines() for scale in self._wanted}
            shared = set.intersection(*map(set, lines.values()))
            raise all_of(
                [
                    line if line in shared else f"at the {scale} scale: {line}"
                    for scale in self._wanted
                    for line in lines[scale]
                ]
            )

    @property
    def possible(self) -> list[SearchFile]:
        """The file at the scales, full before mini, that it may come to without an error."""
        return [self._files[scale] for scale in self._wanted if scale in self._files]

    def choose(self, gpus: float, allow_cpu: bool) -> SearchFile:
        """The file at the scale to run it at.

        Args:
            gpus: at hand.
            allow_cpu: whether the full scale may be asked for without one.

        Raises:
            UserError: there is no mini section, no GPU for the full scale, or an error in the file
                at this scale.
        """
        full, mini = map(self._files.get, SCALES)
        if self.asked == "mini" and full == mini:
            raise UserError(
                f"--scale mini: {mini.path} has no mini section, or one that changes nothing; let "
                f"it say what replaces the full scale's values, or leave --scale out to run it as "
                f"it is"
            )
        if self.asked == "full" and not gpus and not allow_cpu:
            recipe = full.baseline()
            raise UserError(
                f"--scale full needs a GPU, and there is none here: {budget_tokens(recipe):,} "
                f"tokens through a model {recipe.model.d_model} wide with {recipe.model.n_layers} "
                f"layers take a CPU long; use --scale mini, or add --allow-cpu to insist"
            )
        chosen = self.asked
        if chosen == "auto":
            chosen = "full" if gpus else "mini"
        if chosen in self._errors:
            raise self._errors[chosen]
        return self._files[chosen]

    def describe(self, search_file: SearchFile, gpus: float, trials: str) -> str:
        """What runs on the hardware at hand, and how another scale is forced.

        Args:
            search_file: at the scale that runs.
            gpus: at hand.
            trials: how many runs of it, in words.
        """
        recipe = search_file.baseline()
        trials = f"{trials} {budget_tokens(recipe):,} tokens"
        model = (
            f"{recipe.model.d_model} wide, {recipe.model.n_layers} layers, on {recipe.data.corpus}"
        )
        if search_file.scale == "full" or search_file == self._files.get("full"):
            return f"running {search_file.path} in full ({trials}; {model})"
        if "full" in self._files:
            allow = "" if gpus else " --allow-cpu"
            model += f"; --scale full{allow} forces the full one"
        return f"running the mini scale instead ({trials}; {model})"


def describe_budget(recipe: Recipe, available: int | None) -> str:
    """How the budget was rounded, and how often it goes through the training tokens there are.

    Args:
        recipe: without ranges.
        available: tokens to train on; None where they have not been prepared.
    """
    budget, step = budget_tokens(recipe), tokens_per_step(recipe)
    text = (
        f"The budget is {budget:,} tokens: {budget // step:,} steps of {step:,}"
        + (f" ({recipe.training.tokens:,} asked for)" if budget != recipe.training.tokens else "")
        + "."
    )
    if available is not None and budget >= available:
        text += (
            f" The corpus holds {available:,} training tokens, so that is "
            f"{budget / available:.1f} epochs."
        )
    return text
