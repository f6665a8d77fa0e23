"""The token cache: a corpus tokenised once, for every trial of every search.

    <cache>/<fingerprint>/
        manifest.json           what is there; a shard it does not list is not there
        tokenizer/              vocab.json, merges.txt
        train-00000.bin …       token ids, little-endian uint16 (uint32 for large vocabularies)
        validation-00000.bin …

The fingerprint stands for everything that decides the tokens, but not for how many were asked
for: a folder holds the beginning of the corpus's two token streams, and a later search that wants
more adds shards to it. Each document's tokens are followed by the end-of-document token.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from raygpt.data.corpus import Corpus, open_corpus
from raygpt.data.dataset import Dataset
from raygpt.data.tokenizer import Tokenizer, gpt2_tokenizer, tokenizer_size, train_tokenizer
from raygpt.errors import UserError

FORMAT = 1
SHARD_TOKENS = 2**26  # of training; also about the most that a kill while preparing can lose
BATCH_DOCUMENTS = 64  # tokenised at once; preparation stops only between such batches
BPE_TRAINING_BYTES = 32_000_000  # of text at the start of the corpus, whatever the budget

Manifest = dict[str, Any]


def default_cache() -> Path:
    """$RAYGPT_CACHE, or raygpt in $XDG_CACHE_HOME, or ~/.cache/raygpt."""
    if folder := os.environ.get("RAYGPT_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raygpt"


def prepare(
    corpus: str,
    tokenizer: str,
    validation_fraction: float,
    train_tokens: int,
    validation_tokens: int,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    shard_tokens: int = SHARD_TOKENS,
) -> Dataset:
    """Tokenise `corpus` until both splits hold what is asked for, or the corpus ends.

    What the cache holds already is used, and nothing is read if that is enough. Of several
    processes that ask for the same at once, one prepares while the others wait. `on_progress` is
    given the tokens of train and validation after every batch of documents.

    Raises UserError for bad names, unreadable text, a cache that cannot be written, and a corpus
    that leaves a split without a document.
    """
    if not 0 < validation_fraction < 1:
        raise UserError(
            f"data.validation_fraction is {validation_fraction}; it must lie between 0 and 1, "
            f"such as 0.01."
        )
    source = open_corpus(corpus)
    new = _new_manifest(source, tokenizer, validation_fraction)
    folder = (cache or default_cache()) / new["fingerprint"]

    def current() -> Dataset:
        listed = (folder / "manifest.json").exists()
        return Dataset.open(folder) if listed else Dataset(folder, new)

    dataset = current()
    if not dataset.holds(train_tokens, validation_tokens):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                dataset = current()  # another process may have prepared it meanwhile
                if not dataset.holds(train_tokens, validation_tokens):
                    wanted = {"train": train_tokens, "validation": validation_tokens}
                    _extend(dataset, source, wanted, shard_tokens, on_progress)
                    dataset = current()
        except OSError as error:
            raise UserError(
                f"The token cache {folder} cannot be written ({error}). Make room, or name another "
                f"folder in the environment variable RAYGPT_CACHE. What it held is still good."
            ) from error
    _check_splits(dataset.manifest)
    return dataset


def _new_manifest(source: Corpus, tokenizer: str, validation_fraction: float) -> Manifest:
    vocab_size = tokenizer_size(tokenizer)
    decides_the_tokens = {
        "format": FORMAT,
        "revision": source.revision,
        "tokenizer": tokenizer,
        "validation_fraction": validation_fraction,
        "bpe_training_bytes": BPE_TRAINING_BYTES,
    }
    digest = hashlib.sha256(json.dumps(decides_the_tokens, sort_keys=True).encode())
    return {
        "fingerprint": digest.hexdigest()[:16],
        **decides_the_tokens,
        "corpus": source.name,
        "licence": source.licence,
        "vocab_size": vocab_size,
        "dtype": "<u2" if vocab_size <= 2**16 else "<u4",
        "exhausted": False,
        "splits": {
            split: {"documents": 0, "tokens": 0, "bytes": 0, "shards": []}
            for split in ("train", "validation")
        },
    }


def _split_of(text: str, validation_fraction: float) -> str:
    """The side of a document: decided by its text alone, so that it is never on both."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return "validation" if place < validation_fraction else "train"


