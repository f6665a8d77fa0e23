"""Wikipedia's XML dumps, read from files and turned into prose.

    dump:enwiki-20240601-pages-articles.xml.bz2              a whole dump
    dump:enwiki-20240601-pages-articles-multistream.xml.bz2  the same in many bzip2 streams
    dump:enwiki-20240601/                                    all the files of a folder
    dump:enwiki-20240601/*-articles[12].xml-*.bz2            some of them

Parsing takes several times as long as decompressing, so a part is a few megabytes of unparsed
pages. The driver cuts the file into parts; it need not decompress a multistream dump for that.
"""

import bz2
import functools
import gzip
import hashlib
import html
import importlib.metadata
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from raygpt.data.corpora.files import matching_files
from raygpt.data.corpora.parts import Corpus, Part
from raygpt.data.corpora.wikitext import CLEANING, HIDDEN_LINKS, prose
from raygpt.errors import UserError

# As with `parts.PART_BYTES`, raise `shards.FORMAT` when these change.
PART_BYTES = 3 * 2**20  # of pages; a part ends with a page
PART_COMPRESSED_BYTES = 3 * 2**18  # of streams, whose text is three to four times as long
# MediaWiki accepts no page above 2 MiB, so a file with more between two page ends is not a dump.
MAX_PAGE_BYTES = 64 * 2**20
BLOCK_BYTES = 2**20

HEAD_BYTES = 2**16  # the header, with the names of all namespaces, has about 4 KB
HASHED_WHOLE_BYTES = 64 * 2**20

COMPRESSIONS: dict[bytes, Callable[[Path], BinaryIO]] = {
    b"BZh": bz2.open,
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ": lzma.open,
}
DAMAGES = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error)

# The text of a page is escaped, so its tags cannot occur in it.
PAGE = re.compile(rb"<page>.*?</page>", re.S)
PAGE_END = b"</page>"
DUMP_END = b"</mediawiki>"
# The header of a bzip2 stream and of its first block. These ten bytes occur by chance once in a
# trillion gigabytes.
STREAM = re.compile(rb"BZh[1-9]1AY&SY")

LINKED_NAMESPACES = ("-2", "6", "14")  # Media, File, Category
NAMESPACE = re.compile(rf'<namespace key="({"|".join(LINKED_NAMESPACES)})"[^>]*>([^<]+)<')
WIKIPEDIA = re.compile(r"<base>https?://[\w-]+\.wikipedia\.org/")
DATE = re.compile(r"(?<!\d)20\d{6}(?!\d)")
CC_BY_SA_4 = "20230607"  # the day from which Wikipedia's text is under version 4.0

SPLIT = re.compile(r"\d*\.xml-?(p\d+p\d+)?.*")


def dump_corpus(name: str, pattern: str, _text_column: str = "") -> Corpus:
    """The articles of the MediaWiki dump at `pattern`: a file, a folder, or a glob of files.

    Redirects and pages outside the main namespace are left out. Files are read in the order of
    the numbers in their names.

    Raises UserError if there is no file, if one is not a dump, or if pages would be read twice. The
    iterator of `parts`, and the parts themselves, raise UserError if a file is damaged.
    """
    files = _files(name, pattern)
    heads = [_head(file) for file in files]
    return Corpus(
        name=name,
        revision=_revision(files),
        licence=functools.partial(_licence, files[0], heads[0]),
        parts=functools.partial(_parts, files, [_hidden_links(head) for head in heads]),
    )


# --- the files ------------------------------------------------------------------------------


def _files(name: str, pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = [file for file in path.iterdir() if ".xml" in file.name and file.is_file()]
    else:
        found = matching_files(pattern)
    files = sorted(found, key=_natural)
    if not files:
        what = "No .xml file is in the folder" if path.is_dir() else "No file matches"
        raise UserError(
            f"{what} {pattern!r} (data.corpus: {name}, looked up from {Path.cwd()}). Give a dump "
            f"such as dump:enwiki-20240601-pages-articles.xml.bz2, or the folder of its files."
        )
    _refuse_repeated(name, files)
    return files


def _natural(file: Path) -> list[tuple[int, str]]:
    """A key that sorts articles2 before articles10."""
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece)
        for piece in re.split(r"([0-9]+)", str(file))
    ]


