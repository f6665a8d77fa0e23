import itertools
from types import SimpleNamespace

import pytest
from torch.nn.modules.module import register_module_forward_pre_hook

from raygpt.training import probe
from raygpt.training.model import GPT
from raygpt.training.probe import measure_pace


@pytest.fixture
def passes(monkeypatch):
    """The sequences that go through any GPT in training, and in evaluation.

    The clock shows 10 s for the first pass and 1 s for every other.
    """
    seen = {True: [], False: []}
    clock = SimpleNamespace(now=0.0)

    def count(module, arguments):
        if isinstance(module, GPT):
            clock.now += 1 if any(seen.values()) else 10
            seen[module.training].append(len(arguments[0]))

    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    handle = register_module_forward_pre_hook(count)
    yield seen
    handle.remove()


def test_the_rate_is_that_of_the_steps_after_the_first(recipe_of, passes):
    pace = measure_pace(recipe_of())
    assert pace.tokens_per_second == 64
    assert pace.blocks == (64, 64, 64)
    # One to warm up, and three seconds.
    assert passes[True] == [4, 4, 4, 4]


def test_blocks_show_how_the_speed_varied(recipe_of, monkeypatch, passes):
    # After the first step ten of 0.1 s and ten of 0.2 s; then the evaluation.
    seconds = [0.0, *[0.1] * 10, *[0.2] * 20]
    times = itertools.accumulate(seconds)
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    blocks = measure_pace(recipe_of()).blocks
    assert blocks == pytest.approx([640, 640, 640, 320, 320, 320], rel=0.3)
    assert (blocks[0], blocks[-1]) == pytest.approx((640, 320))


def test_an_evaluation_is_scaled_to_the_whole_validation_set(recipe_of, passes):
    # Two micro-batches of 4 windows of 16 tokens, where there are 600 tokens.
    assert measure_pace(recipe_of()).evaluation_seconds == 2 * 600 / 128
    assert passes[False] == 2 * [4, 4]  # once to warm up


def test_the_budget_may_be_shorter_than_the_measurement(recipe_of, passes):
    recipe = recipe_of(training={"tokens": 64}, search={"rungs": [1]})
    assert 0 < measure_pace(recipe).tokens_per_second < 1e9


def test_no_data_has_to_be_prepared(recipe_of, passes):
    recipe = recipe_of(data={"corpus": "jsonl:/nowhere/*.jsonl", "tokenizer": "bpe-300"})
    assert measure_pace(recipe).tokens_per_second > 0
