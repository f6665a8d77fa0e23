import pytest
from pydantic import ValidationError

from raygpt.recipe.schema import Recipe


def recipe(data=None, model=None, search=None, **training):
    return Recipe(
        name="x",
        data=data or {},
        model=model or {},
        training={"tokens": "300M", "learning_rate": 1e-3, **training},
        search=search or {},
    )


def clash(**given):
    """The keys and the message of the one contradiction of a recipe."""
    with pytest.raises(ValidationError) as error:
        recipe(**given)
    ((keys, message),) = error.value.errors()[0]["ctx"]["error"].found
    return keys[0], message


def test_contradictions():
    assert clash(model={"d_model": 770}) == (
        "model.d_model",
        "d_model 770 is not divisible by n_heads 8",
    )
    assert clash(batch_tokens=511)[0] == "training.batch_tokens"
    assert clash(tokens="255K")[0] == "training.tokens"
    assert clash(tokens="256K")[0] == "search.rungs"
    assert clash(warmup=0.4)[0] == "training.warmup"
    assert "two rungs" in clash(tokens="2560K", search={"rungs": ["1/2", "0.51", 1]})[1]


def test_values_at_the_limits_are_allowed():
    recipe(batch_tokens=512, tokens="1M")
    recipe(tokens="256K", search={"rungs": [1]})
    recipe(warmup="1/3")
    recipe(tokens="2560K", search={"rungs": ["1/2", "3/5", 1]})
    recipe(warmup=0.9, search={"rungs": [1]})


def test_all_contradictions_are_found_at_once():
    with pytest.raises(ValidationError) as error:
        recipe(model={"d_model": 770}, warmup=0.4)
    found = error.value.errors()[0]["ctx"]["error"].found
    assert [keys[0] for keys, _ in found] == ["model.d_model", "training.warmup"]