def _refuse_repeated(name: str, files: list[Path]) -> None:
    """Raise UserError if two files have the same pages: whole and split, plain and multistream."""
    dumps: dict[str, list[tuple[str, Path]]] = {}
    for file in files:
        dump, pages = SPLIT.sub("", file.name), SPLIT.search(file.name)
        pages = pages[1] if pages and pages[1] else ""
        dumps.setdefault(dump.replace("-multistream", ""), []).append((pages, file))
    for found in dumps.values():
        counts = Counter(pages for pages, _ in found)
        again = [file.name for pages, file in found if counts[pages] > 1 or "" in counts]
        if len(again) > 1:
            raise UserError(
                f"data.corpus: {name} matches {len(files)} files, among them {again[0]} and "
                f"{again[1]}, which hold the same articles. Give a pattern that matches one "
                f"form of the dump."
            )


def _open(file: Path) -> BinaryIO:
    with file.open("rb") as stream:
        start = stream.read(8)
    for magic, opener in COMPRESSIONS.items():
        if start.startswith(magic):
            return opener(file)
    return file.open("rb")


def _head(file: Path) -> str:
    """The header of a dump, up to its first page. Raises UserError if the file is not a dump."""
    try:
        with _open(file) as stream:
            head = stream.read(HEAD_BYTES)
    except DAMAGES as error:
        raise _damaged(file, error) from error
    text = head.decode(errors="replace")
    if "<mediawiki" not in text:
        raise UserError(
            f"{file} is not a MediaWiki dump, or it is damaged: it begins with {text[:60]!r}, not "
            f"with <mediawiki …>. Dumps have names like enwiki-20240601-pages-articles.xml.bz2; "
            f"JSON Lines are read with jsonl:PATH."
        )
    return text.partition("<page>")[0]


def _hidden_links(head: str) -> frozenset[str]:
    local = (html.unescape(name).lower() for _, name in NAMESPACE.findall(head))
    return HIDDEN_LINKS.union(local)


def _licence(file: Path, head: str) -> str | None:
    """The licence of Wikipedia's text on the day in the file's name; None for other wikis."""
    if not WIKIPEDIA.search(head):
        return None
    day = DATE.search(file.name)
    if not day:
        return "CC BY-SA"
    return "CC BY-SA 4.0" if day[0] >= CC_BY_SA_4 else "CC BY-SA 3.0"


def _revision(files: list[Path]) -> str:
    """Identifies the documents: the contents of the files in order, and the cleaning.

    Hashing all of a large dump would take minutes. Its size and both ends are enough: dumps are
    written once and not edited, the first megabyte has pages with the times of their last edits,
    and in a compressed file a page that is a byte longer moves or changes everything after it.
    """
    contents = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        contents.update(f"{size}\n".encode())
        with file.open("rb") as stream:
            if size <= HASHED_WHOLE_BYTES:
                contents.update(stream.read())
            else:
                contents.update(stream.read(BLOCK_BYTES))
                stream.seek(-BLOCK_BYTES, 2)
                contents.update(stream.read())
    parser = importlib.metadata.version("mwparserfromhell")
    return f"dump sha256:{contents.hexdigest()}, cleaning {CLEANING} with mwparserfromhell {parser}"


def _damaged(file: Path | str, error: object) -> UserError:
    return UserError(
        f"{file} cannot be read to its end ({error}). If it is cut short or damaged, download or "
        f"copy it again."
    )


# --- cutting, in the driver -----------------------------------------------------------------


