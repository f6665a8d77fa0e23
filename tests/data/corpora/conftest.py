import pytest

from raygpt.data.corpora.corpus import open_corpus


@pytest.fixture(scope="session")
def sample():
    """The articles of the sample corpus: read once, because that takes seconds."""
    return list(open_corpus("sample").documents())
