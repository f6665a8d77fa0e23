"""Corpora: named sources of documents in a fixed order. A document is a plain `str`.

sample              106 English Wikipedia articles that come with gensim; needs no network
wikipedia           English Wikipedia of November 2023, streamed from the Hugging Face Hub
jsonl:PATH-OR-GLOB  your own files (plain, .gz or .xz), a JSON object with a "text" a line
"""

import difflib
import glob
import gzip
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raygpt.data.dump import dump_corpus
from raygpt.errors import UserError

NAMES = ("sample", "wikipedia", "jsonl:PATH")

SAMPLE_DUMP = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
HUB_DATASET = "wikimedia/wikipedia"
HUB_SNAPSHOT = "20231101.en"
HUB_COMMIT = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"
HUB_TIMEOUT = 5.0  # seconds

LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Corpus:
    """A source of documents.

    `revision` identifies the content: equal revisions hold equal documents in equal order.
    `licence` is None where it is not known. `read(skip)` yields the documents after the first
    `skip`.
    """

    name: str
    revision: str
    licence: str | None
    read: Callable[[int], Iterator[str]]

    def documents(self, skip: int = 0) -> Iterator[str]:
        """The documents after the first `skip`, each encodable as UTF-8."""
        return map(_encodable, self.read(skip))


def open_corpus(name: str) -> Corpus:
    """The corpus called `name`, before anything of it is read or downloaded.

    Raises UserError if there is no such corpus or none of its files are there.
    """
    if name == "sample":
        return _sample()
    if name == "wikipedia":
        return _wikipedia()
    kind, _, pattern = name.partition(":")
    if kind == "jsonl" and pattern:
        return _jsonl(name, pattern)
    nearest = difflib.get_close_matches(name, NAMES, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise UserError(f"There is no corpus {name!r}.{hint} The corpora are {', '.join(NAMES)}.")


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return LONE_SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


# --- sample ---------------------------------------------------------------------------------


def _sample() -> Corpus:
    # Found without importing gensim, which takes seconds.
    package = importlib.util.find_spec("gensim")
    dump = Path(package.origin).parent / SAMPLE_DUMP if package and package.origin else None
    if dump is None or not dump.is_file():
        raise UserError(
            "The corpus sample is read from a file of the package gensim, which is not here: "
            "pip install 'gensim>=4.4'."
        )

    corpus = dump_corpus("sample", str(dump))

    def read(skip: int) -> Iterator[str]:
        parts = corpus.parts()
        texts = itertools.chain.from_iterable(part() for part in parts)
        return itertools.islice(texts, skip, None)

    version = importlib.metadata.version("gensim")
    return Corpus(
        name="sample",
        revision=f"gensim {version}, {corpus.revision}",
        licence="CC BY-SA 3.0",
        read=read,
    )


# --- wikipedia ------------------------------------------------------------------------------


def _wikipedia() -> Corpus:
    return Corpus(
        name="wikipedia",
        revision=f"{HUB_DATASET} {HUB_SNAPSHOT}@{HUB_COMMIT}",
        licence="CC BY-SA 3.0",
        read=_read_hub,
    )


def _read_hub(skip: int) -> Iterator[str]:
    # The Hub's clients raise errors of whichever HTTP library they are built on this year, so
    # anything they raise counts as "could not be read".
    try:
        from huggingface_hub import HfApi

        # Asked first because `datasets` retries for half a minute before it gives up.
        HfApi().dataset_info(HUB_DATASET, revision=HUB_COMMIT, timeout=HUB_TIMEOUT)

        from datasets import load_dataset

        rows = load_dataset(
            HUB_DATASET, HUB_SNAPSHOT, revision=HUB_COMMIT, split="train", streaming=True
        )
        for row in rows.select_columns("text").skip(skip):
            yield row["text"]
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"The corpus wikipedia could not be read from the Hugging Face Hub "
            f"({HUB_DATASET}): {reason}. Check the network, or set data.corpus to jsonl:PATH "
            f"for files of your own or to sample, which needs no network."
        ) from error


# --- jsonl ----------------------------------------------------------------------------------

OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def _jsonl(name: str, pattern: str) -> Corpus:
    path = Path(pattern).expanduser()
    # A file whose own name holds [ or * is taken at its word. Path.glob takes no absolute pattern.
    found = [path] if path.is_file() else glob.glob(str(path), recursive=True)  # noqa: PTH207
    files = sorted(file for file in map(Path, found) if file.is_file())
    if not files:
        raise UserError(
            f"No file matches {pattern!r} (data.corpus: {name}, looked up from {Path.cwd()}). "
            f"Give a JSON-lines file, or a pattern such as jsonl:texts/*.jsonl.gz."
        )

    def read(skip: int) -> Iterator[str]:
        texts = itertools.chain.from_iterable(map(_read_jsonl, files))
        return itertools.islice(texts, skip, None)

    contents = [(file.name, file.stat().st_size, _sha256(file)) for file in files]
    digest = hashlib.sha256(json.dumps(contents).encode()).hexdigest()
    return Corpus(name=name, revision=f"jsonl sha256:{digest}", licence=None, read=read)


def _read_jsonl(file: Path) -> Iterator[str]:
    """The texts of one file that are not empty."""
    opener = OPENERS.get(file.suffix, open)
    try:
        with opener(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                text = _text_of(line, f"{file}, line {number}") if line.strip() else ""
                if text.strip():
                    yield text
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(
            f"{file} cannot be read ({error}). If it is cut short or damaged, copy or compress "
            f"it again."
        ) from error


def _text_of(line: bytes, where: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        found = f"no valid JSON ({error})"
    else:
        if not isinstance(row, dict):
            found = f"a JSON {type(row).__name__}"
        elif "text" not in row:
            found = f"an object with the keys {sorted(row)[:9]}"
        elif not isinstance(row["text"], str):
            found = f'a "text" of type {type(row["text"]).__name__}'
        else:
            return row["text"]
    raise UserError(
        f'{where}: expected a JSON object with a string "text", found {found}. '
        f"Mend or remove this line."
    )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
