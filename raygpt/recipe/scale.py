"""The full and the mini scale of a recipe: which one runs on the hardware, and how large it is."""

from collections.abc import Iterable
from pathlib import Path

from raygpt.errors import UserError
from raygpt.recipe.budget import budget_tokens, tokens_per_step
from raygpt.recipe.errors import RecipeError, all_of
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SCALES, SearchFile, load_search_file


class Scales:
    """A recipe file at its full and its mini scale; without a mini section the two are equal.

    An override may be impossible at one scale only. It is an error if that scale is run.

    Args:
        path: path of the file.
        overrides: texts `KEY=VALUE`.
        asked: "full", "mini", or "auto", which is the mini scale on machines without a GPU.

    Raises:
        RecipeError: the recipe is invalid at every scale that was asked for.
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
        """The file at each scale that was asked for and is valid, full before mini."""
        return [self._files[scale] for scale in self._wanted if scale in self._files]

    def choose(self, gpus: float, allow_cpu: bool) -> SearchFile:
        """The file at the scale to run it at.

        Args:
            gpus: number of GPUs available.
            allow_cpu: whether the full scale may run without a GPU.

        Raises:
            UserError: there is no mini section, no GPU for the full scale, or the file is invalid
                at the chosen scale.
        """
        full, mini = map(self._files.get, SCALES)
        if self.asked == "mini" and full == mini:
            raise UserError(
                f"--scale mini: {mini.path} has no mini section, or one that changes nothing; "
                f"write the values of the mini scale there, or leave --scale out to run the file "
                f"as it is"
            )
        if self.asked == "full" and not gpus and not allow_cpu:
            recipe = full.baseline()
            raise UserError(
                f"--scale full needs a GPU, and there is none here: training a model "
                f"{recipe.model.d_model} wide with {recipe.model.n_layers} layers on "
                f"{budget_tokens(recipe):,} tokens takes very long on a CPU; use --scale mini, or "
                f"add --allow-cpu to run it anyway"
            )
        chosen = self.asked
        if chosen == "auto":
            chosen = "full" if gpus else "mini"
        if chosen in self._errors:
            raise self._errors[chosen]
        return self._files[chosen]

    def describe(self, search_file: SearchFile, gpus: float, trials: str) -> str:
        """What runs, and how to run the other scale.

        Args:
            search_file: the file at the scale that runs.
            gpus: number of GPUs available.
            trials: the number of runs, in words.
        """
        recipe = search_file.baseline()
        trials = f"{trials} {budget_tokens(recipe):,} tokens"
        wide, layers = (_values(search_file, f"model.{key}") for key in ("d_model", "n_layers"))
        model = f"{wide} wide, {layers} layers, on {recipe.data.corpus}"
        if search_file.scale == "full" or search_file == self._files.get("full"):
            return f"running {search_file.path} in full ({trials}; {model})"
        if "full" in self._files:
            allow = "" if gpus else " --allow-cpu"
            model += f"; --scale full{allow} forces the full one"
        return f"running the mini scale instead ({trials}; {model})"


def describe_budget(recipe: Recipe, available: int | None) -> str:
    """The budget as it was rounded, and its number of epochs if that is one or more.

    Args:
        recipe: without ranges.
        available: number of training tokens; None if they have not been prepared.
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


def _values(search_file: SearchFile, key: str) -> str:
    """The value of a setting, or the smallest and the largest one that it is searched over."""
    if key not in search_file.ranges:
        return str(search_file.fixed[key])
    extremes = search_file.ranges[key].extremes()
    return f"{min(extremes)} to {max(extremes)}"
