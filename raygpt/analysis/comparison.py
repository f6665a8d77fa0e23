"""The attention of a run's best trial beside its baseline's."""

from dataclasses import dataclass
from pathlib import Path

from raygpt.analysis.attention import (
    AttentionDistances,
    AttentionMaps,
    attention_distances,
    attention_maps,
)
from raygpt.data.batches import validation_windows
from raygpt.data.dataset import Dataset
from raygpt.data.prepare import prepare
from raygpt.errors import UserError
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import Results, is_missing
from raygpt.training.checkpoint import load_model
from raygpt.training.hardware import default_device

EXCERPT_TOKENS = 32


@dataclass(frozen=True)
class TrialAttention:
    """What the heads of one trial's model attend to."""

    distances: AttentionDistances
    """How far back they attend on the validation set."""
    maps: AttentionMaps
    """Their weights in one text."""


def compare_attention(
    results: Results, dataset: Dataset | None = None, text: str | None = None, n_windows: int = 32
) -> dict[str, TrialAttention]:
    """The attention of the best trial and of the baseline, by name.

    The names are "best 0008" and "baseline 0000", or "best and baseline 0000" if they are the same
    trial; a trial without a checkpoint is left out. Computes on the GPU if there is one.

    Args:
        results: results of a run, finished or not.
        dataset: a dataset with the run's tokenizer; by default the run's own, which is prepared
            again if the cache no longer has it.
        text: at most as many tokens as the context; by default the first words of the first
            document of the validation set.
        n_windows: number of windows of the validation set to measure on.

    Raises:
        UserError: a checkpoint or the data cannot be read, the run was trained on other data, the
            text is too long, or the model is not raygpt's own GPT.
    """
    dataset = dataset or dataset_of(results)
    found = {}
    for name, folder in checkpoints(results).items():
        model = load_model(folder).model.to(default_device())
        context = model.context
        if text is None:
            text = excerpt(dataset, min(EXCERPT_TOKENS, context))
        maps = attention_maps(model, dataset.tokenizer, text)  # also checks the vocabulary
        windows = validation_windows(dataset.validation, context, n_windows * context)
        found[name] = TrialAttention(attention_distances(model, windows, n_windows), maps)
    return found


def checkpoints(results: Results) -> dict[str, Path]:
    """The checkpoint folders of the best trial and the baseline, by `compare_attention`'s names."""
    best = results.best
    if best is None:
        return {}
    trials = results.trials
    baselines = trials[trials["baseline"].fillna(False) & trials["confirms"].isna()]
    rows = {"best": best}
    if best["trial_id"] in baselines["trial_id"].values:
        rows = {"best and baseline": best}
    elif not baselines.empty:
        rows["baseline"] = baselines.iloc[0]
    return {
        f"{name} {row['trial_id']}": results.folder / row["checkpoint"]
        for name, row in rows.items()
        if not is_missing(row["checkpoint"])
    }


def dataset_of(results: Results) -> Dataset:
    """The tokens that a run's trials were judged on.

    Raises:
        UserError: they are not available, or the corpus has changed since.
    """
    data = load_search_file(results.folder / files.SEARCH).data
    dataset = prepare(data, train_tokens=0)
    trained_on = results.trials["data"].dropna()
    if not trained_on.isin([dataset.folder.name]).all():
        raise UserError(
            f"{results.folder} was run on the tokens {trained_on.iloc[0]}, and {data.corpus} now "
            f"gives {dataset.folder.name}: {results.folder / files.ENVIRONMENT} says which "
            f"revision of the corpus it had"
        )
    return dataset


def excerpt(dataset: Dataset, most_tokens: int) -> str:
    """The first words of the first document of the validation set, at most `most_tokens` tokens."""
    document = next(dataset.documents("validation"))
    # The cut may have split a character.
    text = dataset.tokenizer.decode(document[:most_tokens]).rstrip("\ufffd")
    # Cut off from the text after it, the end may take more tokens.
    while len(dataset.tokenizer.encode(text)) > most_tokens:
        text = text[:-1]
    return text
