import json
import random
from pathlib import Path

import pytest
import torch

from raygpt.data.prepare import prepare
from raygpt.recipe.schema import Recipe
from raygpt.results.tables import RunTables, load_results
from raygpt.search.resume import Unfinished, rewind
from raygpt.search.sampler import StudySearcher, open_study, settle_study
from raygpt.training.loop import TrainingRun

VALUES = {"model.dropout": 0.1, "training.learning_rate": 1e-3}


@pytest.fixture
def interrupted(tables, begin, report, folder):
    """Three unfinished trials: with a checkpoint, with a deleted one, without one."""
    for number in range(3):
        begin(f"{number:04}")
        tables.add_report(f"{number:04}", report(0))
        if number < 2:
            tables.set_checkpoint(f"{number:04}", folder.absolute() / f"trials/{number}")
        tables.add_report(f"{number:04}", report(tokens=3072))
    (folder / "trials/0").mkdir(parents=True)
    return tables


def test_an_unfinished_trial_continues_from_its_checkpoint(interrupted, search_file, folder):
    found = rewind(interrupted, search_file, ["0000", "0001", "0002", "0003"])
    assert found == [
        Unfinished("0000", str(folder.absolute() / "trials/0"), VALUES),
        Unfinished("0001", None, VALUES),
        Unfinished("0002", None, VALUES),
        Unfinished("0003", None, None),
    ]
    history = load_results(folder).history
    assert history[["trial_id", "tokens"]].to_numpy().tolist() == [["0000", 2048]]


def test_other_trials_keep_their_reports(interrupted, search_file, folder):
    before = load_results(folder)
    assert rewind(interrupted, search_file, []) == []
    after = load_results(folder)
    assert after.history.equals(before.history)
    assert after.trials.equals(before.trials)


def test_values_come_back_from_disk_as_they_were(tmp_path, make_search):
    search_file = make_search(
        "model.d_model={choice: [32, 64]}",
        "model.compile={choice: [true, false]}",
        "training.precision={choice: [bf16, fp32]}",
        "training.learning_rate=1e-3",
    )
    values = {
        "model.d_model": 64,
        "model.dropout": 0.1234567890123456,
        "model.compile": True,
        "training.precision": "bf16",
    }
    RunTables(tmp_path, values).begin_trial("0000", 5, values)
    (found,) = rewind(RunTables(tmp_path, values), search_file, ["0000"])
    assert found.values == values
    assert [type(value) for value in found.values.values()] == [int, float, bool, str]


def test_a_row_with_a_missing_value_gives_none(tmp_path, search_file):
    tables = RunTables(tmp_path, search_file.ranges)
    tables.begin_trial("0000", 5, {"model.dropout": 0.1})
    assert rewind(tables, search_file, ["0000"]) == [Unfinished("0000", None, None)]


def test_a_checkpoint_of_an_earlier_version_is_the_same_recipe(tmp_path, make_search, needed):
    """Its trial has values that are not on the range's grid."""
    texts = tmp_path / "texts.jsonl"
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=5)) for _ in range(99)]
    documents = (" ".join(draw.choices(words, k=60)) for _ in range(200))
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    search_file = make_search(
        f"data.corpus='jsonl:{texts}'",
        f"data.cache='{tmp_path / 'cache'}'",
        "data.validation_fraction=0.1",
        "data.validation_tokens=500",
        "model.dropout={uniform: [0.1, 0.9], step: 0.1}",
    )
    values = {"model.dropout": 0.30000000000000004, "training.learning_rate": 0.00123456789012345}
    run = tmp_path / "run"
    run.mkdir()
    dataset = prepare(search_file.data, search_file.largest_budget())
    earlier = TrainingRun(search_file.recipe(values), dataset, torch.device("cpu"))
    report = next(earlier.reports())
    tables = RunTables(run, search_file.ranges)
    tables.begin_trial("0000", 5, values)
    tables.add_report("0000", report.metrics())
    earlier.save(run / "trials/0000/checkpoint_000000")
    tables.set_checkpoint("0000", run / "trials/0000/checkpoint_000000")

    tables, study = RunTables(run, search_file.ranges), open_study(run / "study.db", "tiny")
    study.ask()
    unfinished = settle_study(study, {row["trial_id"]: row for row in tables.trials})
    resumed = rewind(tables, search_file, unfinished)
    config = StudySearcher(study, search_file, needed, "/", resumed).suggest("tune-id")
    later = TrainingRun(Recipe.model_validate_json(config["recipe"]), dataset, torch.device("cpu"))
    later.load(Path(config["checkpoint"]))
    assert later.step == earlier.step > 0
