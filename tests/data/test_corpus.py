import gzip
import json
import lzma
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from raygpt.data.corpus import HUB_DATASET, open_corpus
from raygpt.errors import UserError


def write_jsonl(file, texts, opener=open):
    with opener(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text, "title": "t"}) + "\n" for text in texts)


def test_sample_is_106_articles(sample):
    assert len(sample) == 106
    assert 2.5e6 < sum(len(text.encode()) for text in sample) < 3.2e6
    assert sample[0].startswith("Anarchism is a political philosophy")
    corpus = open_corpus("sample")
    assert corpus.licence.startswith("CC BY-SA")
    assert "gensim" in corpus.revision
    assert "sha256:" in corpus.revision


def test_jsonl_reads_sorted_files_of_every_compression(tmp_path):
    write_jsonl(tmp_path / "c.jsonl", ["five"])
    write_jsonl(tmp_path / "a.jsonl.gz", ["one", "", "two"], gzip.open)
    write_jsonl(tmp_path / "b.jsonl.xz", ["three  \n", "  ", "four"], lzma.open)
    corpus = open_corpus(f"jsonl:{tmp_path}/*.jsonl*")
    assert list(corpus.documents()) == ["one", "two", "three  \n", "four", "five"]
    assert list(corpus.documents(skip=3)) == ["four", "five"]
    assert corpus.licence is None


def test_jsonl_revision_follows_the_content_not_the_folder(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "a.jsonl", ["one"])
    here, there = (open_corpus(f"jsonl:{tmp_path}/{f}/a.jsonl") for f in ("here", "there"))
    assert here.revision == there.revision
    write_jsonl(tmp_path / "there" / "a.jsonl", ["two"])
    assert open_corpus(there.name).revision != here.revision


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"text": "cut', "no valid JSON"),
        ("[1, 2]", "list"),
        ('{"title": "x", "body": "y"}', "['body', 'title']"),
        ('{"text": 3}', "int"),
        ("\udcff".encode("utf-8", "surrogateescape"), "no valid JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, found):
    file = tmp_path / "bad.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(UserError) as caught:
        list(open_corpus(f"jsonl:{file}").documents())
    assert f"{file}, line 3" in str(caught.value)
    assert found in str(caught.value)


@pytest.mark.parametrize(("suffix", "opener"), [("gz", gzip.open), ("xz", lzma.open)])
def test_a_truncated_archive_is_named(tmp_path, suffix, opener):
    file = tmp_path / f"a.jsonl.{suffix}"
    write_jsonl(file, [os.urandom(9).hex() for _ in range(2000)], opener)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"{file.name} cannot be read"):
        list(open_corpus(f"jsonl:{file}").documents())


def test_a_pattern_without_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="No file matches"):
        open_corpus(f"jsonl:{tmp_path}/*.jsonl")


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path):
    write_jsonl(tmp_path / "a[1].jsonl", ["one"])
    assert list(open_corpus(f"jsonl:{tmp_path}/a[1].jsonl").documents()) == ["one"]


def test_lone_surrogates_are_replaced_and_pairs_kept(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(r'{"text": "a\ud800b\udfff \ud83d\ude00"}' + "\n")
    assert list(open_corpus(f"jsonl:{file}").documents()) == ["a\ufffdb\ufffd 😀"]


@pytest.mark.parametrize(
    ("name", "nearest"), [("wikipeda", "wikipedia"), ("Sample", "sample"), ("jsonl:", "jsonl:PATH")]
)
def test_an_unknown_name_brings_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"Did you mean {nearest}"):
        open_corpus(name)


def test_wikipedia_without_a_network_names_the_alternatives():
    with socket.socket() as closed:  # bound, so that nobody else listens there
        closed.bind(("127.0.0.1", 0))
        program = """
import sys, time
from raygpt.data.corpus import open_corpus
from raygpt.errors import UserError
try:
    next(open_corpus("wikipedia").documents())
except UserError as error:
    print(error)
    print("datasets" in sys.modules)
"""
        result = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}"},
            cwd=Path(__file__).parents[2],
            timeout=60,
        )
    message, retried = result.stdout.splitlines()
    assert HUB_DATASET in message
    assert "jsonl:PATH" in message
    assert "sample" in message
    # `datasets` with its half a minute of retries was not even asked.
    assert retried == "False"


def test_wikipedia_streams_from_the_hub():
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(HUB_DATASET, timeout=5)
    except Exception as error:
        pytest.skip(f"the Hugging Face Hub cannot be reached: {error}")
    corpus = open_corpus("wikipedia")
    documents = corpus.documents()
    first, second = next(documents), next(documents)
    assert len(first) > 200
    assert first != second
    assert next(corpus.documents(skip=1)) == second
