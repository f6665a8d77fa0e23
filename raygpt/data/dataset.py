"""Prepared tokens as trials read them: memory-mapped, cheap to open, read-only."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from raygpt.data.digest import sha256_of
from raygpt.data.tokenise import TOKEN_TYPE
from raygpt.data.tokenizer import TOKENIZER_FILES, Tokenizer
from raygpt.errors import UserError

SPLITS = ("train", "validation")
DIGEST_TYPE = np.dtype("<u8")
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
MOST_MAPPED = 256
"""Most files that a process maps at once: each takes a file descriptor, often one of 1,024."""


@dataclass(frozen=True)
class MappedTokens:
    """A range of tokens in a file, which is mapped into memory when they are read."""

    file: Path
    modified: int
    """When the file was last changed, in ns; a replaced file must be mapped again."""
    begin: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> np.ndarray:
        return _mapped(self.file, self.modified)[self.begin : self.begin + self.count][part]


@lru_cache(MOST_MAPPED)
def _mapped(file: Path, modified: int) -> np.ndarray:
    return np.memmap(file, TOKEN_TYPE, mode="r")


class TokenStream:
    """The tokens of one split, in shards that are mapped into memory."""

    def __init__(self, shards: Sequence[np.ndarray | MappedTokens]):
        self._shards = shards
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._shards else 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start..stop, uint16; a view within one shard.

        Raises IndexError unless 0 <= start <= stop <= len(self).
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"tokens {start}..{stop} of a stream of {len(self)}")
        first, last = np.searchsorted(self._ends, [start, max(start, stop - 1)], side="right")
        parts = []
        for shard, end in zip(self._shards[first : last + 1], self._ends[first:], strict=False):
            begin = end - len(shard)
            parts.append(shard[max(start - begin, 0) : stop - begin])
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, TOKEN_TYPE)])


class Dataset:
    """The first shards of a prepared folder of the cache, checked when they are opened.

    `manifest` is the content of manifest.json; `train` and `validation` are TokenStreams.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], shards: int):
        """Open the first `shards` shards.

        Raises UserError if the tokenizer or one of these shards is absent or damaged.
        """
        self.folder = folder
        self.manifest = manifest
        self.vocab_size: int = manifest["vocab_size"]
        self.shards = manifest["shards"][:shards]
        if not has_tokenizer(folder, manifest):
            raise _damage(folder / TOKENIZER)
        train, validation = [], []
        for number, entry in enumerate(self.shards):
            file = folder / shard_name(number)
            if not is_whole(file, entry):
                raise _damage(file)
            modified = file.stat().st_mtime_ns
            counts = [entry[split]["tokens"] for split in SPLITS]
            if sum(counts):  # an empty file cannot be mapped
                train.append(MappedTokens(file, modified, 0, counts[0]))
                validation.append(MappedTokens(file, modified, *counts))
        self.train, self.validation = TokenStream(train), TokenStream(validation)

    @classmethod
    def open(
        cls, folder: Path | str, train_tokens: int | None = None, validation_tokens: int = 0
    ) -> "Dataset":
        """Open the shards that hold these numbers of tokens; all shards without `train_tokens`.

        Raises UserError if the folder is not prepared that far, or if a shard is damaged.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise UserError(f"{folder} holds no prepared data: it has no {MANIFEST}.")
        if train_tokens is None:
            return cls(folder, manifest, len(manifest["shards"]))
        if not holds(manifest, train_tokens, validation_tokens):
            raise UserError(f"{folder} holds less than {train_tokens:,} training tokens.")
        return cls(folder, manifest, shards_for(manifest, train_tokens, validation_tokens))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.folder / TOKENIZER)

    @property
    def token_bytes(self) -> np.ndarray:
        """int64 array (vocab_size,): the UTF-8 bytes of each token."""
        return self.tokenizer.token_bytes

    def count(self, split: str, what: str) -> int:
        """The number of documents, tokens or (UTF-8) bytes of a split in the opened shards."""
        return sum(entry[split][what] for entry in self.shards)

    @property
    def is_whole_corpus(self) -> bool:
        """Whether the shards that are opened hold all documents of the corpus."""
        return self.manifest["exhausted"] and len(self.shards) == len(self.manifest["shards"])

    def provenance(self) -> dict[str, Any]:
        """The source of the tokens, and the documents, tokens and bytes of each split."""
        names = ("corpus", "revision", "licence", "tokenizer", "fingerprint")
        counts = {
            split: {what: self.count(split, what) for what in ("documents", "tokens", "bytes")}
            for split in SPLITS
        }
        return {name: self.manifest[name] for name in names} | counts

    def documents(self, split: str) -> Iterator[np.ndarray]:
        """The tokens of each document of a split, without the end-of-document token."""
        end = self.tokenizer.end_of_document
        stream = getattr(self, split)
        start = 0
        while start < len(stream):
            block = stream.read(start, min(start + 2**20, len(stream)))
            ends = np.flatnonzero(block == end)
            size = 2**20
            while not len(ends):  # a document longer than the block
                size *= 2
                block = stream.read(start, min(start + size, len(stream)))
                ends = np.flatnonzero(block == end)
            for begin, stop in zip([0, *ends[:-1] + 1], ends, strict=True):
                yield block[begin:stop]
            start += int(ends[-1]) + 1

    def fingerprints(self, validation_tokens: int, context: int) -> dict[str, Any]:
        """The properties that comparable figures share, as columns of the trials' table.

        Args:
            validation_tokens: tokens of the validation set, if there are as many.
            context: tokens in a window.

        Returns:
            data: the fingerprint of everything that decides the tokens.
            validation_set: the fingerprint of the validation set's text.
            context: the argument.
            scored_tokens, scored_bytes: the sums of an evaluation, see
                `training.evaluation.Evaluation`.
        """
        text = self.validation.read(0, min(validation_tokens, len(self.validation)))
        windows = max(0, min(validation_tokens, len(self.validation) - 1)) // context
        # The targets of a window are one token further on than its inputs.
        targets = self.validation.read(1, windows * context + 1) if windows else []
        target_bytes = self.token_bytes[np.asarray(targets, dtype=np.int64)]
        digest = hashlib.sha256(self.tokenizer.decode_bytes(text)).hexdigest()
        return {
            "data": self.manifest["fingerprint"],
            "validation_set": digest[:16],
            "context": context,
            "scored_tokens": int((target_bytes > 0).sum()),
            "scored_bytes": int(target_bytes.sum()),
        }


def shard_name(number: int) -> str:
    """The file name of a shard.

    The file has the tokens of train, the tokens of validation, and a uint64 digest of each
    document's text.
    """
    return f"{number:05}.tokens"


def shard_digests(folder: Path, number: int, entry: dict[str, Any]) -> np.ndarray:
    """uint64: the digests of a shard's documents, first of train, then of validation."""
    file = folder / shard_name(number)
    count = sum(entry[split]["documents"] for split in SPLITS)
    return np.fromfile(file, DIGEST_TYPE, offset=file.stat().st_size - count * DIGEST_TYPE.itemsize)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a prepared folder; None if there is none.

    Raises UserError if it cannot be read; otherwise its shards would be deleted as left over.
    """
    file = folder / MANIFEST
    try:
        return legible_manifest(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({error}). If that persists, delete the folder, and its tokens "
            f"are made again."
        ) from error


def legible_manifest(content: bytes) -> dict[str, Any]:
    """Parse a manifest. Raises ValueError if the content is not a manifest."""
    manifest = json.loads(content)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("shards"), list):
        raise ValueError("it is not a manifest of token shards")
    return manifest


def has_tokenizer(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether the tokenizer of a prepared folder exists and has the hash in the manifest."""
    try:
        contents = [(folder / TOKENIZER / name).read_bytes() for name in TOKENIZER_FILES]
    except OSError:
        return False
    return tokenizer_sha256(contents) == manifest["tokenizer_sha256"]


