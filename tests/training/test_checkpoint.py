import pytest
import torch

from raygpt.errors import UserError
from raygpt.results.files import CHECKPOINT_FILE
from raygpt.training.checkpoint import load_model, read_state, write_state
from raygpt.training.loop import TrainingRun


@pytest.fixture
def run(recipe_of, dataset):
    recipe = recipe_of(
        model={"dropout": 0.2}, training={"hold": 0.5}, search={"rung_metric": "cooldown"}
    )
    return TrainingRun(recipe, dataset)


def test_a_checkpoint_alone_holds_the_model_its_recipe_tokenizer_and_data(run, dataset, tmp_path):
    for report in run.reports():
        if report.rung == 1:
            run.save(tmp_path)
            break
    model = load_model(tmp_path)
    assert not any(module.training for module in model.model.modules())
    for name, value in run.model.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], value), name
    assert model.recipe == run.recipe
    assert model.tokenizer.files == dataset.tokenizer.files
    assert model.data == dataset.provenance()
    # The run is back on its trunk, before the step of the rung.
    assert model.tokens == run.step * 64 < report.tokens
    assert model.tokens_trained == report.tokens_trained > model.tokens
    assert not model.finished


def test_a_run_trained_to_the_end_of_its_budget_is_finished(run, tmp_path):
    *_, last = run.reports()
    run.save(tmp_path)
    model = load_model(tmp_path)
    assert model.finished
    assert (model.tokens, model.tokens_trained) == (last.tokens, last.tokens_trained)


def test_a_checkpoint_without_origin_can_be_resumed_but_not_loaded_alone(run, dataset, tmp_path):
    next(run.reports())
    run.save(tmp_path)
    state = read_state(tmp_path)
    del state["origin"]
    write_state(tmp_path, state)
    resumed = TrainingRun(run.recipe, dataset)
    resumed.load(tmp_path)
    assert resumed.step == run.step
    with pytest.raises(UserError, match="another version of raygpt") as e:
        load_model(tmp_path)
    assert str(tmp_path / CHECKPOINT_FILE) in str(e.value)


def test_a_checkpoint_whose_recipe_has_unknown_settings_is_refused(run, tmp_path):
    run.save(tmp_path)
    state = read_state(tmp_path)
    recipe = state["origin"]["recipe"].replace('"dropout"', '"drop_out"')
    write_state(tmp_path, state | {"origin": state["origin"] | {"recipe": recipe}})
    with pytest.raises(UserError, match="another version of raygpt"):
        load_model(tmp_path)


def test_a_folder_without_a_readable_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        load_model(tmp_path)
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"PK rubbish")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_model(tmp_path)
