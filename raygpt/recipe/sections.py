"""Every setting of a recipe: its meaning, default and bounds.

The models are frozen and refuse unknown keys. `load_search_file` makes them from a file, with
errors that name the line; made in Python they raise pydantic's ValidationError. Counts are in
tokens unless a description says otherwise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from raygpt.recipe import corpora
from raygpt.recipe.errors import RecipeError, allowed
from raygpt.recipe.quantities import parse_count, parse_fraction, parse_number

MOST_HELD_OUT = 0.5
"""The largest `data.validation_fraction`."""

# Token shards are uint16, which limits the vocabulary; a byte-level tokenizer needs 256 bytes, an
# end-of-document token and at least one merge.
VOCABULARY_SIZES = range(258, 2**16 + 1)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RecipeError("must be text", "put numbers and the like in quotes")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RecipeError("must be true or false")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"\w[\w.-]{0,99}", value):
        raise RecipeError(
            "cannot name a folder of results",
            "a name has at most 100 letters, digits, dots, dashes and underscores, "
            "and begins with a letter or digit",
        )
    return value


def _corpus(value: str) -> str:
    parsed = corpora.parse_corpus(value)
    if parsed is None:
        raise RecipeError("is not a corpus", allowed(value, corpora.NAMES))
    return f"{parsed.kind}:{_absolute(parsed.path)}" if parsed.path else value


def _cache(value: str) -> str:
    return value if corpora.is_uri(value) else _absolute(value)


def _absolute(value: str) -> str:
    """An absolute path, because trials have other working directories."""
    return os.path.abspath(os.path.expanduser(value))  # noqa: PTH100, PTH111 (globs stay as is)


def _module(value: str) -> str:
    match = re.fullmatch(r"(.*\S.*\.py):([^\W\d]\w*)", value)
    if not match:
        raise RecipeError("does not name a class in a file", "write it like my_model.py:MyGPT")
    return f"{_absolute(match[1])}:{match[2]}"


def _tokenizer(value: str) -> str:
    match = re.fullmatch(r"bpe-([1-9][0-9]{0,9})", value)
    if value == "gpt2" or (match and int(match[1]) in VOCABULARY_SIZES):
        return value
    sizes = f"{VOCABULARY_SIZES[0]} to {VOCABULARY_SIZES[-1]}"
    raise RecipeError("is not a tokenizer", allowed(value, ["gpt2", f"bpe-N with N from {sizes}"]))


def _rungs(value: Any) -> tuple[Fraction, ...]:
    hint = "write a list that ascends to 1, such as [1/3, 1]"
    if not isinstance(value, (list, tuple)):
        raise RecipeError("must be a list of fractions of the budget", hint)
    rungs = tuple(parse_fraction(rung) for rung in value)
    ascending = all(low < high for low, high in pairwise(rungs))
    if not rungs or rungs[0] <= 0 or rungs[-1] != 1 or not ascending:
        raise RecipeError("must ascend from above 0 to exactly 1", hint)
    return rungs


def _interval(value: Any) -> Fraction:
    interval = parse_fraction(value)
    if not Fraction(1, 1000) <= interval <= 1:
        raise RecipeError("must be at least 1/1000 and at most 1")
    return interval


def split_betas(value: Any) -> tuple[Any, Any]:
    """The values of beta1 and beta2 that older recipes have as one list, `betas`."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise RecipeError("must be two numbers", "write them apart, as beta1: 0.9 and beta2: 0.95")
    return tuple(value)


def _confirm(value: Any) -> Any:
    hint = "write it like {top: 3, seeds: 3}, or null"
    if value is not None and not isinstance(value, (Mapping, Section)):
        raise RecipeError("must hold keys of its own", hint)
    for name in value if isinstance(value, Mapping) else ():
        if name not in Confirm.model_fields:
            raise RecipeError(f'has no key "{name}"', allowed(name, Confirm.model_fields))
    return value


def _run_folders(value: Any) -> tuple[str, ...]:
    hint = "write a list of run folders, such as [runs/lr_sched]"
    if not isinstance(value, (list, tuple)):
        raise RecipeError("must be a list", hint)
    if not all(isinstance(folder, str) and folder.strip() for folder in value):
        raise RecipeError("must name folders", hint)
    return tuple(_absolute(folder) for folder in value)


def _one_core(value: Any) -> Any:
    """Older recipes have null for the default."""
    return 1 if value is None else value


def _whole_above_one(value: float | None) -> float | None:
    if value is not None and value > 1 and value != int(value):
        raise RecipeError("must be a whole number of GPUs if it is above 1")
    return value


