import pytest

from raygpt.errors import UserError
from raygpt.recipe import own_model
from raygpt.recipe.json_text import read_recipe_json, recipe_to_json
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import load_search_file
from tests.recipe.own_models import GOOD, RECIPE


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "my_model.py").write_text(GOOD)
    (tmp_path / "x.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return load_search_file("x.yaml").baseline()


@pytest.fixture
def elsewhere(monkeypatch):
    """Stands for another process, which has loaded no model yet."""
    monkeypatch.setattr(own_model, "_known", {})


def test_the_json_of_a_gpt_recipe_has_not_changed():
    recipe = Recipe(name="x", training={"tokens": "300M", "learning_rate": 1e-3})
    assert recipe_to_json(recipe) == recipe.model_dump_json()
    assert read_recipe_json(recipe_to_json(recipe, with_source=True)) == recipe


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x"}'])
def test_invalid_texts(text):
    with pytest.raises(ValueError):  # noqa: PT011 (of json or pydantic)
        read_recipe_json(text)


def test_an_own_model_is_read_where_its_file_has_changed(recipe, tmp_path):
    text = recipe_to_json(recipe)
    assert "nn.Module" not in text
    (tmp_path / "my_model.py").unlink()
    assert read_recipe_json(text) == recipe


def test_another_process_needs_the_source_or_the_drivers_model(recipe, tmp_path, elsewhere):
    with_source = recipe_to_json(recipe, with_source=True)
    (tmp_path / "my_model.py").unlink()
    assert read_recipe_json(with_source) == recipe
    assert read_recipe_json(recipe_to_json(recipe), recipe.model.own) == recipe


def test_another_process_reads_the_file_unless_it_has_changed(recipe, tmp_path, elsewhere):
    text = recipe_to_json(recipe)
    assert read_recipe_json(text) == recipe
    own_model._known.clear()
    (tmp_path / "my_model.py").write_text(GOOD + "\n")
    with pytest.raises(UserError, match=r"model.module: .*my_model.py has changed since"):
        read_recipe_json(text)
    (tmp_path / "my_model.py").unlink()
    with pytest.raises(UserError, match=r"model.module: there is no file .*my_model.py"):
        read_recipe_json(text)
