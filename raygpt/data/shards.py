"""The token cache: a corpus tokenised once, for every trial of every search.

    <cache>/<fingerprint>/
        manifest.json   lists the finished shards; a file that it does not list is ignored
        tokenizer/      vocab.json, merges.txt
        00000.tokens …  one file per part of the corpus: little-endian uint16 ids, first of the
                        training documents, then of the validation documents; then a digest of
                        each text

The fingerprint covers everything that decides the tokens except their number: a folder holds the
beginning of the two token streams of a corpus, and a later search that needs more adds shards. The
bytes of a shard depend on the corpus alone, not on how often preparation was killed or which
machine did it.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from raygpt.atomic import replace_file
from raygpt.data.corpora.parts import Corpus, Part
from raygpt.data.dataset import (
    DIGEST_TYPE,
    MANIFEST,
    SPLITS,
    TOKENIZER,
    damaged_shards,
    has_tokenizer,
    holds,
    is_whole,
    legible_manifest,
    read_manifest,
    shard_digests,
    shard_name,
    shards_for,
    tokenizer_sha256,
)
from raygpt.data.split import Survey
from raygpt.data.spread import Spread
from raygpt.data.store import Store
from raygpt.data.tokenise import (
    TokenisedPart,
    encodable,
    is_validation,
    text_digest,
    tokenise,
)
from raygpt.data.tokenizer import (
    TOKENIZER_FILES,
    Tokenizer,
    gpt2_tokenizer,
    tokenizer_size,
    train_tokenizer,
)
from raygpt.errors import UserError

FORMAT = 2
BPE_TRAINING_BYTES = 32_000_000  # of text at the start of the corpus, whatever the budget

Manifest = dict[str, Any]
OnProgress = Callable[[int, int], None]
"""Receives the numbers of training tokens and of UTF-8 bytes of text so far."""


class Source(Protocol):
    """A folder of another cache."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""


def identity(
    corpus: Corpus, tokenizer: str, validation_fraction: float, least_bytes: int
) -> dict[str, Any]:
    """Everything that decides the tokens, and a fingerprint of it.

    Args:
        corpus: the corpus that is tokenised.
        tokenizer: the tokenizer's name.
        validation_fraction: share of the documents that are held out.
        least_bytes: UTF-8 bytes below which documents are left out.
    """
    decides_the_tokens = {
        "format": FORMAT,
        "revision": corpus.revision,
        "tokenizer": tokenizer,
        "validation_fraction": validation_fraction,
        "min_document_bytes": least_bytes,
        "bpe_training_bytes": BPE_TRAINING_BYTES,
    }
    digest = hashlib.sha256(json.dumps(decides_the_tokens, sort_keys=True).encode())
    return {"fingerprint": digest.hexdigest()[:16], **decides_the_tokens}


def new_manifest(identity: dict[str, Any], corpus: Corpus) -> Manifest:
    """The manifest of a folder without shards."""
    return {
        **identity,
        "corpus": corpus.name,
        "licence": corpus.licence(),
        "vocab_size": tokenizer_size(identity["tokenizer"]),
        "tokenizer_sha256": None,
        "exhausted": False,
        "shards": [],
    }


def fetch(folder: Path, source: Source, train_tokens: int, validation_tokens: int) -> None:
    """Copy the missing shards for these numbers of tokens from a source, holding the folder's lock.

    Raises:
        UserError: the source does not have them.
    """
    manifest = read_manifest(folder)
    if not manifest:
        stored = manifest_in(source)
        if not stored:
            raise UserError(f"{source} holds no prepared data: it has no {MANIFEST}.")
        manifest = stored | {"tokenizer_sha256": None, "exhausted": False, "shards": []}
    shards = Shards(folder, manifest)
    shards.fetch(source, train_tokens, validation_tokens)
    if damaged := shards.damaged(train_tokens, validation_tokens):
        raise UserError(
            f"The token shard {source}/{shard_name(damaged[0])} is absent or damaged. Make it "
            f"again with python -m raygpt.prepare and the recipe, or by --resume."
        )