def tokenizer_sha256(contents: Sequence[bytes]) -> str:
    """The SHA-256 of the contents of TOKENIZER_FILES joined, as hexadecimal digits."""
    return hashlib.sha256(b"".join(contents)).hexdigest()


def _damage(path: Path) -> UserError:
    return UserError(
        f"{path} is absent or damaged: it does not match its manifest. Make it again with "
        f"python -m raygpt.prepare and the recipe."
    )


def shards_for(manifest: dict[str, Any], train_tokens: int, validation_tokens: int) -> int:
    """The number of shards that hold more tokens than asked for, or all if there are too few.

    One token more is needed, because the last input needs a target after it.
    """
    found = dict.fromkeys(SPLITS, 0)
    for number, entry in enumerate(manifest["shards"]):
        if found["train"] > train_tokens and found["validation"] > validation_tokens:
            return number
        for split in SPLITS:
            found[split] += entry[split]["tokens"]
    return len(manifest["shards"])


def damaged_shards(
    folder: Path, manifest: dict[str, Any], train_tokens: int, validation_tokens: int
) -> list[int]:
    """The shards that are listed and needed for these tokens, but are absent or damaged."""
    needed = shards_for(manifest, train_tokens, validation_tokens)
    return [
        number
        for number, entry in enumerate(manifest["shards"][:needed])
        if not is_whole(folder / shard_name(number), entry)
    ]


def holds(manifest: dict[str, Any], train_tokens: int, validation_tokens: int) -> bool:
    """Whether more tokens than these are prepared, or the whole corpus is."""
    train, validation = (
        sum(entry[split]["tokens"] for entry in manifest["shards"]) for split in SPLITS
    )
    return manifest["exhausted"] or (train > train_tokens and validation > validation_tokens)


def shard_bytes(entry: dict[str, Any]) -> int:
    """The size of a shard's file according to its entry in the manifest."""
    tokens, documents = (
        sum(entry[split][what] for split in SPLITS) for what in ("tokens", "documents")
    )
    return tokens * TOKEN_TYPE.itemsize + documents * DIGEST_TYPE.itemsize


def is_whole(file: Path, entry: dict[str, Any]) -> bool:
    """Whether a shard's file has the size and the hash in the manifest."""
    try:
        stat = file.stat()
        return (
            stat.st_size == shard_bytes(entry)
            and _sha256(file, stat.st_mtime_ns, stat.st_size) == entry["sha256"]
        )
    except OSError:
        return False


# Many trials open the same shards in one process.
@cache
def _sha256(file: Path, modified: int, size: int) -> str:
    return sha256_of(file)