Count = Annotated[int, BeforeValidator(parse_count)]
Number = Annotated[float, BeforeValidator(parse_number)]
Interval = Annotated[Fraction, BeforeValidator(_interval)]
Text = Annotated[str, BeforeValidator(_text)]
Switch = Annotated[bool, BeforeValidator(_switch)]


class Section(BaseModel):
    """A part of a recipe; immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """The text and its tokens: the same for every trial, so that trials can be compared."""

    corpus: Annotated[Text, AfterValidator(_corpus)] = Field(
        "wikipedia",
        description="Where documents come from: sample (embedded), wikipedia or "
        "wikipedia:SNAPSHOT@COMMIT, hub:OWNER/NAME:CONFIG@REVISION (Hugging Face), dump:PATH (a "
        "Wikipedia XML dump), or jsonl:PATH (JSON Lines; a file or a glob).",
    )
    text_column: Text = Field(
        "text", description="Name of the field with the text, in hub: and jsonl: corpora."
    )
    min_document_bytes: Count = Field(
        200, ge=0, description="Documents of fewer UTF-8 bytes are left out as stubs."
    )
    tokenizer: Annotated[Text, AfterValidator(_tokenizer)] = Field(
        "gpt2", description="gpt2, or bpe-N: a byte-level BPE of N tokens trained on the corpus."
    )
    context: Count = Field(512, ge=8, description="Tokens in one sequence.")
    validation_fraction: Number = Field(
        0.01, gt=0, le=MOST_HELD_OUT, description="Share of the documents held out of training."
    )
    validation_tokens: Count = Field(
        500_000, ge=1, description="Tokens of the validation set that every trial is scored on."
    )
    cache: Annotated[Text, AfterValidator(_cache)] | None = Field(
        None,
        description="Where token shards are kept: a folder, or an s3:// or gs:// address that "
        "every machine reads them from; null is the user's cache folder.",
    )


class Model(Section):
    """The model. A class of the user's own may add keys, by a subclass: docs/own_model.md."""

    own: ClassVar[Any] = None
    """The user's own model (`raygpt.recipe.own_model.OwnModel`); None for raygpt's GPT."""

    module: Annotated[Text, AfterValidator(_module)] | None = Field(
        None,
        description="A model of your own, FILE.py:CLASS, as docs/own_model.md says; null is "
        "raygpt's GPT.",
    )
    d_model: Count = Field(768, ge=1, description="Width of the residual stream.")
    n_layers: Count = Field(12, ge=1, description="Number of transformer blocks.")
    n_heads: Count = Field(8, ge=1, description="Attention heads per block; must divide d_model.")
    dropout: Number = Field(
        0.1, ge=0, lt=1, description="Probability that an activation is set to zero."
    )
    activation_checkpointing: Switch = Field(
        False, description="Recompute activations in the backward pass: less memory, more time."
    )
    compile: Switch = Field(False, description="Run the model through torch.compile.")


class Training(Section):
    """How the model is trained."""

    tokens: Count = Field(ge=1, description="Budget of one trial.")
    batch_tokens: Count = Field(
        256_000, ge=1, description="Tokens in one optimizer step, whatever the micro-batch."
    )
    micro_batch: Count = Field(
        16, ge=1, description="Largest number of sequences in one forward pass of one worker."
    )
    learning_rate: Number = Field(gt=0, description="Peak learning rate.")
    weight_decay: Number = Field(0.1, ge=0, description="AdamW's decoupled weight decay.")
    warmup: Number = Field(
        0.01,
        ge=0,
        lt=1,
        description="Fraction of the budget during which the learning rate rises to its peak.",
    )
    hold: Number = Field(
        0.0,
        ge=0,
        le=1,
        description="Fraction of the budget after warmup during which the learning rate stays at "
        "its peak.",
    )
    final_learning_rate: Number = Field(
        0.0, ge=0, le=1, description="Learning rate at the end, as a fraction of the peak."
    )
    beta1: Number = Field(
        0.9, ge=0, lt=1, description="AdamW's decay rate of the mean of the gradient."
    )
    beta2: Number = Field(
        0.95, ge=0, lt=1, description="AdamW's decay rate of the mean of its square."
    )
    gradient_clipping: Number = Field(
        1.0, gt=0, description="Largest norm of the gradient; longer ones are scaled down."
    )
    seed: Count = Field(
        0, ge=0, lt=2**32, description="Seed of initial weights, dropout and the order of the data."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="Number format of the forward pass; auto is bf16 if the hardware supports it.",
    )
    report_every: Interval = Field(
        Fraction(1, 20),
        description="Fraction of the budget between two reports of the training curve.",
    )
    checkpoint_every: Interval = Field(
        Fraction(1, 6), description="Fraction of the budget between two checkpoints."
    )

    @model_validator(mode="before")
    @classmethod
    def _betas_apart(cls, given: Any) -> Any:
        """Recipes of older checkpoints have `betas`."""
        if not isinstance(given, Mapping) or "betas" not in given:
            return given
        if "beta1" in given or "beta2" in given:
            raise RecipeError("betas is the old form of beta1 and beta2", "give these two only")
        settings = {key: value for key, value in given.items() if key != "betas"}
        settings["beta1"], settings["beta2"] = split_betas(given["betas"])
        return settings


