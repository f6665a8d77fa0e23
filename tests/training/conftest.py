import json
import random

import pytest
import torch

from raygpt.data.prepare import prepare
from raygpt.recipe.schema import Recipe
from raygpt.recipe.sections import Data

WORDS = """
the of and a in to is was it for with as his on be at by had not but from have they which
Straße Äpfel œuvre naïve Ελλάδα Москва 東京 日本語 한국어 हिन्दी 🦜 🧪 – “quoted” 1984 3.14
"""

SECTIONS = {
    "data": {"context": 16, "validation_tokens": 600},
    "model": {"d_model": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.0},
    "training": {
        "tokens": 18 * 64,  # 18 optimizer steps
        "batch_tokens": 64,  # 4 sequences
        "micro_batch": 4,
        "learning_rate": 3e-3,
        "report_every": "1/4",
        "checkpoint_every": 1,
        "precision": "fp32",
    },
    "search": {"rung_metric": "raw", "rungs": ["1/9", "1/3", 1]},
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small models train slower with several threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def recipe_of():
    """Makes a tiny recipe; a given section replaces the settings that it names."""

    def make(**sections):
        return Recipe(
            name="tiny",
            **{name: values | sections.get(name, {}) for name, values in SECTIONS.items()},
        )

    return make


@pytest.fixture(scope="session")
def documents():
    """Short texts, of which a third is not ASCII; each begins with a letter that is."""
    draw, words = random.Random(0), WORDS.split()
    return ["The " + " ".join(draw.choices(words, k=draw.randint(5, 30))) for _ in range(120)]


@pytest.fixture(scope="session")
def prepare_all():
    """Makes a dataset of all texts of a file."""

    def make(file, tokenizer, validation_fraction):
        data = Data(
            corpus=f"jsonl:{file}",
            tokenizer=tokenizer,
            validation_fraction=validation_fraction,
            validation_tokens=10**6,
            min_document_bytes=0,
            cache=str(file.parent / "cache"),
        )
        return prepare(data, 10**6)

    return make


@pytest.fixture(scope="session")
def dataset(documents, prepare_all, tmp_path_factory):
    """The texts in 300 tokens: about 4,000 to train on and 1,000 to validate with."""
    folder = tmp_path_factory.mktemp("corpus")
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return prepare_all(file, "bpe-300", 0.2)
