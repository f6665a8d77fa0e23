import json
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from raygpt.recipe.schema import Recipe
from raygpt.recipe.sections import Data, Model, Search, Training


def recipe(**training):
    return Recipe(name="x", training={"tokens": "300M", "learning_rate": "6e-4", **training})


def test_a_recipe_needs_only_its_budget_and_peak_rate():
    made = recipe()
    assert made.training.tokens == 300_000_000
    assert made.training.learning_rate == 0.0006
    assert made.training.batch_tokens == 256_000
    assert (made.training.beta1, made.training.beta2) == (0.9, 0.95)
    assert made.training.report_every == Fraction(1, 20)
    assert made.search.rungs == (Fraction(1, 3), Fraction(1))
    assert (made.model.d_model, made.model.n_layers, made.model.n_heads) == (768, 12, 8)
    assert (made.data.corpus, made.data.tokenizer, made.data.context) == ("wikipedia", "gpt2", 512)
    assert made.data.validation_tokens == 500_000
    with pytest.raises(ValidationError, match="learning_rate"):
        Training(tokens=1)


def test_defaults_are_valid_values_of_their_fields():
    for section in (Data(), Model(), Search(), recipe().training):
        assert type(section)(**section.model_dump()) == section


def test_a_recipe_cannot_change():
    with pytest.raises(ValidationError, match="frozen"):
        recipe().training.seed = 1


def test_every_setting_is_described():
    for section in (Data, Model, Training, Search):
        for name, field in section.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name


@pytest.mark.parametrize(
    "corpus",
    [
        "sample",
        "wikipedia",
        "wikipedia:20231101.de",
        "wikipedia@b04c8d1",
        "wikipedia:20240101.simple@main",
        "hub:some-one/text.s",
        "hub:someone/texts:en_2@refs/pr/1",
        "dump:/a/enwiki",
        "jsonl:/a/*.jsonl",
    ],
)
def test_corpora(corpus):
    assert Data(corpus=corpus).corpus == corpus


def test_paths_mean_the_same_in_every_working_directory():
    data = Data(corpus="jsonl:b c/*.jsonl.gz", cache="~/tokens")
    assert data.corpus == f"jsonl:{Path.cwd()}/b c/*.jsonl.gz"
    assert data.cache == str(Path.home() / "tokens")


@pytest.mark.parametrize("tokenizer", ["gpt2", "bpe-258", "bpe-4096", "bpe-65536"])
def test_tokenizers(tokenizer):
    assert Data(tokenizer=tokenizer).tokenizer == tokenizer


@pytest.mark.parametrize("rungs", [["1/9", "1/3", 1], [1], [0.5, "100%"]])
def test_rungs(rungs):
    assert Search(rungs=rungs).rungs[-1] == 1


@pytest.mark.parametrize(
    ("section", "given"),
    [
        (Data, {"corpus": "jsonl:"}),
        (Data, {"corpus": "wiki"}),
        (Data, {"corpus": "wikipedia:"}),
        (Data, {"corpus": "hub:nobody"}),
        (Data, {"corpus": "hub:a/b:"}),
        (Data, {"corpus": "dump: "}),
        (Data, {"corpus": 5}),
        (Data, {"tokenizer": "bpe-257"}),
        (Data, {"tokenizer": "bpe-65537"}),
        (Data, {"tokenizer": "bpe-04096"}),
        (Data, {"tokenizer": "gpt2\n"}),
        (Data, {"context": 7}),
        (Data, {"validation_fraction": 0}),
        (Data, {"validation_fraction": 0.51}),
        (Data, {"validation_tokens": 0}),
        (Data, {"cache": ""}),
        (Data, {"cahce": "x"}),
        (Model, {"d_model": 0}),
        (Model, {"n_layers": 0}),
        (Model, {"n_heads": 1.5}),
        (Model, {"dropout": 1}),
        (Model, {"dropout": -0.1}),
        (Model, {"compile": 1}),
        (Model, {"activation_checkpointing": "yes"}),
        (Training, {"tokens": 0}),
        (Training, {"micro_batch": 0}),
        (Training, {"learning_rate": 0}),
        (Training, {"weight_decay": -1e-9}),
        (Training, {"warmup": 1}),
        (Training, {"hold": 1.1}),
        (Training, {"final_learning_rate": -0.1}),
        (Training, {"beta1": 1}),
        (Training, {"beta2": -0.1}),
        (Training, {"gradient_clipping": 0}),
        (Training, {"seed": -1}),
        (Training, {"precision": "fp16"}),
        (Training, {"report_every": 0}),
        (Training, {"checkpoint_every": "1/1001"}),
        (Search, {"trials": 0}),
        (Search, {"rungs": []}),
        (Search, {"rungs": ["1/3", "1/9", 1]}),
        (Search, {"rungs": ["1/3", "1/3", 1]}),
        (Search, {"rungs": ["1/9", "1/3"]}),
        (Search, {"rungs": [0, 1]}),
        (Search, {"rungs": 1}),
        (Search, {"reduction_factor": 1}),
        (Search, {"sampler": "grid"}),
        (Search, {"scheduler": "pbt"}),
        (Search, {"workers_per_trial": 0}),
        (Search, {"cpus_per_worker": 0}),
        (Search, {"cpus_per_worker": 1e10}),
        (Search, {"gpus_per_worker": -0.5}),
        (Search, {"gpus_per_worker": 1.5}),
        (Search, {"concurrent": 0}),
    ],
)
def test_invalid_settings(section, given):
    needed = {"tokens": "1M", "learning_rate": 1e-3} if section is Training else {}
    with pytest.raises(ValidationError) as error:
        section(**{**needed, **given})
    assert [place["loc"][0] for place in error.value.errors()] == list(given)


def test_older_recipes_have_betas():
    older = recipe().model_dump()
    del older["training"]["beta1"], older["training"]["beta2"]
    older["training"]["betas"] = (0.8, 0.99)
    assert Recipe(**older) == recipe(beta1=0.8, beta2=0.99)
    assert Recipe.model_validate_json(json.dumps(older, default=str)) == Recipe(**older)
    for betas in (0.9, [0.9], [0.9, 0.95, 0.99]):
        with pytest.raises(ValidationError, match=r"betas|two numbers"):
            recipe(betas=betas)
    with pytest.raises(ValidationError, match="less than 1"):
        recipe(betas=[0.9, 1])
    with pytest.raises(ValidationError, match="betas is the old form of beta1 and beta2"):
        recipe(betas=[0.9, 0.95], beta2=0.9)


def test_trials_are_stopped_unless_all_train_their_whole_budget():
    assert Search(scheduler="asha").stops_trials
    assert not Search(scheduler="fifo").stops_trials


def test_older_recipes_have_null_for_one_core():
    assert Search(cpus_per_worker=None) == Search() == Search(cpus_per_worker=1)


@pytest.mark.parametrize("gpus", [None, 0, 0.25, 1, 2, "1/3"])
def test_gpus_of_a_worker(gpus):
    Search(gpus_per_worker=gpus)


@pytest.mark.parametrize("name", ["a/b", "", "..", "-x", "a b", "x" * 101, 5])
def test_names_that_cannot_be_folders(name):
    with pytest.raises(ValidationError):
        Recipe(name=name, training=recipe().training)