def _extend(
    dataset: Dataset,
    source: Corpus,
    wanted: dict[str, int],
    shard_tokens: int,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Add shards to the dataset's folder; to be called by the holder of its lock."""
    folder, manifest = dataset.folder, dataset.manifest
    splits, fraction = manifest["splits"], manifest["validation_fraction"]
    _clear_leftovers(folder, manifest)

    documents = source.documents(skip=sum(split["documents"] for split in splits.values()))
    if (folder / "tokenizer").exists():
        tokenizer = Tokenizer.load(folder / "tokenizer")
    else:
        tokenizer, documents = _make_tokenizer(manifest, documents)
        tokenizer.save(folder / "tokenizer.part")
        (folder / "tokenizer.part").replace(folder / "tokenizer")

    pending: dict[str, list[np.ndarray]] = {split: [] for split in splits}
    pending_tokens = 0
    while batch := list(itertools.islice(documents, BATCH_DOCUMENTS)):
        encoded = tokenizer.encode_batch(batch, os.cpu_count() or 1)
        for text, ids in zip(batch, encoded, strict=True):
            tokens = np.append(ids, tokenizer.end_of_document).astype(manifest["dtype"])
            split = _split_of(text, fraction)
            pending[split].append(tokens)
            pending_tokens += len(tokens)
            splits[split]["documents"] += 1
            splits[split]["tokens"] += len(tokens)
            splits[split]["bytes"] += len(text.encode())
        if on_progress:
            on_progress(splits["train"]["tokens"], splits["validation"]["tokens"])
        if all(splits[split]["tokens"] > wanted[split] for split in splits):
            break
        if pending_tokens >= shard_tokens:
            _commit(folder, manifest, pending)
            pending_tokens = 0
    else:
        manifest["exhausted"] = True
    _commit(folder, manifest, pending)


def _make_tokenizer(
    manifest: Manifest, documents: Iterator[str]
) -> tuple[Tokenizer, Iterator[str]]:
    """The tokenizer, and the documents that are still to be tokenised: all of them."""
    if manifest["tokenizer"] == "gpt2":
        return gpt2_tokenizer(), documents
    head, size = [], 0
    while size < BPE_TRAINING_BYTES and (text := next(documents, None)) is not None:
        head.append(text)
        size += len(text.encode())
    fraction = manifest["validation_fraction"]
    training_side = (text for text in head if _split_of(text, fraction) == "train")
    tokenizer = train_tokenizer(manifest["tokenizer"], training_side)
    return tokenizer, itertools.chain(head, documents)


def _commit(folder: Path, manifest: Manifest, pending: dict[str, list[np.ndarray]]) -> None:
    """Write the pending tokens as a shard a split, and only then the manifest that lists them."""
    for split, parts in pending.items():
        if parts:
            tokens = np.concatenate(parts)
            parts.clear()
            shards = manifest["splits"][split]["shards"]
            file = f"{split}-{len(shards):05}.bin"
            digest = hashlib.sha256(tokens).hexdigest()
            shards.append({"file": file, "tokens": len(tokens), "sha256": digest})
            _write(folder / file, tokens)
    _write(folder / "manifest.json", json.dumps(manifest, indent=2).encode())


def _write(file: Path, content: bytes | np.ndarray) -> None:
    """Write a file so that, whatever happens, it is there whole or not at all."""
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _clear_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove what a killed process left behind."""
    listed = {shard["file"] for split in manifest["splits"].values() for shard in split["shards"]}
    for path in folder.iterdir():
        if path.is_dir() and path.suffix == ".part":
            shutil.rmtree(path)
        elif path.suffix == ".part" or (path.suffix == ".bin" and path.name not in listed):
            path.unlink()


def _check_splits(manifest: Manifest) -> None:
    splits = manifest["splits"]
    documents = sum(split["documents"] for split in splits.values())
    for split, change in (("train", "Lower"), ("validation", "Raise")):
        if manifest["exhausted"] and not splits[split]["documents"]:
            raise UserError(
                f"None of the {documents} documents of the corpus {manifest['corpus']} falls into "
                f"the {split} split at data.validation_fraction = "
                f"{manifest['validation_fraction']}. {change} it, or take a larger corpus."
            )
