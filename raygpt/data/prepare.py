"""Makes the tokens for training and validation from a recipe's section `data`."""

import os
from pathlib import Path

from filelock import FileLock

from raygpt.data.corpora.corpus import open_corpus
from raygpt.data.corpora.parts import Corpus
from raygpt.data.dataset import (
    SPLITS,
    Dataset,
    damaged_shards,
    has_tokenizer,
    holds,
    read_manifest,
)
from raygpt.data.shards import Manifest, OnProgress, Shards, identity, new_manifest
from raygpt.data.split import MOST_DOCUMENTS, Survey, count_windows
from raygpt.data.spread import Spread, in_processes
from raygpt.data.store import Store
from raygpt.errors import UserError
from raygpt.recipe.corpora import is_uri
from raygpt.recipe.sections import Data

SENT_TOGETHER = 16
"""Number of new shards that are sent to a store together."""


def default_cache() -> Path:
    """$RAYGPT_CACHE, or raygpt in $XDG_CACHE_HOME, or ~/.cache/raygpt."""
    if folder := os.environ.get("RAYGPT_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raygpt"


def prepare(
    data: Data,
    train_tokens: int,
    on_progress: OnProgress | None = None,
    spread: Spread | None = None,
) -> Dataset:
    """Tokenise a corpus until both splits have more tokens than asked for, or it ends.

    Shards in the cache are used, and damaged ones are made again. If they are enough, the corpus is
    not read. If several processes ask for the same tokens, one prepares and the others wait.

    Args:
        data: a recipe's section.
        train_tokens: number of different training tokens that are wanted.
        on_progress: called after each shard that is made.
        spread: runs the work; on all cores of this machine if left out.

    Raises:
        UserError: the corpus is absent or cannot be read, the cache cannot be written, or the
            corpus leaves a split without a document or with less than one window of the context.
    """
    corpus = open_corpus(data.corpus, data.text_column)
    identified = identity(corpus, data.tokenizer, data.validation_fraction, data.min_document_bytes)
    fingerprint = identified["fingerprint"]
    store = Store(data.cache, fingerprint) if is_uri(data.cache or "") else None
    cache = default_cache() if store or not data.cache else Path(data.cache)
    folder = cache / fingerprint
    wanted = (train_tokens, data.validation_tokens)
    spread = spread or in_processes()
    _refuse_file(cache)
    try:
        manifest = read_manifest(folder)
        if store or manifest is None or _lacking(folder, manifest, wanted):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                # Another process may have prepared it meanwhile.
                shards = Shards(folder, read_manifest(folder) or new_manifest(identified, corpus))
                _fill(shards, corpus, store, wanted, on_progress, spread)
                manifest = shards.manifest
    except OSError as error:
        raise UserError(
            f"The token cache {folder} cannot be written ({error}). Free some space, or name "
            f"another folder in data.cache or in the environment variable RAYGPT_CACHE. Its "
            f"finished files remain valid."
        ) from error
    _check_splits(manifest, corpus)
    dataset = Dataset.open(folder, *wanted)
    if dataset.is_whole_corpus:
        for split in SPLITS:
            tokens = len(getattr(dataset, split))
            count_windows(tokens, data.context, tokens, split)
    return dataset


def _refuse_file(cache: Path) -> None:
    """Raise UserError if the cache's path is a file, or leads through one."""
    for path in (cache, *cache.parents):
        if path.exists():
            if not path.is_dir():
                raise UserError(
                    f"The token cache cannot be in {cache}: {path} is a file. Name a folder in "
                    f"data.cache or in the environment variable RAYGPT_CACHE."
                )
            return


def _fill(
    shards: Shards,
    corpus: Corpus,
    store: Store | None,
    wanted: tuple[int, int],
    on_progress: OnProgress | None,
    spread: Spread,
) -> None:
    """Complete a folder from the store, then from the corpus, and complete the store."""

    def after_shard(train_tokens: int, text_bytes: int) -> None:
        if on_progress:
            on_progress(train_tokens, text_bytes)
        # In between, because spot machines may be taken away at any time.
        if store and len(shards.manifest["shards"]) % SENT_TOGETHER == 0:
            shards.send(store)

    if store:
        shards.fetch(store, *wanted)
    shards.make_tokenizer(corpus)
    if store:
        shards.send(store)  # first, so that a store that refuses is noticed before the long work
    if damaged := shards.damaged(*wanted):
        shards.mend(corpus, spread, damaged)
    if not holds(shards.manifest, *wanted):
        shards.extend(corpus, spread, *wanted, after_shard)
    if store:
        shards.send(store)


def _lacking(folder: Path, manifest: Manifest, wanted: tuple[int, int]) -> bool:
    return (
        not holds(manifest, *wanted)
        or not has_tokenizer(folder, manifest)
        or bool(damaged_shards(folder, manifest, *wanted))
    )


def _check_splits(manifest: Manifest, corpus: Corpus) -> None:
    """Raise UserError if the corpus has left one side of the split without a document."""
    counts = [sum(entry[split]["documents"] for entry in manifest["shards"]) for split in SPLITS]
    if not manifest["exhausted"] or all(counts):
        return
    if sum(counts) <= MOST_DOCUMENTS:
        survey = Survey(corpus, manifest["validation_fraction"], manifest["min_document_bytes"])
        survey.read_all()
        survey.check()
    raise UserError(
        f"The {sum(counts):,} documents of the corpus {manifest['corpus']} are all on one side of "
        f"the split at data.validation_fraction = {manifest['validation_fraction']}: training has "
        f"{counts[0]:,}, validation {counts[1]:,}. Change the fraction."
    )
