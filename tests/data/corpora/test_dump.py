import bz2
import functools
import gzip
import itertools
import lzma
import pickle
import random
import re
import subprocess
import sys
from html import escape

import pytest

from raygpt.data.corpora import dump
from raygpt.data.corpora.dump import dump_corpus
from raygpt.errors import UserError

HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Diskussion</namespace>
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
FAST_XZ = functools.partial(lzma.compress, preset=0)
FOOTER = "</mediawiki>\n"


def page(source, title="T", ns=0, more="", model="wikitext"):
    return f"""  <page>
    <title>{escape(title)}</title>
    <ns>{ns}</ns>
    <id>1</id>{more}
    <revision>
      <id>2</id>
      <timestamp>2024-01-01T00:00:00Z</timestamp>
      <model>{model}</model>
      <format>text/x-wiki</format>
      <text bytes="9" xml:space="preserve">{escape(source)}</text>
    </revision>
  </page>
"""


REDIRECT = '\n    <redirect title="Aa" />'


def xml(*pages):
    return (HEADER + "".join(pages) + FOOTER).encode()


def multistream(pages, a_stream):
    """A dump as Wikipedia writes them: header, `a_stream` pages a time and footer apart."""
    groups = ["".join(pages[i : i + a_stream]) for i in range(0, len(pages), a_stream)]
    return b"".join(bz2.compress(text.encode()) for text in (HEADER, *groups, FOOTER))


def documents(path):
    """The documents as workers read them, who have the pickled parts but not the files."""
    parts = [pickle.loads(pickle.dumps(part)) for part in dump_corpus("dump", str(path)).parts()]
    return [text for part in parts for text in part()]


@pytest.fixture(scope="module")
def words():
    """Pages of random words, 13 KB each, that hardly compress."""
    rng = random.Random(0)
    return [
        page(f"{i:05d} " + " ".join(rng.randbytes(6).hex() for _ in range(1000))) for i in range(80)
    ]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(dump, "PART_BYTES", 100_000)
    monkeypatch.setattr(dump, "PART_COMPRESSED_BYTES", 50_000)
    monkeypatch.setattr(dump, "BLOCK_BYTES", 7_001)


def test_only_articles_are_read_and_as_prose(tmp_path):
    file = tmp_path / "dewiki-20240101-pages-articles.xml"
    file.write_bytes(
        xml(
            page("#REDIRECT [[Aa]]", more=REDIRECT),
            page(
                "{{Infobox|a={{b|c}}}}'''Aa''' ist ein [[Fluss|Strom]].<ref>{{cite}}</ref>\n\n"
                "{| class=x\n| 1\n|}\n== Lauf ==\n* Erst <page>\n* dann &amp;nbsp; 𝔰üd\n"
                "[[Datei:Aa.jpg|mini|Bild]]\n<gallery>\nA.jpg|a\n</gallery>\n[[Kategorie:Aa]]"
            ),
            page("Eine Frage?", ns=1),
            page("{{{1}}}", ns=10),
            page(""),
            page('{"a": 1}', model="json"),
            page("{{stub}}"),
            page("Bb ist anders."),
        )
    )
    assert documents(file) == [
        "Aa ist ein Strom.\n\nLauf\n\nErst\ndann &nbsp; 𝔰üd",
        "Bb ist anders.",
    ]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("bz2", bz2.compress), ("gz", gzip.compress), ("xz", FAST_XZ)],
)
def test_compressed_dumps_read_the_same(tmp_path, words, small_parts, suffix, compress):
    plain, compressed = tmp_path / "a.xml", tmp_path / f"b.xml.{suffix}"
    plain.write_bytes(xml(*words[:40]))
    compressed.write_bytes(compress(plain.read_bytes()))
    read = documents(compressed)
    assert [text[:5] for text in read] == [f"{i:05d}" for i in range(40)]
    assert read == documents(plain)


@pytest.mark.parametrize("a_stream", [1, 7, 80])
def test_a_multistream_dump_reads_the_same_as_a_plain_one(tmp_path, words, small_parts, a_stream):
    plain, streams = tmp_path / "a.xml.bz2", tmp_path / "a-multistream.xml.bz2"
    plain.write_bytes(bz2.compress(xml(*words)))
    streams.write_bytes(multistream(words, a_stream))
    assert documents(streams) == documents(plain)
    # The workers decompress it.
    blobs = [part.args[0] for part in dump_corpus("x", str(streams)).parts()]
    assert b"".join(blobs) == streams.read_bytes()


