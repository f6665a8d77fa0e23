import pytest

from raygpt.recipe.corpora import NAMES, CorpusName, parse_corpus


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("sample", {"kind": "sample"}),
        ("wikipedia", {"kind": "wikipedia"}),
        ("wikipedia:20231101.de", {"kind": "wikipedia", "config": "20231101.de"}),
        ("wikipedia@b04c8d1", {"kind": "wikipedia", "revision": "b04c8d1"}),
        ("hub:a-b/c.d", {"kind": "hub", "dataset": "a-b/c.d"}),
        (
            "hub:a/b:en_2@refs/pr/1",
            {"kind": "hub", "dataset": "a/b", "config": "en_2", "revision": "refs/pr/1"},
        ),
        ("dump:/a/enwiki", {"kind": "dump", "path": "/a/enwiki"}),
        ("jsonl:/a b/*.jsonl", {"kind": "jsonl", "path": "/a b/*.jsonl"}),
    ],
)
def test_a_corpus_name_in_its_parts(name, parts):
    assert parse_corpus(name) == CorpusName(**parts)


@pytest.mark.parametrize(
    "name", ["", "samples", "wiki", "wikipedia:", "hub:a", "hub:a/b:", "dump: "]
)
def test_invalid_corpus_names(name):
    assert parse_corpus(name) is None


def test_the_names_in_messages_are_valid():
    assert all(parse_corpus(name) for name in NAMES)
