import pytest

from raygpt.data.corpora.corpus import WIKIPEDIA, open_corpus


def test_sample_is_106_articles(sample):
    assert len(sample) == 106
    assert 2.5e6 < sum(len(text.encode()) for text in sample) < 3.2e6
    assert sample[0].startswith("Anarchism is a political philosophy")
    corpus = open_corpus("sample")
    assert corpus.licence().startswith("CC BY-SA")
    assert "gensim" in corpus.revision
    assert "sha256:" in corpus.revision


def test_each_corpus_name_opens_its_source(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "one"}')
    corpus = open_corpus(f"jsonl:{tmp_path}/a.jsonl", text_column="body")
    assert list(corpus.documents()) == ["one"]
    commit = "0123456789" * 4
    assert open_corpus("wikipedia").revision.startswith("wikimedia/wikipedia 20231101.en@b04c8d1c")
    assert open_corpus("wikipedia").licence().startswith("CC BY-SA")
    simple = open_corpus(f"wikipedia:20231101.simple@{commit}")
    assert simple.revision == f"wikimedia/wikipedia 20231101.simple@{commit}"
    other = open_corpus(f"hub:someone/texts:en@{commit}", text_column="body")
    assert other.revision == f"someone/texts en@{commit}, column body"


def test_wikipedia_streams_from_the_hub():
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(WIKIPEDIA, timeout=5)
    except Exception as error:
        pytest.skip(f"the Hugging Face Hub cannot be reached: {error}")
    documents = open_corpus("wikipedia").documents()
    first, second = next(documents), next(documents)
    assert len(first) > 200
    assert first != second