def test_streams_that_end_within_pages_are_decompressed_by_the_driver(tmp_path, words, small_parts):
    text = xml(*words)
    for first in (len(HEADER) - 300, len(HEADER) + 20, 50_000):
        streams = tmp_path / f"{first}.xml.bz2"
        cuts = [0, first, *range(first + 9_999, len(text), 9_999), len(text)]
        streams.write_bytes(b"".join(bz2.compress(text[a:b]) for a, b in itertools.pairwise(cuts)))
        assert [text[:5] for text in documents(streams)] == [f"{i:05d}" for i in range(80)]


@pytest.mark.parametrize("form", ["plain", "multistream"])
def test_parts_are_of_even_size_and_lazy(tmp_path, words, small_parts, form):
    file = tmp_path / "a.xml.bz2"
    file.write_bytes(multistream(words, 3) if form == "multistream" else bz2.compress(xml(*words)))
    sizes = [len(part.args[0]) for part in dump_corpus("x", str(file)).parts()]
    wanted = dump.PART_COMPRESSED_BYTES if form == "multistream" else dump.PART_BYTES
    assert len(sizes) > 4
    assert all(wanted <= size < 1.5 * wanted for size in sizes[:-1])
    assert sizes[-1] < 1.5 * wanted
    # The first parts are found although the file is cut short.
    file.write_bytes(file.read_bytes()[:-1000])
    parts = dump_corpus("x", str(file)).parts()
    assert next(iter(next(parts)())).startswith("00000")


def test_parts_do_not_depend_on_the_block_size(tmp_path, words, small_parts, monkeypatch):
    for form in (bz2.compress(xml(*words)), multistream(words, 3)):
        file = tmp_path / "a.xml.bz2"
        file.write_bytes(form)
        blobs = []
        for block in (7_001, 10**7):
            monkeypatch.setattr(dump, "BLOCK_BYTES", block)
            blobs.append([part.args[0] for part in dump_corpus("x", str(file)).parts()])
        assert blobs[0] == blobs[1]


def test_split_files_are_read_by_their_numbers(tmp_path):
    for name, text in [
        ("dewiki-20240101-pages-articles1.xml-p1p9.bz2", "one"),
        ("dewiki-20240101-pages-articles2.xml-p10p19.bz2", "two"),
        ("dewiki-20240101-pages-articles2.xml-p100p190.bz2", "three"),
        ("dewiki-20240101-pages-articles10.xml-p200p300.bz2", "four"),
    ]:
        (tmp_path / name).write_bytes(bz2.compress(xml(page(text))))
    (tmp_path / "md5sums.txt").write_text("not read")
    assert documents(tmp_path) == ["one", "two", "three", "four"]
    assert documents(tmp_path / "*-articles2.*") == ["two", "three"]


@pytest.mark.parametrize(
    "names",
    [
        ("a-pages-articles.xml.bz2", "a-pages-articles-multistream.xml.bz2"),
        ("a-pages-articles.xml.bz2", "a-pages-articles1.xml-p1p9.bz2"),
        ("a-pages-articles1.xml-p1p9.bz2", "a-pages-articles-multistream1.xml-p1p9.bz2"),
        ("a-pages-articles.xml.bz2", "a-pages-articles.xml"),
    ],
)
def test_a_folder_with_the_same_articles_twice_is_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(bz2.compress(xml(page("a"))))
    with pytest.raises(UserError, match="hold the same articles") as caught:
        dump_corpus("dump:x", str(tmp_path))
    assert all(name in str(caught.value) for name in names)


