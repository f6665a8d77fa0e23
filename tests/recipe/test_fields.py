from fractions import Fraction

import pytest

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.fields import GPT_SCHEMA, NEVER_SEARCHED, flattened, nested
from raygpt.recipe.ranges import Choice, Int, LogUniform
from raygpt.recipe.schema import Recipe


def test_values_are_converted_to_the_type_of_their_field():
    assert GPT_SCHEMA.read_value("training.batch_tokens", "256K") == 256_000
    assert GPT_SCHEMA.read_value("training.report_every", "1/20") == Fraction(1, 20)
    assert GPT_SCHEMA.read_value("search.concurrent", None) is None
    assert GPT_SCHEMA.read_value("training.beta2", "0.95") == 0.95


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("model.dropout", 1.5, "must be at least 0 and below 1"),
        ("search.sampler", "tpee", 'is not one of its values; did you mean "tpe"'),
        ("search.sampler", True, "is not one of its values; allowed here: tpe, random"),
        ("training.tokens", "3X", "must be a whole number"),
        ("search.concurrent", 0, "must be at least 1"),
    ],
)
def test_values_refused(key, given, message):
    with pytest.raises(RecipeError, match=message):
        GPT_SCHEMA.read_value(key, given)


def test_choices_are_read_like_the_value_itself():
    found = GPT_SCHEMA.read_range("training.batch_tokens", {"choice": ["128K", "256K"]})
    assert found == Choice((128_000, 256_000))
    with pytest.raises(RecipeError, match="twice"):
        GPT_SCHEMA.read_range("training.learning_rate", {"choice": ["1e-3", 0.001]})


def test_ranges_of_a_field():
    assert GPT_SCHEMA.read_range("model.n_layers", {"int": [2, 4]}) == Int(2, 4)
    warmup = GPT_SCHEMA.read_range("training.warmup", {"loguniform": [0.01, "5%"]})
    assert warmup == LogUniform(0.01, 0.05)


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("model.d_model", {"uniform": [64, 128]}, "takes whole numbers"),
        ("model.dropout", {"uniform": [0, 1]}, "below 1, which 1.0 is not"),
        ("model.n_layers", {"int": [0, 4]}, "at least 1, which 0 is not"),
        ("model.compile", {"int": [0, 1]}, "true or false, which 0 is not"),
        ("training.tokens", {"choice": [1, 2]}, "trials would not be comparable"),
    ],
)
def test_ranges_refused(key, given, message):
    with pytest.raises(RecipeError, match=message):
        GPT_SCHEMA.read_range(key, given)


@pytest.mark.parametrize(
    ("key", "given", "start"),
    [
        ("training.learning_rate", {"loguniform": [1e-4, 1e-2], "start": "6e-4"}, 6e-4),
        ("training.hold", {"uniform": [0, 1], "step": 0.1, "start": 0.1 + 0.2}, 0.3),
        ("training.hold", {"uniform": [0, 1], "start": 0.123456}, 0.123456),
        ("training.learning_rate", {"loguniform": [1e-4, 1e-2]}, 1e-3),  # it has no default
        ("training.weight_decay", {"loguniform": [1e-3, 1]}, 0.1),  # its default
        ("training.weight_decay", {"uniform": [0.2, 0.4], "start": 0.2}, 0.2),
        ("training.weight_decay", {"uniform": [0.25, 0.75]}, 0.5),  # the default is outside
        ("training.weight_decay", {"uniform": [0, 0.4], "step": 0.2}, 0.2),  # not on the grid
        ("model.n_layers", {"int": [4, 16], "step": 4}, 12),
        ("model.n_heads", {"choice": [2, 4]}, 2),
        ("model.compile", {"choice": [True, False]}, False),
        ("training.batch_tokens", {"choice": ["128K", "256K"]}, 256_000),
        ("training.batch_tokens", {"choice": ["128K", "256K"], "start": "128000"}, 128_000),
    ],
)
def test_the_first_value_of_a_search(key, given, start):
    found = GPT_SCHEMA.start_value(key, GPT_SCHEMA.read_range(key, given))
    assert found == start
    assert type(found) is type(start)


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("model.dropout", {"choice": [0, 0.1], "start": 2}, "below 1, which 2 is not"),
        ("model.dropout", {"choice": [0, 0.1], "start": 0.2}, "cannot start at 0.2"),
        ("model.dropout", {"uniform": [0, 0.1], "start": 0.2}, "cannot start at 0.2"),
    ],
)
def test_starts_refused(key, given, message):
    with pytest.raises(RecipeError, match=message):
        GPT_SCHEMA.read_range(key, given)


def test_only_settings_that_keep_trials_comparable_can_be_searched():
    fields, searchable = set(GPT_SCHEMA.fields), GPT_SCHEMA.searchable
    assert {key for key in fields if key.startswith("model.")} - {"model.module"} <= searchable
    assert {"training.learning_rate", "training.batch_tokens", "training.seed"} <= searchable
    fixed = {"name", *NEVER_SEARCHED}
    fixed |= {key for key in fields if key.startswith(("data.", "search."))}
    assert fields - searchable == fixed


def test_required_settings():
    assert GPT_SCHEMA.required == ("training.tokens", "training.learning_rate")


def test_flattened_and_nested_undo_each_other():
    recipe = Recipe(name="x", training={"tokens": "300M", "learning_rate": 1e-3})
    assert list(flattened(recipe)) == list(GPT_SCHEMA.fields)
    assert Recipe(**nested(flattened(recipe))) == recipe
