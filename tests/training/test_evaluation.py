import math

import pytest
import torch
from torch import nn

from raygpt.data.batches import validation_windows
from raygpt.training.evaluation import Evaluation, evaluate
from raygpt.training.hardware import autocast
from raygpt.training.model import GPT

CONTEXT = 16
FLOAT32 = autocast(torch.device("cpu"), "fp32")


@pytest.fixture
def model(recipe_of, dataset):
    """A model whose predictions are far from uniform, with dropout, in training mode."""
    torch.manual_seed(0)
    gpt = GPT(recipe_of(model={"dropout": 0.5}).model, dataset.vocab_size, CONTEXT)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return gpt


@pytest.fixture
def windows(dataset):
    return validation_windows(dataset.validation, CONTEXT, 600)


def score(model, windows, dataset, batch_size=4, context=FLOAT32):
    return evaluate(model, windows, torch.as_tensor(dataset.token_bytes), batch_size, context)


class Table(nn.Module):
    """Predicts the next token from a table of logits by the last token."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, tokens):
        return self.logits[tokens]


def by_hand(model, dataset, n_windows):
    """Nats, scored tokens and texts of the windows, token by token, from the tokens alone."""
    stream = [int(token) for token in dataset.validation.read(0, n_windows * CONTEXT + 1)]
    end = dataset.tokenizer.end_of_document
    model = model.double().eval()
    nats, scored = 0.0, 0
    with torch.no_grad():
        for position in range(1, len(stream)):
            if stream[position] == end:
                continue
            window = (position - 1) // CONTEXT
            seen = torch.tensor([stream[window * CONTEXT : position]])
            nats -= model(seen)[0, -1].log_softmax(-1)[stream[position]].item()
            scored += 1
    pieces, piece = [], []
    for token in stream[1:]:
        if token == end:
            pieces.append(dataset.tokenizer.decode(piece))
            piece = []
        else:
            piece.append(token)
    return nats, scored, [*pieces, dataset.tokenizer.decode(piece)]


def test_bits_per_byte_is_that_of_the_raw_text(model, dataset, documents):
    # A number of windows that ends between two characters, so that the tokens can be decoded.
    n_windows = next(
        n
        for n in range(40, 60)
        if "\ufffd" not in dataset.tokenizer.decode(dataset.validation.read(0, n * CONTEXT + 1))
    )
    windows = validation_windows(dataset.validation, CONTEXT, n_windows * CONTEXT)
    assert len(windows) == n_windows
    found = score(model, windows, dataset)

    nats, scored, pieces = by_hand(model, dataset, n_windows)
    first, *whole, last = pieces
    assert len(whole) >= 3
    assert set(whole) <= set(documents)
    assert any(text.endswith(first) for text in documents)
    assert any(text.startswith(last) for text in documents)
    n_bytes = sum(len(piece.encode()) for piece in pieces)
    assert n_bytes > sum(map(len, pieces)), "the text should hold more than ASCII"

    assert found.bytes == n_bytes
    assert found.tokens == scored < n_windows * CONTEXT
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / n_bytes / math.log(2), rel=1e-5)
    assert found.bits_per_token == pytest.approx(nats / scored / math.log(2), rel=1e-5)


def test_the_batch_size_does_not_matter(model, windows, dataset):
    one = score(model, windows, dataset, batch_size=1)
    assert len(windows) == 37
    for batch_size in (3, 36, 37, 1000):
        other = score(model, windows, dataset, batch_size)
        assert (other.tokens, other.bytes, other.correct) == (one.tokens, one.bytes, one.correct)
        assert other.nats == pytest.approx(one.nats, rel=1e-6)


def test_a_uniform_guess_scores_the_logarithm_of_the_vocabulary(windows, dataset):
    found = score(Table(torch.zeros(300, 300)), windows, dataset)
    assert found.bits_per_token == pytest.approx(math.log2(300))


def test_the_end_of_document_is_neither_scored_nor_counted_as_correct(windows, dataset):
    end = dataset.tokenizer.end_of_document
    _, targets = windows.sequences(0, len(windows))
    ends = (targets == end).sum().item()
    assert ends >= 5
    logits = torch.zeros(300, 300)
    logits[:, end] = 1.0  # always the first choice
    found = score(Table(logits), windows, dataset)
    assert found.tokens == targets.numel() - ends
    assert found.correct == 0
    # The scored tokens lose its probability nevertheless.
    assert found.bits_per_token == pytest.approx(math.log2(299 + math.e))


def test_accuracy_is_the_share_of_first_choices(windows, dataset):
    _, targets = windows.sequences(0, len(windows))
    favourite = targets[targets != dataset.tokenizer.end_of_document].mode().values.item()
    logits = torch.zeros(300, 300)
    logits[:, favourite] = 1.0
    found = score(Table(logits), windows, dataset)
    assert found.correct == (targets == favourite).sum().item() > 0
    assert found.next_token_accuracy == found.correct / found.tokens


def test_figures_are_ratios_of_sums():
    evaluation = Evaluation(nats=math.log(2) * 120, tokens=40, bytes=80, correct=10)
    assert evaluation.bits_per_byte == pytest.approx(1.5)
    assert evaluation.bits_per_token == pytest.approx(3)
    assert evaluation.next_token_accuracy == 0.25


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_found(model, windows, dataset, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (score(model, windows, dataset) for _ in range(2))
    assert first == second  # no dropout
    assert {module.training for module in model.modules()} == {training}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_sums_are_exact_enough_in_bf16(model, windows, dataset):
    exact = score(model, windows, dataset)
    coarse = score(model, windows, dataset, context=autocast(torch.device("cpu"), "bf16"))
    assert coarse.nats != exact.nats
    assert coarse.nats == pytest.approx(exact.nats, rel=5e-3)
    assert (coarse.tokens, coarse.bytes) == (exact.tokens, exact.bytes)
