import time

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from raygpt.training.model import GPT
from raygpt.training.probe import STEPS, tokens_per_second


@pytest.fixture
def passes():
    """Counts the training sequences that go through any GPT."""
    seen = []

    def count(module, arguments):
        if isinstance(module, GPT) and module.training:
            seen.append(len(arguments[0]))

    handle = register_module_forward_pre_hook(count)
    yield seen
    handle.remove()


def test_it_trains_a_few_steps_and_no_more(recipe_of, dataset, passes):
    recipe = recipe_of(training={"tokens": 1000 * 64})
    tokens_per_second(recipe, dataset, threads=1)
    assert sum(passes) == (STEPS + 1) * 4


def test_the_rate_is_that_of_the_steps_after_the_first(recipe_of, dataset, passes):
    def slow_down(module, arguments):
        if isinstance(module, GPT):
            time.sleep(0.1 if len(passes) > 1 else 1.0)  # the first step warms up

    handle = register_module_forward_pre_hook(slow_down)
    try:
        rate = tokens_per_second(recipe_of(training={"tokens": 1000 * 64}), dataset, threads=1)
    finally:
        handle.remove()
    assert 0.5 * 64 / 0.1 < rate < 64 / 0.1


def test_a_run_shorter_than_the_measurement_is_measured_whole(recipe_of, dataset, passes):
    recipe = recipe_of(training={"tokens": 64}, search={"rungs": [1]})
    assert 0 < tokens_per_second(recipe, dataset, threads=1) < 1e9
    assert sum(passes) == 4


def test_the_threads_are_those_asked_for(recipe_of, dataset):
    try:
        tokens_per_second(recipe_of(training={"tokens": 64}, search={"rungs": [1]}), dataset, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
