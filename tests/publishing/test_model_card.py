import dataclasses
import re

import pytest
from ruamel.yaml import YAML

from raygpt.publishing.model_card import model_card
from raygpt.recipe.search_file import load_search_file
from raygpt.results.checkpoints import FoundCheckpoint, find_checkpoint
from raygpt.results.tables import RunTables, load_results
from raygpt.training.checkpoint import load_model


@pytest.fixture(scope="module")
def trained(trained_run):
    return load_model(trained_run / "checkpoint")


def cell(card, name):
    """The cell beside a name in one of the tables."""
    return re.search(rf"^\| {re.escape(name)} \| (.*) \|$", card, re.M)[1]


def test_the_card_of_a_run(trained, trained_run, tmp_path):
    card = model_card("my-model", trained, find_checkpoint(trained_run))
    _, front, body = card.split("---\n", 2)
    assert YAML(typ="safe").load(front)["library_name"] == "transformers"
    assert body.startswith("\n# my-model\n\nA GPT-2-style model of ")
    parameters = (300 + 16) * 16 + 2 * (12 * 16**2 + 13 * 16) + 2 * 16
    assert f"of {parameters:,} parameters" in body
    assert "It is the run `tiny`. The run was made with raygpt " in body
    assert 'folder = "my-model"' in body

    best = load_results(trained_run).best
    assert cell(card, "bits per byte") == f"{best['bits_per_byte']:.4f}"
    assert cell(card, "next-token accuracy") == f"{best['next_token_accuracy']:.2%}"
    assert cell(card, "tokens trained on") == "5,760"
    assert "Measured on 592 tokens of validation documents" in card
    assert best["validation_set"] in card
    assert "by this figure" not in card

    assert cell(card, "licence of the text") == "unknown"
    assert "texts.jsonl" in cell(card, "corpus")
    assert cell(card, "prepared for training").endswith(" bytes)")

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(re.search(r"```yaml\n(.*?)```", card, re.S)[1])
    assert load_search_file(recipe).single_recipe() == trained.recipe


def test_no_path_of_the_cache_is_published(trained, trained_run):
    data = trained.recipe.data.model_copy(update={"cache": "/home/somebody/cache"})
    recipe = trained.recipe.model_copy(update={"data": data})
    model = dataclasses.replace(trained, recipe=recipe)
    assert "somebody" not in model_card("x", model, find_checkpoint(trained_run))


def test_a_known_licence_is_named(trained, trained_run):
    model = dataclasses.replace(trained, data=trained.data | {"licence": "CC BY-SA 3.0"})
    card = model_card("x", model, find_checkpoint(trained_run))
    assert cell(card, "licence of the text") == "CC BY-SA 3.0"


def test_a_checkpoint_without_its_run(trained, tmp_path):
    card = model_card("x", trained, FoundCheckpoint(tmp_path))
    assert "bits per byte |" not in card
    assert "Its run folder has the figures on the validation set." in card
    assert cell(card, "tokens trained on") == "5,760"


def test_weights_saved_in_mid_schedule_have_no_figures(trained, trained_run):
    model = dataclasses.replace(trained, tokens=2880, tokens_trained=3072)
    card = model_card("x", model, find_checkpoint(trained_run))
    assert "bits per byte |" not in card
    assert "They were not scored on the validation set." in card
    said = "2,880 of 5,760; 3,072 with the cooldowns to lower rungs"
    assert cell(card, "tokens trained on") == said


@pytest.fixture
def search(tmp_path):
    """Tables of a search, of completed trials with these bits per byte."""
    tables = RunTables(tmp_path / "", [], data={"data": "d", "validation_set": "v"})

    def run(trial_id, bits_per_byte, confirms=None):
        tables.begin_trial(trial_id, 0, {}, confirms=confirms)
        figures = {"tokens": 5760, "tokens_trained": 5760, "seconds": 1.0, "rung": 1}
        figures |= {"bits_per_byte": bits_per_byte, "bits_per_token": 4, "next_token_accuracy": 0.2}
        tables.add_report(trial_id, figures)
        tables.end_trial(trial_id, "completed")
        tables.set_checkpoint(trial_id, tmp_path.absolute() / trial_id)

    for number, bits_per_byte in enumerate((2.5, 2.25, 2.75)):
        run(f"{number:04}", bits_per_byte)
    return run


def test_the_card_of_a_searchs_best_trial_warns_of_selection(search, trained, tmp_path):
    found = find_checkpoint(tmp_path)
    card = model_card("x", trained, found)
    assert f"It is trial 0001 of the search `{tmp_path.name}`, the best of 3 trials." in card
    assert "the best of 3 by this figure, with one seed each" in card
    assert "The run was made with" not in card  # the folder does not say
    other = dataclasses.replace(found, trial={**found.trial, "trial_id": "0000"})
    assert "trial 0000 of the search" in model_card("x", trained, other)
    assert ", one of 3 trials." in model_card("x", trained, other)


def test_the_card_states_the_result_of_a_confirmation(search, trained, tmp_path):
    for number, (one, other) in enumerate([(2.50, 2.75), (2.52, 2.77)], 1):
        search(f"0001-{number}", one, confirms="0001")
        search(f"0000-{number}", other, confirms="0000")
    card = model_card("x", trained, find_checkpoint(tmp_path))
    assert "the best of 3 trials" in card
    assert "trained 2 more times, with other seeds: 2.5100 ± 0.0100 bits per byte" in card
    assert "- 0001 is better than 0000 (" in card
    assert "by this figure" not in card
