"""Files of JSON Lines, plain, .gz or .xz: each line is an object with a text."""

import gzip
import hashlib
import itertools
import json
import lzma
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from raygpt.data.corpora.files import matching_files
from raygpt.data.corpora.parts import PART_BYTES, Corpus, Part
from raygpt.data.digest import sha256_of
from raygpt.errors import UserError

OPENERS = {".gz": gzip.open, ".xz": lzma.open}


class Lines(NamedTuple):
    """Whole lines of one file."""

    file: str
    first: int
    """Number of the first line, counted from 1."""
    content: bytes


def jsonl_corpus(name: str, pattern: str, text_column: str) -> Corpus:
    """The documents of the files that match a path or glob, in the order of the files' names.

    Args:
        name: of the corpus, for messages.
        pattern: path or glob.
        text_column: key of the text in each object.

    Raises:
        UserError: no file matches, or, during reading, a file or line is damaged.
    """
    files = sorted(matching_files(pattern))
    if not files:
        found, example = f"No file matches {pattern!r}", "texts/*.jsonl.gz"
        if Path(pattern).expanduser().is_dir():
            found, example = f"{pattern!r} is a folder", f"{pattern}/*.jsonl"
        raise UserError(
            f"{found} (data.corpus: {name}, looked up from {Path.cwd()}). Give a JSON-lines file, "
            f"or a pattern such as jsonl:{example}."
        )
    contents = []
    for file in files:
        try:
            contents.append((file.name, file.stat().st_size, sha256_of(file)))
        except OSError as error:
            raise _unreadable(file, error) from error
    digest = hashlib.sha256(json.dumps([text_column, contents]).encode()).hexdigest()
    return Corpus(
        name=name,
        revision=f"jsonl sha256:{digest}",
        licence=lambda: None,
        parts=partial(_parts, files, text_column),
    )


def _parts(files: Sequence[Path], text_column: str) -> Iterator[Part]:
    """Parts that contain their lines: small files are joined, large ones are cut."""
    gathered: list[Lines] = []
    size = 0
    for lines in itertools.chain.from_iterable(map(_cut, files)):
        gathered.append(lines)
        size += len(lines.content)
        if size >= PART_BYTES:
            yield partial(_read, gathered, text_column)
            gathered, size = [], 0
    if gathered:
        yield partial(_read, gathered, text_column)


def _cut(file: Path) -> Iterator[Lines]:
    """The lines of one file, a few MB at a time."""
    opener = OPENERS.get(file.suffix, open)
    line = 1
    try:
        with opener(file, "rb") as stream:
            while content := stream.read(PART_BYTES):
                content += stream.readline()
                yield Lines(str(file), line, content)
                line += content.count(b"\n")
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{file} cannot be read ({error}). If it is cut short or damaged, copy or compress it "
        f"again."
    )


def _read(gathered: Sequence[Lines], text_column: str) -> Iterator[str]:
    """The texts of the lines that are not empty."""
    for file, first, content in gathered:
        for number, line in enumerate(content.split(b"\n"), first):
            if line.strip():
                yield _text_of(line, text_column, f"{file}, line {number}")


def _text_of(line: bytes, text_column: str, where: str) -> str:
    advice = "Correct or remove this line."
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        found = f"no valid JSON ({error})"
        example = json.dumps({text_column: "…"}, ensure_ascii=False)
        advice += f" Plain text must be rewritten, each document as a line {example}."
    else:
        if not isinstance(row, dict):
            found = f"a JSON {type(row).__name__}"
        elif text_column not in row:
            texts = [key for key, value in row.items() if isinstance(value, str)]
            found = f"an object with the keys {sorted(row)[:9]}"
            longest = max(texts, key=lambda key: len(row[key]), default="KEY")
            advice = f"Name the key of the text with --set data.text_column={longest}."
        elif not isinstance(row[text_column], str):
            found = f'a "{text_column}" of type {type(row[text_column]).__name__}'
        else:
            return row[text_column]
    raise UserError(
        f'{where}: expected a JSON object with a string "{text_column}", found {found}. {advice}'
    )
