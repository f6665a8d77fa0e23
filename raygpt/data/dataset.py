"""Prepared tokens as the trials read them: memory-mapped, cheap to open, never written."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from raygpt.data.tokenizer import Tokenizer
from raygpt.errors import UserError


class TokenStream:
    """The tokens of one split, in shards that are mapped into memory."""

    def __init__(self, shards: list[np.ndarray]):
        self._shards = shards
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._shards else 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start..stop, in the shards' own unsigned type; a view within one shard.

        Raises IndexError unless 0 <= start <= stop <= len(self).
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"tokens {start}..{stop} of a stream of {len(self)}")
        first, last = np.searchsorted(self._ends, [start, max(start, stop - 1)], side="right")
        parts = []
        for shard, end in zip(self._shards[first : last + 1], self._ends[first:], strict=False):
            begin = end - len(shard)
            parts.append(shard[max(start - begin, 0) : stop - begin])
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.uint16)])


class Dataset:
    """A prepared folder of the cache, as it stood when it was opened.

    `manifest` is the content of manifest.json; `train` and `validation` are TokenStreams.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        self.folder = folder
        self.manifest = manifest
        self.vocab_size: int = manifest["vocab_size"]
        self.train = self._stream("train")
        self.validation = self._stream("validation")

    @classmethod
    def open(cls, folder: Path | str) -> "Dataset":
        """Open a prepared folder; nothing but its manifest is read.

        Raises UserError if there is none, or if its shards are not as long as it says.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} holds no prepared data ({error}).") from error
        return cls(folder, manifest)

    def _stream(self, split: str) -> TokenStream:
        dtype = np.dtype(self.manifest["dtype"])
        shards = []
        for shard in self.manifest["splits"][split]["shards"]:
            file = self.folder / shard["file"]
            expected = shard["tokens"] * dtype.itemsize
            found = file.stat().st_size if file.exists() else 0
            if found != expected:
                raise UserError(
                    f"The token shard {file} is {found} bytes long, not {expected} as its "
                    f"manifest says. Delete the folder {self.folder} to have it made again."
                )
            shards.append(np.memmap(file, dtype, mode="r"))
        return TokenStream(shards)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.folder / "tokenizer")

    @property
    def token_bytes(self) -> np.ndarray:
        """int64 array (vocab_size,): the UTF-8 bytes each token stands for."""
        return self.tokenizer.token_bytes

    def holds(self, train_tokens: int, validation_tokens: int) -> bool:
        """Whether as much as this is here, or all that the corpus has.

        One token more than asked for, because the last of n inputs needs a target after it.
        """
        enough = len(self.train) > train_tokens and len(self.validation) > validation_tokens
        return enough or self.manifest["exhausted"]
