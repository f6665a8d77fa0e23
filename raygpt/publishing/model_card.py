"""The README of an exported model, for readers who know nothing else about it."""

from collections.abc import Iterator
from typing import Any

from raygpt.data.tokenizer import END_OF_DOCUMENT
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.schema import Recipe
from raygpt.recipe.writer import recipe_to_yaml
from raygpt.results import files
from raygpt.results.checkpoints import FoundCheckpoint
from raygpt.results.confirmation import confirmation
from raygpt.results.tables import Results
from raygpt.training.checkpoint import TrainedModel

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, raygpt]
---

# {name}

{summary}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{name}"  # path of this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer("{end}The", return_tensors="pt")
ids = model.generate(**inputs, do_sample=True, max_new_tokens=50)
print(tokenizer.decode(ids[0], skip_special_tokens=True))
```

Its context is {context:,} tokens. In training every document followed an `{end}`, so a text should
too. The model has not been tuned to follow instructions, nor to avoid false or offensive text.

## Figures

{figures}

## Data

{data}

## Recipe

`python -m raygpt.train FILE` trains it again; the contents of the file:

```yaml
{recipe}```
"""


def model_card(name: str, model: TrainedModel, found: FoundCheckpoint) -> str:
    """The text of the card, in Markdown.

    Args:
        name: name of the exported model.
        model: the exported model.
        found: its checkpoint.
    """
    # The path of the token cache is private, and changes no result.
    data = model.recipe.data.model_copy(update={"cache": None})
    recipe = model.recipe.model_copy(update={"data": data})
    return CARD.format(
        name=name,
        end=END_OF_DOCUMENT,
        summary=" ".join(_summary(model, found)),
        context=recipe.data.context,
        figures=_figures(model, found),
        data=_table(_data(model.data)),
        recipe=recipe_to_yaml(recipe),
    )


def _summary(model: TrainedModel, found: FoundCheckpoint) -> Iterator[str]:
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    padding = len(model.model.token_embedding.weight) - model.tokenizer.vocab_size
    parameters -= padding * model.recipe.model.d_model
    yield f"A GPT-2-style model of {parameters:,} parameters, trained from scratch with raygpt."
    if found.results is None or found.trial is None:
        return
    run = f"`{found.results.folder.resolve().name}`"
    if _is_search(found.results):
        trial, confirms = found.trial["trial_id"], found.trial.get("confirms")
        which = f"run {trial}, which repeats trial {confirms}" if confirms else f"trial {trial}"
        best = found.results.best
        trials = int(found.results.trials["confirms"].isna().sum())
        is_best = best is not None and best["trial_id"] == (confirms or trial)
        yield (
            f"It is {which} of the search {run}, "
            + (f"the best of {trials} trials." if is_best else f"one of {trials} trials.")
        )
    else:
        yield f"It is the run {run}."
    if version := _made_with(found.results):
        yield f"The run was made with {version}."


def _is_search(results: Results) -> bool:
    return len(results.trials) > 1 or (results.folder / files.STUDY).exists()


def _made_with(results: Results) -> str:
    """The versions that decide its numbers; empty if the run folder does not say."""
    made_with = files.read_json(results.folder / files.ENVIRONMENT)
    versions = made_with.get("versions", {})
    if not versions.keys() >= {"raygpt", "torch"}:
        return ""
    commit = made_with.get("git_commit")
    where = f" (commit {commit})" if commit else ""
    return f"raygpt {versions['raygpt']}{where} and torch {versions['torch']}"


def _figures(model: TrainedModel, found: FoundCheckpoint) -> str:
    """The figures of the exported weights, and how they were measured."""
    recipe = model.recipe
    tokens = f"{model.tokens:,}"
    if not model.finished:
        tokens += f" of {budget_tokens(recipe):,}"
    if model.tokens_trained != model.tokens:
        tokens += f"; {model.tokens_trained:,} with the cooldowns to lower rungs"
    lines = [("tokens trained on", tokens)]
    if not model.finished:
        return (
            f"{_table(lines)}\n\nThese weights were saved in mid-schedule, before the learning "
            f"rate had decayed as the recipe says. They were not scored on the validation set."
        )
    if found.trial is None or "bits_per_byte" not in found.trial:
        return f"{_table(lines)}\n\nIts run folder has the figures on the validation set."
    trial = found.trial
    lines = [
        ("bits per byte", f"{trial['bits_per_byte']:.4f}"),
        ("bits per token", f"{trial['bits_per_token']:.4f}"),
        ("next-token accuracy", f"{trial['next_token_accuracy']:.2%}"),
        *lines,
    ]
    paragraphs = [
        _table(lines),
        f"Measured on {_scored_tokens(recipe, model.data):,} tokens of validation documents, which "
        f"it was not trained on (validation set `{trial['validation_set']}`), in consecutive "
        f"windows of {recipe.data.context:,} tokens; `{END_OF_DOCUMENT}` is not scored. "
        f"Bits per byte are Σ nll / (ln 2 · Σ UTF-8 bytes), and do not depend on the tokenizer.",
        *_doubts(found),
    ]
    return "\n\n".join(paragraphs)


def _scored_tokens(recipe: Recipe, data: dict[str, Any]) -> int:
    """Number of tokens in whole windows, ends of documents included."""
    available = min(recipe.data.validation_tokens, data["validation"]["tokens"] - 1)
    return available // recipe.data.context * recipe.data.context


def _doubts(found: FoundCheckpoint) -> Iterator[str]:
    """How far the figures can be trusted."""
    assert found.results is not None
    trials = found.results.trials
    if (compared := confirmation(trials)) and (winner := compared.winner):
        error = compared.standard_error(winner)
        yield (
            f"The recipe of trial {winner.trial_id} was trained {len(winner.scores)} more times, "
            f"with other seeds: {winner.mean:.4f} ± {error:.4f} bits per byte (mean and standard "
            f"error)."
        )
        yield "\n".join(f"- {sentence}" for sentence in compared.words())
    elif len(trials) > 1:
        yield (
            f"The trial is the best of {len(trials)} by this figure, with one seed each: in part "
            f"it was lucky, so expect a worse figure on other documents or with other seeds."
        )


def _data(data: dict[str, Any]) -> list[tuple[str, str]]:
    def amount(split: str) -> str:
        counts = data[split]
        return (
            f"{counts['tokens']:,} tokens of {counts['documents']:,} documents "
            f"({counts['bytes']:,} bytes)"
        )

    return [
        ("corpus", f"`{data['corpus']}`"),
        ("revision", data["revision"]),
        ("licence of the text", data["licence"] or "unknown"),
        ("tokenizer", f"`{data['tokenizer']}`"),
        ("prepared for training", amount("train")),
        ("prepared for validation", amount("validation")),
        ("fingerprint of the tokens", f"`{data['fingerprint']}`"),
    ]


def _table(lines: list[tuple[str, str]]) -> str:
    """A Markdown table without a heading."""
    escaped = ((name, text.replace("|", r"\|")) for name, text in lines)
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in escaped)])
