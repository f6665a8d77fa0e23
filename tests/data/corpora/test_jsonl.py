import gzip
import json
import lzma
import os
import pickle
import re

import pytest

from raygpt.data.corpora import jsonl
from raygpt.data.corpora.jsonl import jsonl_corpus
from raygpt.errors import UserError


def opened(pattern, text_column="text"):
    return jsonl_corpus(f"jsonl:{pattern}", str(pattern), text_column)


def write_jsonl(file, texts, opener=open):
    with opener(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text, "title": "t"}) + "\n" for text in texts)


def test_sorted_files_of_every_compression(tmp_path):
    write_jsonl(tmp_path / "c.jsonl", ["five"])
    write_jsonl(tmp_path / "a.jsonl.gz", ["one", "two"], gzip.open)
    write_jsonl(tmp_path / "b.jsonl.xz", ["three  \n", "four"], lzma.open)
    corpus = opened(tmp_path / "*.jsonl*")
    assert list(corpus.documents()) == ["one", "two", "three  \n", "four", "five"]
    assert corpus.licence() is None


def test_empty_lines_and_windows_line_ends(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\r\n{"text": "one"}\r\n\n  \n{"text": "two"}')
    assert list(opened(tmp_path / "a.jsonl").documents()) == ["one", "two"]


@pytest.mark.parametrize(("suffix", "opener"), [("", open), (".gz", gzip.open), (".xz", lzma.open)])
def test_parts_hold_whole_lines_and_some_bytes_each(tmp_path, monkeypatch, suffix, opener):
    monkeypatch.setattr(jsonl, "PART_BYTES", 1000)
    texts = [f"{n} " + "é" * (n % 300) for n in range(200)]
    for name, some in (("a", texts[:150]), ("b", texts[150:152]), ("c", texts[152:])):
        write_jsonl(tmp_path / f"{name}.jsonl{suffix}", some, opener)
    parts = list(opened(tmp_path / "*.jsonl*").parts())
    assert len(parts) > 20
    # What a part needs travels with it.
    for file in tmp_path.iterdir():
        file.unlink()
    documents = [list(pickle.loads(pickle.dumps(part))()) for part in parts]
    assert [text for part in documents for text in part] == texts
    sizes = [
        sum(len(json.dumps({"text": text, "title": "t"})) + 1 for text in part)
        for part in documents
    ]
    assert min(sizes[:-1]) >= 1000
    assert max(sizes) < 2 * 1000 + 2000


def test_another_column(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "one", "text": "no"}\n')
    corpus = opened(tmp_path / "a.jsonl", "body")
    assert list(corpus.documents()) == ["one"]
    assert corpus.revision != opened(tmp_path / "a.jsonl").revision


def test_the_revision_follows_the_content_not_the_folder(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "a.jsonl", ["one"])
    here, there = (opened(tmp_path / folder / "a.jsonl") for folder in ("here", "there"))
    assert here.revision == there.revision
    write_jsonl(tmp_path / "there" / "a.jsonl", ["two"])
    assert opened(tmp_path / "there" / "a.jsonl").revision != here.revision


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"text": "cut', "no valid JSON"),
        ("[1, 2]", "list"),
        ('{"title": "x", "body": "yy"}', r"\['body', 'title'\].* --set data\.text_column=body"),
        ('{"text": 3}', 'a "text" of type int'),
        ("\udcff".encode("utf-8", "surrogateescape"), "no valid JSON"),
        ("A text.", "no valid JSON.* Plain text must be rewritten"),
    ],
)
def test_a_bad_line_is_named(tmp_path, monkeypatch, line, found):
    monkeypatch.setattr(jsonl, "PART_BYTES", 20)
    file = tmp_path / "bad.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(b'{"text": "fine"}\n\n{"text": "fine, too"}\n' + line + b"\n")
    with pytest.raises(UserError, match=rf"bad\.jsonl, line 4: .*{found}"):
        list(opened(file).documents())


@pytest.mark.parametrize(("suffix", "opener"), [("gz", gzip.open), ("xz", lzma.open)])
def test_a_truncated_archive_is_named(tmp_path, suffix, opener):
    file = tmp_path / f"a.jsonl.{suffix}"
    write_jsonl(file, [os.urandom(9).hex() for _ in range(2000)], opener)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"{file.name} cannot be read"):
        list(opened(file).documents())


def test_a_pattern_without_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="No file matches"):
        opened(tmp_path / "*.jsonl")


def test_a_folder_and_a_missing_file_get_different_messages(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"is a folder (data.corpus: jsonl:{tmp_path}")):
        opened(tmp_path)


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path):
    write_jsonl(tmp_path / "a[1].jsonl", ["one"])
    assert list(opened(tmp_path / "a[1].jsonl").documents()) == ["one"]