class Shards:
    """A folder of the cache that is being filled, by the process that holds its lock."""

    def __init__(self, folder: Path, manifest: Manifest):
        """The manifest is the folder's, or one from `new_manifest`."""
        self.folder = folder
        self.manifest = manifest
        # Digests of all texts in the first `_digested` shards, sorted.
        self._digests = np.empty(0, np.uint64)
        self._digested = 0
        self._damaged_at_source: list[int] = []
        self._clear_leftovers()

    def damaged(self, train_tokens: int, validation_tokens: int) -> list[int]:
        """The `damaged_shards` of this folder."""
        return damaged_shards(self.folder, self.manifest, train_tokens, validation_tokens)

    def fetch(self, source: Source, train_tokens: int, validation_tokens: int) -> None:
        """Copy the needed shards that are absent or damaged here from a source.

        Shards that are damaged at the source are listed, but not copied.

        Raises:
            UserError: the tokens at the source are of another tokenizer.
        """
        stored = manifest_in(source)
        if not stored:
            return
        self._fetch_tokenizer(source, stored)
        shards = self.manifest["shards"]
        for number in range(shards_for(stored, train_tokens, validation_tokens)):
            entry = stored["shards"][number]
            file = self.folder / shard_name(number)
            if not is_whole(file, entry):
                content = source.read(file.name)
                if content and hashlib.sha256(content).hexdigest() == entry["sha256"]:
                    _write(file, content)
                else:
                    self._damaged_at_source.append(number)
            if number == len(shards):
                shards.append(entry)
                self._write_manifest()
        if len(shards) == len(stored["shards"]):
            self.manifest["exhausted"] |= stored["exhausted"]
        self._write_manifest()

    def send(self, store: Store) -> None:
        """Copy the files that a store lacks into it, the manifest last."""
        stored = manifest_in(store)
        if not stored:
            for name in TOKENIZER_FILES:
                store.write(f"{TOKENIZER}/{name}", (self.folder / TOKENIZER / name).read_bytes())
        listed = len(stored["shards"]) if stored else 0
        shards = self.manifest["shards"]
        for number in (*self._damaged_at_source, *range(listed, len(shards))):
            file = self.folder / shard_name(number)
            if not is_whole(file, shards[number]):
                return  # a damaged shard that is not needed now; it is mended when it is needed
            store.write(file.name, file.read_bytes())
        self._damaged_at_source = []
        # Other machines may have sent more meanwhile.
        if _extent(self.manifest) > _extent(manifest_in(store)):
            store.write(MANIFEST, (self.folder / MANIFEST).read_bytes())

    def mend(self, corpus: Corpus, spread: Spread, damaged: Sequence[int]) -> None:
        """Make damaged shards again.

        Args:
            corpus: a corpus of the folder's revision.
            spread: runs the work.
            damaged: the numbers of the shards.
        """
        # Only as far as needed, because reading a corpus to its end may take long.
        parts = itertools.islice(enumerate(corpus.parts()), max(damaged) + 1)
        mended = set()
        for number, part in self._tokenised(spread, (p for p in parts if p[0] in damaged)):
            self._write_shard(number, part)
            mended.add(number)
        if missing := set(damaged) - mended:
            raise self._other_corpus(min(missing))

    def extend(
        self,
        corpus: Corpus,
        spread: Spread,
        train_tokens: int,
        validation_tokens: int,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Add shards until both splits have more than these tokens, or the corpus ends.

        Args:
            corpus: a corpus of the folder's revision.
            spread: runs the work.
            train_tokens, validation_tokens: the tokens that are wanted.
            on_progress: called after each shard.
        """
        shards = self.manifest["shards"]
        parts = itertools.islice(enumerate(corpus.parts()), len(shards), None)
        for number, part in self._tokenised(spread, parts):
            self._write_shard(number, part)
            if on_progress:
                on_progress(
                    sum(entry["train"]["tokens"] for entry in shards),
                    sum(entry[split]["bytes"] for entry in shards for split in SPLITS),
                )
            if holds(self.manifest, train_tokens, validation_tokens):
                break
        else:
            self.manifest["exhausted"] = True
            self._write_manifest()

    def _tokenised(
        self, spread: Spread, parts: Iterator[tuple[int, Part]]
    ) -> Iterator[tuple[int, TokenisedPart]]:
        """Numbered parts after tokenisation, in order."""
        tokenizer = Tokenizer.load(self.folder / TOKENIZER)
        least_bytes = self.manifest["min_document_bytes"]
        return spread(partial(_numbered, tokenizer, least_bytes), parts)

    def make_tokenizer(self, corpus: Corpus) -> None:
        """Make the folder's tokenizer if it is absent or damaged."""
        if has_tokenizer(self.folder, self.manifest):
            return
        if self.manifest["tokenizer"] == "gpt2":
            tokenizer = gpt2_tokenizer()
        else:
            tokenizer = train_tokenizer(self.manifest["tokenizer"], self._training_text(corpus))
        self._take_tokenizer([tokenizer.files[name] for name in TOKENIZER_FILES])

    def _fetch_tokenizer(self, source: Source, stored: Manifest) -> None:
        ours, theirs = self.manifest["tokenizer_sha256"], stored["tokenizer_sha256"]
        if ours not in (None, theirs):
            raise UserError(
                f"{self.folder} and {source} have tokens of the same corpus from different "
                f"tokenizers, perhaps trained by different versions. Delete one of them."
            )
        if not has_tokenizer(self.folder, stored):
            contents = [source.read(f"{TOKENIZER}/{name}") or b"" for name in TOKENIZER_FILES]
            if tokenizer_sha256(contents) == theirs:
                self._take_tokenizer(contents)

    def _take_tokenizer(self, contents: Sequence[bytes]) -> None:
        """Write the tokenizer's files, then the manifest with their hash."""
        digest = tokenizer_sha256(contents)
        if self.manifest["tokenizer_sha256"] not in (None, digest):
            raise UserError(
                f"The tokenizer in {self.folder / TOKENIZER} was damaged, and the corpus "
                f"{self.manifest['corpus']} no longer yields the same one, perhaps because of "
                f"another version of the package tokenizers. {self._delete()}"
            )
        folder = self.folder / TOKENIZER
        folder.mkdir(exist_ok=True)
        for name, content in zip(TOKENIZER_FILES, contents, strict=True):
            _write(folder / name, content)
        self.manifest["tokenizer_sha256"] = digest
        self._write_manifest()

    def _training_text(self, corpus: Corpus) -> Iterator[str]:
        """The text that a tokenizer is trained on: the first documents that are not held out."""
        fraction = self.manifest["validation_fraction"]
        survey = Survey(corpus, fraction, self.manifest["min_document_bytes"])
        size = 0
        for text, content in map(encodable, corpus.documents()):
            size += len(content)
            survey.add(text, content)
            digest = np.array([text_digest(content)], np.uint64)
            if not is_validation(digest, fraction)[0]:
                yield text
            if size >= BPE_TRAINING_BYTES:
                return
        # Otherwise the message would only be that the tokenizer had too little text.
        survey.check()

    def _write_shard(self, number: int, part: TokenisedPart) -> None:
        """Write a shard, then the manifest that lists it."""
        new = self._new_texts(number, part.digests)
        held_out = is_validation(part.digests, self.manifest["validation_fraction"])
        tokens, digests, entry = [], [], {}
        for split, mask in zip(SPLITS, (new & ~held_out, new & held_out), strict=True):
            tokens.append(part.tokens[np.repeat(mask, part.lengths)])
            digests.append(part.digests[mask].astype(DIGEST_TYPE))
            entry[split] = {
                "documents": int(mask.sum()),
                "tokens": len(tokens[-1]),
                "bytes": int(part.text_bytes[mask].sum()),
            }
        content = b"".join(array.tobytes() for array in (*tokens, *digests))
        entry |= {
            "short": part.short,
            "duplicates": int((~new).sum()),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        shards = self.manifest["shards"]
        if number < len(shards) and shards[number] != entry:
            raise self._other_corpus(number)
        _write(self.folder / shard_name(number), content)
        shards[number : number + 1] = [entry]
        self._write_manifest()

    def _new_texts(self, number: int, digests: np.ndarray) -> np.ndarray:
        """Whether each text of a shard occurs for the first time, in the corpus so far."""
        while self._digested < number:
            entry = self.manifest["shards"][self._digested]
            self._add_digests(shard_digests(self.folder, self._digested, entry))
        _, first = np.unique(digests, return_index=True)
        new = np.zeros(len(digests), bool)
        new[first] = True
        if len(self._digests):
            places = np.searchsorted(self._digests, digests).clip(max=len(self._digests) - 1)
            new &= self._digests[places] != digests
        return new

    def _add_digests(self, digests: np.ndarray) -> None:
        self._digests = np.sort(np.concatenate([self._digests, digests]), kind="stable")
        self._digested += 1

    def _other_corpus(self, number: int) -> UserError:
        return UserError(
            f"The token shard {self.folder / shard_name(number)} was damaged, and the corpus "
            f"{self.manifest['corpus']} no longer has its text. {self._delete()}"
        )

    def _delete(self) -> str:
        return f"Delete the folder {self.folder}; it is then made again."

    def _write_manifest(self) -> None:
        content = json.dumps(self.manifest, indent=2).encode()
        _write(self.folder / MANIFEST, content)

    def _clear_leftovers(self) -> None:
        """Remove files that a killed process left behind."""
        listed = {shard_name(number) for number in range(len(self.manifest["shards"]))}
        for path in self.folder.iterdir():
            unfinished = path.suffix in (".partial", ".part")  # earlier versions wrote .part
            if unfinished or (path.suffix == ".tokens" and path.name not in listed):
                path.unlink()


def _numbered(
    tokenizer: Tokenizer, least_bytes: int, numbered: tuple[int, Part]
) -> tuple[int, TokenisedPart]:
    number, part = numbered
    return number, tokenise(tokenizer, least_bytes, part)


def manifest_in(source: Source) -> Manifest | None:
    """The manifest at a source; None if it is absent or cannot be parsed."""
    content = source.read(MANIFEST)
    try:
        return content and legible_manifest(content)
    except ValueError:
        return None


def _extent(manifest: Manifest | None) -> tuple[int, bool]:
    """A key that orders manifests of the same folder by their number of shards."""
    return (len(manifest["shards"]), manifest["exhausted"]) if manifest else (-1, False)


def _write(file: Path, content: bytes) -> None:
    replace_file(file, lambda partial: partial.write_bytes(content), durable=True)