def _parts(files: list[Path], hidden_links: list[frozenset[str]]) -> Iterator[Part]:
    for file, hidden in zip(files, hidden_links, strict=True):
        try:
            multistream = _is_multistream(file)
            for blob in _stream_blobs(file) if multistream else _page_blobs(file):
                yield functools.partial(parse_pages, blob, str(file), hidden, multistream)
        except DAMAGES as error:
            raise _damaged(file, error) from error


def _is_multistream(file: Path) -> bool:
    """Whether a file's bzip2 streams contain whole pages, and the first one only the header.

    Other programs begin a new stream after a fixed number of bytes, even in the middle of a page.
    """
    with file.open("rb") as stream:
        start = stream.read(HEAD_BYTES)
    second = STREAM.search(start, 1)
    if not STREAM.match(start) or not second:
        return False
    header = bz2.decompress(start[: second.start()])
    return b"<page>" not in header and header.rstrip().endswith(b"</siteinfo>")


def _page_blobs(file: Path) -> Iterator[bytes]:
    """The file's text in pieces that end with a page."""
    rest = b""
    with _open(file) as stream:
        while block := stream.read(BLOCK_BYTES):
            rest += block
            while (end := rest.find(PAGE_END, PART_BYTES)) >= 0:
                end += len(PAGE_END)
                yield rest[:end]
                rest = rest[end:]
            _refuse_endless(rest)
    _check_end(rest)
    yield rest


def _stream_blobs(file: Path) -> Iterator[bytes]:
    """The file's bytes in pieces of whole bzip2 streams."""
    rest = b""
    with file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            rest += block
            while begin := STREAM.search(rest, PART_COMPRESSED_BYTES):
                yield rest[: begin.start()]
                rest = rest[begin.start() :]
            _refuse_endless(rest)
    _check_end(_decompress(rest))
    yield rest


def _refuse_endless(rest: bytes) -> None:
    if len(rest) > MAX_PAGE_BYTES:
        raise ValueError(
            f"a page of more than {MAX_PAGE_BYTES:,} bytes; only pages-articles dumps are read"
        )


def _check_end(rest: bytes) -> None:
    if not rest.rstrip().endswith(DUMP_END):
        raise EOFError(f"{DUMP_END.decode()} is missing at its end")


def _decompress(streams: bytes) -> bytes:
    """The text of whole bzip2 streams.

    bz2.decompress would silently ignore everything after a stream whose header is damaged.
    """
    texts = []
    while streams:
        stream = bz2.BZ2Decompressor()
        texts.append(stream.decompress(streams))
        if not stream.eof:
            raise EOFError("an incomplete bzip2 stream")
        streams = stream.unused_data
    return b"".join(texts)


# --- parsing, in the workers ----------------------------------------------------------------


def parse_pages(
    blob: bytes, file: str, hidden_links: frozenset[str], compressed: bool
) -> Iterator[str]:
    """The articles in `blob`, consecutive whole pages of `file` (which is named in messages)."""
    for source in article_sources(blob, file, compressed):
        if text := prose(source, hidden_links):
            yield text


def article_sources(blob: bytes, file: str, compressed: bool) -> list[str]:
    """The wiki sources of the articles in a blob of whole pages, as for `parse_pages`."""
    try:
        xml = _decompress(blob) if compressed else blob
        pages = PAGE.findall(xml)
        if not len(pages) == xml.count(b"<page>") == xml.count(PAGE_END):
            raise ValueError("an incomplete page")
        return list(filter(None, map(_article_source, pages)))
    except (*DAMAGES, ElementTree.ParseError) as error:
        raise _damaged(file, error) from error


def _article_source(page: bytes) -> str | None:
    element = ElementTree.fromstring(page)
    source = element.findtext("revision/text")
    if element.findtext("ns") != "0" or element.find("redirect") is not None or not source:
        return None
    return source if element.findtext("revision/model", "wikitext") == "wikitext" else None
