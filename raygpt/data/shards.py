"""The token cache: a corpus tokenised once, for every trial of every search.

    <cache>/<fingerprint>/
        manifest.json   what is there; a shard that it does not list is not there
        tokenizer/      vocab.json, merges.txt
        00000.tokens …  of part after part of the corpus: little-endian uint16 ids, first of the
                        documents to train on, then of those held out; then a digest of each text

The fingerprint stands for everything that decides the tokens, but not for how many were asked
for: a folder holds the beginning of the corpus's two token streams, and a later search that wants
more adds shards to it. A shard follows from the corpus alone: however often preparation was
killed, and whoever did it, its bytes are the same.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from raygpt.data.dataset import (
    DIGEST_TYPE,
    MANIFEST,
    SPLITS,
    TOKENIZER,
    holds,
    is_whole,
    shard_name,
    shards_for,
)
from raygpt.data.parts import Corpus, Part
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
"""Is told the training tokens and the UTF-8 bytes of text that there are so far."""


def new_manifest(
    corpus: Corpus, tokenizer: str, validation_fraction: float, least_bytes: int
) -> Manifest:
    """The manifest of a folder with no shards yet.

    Args:
        corpus: to be tokenised.
        tokenizer: its name.
        validation_fraction: share of the documents that are held out.
        least_bytes: shorter documents are left out.
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
    return {
        "fingerprint": digest.hexdigest()[:16],
        **decides_the_tokens,
        "corpus": corpus.name,
        "licence": corpus.licence,
        "vocab_size": tokenizer_size(tokenizer),
        "exhausted": False,
        "shards": [],
    }


