import time

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from raygpt.training.loop import TrainingRun
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
    started = time.perf_counter()
    rate = tokens_per_second(recipe, dataset, threads=1)
    wall = time.perf_counter() - started
    assert sum(passes) == (STEPS + 1) * 4
    assert rate > STEPS * 64 / wall, "the steps were measured to last longer than the call"


def test_the_measured_rate_is_that_of_a_run(recipe_of, dataset):
    recipe = recipe_of(
        model={"d_model": 64},
        training={"tokens": 12 * 1024, "batch_tokens": 1024, "report_every": 1},
        search={"rungs": [1]},
    )
    (report,) = TrainingRun(recipe, dataset).reports()
    rate = tokens_per_second(recipe, dataset, threads=1)
    assert 1 / 8 < rate / report.tokens_per_second < 8


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
