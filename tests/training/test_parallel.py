import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raygpt.training.loop import TrainingRun
from raygpt.training.parallel import sum_over_workers, worker_count, worker_rank

PROGRAM = Path(__file__).with_name("train_in_group.py")
WORKERS = 2
BUDGET = {"tokens": 9 * 64}  # 9 steps; rungs at 1, 3 and 9
CASES = {
    # 4 sequences a step, and 37 validation windows, neither a multiple of 2 * 4.
    "even": {"training": BUDGET},
    # Of 5 sequences one worker takes 3 in two micro-batches, the other 2 in one.
    "odd": {"training": {"tokens": 9 * 80, "batch_tokens": 80, "micro_batch": 2}},
    # The second worker has no sequence at all, and no window of the validation set either.
    "one": {
        "training": {"tokens": 9 * 16, "batch_tokens": 16, "micro_batch": 50},
        "model": {"activation_checkpointing": True},
    },
}
DROPOUT = {"training": BUDGET, "model": {"dropout": 0.5}}


@pytest.fixture(scope="module")
def recipes(recipe_of):
    cases = CASES | {"dropout": DROPOUT}
    return {name: recipe_of(**sections) for name, sections in cases.items()}


@pytest.fixture(scope="module")
def group(recipes, dataset, tmp_path_factory):
    """The results of training every recipe, from each of two workers in their own processes."""
    folder = tmp_path_factory.mktemp("group")
    job = {
        "workers": WORKERS,
        "folder": str(folder),
        "dataset": str(dataset.folder),
        "recipes": {name: recipe.model_dump_json() for name, recipe in recipes.items()},
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, str(PROGRAM)]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(folder / "job.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(WORKERS)
    ]
    try:
        for worker in workers:
            output, _ = worker.communicate(timeout=120)
            assert worker.returncode == 0, output
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORKERS)]


@pytest.fixture(scope="module")
def alone(recipes, dataset):
    """The same recipes trained by this process on its own."""

    def train(recipe):
        run = TrainingRun(recipe, dataset)
        return [report.metrics() for report in run.reports()], run.model.state_dict()

    return {name: train(recipes[name]) for name in CASES}


def without_timings(report):
    return {k: v for k, v in report.items() if k not in ("seconds", "tokens_per_second")}


def test_a_process_on_its_own_is_worker_0_of_1():
    assert (worker_rank(), worker_count()) == (0, 1)
    values = torch.tensor([1.0, 2.0])
    assert sum_over_workers(values).tolist() == [1, 2]


def test_workers_know_their_ranks_and_sum_their_tensors(group):
    assert [results["group"]["rank"] for results in group] == [0, 1]
    assert [results["group"]["count"] for results in group] == [2, 2]
    assert [results["group"]["sum"] for results in group] == [[2, 10], [2, 10]]


def test_each_worker_takes_its_own_sequences_in_micro_batches(group):
    first_steps = {"even": ([2], [2]), "odd": ([2, 1], [2]), "one": ([1], [0])}
    for name, expected in first_steps.items():
        for results, step in zip(group, expected, strict=True):
            assert results[name]["sequences"] == step * (
                len(results[name]["sequences"]) // len(step)
            )


@pytest.mark.parametrize("name", CASES)
def test_a_group_reports_the_same_figures_as_one_worker(group, alone, name):
    expected, _ = alone[name]
    assert sum("bits_per_byte" in report for report in expected) == 3
    for results in group:
        for found, report in zip(results[name]["reports"], expected, strict=True):
            assert without_timings(found) == pytest.approx(without_timings(report), rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_group_ends_with_the_weights_of_one_worker(group, alone, recipes, name):
    d_model = recipes[name].model.d_model
    weights = alone[name][1]
    for results in group:
        assert results[name]["weights"].keys() == weights.keys()
        for key, value in results[name]["weights"].items():
            found = value.clone()
            expected = weights[key]
            if key.endswith("qkv.bias"):
                # The keys' bias moves all scores of a query alike and so changes nothing; its
                # gradient is rounding noise, which AdamW blows up to whole steps.
                keys = slice(d_model, 2 * d_model)
                found[keys] = expected[keys]
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", [*CASES, "dropout"])
def test_all_workers_hold_the_same_weights(group, name):
    for key, value in group[0][name]["weights"].items():
        assert torch.equal(value, group[1][name]["weights"][key]), key


@pytest.mark.parametrize("name", [*CASES, "dropout"])
def test_a_group_resumes_with_identical_figures_from_the_first_workers_checkpoint(group, name):
    for results in group:
        found = [without_timings(report) for report in results[name]["resumed_reports"]]
        assert found == [without_timings(report) for report in results[name]["reports"][1:]]
        for key, value in results[name]["weights"].items():
            assert torch.equal(value, results[name]["resumed_weights"][key]), key


def test_each_worker_has_dropout_masks_of_its_own(group):
    masks = [results["dropout"]["dropped"] for results in group]
    for mask in masks:
        assert 0.4 < mask.float().mean() < 0.6
    assert 0.4 < (masks[0] == masks[1]).float().mean() < 0.6
