"""Report: what was asked."""

from collections.abc import Iterator
from typing import Any

from raygpt.analysis.blocks import Block, Code, Table, Text
from raygpt.analysis.groups import short
from raygpt.analysis.headlines import trials_wanted
from raygpt.analysis.run import Run
from raygpt.recipe.budget import rung_steps, tokens_per_step
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.leaderboard import format_value
from raygpt.wording import counted, listed

SAMPLERS = {"tpe": "Optuna's TPE sampler", "random": "random sampling"}
AT_A_RUNG = {
    "cooldown": ", each after a cooldown as at the end of its budget",
    "average": ", each by an average of its weights",
    "raw": ", each in the middle of its schedule",
}
"""How a trial was evaluated at a rung, by `search.rung_metric`."""


def blocks(run: Run) -> Iterator[Block]:
    """The question, the ranges and all other settings."""
    names, found = run.searched, run.search_file
    if found is None:
        searched = listed([short(name) for name in names]) or "nothing"
        yield Text(
            f"The run's {files.SEARCH} is missing or cannot be read. Its tables show that "
            f"{searched} was searched."
        )
        return
    recipe = found.baseline()
    model = (
        f"a model of width {recipe.model.d_model} with {counted(recipe.model.n_layers, 'layer')} "
        f"on the corpus {recipe.data.corpus}"
    )
    judgement = "Models are judged by their bits per byte on held-out text; fewer are better."
    budget = f"{rung_steps(recipe)[-1] * tokens_per_step(recipe):,} tokens"
    if not names:
        runs = counted(len(run.trials), "run")
        seeds = ", with different seeds," if len(run.trials) > 1 else ""
        yield Text(
            f"Nothing was searched: {runs} of the recipe {found.name}{seeds} trained {model} for "
            f"{budget}. {judgement}"
        )
    else:
        yield Text(
            f"Which values of {listed([short(name) for name in names])} are best? The recipe "
            f"{found.name} asks for {counted(trials_wanted(run), 'trial')}, each of which trains "
            f"{model} for up to {budget}. {judgement}"
        )
        sampler = SAMPLERS.get(recipe.search.sampler, recipe.search.sampler)
        yield Text(f"{sampler} proposed the values.{_stopping(recipe)}")
        yield _ranges(found, names)
    yield Code(found.to_yaml(), f"{files.SEARCH}: all settings", folded=True)


def _stopping(recipe: Recipe) -> str:
    """How trials were stopped at rungs; empty if they were not."""
    search = recipe.search
    *rungs, _ = (steps * tokens_per_step(recipe) for steps in rung_steps(recipe))
    if not search.stops_trials or not rungs:
        return ""
    return (
        f" At {listed([f'{tokens:,}' for tokens in rungs])} tokens ASHA compared the trials"
        f"{AT_A_RUNG[search.rung_metric]}, and let about one in {search.reduction_factor:g} "
        f"continue. It does not wait for later trials, so it let more of the early ones continue, "
        f"and it never stopped the baseline."
    )


def _ranges(found: SearchFile, names: list[str]) -> Table:
    start = found.start_values()
    fields = found.schema.fields
    rows = [
        [
            short(name),
            " ".join(f"{key} {_plain(value)}" for key, value in _range_items(found, name)),
            format_value(start[name]),
            fields[name].description or "",
        ]
        for name in names
        if name in found.ranges
    ]
    return Table(["hyperparameter", "searched", "baseline", "meaning"], rows)


def _range_items(found: SearchFile, name: str) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in found.ranges[name].as_yaml().items() if k != "start"]


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(map(_plain, value)) if len(value) == 2 else ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