class Shards:
    """A folder of the cache while it is being filled, by the holder of its lock."""

    def __init__(self, folder: Path, manifest: Manifest):
        """With the manifest of the folder, or one of `new_manifest`."""
        self.folder = folder
        self.manifest = manifest
        # Of the texts in the first so many shards.
        self._digests = np.empty(0, np.uint64)
        self._digested = 0
        self._damaged_in_store: list[int] = []
        self._clear_leftovers()

    def fetch(self, store: Store, train_tokens: int, validation_tokens: int) -> None:
        """Take over from a store as much as is needed and not here.

        What is damaged there is listed, but not taken.
        """
        stored = stored_manifest(store)
        if not stored or len(stored["shards"]) < len(self.manifest["shards"]):
            return
        self._fetch_tokenizer(store)
        self.manifest["shards"] = []
        for number in range(shards_for(stored, train_tokens, validation_tokens)):
            entry = stored["shards"][number]
            file = self.folder / shard_name(number)
            if not is_whole(file, entry):
                content = store.read(file.name)
                if content and hashlib.sha256(content).hexdigest() == entry["sha256"]:
                    write_file(file, content)
                else:
                    self._damaged_in_store.append(number)
            self.manifest["shards"].append(entry)
        whole = len(self.manifest["shards"]) == len(stored["shards"])
        self.manifest["exhausted"] = stored["exhausted"] and whole
        self._write_manifest()

    def send(self, store: Store) -> None:
        """Put into a store what it does not have, the manifest last."""
        stored = stored_manifest(store) or {"shards": []}
        if len(stored["shards"]) > len(self.manifest["shards"]):
            return
        if not stored["shards"]:
            for name in TOKENIZER_FILES:
                store.write(f"{TOKENIZER}/{name}", (self.folder / TOKENIZER / name).read_bytes())
        for number, entry in enumerate(self.manifest["shards"]):
            if number in self._damaged_in_store or stored["shards"][number : number + 1] != [entry]:
                store.write(shard_name(number), (self.folder / shard_name(number)).read_bytes())
        if stored != self.manifest:
            store.write(MANIFEST, (self.folder / MANIFEST).read_bytes())

    def mend(self, corpus: Corpus, spread: Spread, damaged: Sequence[int]) -> None:
        """Make shards again.

        Args:
            corpus: of the folder's revision.
            spread: over what.
            damaged: their numbers.
        """
        parts = enumerate(corpus.parts())
        for number, part in self._tokenised(corpus, spread, (p for p in parts if p[0] in damaged)):
            self._write_shard(number, part)
            if number == max(damaged):
                break

    def extend(
        self,
        corpus: Corpus,
        spread: Spread,
        train_tokens: int,
        validation_tokens: int,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Add shards until there is more than so many tokens of both, or the corpus ends.

        Args:
            corpus: of the folder's revision.
            spread: over what.
            train_tokens, validation_tokens: wanted.
            on_progress: called after each shard.
        """
        shards = self.manifest["shards"]
        parts = itertools.islice(enumerate(corpus.parts()), len(shards), None)
        for number, part in self._tokenised(corpus, spread, parts):
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
        self, corpus: Corpus, spread: Spread, parts: Iterator[tuple[int, Part]]
    ) -> Iterator[tuple[int, TokenisedPart]]:
        """Numbered parts, in order."""
        least_bytes = self.manifest["min_document_bytes"]
        return spread(partial(_numbered, self._tokenizer(corpus), least_bytes), parts)

    def _tokenizer(self, corpus: Corpus) -> Tokenizer:
        """The folder's; made if it has none."""
        folder = self.folder / TOKENIZER
        if folder.exists():
            return Tokenizer.load(folder)
        if self.manifest["tokenizer"] == "gpt2":
            tokenizer = gpt2_tokenizer()
        else:
            tokenizer = train_tokenizer(self.manifest["tokenizer"], self._training_text(corpus))
        part = folder.with_name(f"{TOKENIZER}.part")
        tokenizer.save(part)
        part.replace(folder)
        return tokenizer

    def _training_text(self, corpus: Corpus) -> Iterator[str]:
        """What a tokenizer is trained on: documents at the start of the corpus, none held out."""
        size = 0
        for text, content in map(encodable, corpus.documents()):
            size += len(content)
            digest = np.array([text_digest(content)], np.uint64)
            if not is_validation(digest, self.manifest["validation_fraction"])[0]:
                yield text
            if size >= BPE_TRAINING_BYTES:
                return

    def _write_shard(self, number: int, part: TokenisedPart) -> None:
        """Write a shard, and only then the manifest that lists it."""
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
            raise UserError(
                f"The token shard {self.folder / shard_name(number)} was damaged, and the corpus "
                f"{self.manifest['corpus']} no longer gives what it held. Delete the folder "
                f"{self.folder} to have all of it made again."
            )
        write_file(self.folder / shard_name(number), content)
        shards[number : number + 1] = [entry]
        self._write_manifest()

    def _new_texts(self, number: int, digests: np.ndarray) -> np.ndarray:
        """Which texts of a shard are neither in an earlier one nor earlier in this one."""
        while self._digested < number:
            entry = self.manifest["shards"][self._digested]
            count = sum(entry[split]["documents"] for split in SPLITS)
            file = self.folder / shard_name(self._digested)
            start = file.stat().st_size - count * DIGEST_TYPE.itemsize
            self._add_digests(np.fromfile(file, DIGEST_TYPE, offset=start))
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

    def _fetch_tokenizer(self, store: Store) -> None:
        if (self.folder / TOKENIZER).exists():
            return
        part = self.folder / f"{TOKENIZER}.part"
        part.mkdir()
        for name in TOKENIZER_FILES:
            (part / name).write_bytes(store.read(f"{TOKENIZER}/{name}") or b"")
        Tokenizer.load(part)
        part.replace(self.folder / TOKENIZER)

    def _write_manifest(self) -> None:
        content = json.dumps(self.manifest, indent=2).encode()
        write_file(self.folder / MANIFEST, content)

    def _clear_leftovers(self) -> None:
        """Remove what a killed process left behind."""
        listed = {shard_name(number) for number in range(len(self.manifest["shards"]))}
        for path in self.folder.iterdir():
            if path.is_dir() and path.suffix == ".part":
                shutil.rmtree(path)
            elif path.suffix == ".part" or (path.suffix == ".tokens" and path.name not in listed):
                path.unlink()


def _numbered(
    tokenizer: Tokenizer, least_bytes: int, numbered: tuple[int, Part]
) -> tuple[int, TokenisedPart]:
    number, part = numbered
    return number, tokenise(tokenizer, least_bytes, part)


def stored_manifest(store: Store) -> Manifest | None:
    """The manifest in a store; None where there is none, or no legible one."""
    try:
        return json.loads(store.read(MANIFEST) or b"null")
    except ValueError:
        return None


def write_file(file: Path, content: bytes) -> None:
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
