"""Full or mini: which scale of a recipe the hardware is for, and what that will take."""

from raygpt.errors import UserError
from raygpt.recipe.budget import budget_tokens, tokens_per_step
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile


def choose_scale(
    asked: str, full: SearchFile, mini: SearchFile, gpus: float, allow_cpu: bool
) -> SearchFile:
    """The search file at the scale to run it at.

    Args:
        asked: "full", "mini", or "auto": the mini scale where there is one and no GPU.
        full, mini: the search file at either scale; equal where it has no mini section.
        gpus: at hand.
        allow_cpu: whether "full" may run without one.

    Raises:
        UserError: there is no mini section, or no GPU for the full scale.
    """
    if asked == "mini" and full == mini:
        raise UserError(
            f"--scale mini: {full.path} has no mini section, or one that changes nothing; let it "
            f"say what replaces the full scale's values, or leave --scale out to run it as it is"
        )
    if asked == "full" and not gpus and not allow_cpu:
        recipe = full.baseline()
        raise UserError(
            f"--scale full needs a GPU, and there is none here: {budget_tokens(recipe):,} tokens "
            f"through a model {recipe.model.d_model} wide with {recipe.model.n_layers} layers "
            f"take a CPU long; use --scale mini, or add --allow-cpu to insist"
        )
    if asked == "auto":
        return full if gpus else mini
    return mini if asked == "mini" else full


def describe_scale(search_file: SearchFile, full: SearchFile, gpus: float, trials: str) -> str:
    """What runs on the hardware at hand, and how another scale is forced.

    Args:
        search_file: at the chosen scale.
        full: at the full scale.
        gpus: at hand.
        trials: how many runs of it, in words.
    """
    recipe = search_file.baseline()
    trials = f"{trials} {budget_tokens(recipe):,} tokens"
    model = f"{recipe.model.d_model} wide, {recipe.model.n_layers} layers, on {recipe.data.corpus}"
    if search_file == full or search_file.scale == "full":
        return f"running {full.path} in full ({trials}; {model})"
    force = "--scale full" + ("" if gpus else " --allow-cpu")
    return f"running the mini scale instead ({trials}; {model}; {force} forces the full one)"


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


def describe_seconds(seconds: float) -> str:
    """A duration, as roughly as it is known."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"
