import numpy as np
import pytest

from raygpt.data.tokenise import encodable, is_validation, text_digest, tokenise
from raygpt.data.tokenizer import gpt2_tokenizer

TEXTS = ["The river.", "  \n ", "a", "Königsberg 1815 日本", "The river."]


@pytest.fixture(scope="module")
def tokenizer():
    return gpt2_tokenizer()


def test_the_documents_of_a_part_without_the_short_ones(tokenizer):
    part = tokenise(tokenizer, 2, lambda: iter(TEXTS))
    kept = [TEXTS[0], TEXTS[3], TEXTS[4]]
    assert part.short == 2
    assert part.tokens.dtype == "<u2"
    documents = np.split(part.tokens, np.cumsum(part.lengths))[:-1]
    assert [tokenizer.decode(tokens[:-1]) for tokens in documents] == kept
    assert {tokens[-1] for tokens in documents} == {tokenizer.end_of_document}
    assert part.text_bytes.tolist() == [len(text.encode()) for text in kept]
    assert part.digests[0] == part.digests[2] == text_digest(kept[0].encode()) != part.digests[1]


def test_a_part_without_documents(tokenizer):
    part = tokenise(tokenizer, 1, lambda: iter([""]))
    arrays = (part.tokens, part.lengths, part.text_bytes, part.digests)
    assert [len(array) for array in arrays] == [0, 0, 0, 0]


def test_lone_surrogates_are_replaced_and_pairs_kept():
    assert encodable("a\ud800b\udfff 😀") == ("a\ufffdb\ufffd 😀", "a\ufffdb\ufffd 😀".encode())


def test_the_held_out_share_is_that_of_the_fraction():
    digests = np.array([text_digest(str(n).encode()) for n in range(20_000)], np.uint64)
    for fraction in (0.01, 0.25):
        assert is_validation(digests, fraction).mean() == pytest.approx(fraction, rel=0.15)