def test_the_revision_follows_the_content(tmp_path, monkeypatch):
    monkeypatch.setattr(dump, "HASHED_WHOLE_BYTES", 1_000_000)
    monkeypatch.setattr(dump, "BLOCK_BYTES", 1_000)

    def revision(name, text):
        file = tmp_path / name
        file.write_bytes(text)
        return dump_corpus("x", str(file)).revision

    small, large = xml(page("a" * 500_000)), xml(page("a" * 2_000_000))
    changed = [text.replace(b"aaab", b"aabb") for text in (small + b"aaab", large + b"aaab")]
    assert revision("a.xml", small) == revision("b.xml", small)
    assert len({revision("c.xml", t) for t in (small, large, *changed, large + b"b")}) == 5
    middle = small[:5000] + b"b" + small[5001:]
    assert revision("d.xml", middle) != revision("e.xml", small)
    # The order counts, as it is that of the documents.
    (tmp_path / "f").mkdir()
    orders = []
    for texts in ((small, large), (large, small)):
        for number, text in enumerate(texts):
            (tmp_path / "f" / f"{number}.xml-p{number}p{number}").write_bytes(text)
        orders.append(dump_corpus("x", str(tmp_path / "f")).revision)
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("name", "base", "licence"),
    [
        ("enwiki-20230601-pages-articles.xml", "en.wikipedia", "CC BY-SA 3.0"),
        ("enwiki-20240101-pages-articles.xml", "en.wikipedia", "CC BY-SA 4.0"),
        ("enwiki-latest-pages-articles1.xml-p000020240101p2.xml", "en.wikipedia", "CC BY-SA"),
        ("enwiki-20240101-pages-articles.xml", "wiki.example", None),
    ],
)
def test_the_licence_is_that_of_wikipedia_on_the_day(tmp_path, name, base, licence):
    file = tmp_path / name
    file.write_bytes(xml(page("a")).replace(b"de.wikipedia", base.encode()))
    assert dump_corpus("x", str(file)).licence() == licence


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"text": "a"}\n', '{"text"'),
        (b"<!DOCTYPE html><html>", "<!DOCTYPE html>"),
        (bz2.compress(b"CREATE TABLE"), "CREATE TABLE"),
        (b"", "''"),
    ],
)
def test_a_file_that_is_not_a_dump_is_refused_with_its_beginning(tmp_path, content, found):
    file = tmp_path / "a.xml.bz2"
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not a MediaWiki dump, or it is damaged") as caught:
        dump_corpus("x", str(file))
    assert found in str(caught.value)
    assert str(file) in str(caught.value)


def test_missing_files_are_named(tmp_path):
    for pattern in (tmp_path / "a.xml", tmp_path / "*.bz2", tmp_path):
        with pytest.raises(UserError, match=re.escape(f"{str(pattern)!r} (data.corpus: dump:x")):
            dump_corpus("dump:x", str(pattern))


@pytest.mark.parametrize("form", ["plain", "bz2", "gz", "xz", "multistream"])
@pytest.mark.parametrize("cut", ["middle", "end"])
def test_files_cut_short_are_named(tmp_path, words, small_parts, form, cut):
    compress = {"plain": bytes, "bz2": bz2.compress, "gz": gzip.compress, "xz": FAST_XZ}
    whole = multistream(words, 3) if form == "multistream" else compress[form](xml(*words))
    file = tmp_path / f"a.xml.{form}"
    # At the end a stream is missing as a whole, which no checksum notices.
    end = whole.rindex(b"BZh9") if form == "multistream" else len(whole) - 13
    file.write_bytes(whole[: end if cut == "end" else len(whole) // 2])
    with pytest.raises(UserError, match=re.escape(str(file))) as caught:
        documents(file)
    assert "cut short" in str(caught.value)


@pytest.mark.parametrize("form", ["bz2", "multistream"])
@pytest.mark.parametrize("where", ["block", "stream header"])
def test_damaged_files_are_named(tmp_path, words, small_parts, form, where):
    if form == "multistream":
        whole = bytearray(multistream(words, 3))
    else:  # two streams, of which the first begins with pages
        text = xml(*words)
        whole = bytearray(bz2.compress(text[:600_000]) + bz2.compress(text[600_000:]))
    header = whole.index(b"BZh9", len(whole) // 2)
    whole[header if where == "stream header" else header + 1000] ^= 255
    file = tmp_path / "a.xml.bz2"
    file.write_bytes(whole)
    with pytest.raises(UserError, match=re.escape(f"{file} cannot be read to its end")):
        documents(file)


def test_streams_after_the_header_that_end_within_a_page_are_refused(tmp_path, words, small_parts):
    text = "".join(words)
    pieces = [HEADER, *(text[i : i + 99_999] for i in range(0, len(text), 99_999)), FOOTER]
    file = tmp_path / "a.xml.bz2"
    file.write_bytes(b"".join(bz2.compress(piece.encode()) for piece in pieces))
    with pytest.raises(UserError, match="an incomplete page"):
        documents(file)


def test_a_page_that_is_not_xml_is_refused(tmp_path):
    file = tmp_path / "a.xml"
    file.write_bytes(xml(page("a").replace("</ns>", "")))
    with pytest.raises(UserError, match=re.escape(str(file))):
        documents(file)


def test_a_file_without_page_ends_does_not_fill_the_memory(tmp_path, small_parts, monkeypatch):
    monkeypatch.setattr(dump, "MAX_PAGE_BYTES", 200_000)
    file = tmp_path / "a.xml"
    file.write_bytes(xml(page("a" * 500_000)))
    with pytest.raises(UserError, match="only pages-articles"):
        list(dump_corpus("x", str(file)).parts())


def test_opening_a_dump_imports_no_parser():
    program = "import raygpt.data.corpora.dump, sys; print('mwparserfromhell' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "False\n"