class Confirm(Section):
    """How the best configurations are trained again, to tell differences from noise."""

    top: Count = Field(3, ge=1, description="Number of configurations, besides the baseline.")
    seeds: Count = Field(3, ge=2, description="Number of runs of each, all with different seeds.")


class Search(Section):
    """How values for the ranges are proposed and judged, and how trials use the cluster."""

    trials: Count = Field(
        32,
        ge=1,
        description="Number of trials; of a recipe without ranges, runs with consecutive seeds.",
    )
    rungs: Annotated[tuple[Fraction, ...], BeforeValidator(_rungs)] = Field(
        (Fraction(1, 3), Fraction(1)),
        description="Fractions of the budget at which trials are judged, ascending to 1; the "
        "default is measured in docs/rung_fidelity.md.",
    )
    rung_metric: Literal["cooldown", "average", "raw"] = Field(
        "cooldown",
        description="How a trial is judged at a rung below its full budget: cooldown decays the "
        "learning rate as if the rung were the whole budget, and a trial that continues returns to "
        "the state before; average judges an average of the weights; raw judges them in "
        "mid-schedule, which fifo always does.",
    )
    reduction_factor: Number = Field(
        3.0, gt=1, description="One in this number of trials continues after a rung (asha)."
    )
    sampler: Literal["tpe", "random"] = Field(
        "tpe",
        description="How values are proposed: from a model of earlier results (tpe) or at random.",
    )
    scheduler: Literal["asha", "fifo"] = Field(
        "asha",
        description="Whether weak trials stop at rungs (asha) or all train their whole budget "
        "(fifo, which a recipe without ranges always has: seeds of one recipe are not stopped).",
    )
    seed: Count = Field(0, ge=0, lt=2**32, description="Seed of the sampler.")
    workers_per_trial: Count = Field(
        1, ge=1, description="Number of processes that train one trial."
    )
    cpus_per_worker: Annotated[Number, BeforeValidator(_one_core)] = Field(
        1.0,
        gt=0,
        le=1024,
        description="CPU cores of a worker, which computes with that number of threads, rounded "
        "down, but at least one; on a CPU, the last digits of the figures depend on it.",
    )
    gpus_per_worker: Annotated[Number | None, AfterValidator(_whole_above_one)] = Field(
        None,
        ge=0,
        description="GPUs of a worker, below 1 a share of one; null is one if there are any.",
    )
    concurrent: Count | None = Field(
        None,
        ge=1,
        description="Largest number of trials at once; null is as many as fit on the cluster.",
    )
    confirm: Annotated[Confirm | None, BeforeValidator(_confirm)] = Field(
        None, description="Train the best configurations again after the search; null does not."
    )
    warm_start: Annotated[tuple[str, ...], BeforeValidator(_run_folders)] = Field(
        (), description="Run folders of earlier searches whose trials the sampler learns from."
    )
    hang_timeout: Number | None = Field(
        None,
        gt=0,
        description="Seconds without a sign of life after which a trial is stopped as failed; null "
        "is ten times the longest pause of the search so far, and at least 120.",
    )

    @property
    def stops_trials(self) -> bool:
        """Whether trials are stopped at rungs."""
        return self.scheduler != "fifo"


class UncheckedRecipe(Section):
    """The sections of a recipe: each setting is valid, but they may contradict each other.

    `raygpt.recipe.schema.Recipe` is the checked one, which everything else works with.
    """

    name: Annotated[Text, AfterValidator(_name)] = Field(
        description="Name of the run; by default, that of the file."
    )
    data: Data = Data()
    model: Model = Model()
    training: Training
    search: Search = Search()
