"""From a recipe to the tokens that it trains on."""

import os
from pathlib import Path

from filelock import FileLock

from raygpt.data.corpus import open_corpus
from raygpt.data.dataset import Dataset, holds, is_whole, read_manifest, shard_name, shards_for
from raygpt.data.shards import Manifest, OnProgress, Shards, new_manifest
from raygpt.data.spread import Spread, in_processes
from raygpt.data.store import Store, is_uri
from raygpt.errors import UserError
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.schema import Data, Recipe


def default_cache() -> Path:
    """$RAYGPT_CACHE, or raygpt in $XDG_CACHE_HOME, or ~/.cache/raygpt."""
    if folder := os.environ.get("RAYGPT_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raygpt"


def prepare_for(
    recipe: Recipe, on_progress: OnProgress | None = None, spread: Spread | None = None
) -> Dataset:
    """The tokens of a recipe, as much of them as are not in the cache made first; see `prepare`."""
    return prepare(recipe.data, budget_tokens(recipe), on_progress, spread)


def prepare(
    data: Data,
    train_tokens: int,
    on_progress: OnProgress | None = None,
    spread: Spread | None = None,
) -> Dataset:
    """Tokenise a corpus until there is more than asked for of both splits, or it ends.

    What the cache holds already is used, damaged shards of it are made again, and nothing is read
    if that is enough. Of several processes that ask for the same at once, one prepares while the
    others wait.

    Args:
        data: a recipe's section.
        train_tokens: as many as are wanted, of the corpus once through.
        on_progress: called after each shard that is made.
        spread: over what the work is spread; all cores of this machine if left out.

    Raises:
        UserError: for a corpus that is not there or cannot be read, a cache that cannot be
            written, and a corpus that leaves a split without a document.
    """
    corpus = open_corpus(data.corpus, data.text_column)
    new = new_manifest(corpus, data.tokenizer, data.validation_fraction, data.min_document_bytes)
    store = Store(data.cache, new["fingerprint"]) if is_uri(data.cache or "") else None
    cache = default_cache() if store or not data.cache else Path(data.cache)
    folder = cache / new["fingerprint"]
    wanted = (train_tokens, data.validation_tokens)
    try:
        manifest = read_manifest(folder)
        if manifest is None or _lacking(folder, manifest, wanted):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                # Another process may have prepared it meanwhile.
                shards = Shards(folder, read_manifest(folder) or new)
                if store and _lacking(folder, shards.manifest, wanted):
                    shards.fetch(store, *wanted)
                if damaged := _damaged(folder, shards.manifest, wanted):
                    shards.mend(corpus, spread or in_processes(), damaged)
                if not holds(shards.manifest, *wanted):
                    shards.extend(corpus, spread or in_processes(), *wanted, on_progress)
                if store:
                    shards.send(store)
                manifest = shards.manifest
    except OSError as error:
        raise UserError(
            f"The token cache {folder} cannot be written ({error}). Make room, or name another "
            f"folder in the environment variable RAYGPT_CACHE. What it held is still good."
        ) from error
    _check_splits(manifest)
    return Dataset.open(folder, *wanted)


def _lacking(folder: Path, manifest: Manifest, wanted: tuple[int, int]) -> bool:
    return not holds(manifest, *wanted) or bool(_damaged(folder, manifest, wanted))


def _damaged(folder: Path, manifest: Manifest, wanted: tuple[int, int]) -> list[int]:
    """The shards that are wanted and listed, but are absent or not what they should be."""
    return [
        number
        for number, entry in enumerate(manifest["shards"][: shards_for(manifest, *wanted)])
        if not is_whole(folder / shard_name(number), entry)
    ]


def _check_splits(manifest: Manifest) -> None:
    """Refuse a corpus of which one split has got nothing."""
    counts = {
        split: sum(entry[split]["documents"] for entry in manifest["shards"])
        for split in ("train", "validation")
    }
    for split, change in (("train", "Lower"), ("validation", "Raise")):
        if manifest["exhausted"] and not counts[split]:
            short = sum(entry["short"] for entry in manifest["shards"])
            raise UserError(
                f"None of the {sum(counts.values())} documents of the corpus "
                f"{manifest['corpus']} falls into the {split} split at data.validation_fraction = "
                f"{manifest['validation_fraction']}"
                + (f" ({short} more are shorter than data.min_document_bytes)" if short else "")
                + f". {change} it, or take a larger corpus."
            )
