import numpy as np
import pytest
import torch

from raygpt.data.batches import Windows
from raygpt.data.dataset import TokenStream
from raygpt.data.tokenizer import train_tokenizer
from raygpt.recipe.schema import Model
from raygpt.training.model import GPT

VOCABULARY = 270


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The models are so small that threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    """The models' own."""
    text = "the cat sat on the mat and that was that, said the cat " * 9
    return train_tokenizer(f"bpe-{VOCABULARY}", [text])


@pytest.fixture(scope="session")
def gpt_of():
    """Makes a model, the same at every call, whose heads prefer some keys strongly to others."""

    def make(context=16, **shape):
        torch.manual_seed(0)
        recipe = Model(**{"d_model": 24, "n_layers": 3, "n_heads": 4, "dropout": 0} | shape)
        model = GPT(recipe, VOCABULARY, context)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return model

    return make


@pytest.fixture(scope="session")
def windows_of():
    """Makes windows of random tokens."""

    def make(context=16, count=5):
        tokens = np.random.default_rng(1).integers(0, VOCABULARY, count * context + 1)
        stream = TokenStream([tokens.astype(np.uint16)])
        return Windows(stream, context, count * context, "validation")

    return make
