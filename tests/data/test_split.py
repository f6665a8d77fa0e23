import json
import random
import re

import numpy as np
import pytest

from raygpt import prepare as command
from raygpt.data.prepare import prepare
from raygpt.data.split import better_fraction, describe_share
from raygpt.data.spread import in_processes
from raygpt.data.tokenise import is_validation, text_digest
from raygpt.errors import UserError
from raygpt.recipe.sections import Data

WORDS = ["river", "town", "ocean", "of", "the", "and", "boat", "bridge"]


def words(count, seed):
    return " ".join(random.Random(seed).choices(WORDS, k=count))


ONE = words(300, 0)


def place(text):
    return text_digest(text.encode()) / 2**64


def written(folder, texts):
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return f"jsonl:{file}"


def made(folder, texts, tokenizer="bpe-270", **data):
    settings = {"tokenizer": tokenizer, "context": 16, "cache": str(folder / "cache"), **data}
    data = Data(corpus=written(folder, texts), **settings)
    return prepare(data, 10**9, spread=in_processes(1))


@pytest.mark.parametrize("tokenizer", ["gpt2", "bpe-270"])
@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], r"has no documents: there is no text in it"),
        (["  ", "\n" * 300], r"All 2 documents .*|The 2 documents .* are blank"),
        ([words(5, seed) for seed in range(9)], r"All 9 documents .* are shorter than .* = 200 "),
        ([ONE], r"has only one document, .*Cut it into several"),
        ([ONE] * 3, r"only one document \(besides 2 copies of it\)"),
        (
            [ONE, ONE, "short"],
            r"\(besides 1 copies of it and 1 shorter than data\.min_document_bytes = 200\)",
        ),
    ],
)
def test_a_corpus_that_cannot_be_split_says_what_is_wrong(tmp_path, tokenizer, texts, message):
    with pytest.raises(UserError, match=message):
        made(tmp_path, texts, tokenizer)


@pytest.mark.parametrize("tokenizer", ["gpt2", "bpe-270"])
@pytest.mark.parametrize("fraction", [1e-6, 0.5])
def test_the_suggested_fraction_holds_out_the_stated_share(tmp_path, tokenizer, fraction):
    texts = sorted((words(300, seed) for seed in range(40)), key=place)
    texts = texts[:5] if fraction == 0.5 else texts[5:10]
    side, other = ("validation", "training") if fraction == 0.5 else ("training", "validation")
    with pytest.raises(UserError, match=rf"into the {side} set .*none into the {other}") as caught:
        made(tmp_path, texts, tokenizer, validation_fraction=fraction)
    said = re.search(
        r"data\.validation_fraction=(\S+) holds out (\d) of the 5 documents, (\d+)% of the text's",
        str(caught.value),
    )
    dataset = made(tmp_path, texts, tokenizer, validation_fraction=float(said[1]))
    assert dataset.count("validation", "documents") == int(said[2])
    sizes = [dataset.count(split, "bytes") for split in ("train", "validation")]
    assert f"{sizes[1] / sum(sizes):.0%}" == f"{said[3]}%"


def test_a_corpus_that_no_fraction_splits_is_refused(tmp_path):
    texts = [text for text in (words(300, seed) for seed in range(40)) if place(text) > 0.6][:4]
    with pytest.raises(UserError, match=r"No fraction up to 0\.5 .* or add some"):
        made(tmp_path, texts)


def test_the_best_fraction_is_the_nearest_share_in_few_digits():
    rng = np.random.default_rng(0)
    for count in (2, 3, 10, 500):
        for wanted in (0.01, 0.1, 0.4):
            digests = rng.integers(0, 2**64, count, np.uint64)
            digests[0] = 2**60  # so that such a fraction exists
            sizes = rng.integers(1, 10_000, count)
            sentence = better_fraction(digests, sizes, wanted)
            fraction, held_out = re.match(r"\D+([\d.]+) holds out (\d+)", sentence).groups()
            sides = is_validation(digests, float(fraction))
            assert 0 < sides.sum() == int(held_out) < count
            assert float(fraction) <= 0.5
            distance = abs(np.log(sizes[sides].sum() / sizes.sum() / wanted))
            for other in np.linspace(0.001, 0.5, 300):
                share = sizes[is_validation(digests, other)].sum() / sizes.sum()
                assert not 0 < share < 1 or abs(np.log(share / wanted)) >= distance - 1e-9


def test_a_share_far_from_the_requested_one_is_reported(tmp_path, capsys):
    texts = sorted((words(300, seed) for seed in range(40)), key=place)
    # Three of five are held out at 0.4.
    texts = [next(t for t in texts if place(t) > low) for low in (0.1, 0.2, 0.35, 0.6, 0.8)]
    sentence = describe_share(made(tmp_path, texts, validation_fraction=0.4))
    assert re.match(
        r"The validation set is [56]\d\.\d% of the text's bytes \(3 of 5 documents\), not 40",
        sentence,
    )
    fraction = float(re.search(r"validation_fraction=(\S+) holds out 2 of", sentence)[1])
    followed = made(tmp_path, texts, validation_fraction=fraction)
    assert followed.count("validation", "documents") == 2
    assert "--set" not in (describe_share(followed) or "")

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            {
                "name": "small",
                "training": {"tokens": 20_000, "batch_tokens": 64, "learning_rate": 1e-3},
                "data": {
                    "corpus": written(tmp_path, texts),
                    "tokenizer": "bpe-270",
                    "context": 16,
                    "validation_fraction": 0.4,
                    "cache": str(tmp_path / "cache"),
                },
            }
        )
    )
    command.main([str(recipe), "--scale", "full", "--tasks", "1"])
    assert capsys.readouterr().out.startswith(sentence)


def test_a_share_close_to_the_requested_one_is_not_reported(tmp_path):
    texts = [words(60, seed) for seed in range(200)]
    assert describe_share(made(tmp_path, texts, validation_fraction=0.2)) is None


@pytest.mark.parametrize("side", ["training", "validation"])
def test_a_side_of_less_than_a_window_is_refused(tmp_path, side):
    texts = sorted((words(50, seed) for seed in range(20)), key=place)
    # One document on that side and many on the other.
    fraction = place(texts[1]) if side == "validation" else 0.5
    texts = (
        texts
        if side == "validation"
        else [text for text in texts if place(text) < 0.5] + texts[-1:]
    )
    with pytest.raises(
        UserError, match=rf"The {side} set has too few tokens .*data\.context = 500"
    ):
        made(tmp_path, texts, validation_fraction=fraction, context=500)
