import os
import pickle
import subprocess
import sys

import pytest
from pydantic import ValidationError

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.fields import GPT_SCHEMA, flattened
from raygpt.recipe.own_model import COPY, OwnModel, module_digest
from raygpt.recipe.ranges import Choice, LogUniform
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import load_search_file
from raygpt.recipe.sections import Model
from raygpt.recipe.writer import recipe_to_yaml
from tests.recipe.own_models import GOOD, RECIPE


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with a recipe and the file of its model."""
    (tmp_path / "my_model.py").write_text(GOOD)
    (tmp_path / "x.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*overrides, scale="full"):
    with pytest.raises(RecipeError) as error:
        load_search_file("x.yaml", scale, overrides)
    (line,) = str(error.value).splitlines()
    return line


def test_the_models_own_keys_are_settings_like_any_other(here):
    found = load_search_file("x.yaml")
    assert found.ranges == {"model.base": LogUniform(10.0, 1e6)}
    assert found.fixed["model.module"] == f"{here}/my_model.py:MyGPT"
    assert found.fixed["model.gated"] is True
    assert found.fixed["model.groups"] == 1000
    assert found.start_values() == {"model.base": 10_000.0}
    assert set(found.schema.fields) - set(GPT_SCHEMA.fields) == {
        f"model.{key}" for key in ("base", "groups", "kind", "gated", "ratio")
    }
    mini = load_search_file("x.yaml", "mini", ["model.ratio=0.25"])
    assert mini.ranges["model.kind"] == Choice(("relu", "gelu"))
    assert mini.recipe({"model.base": 20, "model.kind": "relu"}).model.ratio == 0.25
    assert "model.base" not in GPT_SCHEMA.fields


def test_a_recipe_knows_its_class(here):
    recipe = load_search_file("x.yaml").baseline()
    assert isinstance(recipe.model, Model)
    assert recipe.model.own.model_class.__name__ == "MyGPT"
    assert (recipe.model.base, recipe.model.d_model) == (10_000.0, 10)
    assert flattened(recipe)["model.base"] == 10_000.0
    assert Recipe(**recipe.model_dump()) == recipe
    with pytest.raises(ValidationError, match="bsae"):
        Recipe(**{**recipe.model_dump(), "model": {**recipe.model.model_dump(), "bsae": 1}})


def test_a_class_without_keys_of_its_own(here):
    overrides = ["model.module=my_model.py:Bare", "model.d_model=7"]
    with pytest.raises(RecipeError, match=r"x\.yaml, line 2: model\.base: unknown key"):
        load_search_file("x.yaml", overrides=overrides)
    (here / "x.yaml").write_text(
        RECIPE.replace(", base: {loguniform: [10, 1e6]}, gated: true", "").replace(
            ", kind: {choice: [relu, gelu]}, gated: false", ""
        )
    )
    # The class itself must check whether the heads divide the width.
    assert load_search_file("x.yaml", "full", overrides).single_recipe().model.d_model == 7


@pytest.mark.parametrize("scale", ["full", "mini"])
def test_a_written_recipe_reads_back_equal(here, scale):
    found = load_search_file("x.yaml", scale)
    (here / "resolved.yaml").write_text(found.to_yaml())
    assert load_search_file("resolved.yaml") == found
    recipe = found.recipe(found.start_values())
    (here / "best.yaml").write_text(recipe_to_yaml(recipe))
    again = load_search_file("best.yaml", overrides=["search.scheduler=fifo"]).single_recipe()
    assert (again.model, again.training) == (recipe.model, recipe.training)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.bsae=3", 'unknown key (given 3); did you mean "base"'),
        ("base=3", 'it belongs elsewhere, as "model.base"'),
        ("model.base=0", "must be above 0 (given 0)"),
        ("model.base={uniform: [0, 1]}", "must be above 0, which 0.0 is not"),
        ("model.groups={uniform: [1, 2]}", "takes whole numbers"),
        ("model.kind=silu", "is not one of its values (given silu); allowed here: relu, gelu"),
        ("model.gated=1", "must be true or false"),
        ("model.ratio=wide", "cannot be read (input should be a valid number"),
        ("model.ratio=0.75", "model.ratio: cannot be three quarters (given 0.75)"),
        (
            "model.ratio={choice: [0.5, 0.75]}",
            "model.ratio: cannot be three quarters (given {choice",
        ),
        ("model.module={choice: [a.py:A, b.py:B]}", "must be text"),
        ("model.module=my_model.py", "does not name a class in a file (given my_model.py);"),
        ("model.module=my_modle.py:MyGPT", "there is no file"),
        ("model.module=my_model.py:MyGTP", "has no class MyGTP (given my_model.py:MyGTP); did you"),
        ("model.module=my_model.py:Shape", "Shape of "),
        ("mini.model.base=3", "set model.base itself"),
    ],
)
def test_mistakes_say_where_and_what(here, override, message):
    line = refused(override)
    assert line.startswith(f"--set {override}: ")
    assert message in line


def test_contradictions_that_only_the_class_knows_are_found(here):
    place = "x.yaml, line 2: model.module: relu cannot be gated (given my_model.py:MyGPT)"
    assert refused("model.kind=relu") == place
    assert (
        refused("model.gated={choice: [false, true]}", "model.kind={choice: [gelu, relu]}") == place
    )
    found = load_search_file("x.yaml", "full", ["model.gated={choice: [false, true]}"])
    with pytest.raises(RecipeError, match="is not a range"):
        found.recipe({"model.base": 1, "model.gated": True, "model.kind": "relu"})


def test_both_scales_have_the_same_model(here):
    (here / "x.yaml").write_text(RECIPE.replace("d_model: 6", "module: my_model.py:Bare"))
    assert refused().startswith("x.yaml, line 5: mini.model.module: cannot be set")


BROKEN = [
    ("import nothing_of_the_kind", "line 1 raised ModuleNotFoundError: No module named 'nothing"),
    ("def f(:", "line 1 is not Python: "),
    ("\n1 / 0", "line 2 raised ZeroDivisionError: division by zero"),
    ("import sys\nsys.exit(3)", "line 2 raised SystemExit: 3"),
    ("", "has no class MyGPT (given my_model.py:MyGPT); it has no torch.nn.Module at all"),
    ("class MyGPT: pass", "MyGPT of "),
    ("from torch import nn\nMyGPT = nn.Linear(1, 1)", "is not a torch.nn.Module"),
    (GOOD.replace("Settings(Model)", "Settings"), "is not a subclass of raygpt.recipe.Model"),
    (GOOD.replace("Settings = Settings", "Settings = {'base': 1}"), "is not a subclass of"),
    (GOOD.replace("groups:", "dropout:"), "declares dropout again (given"),
    (GOOD.replace("groups:", "module:"), "declares module again"),
    (GOOD.replace("groups:", "own:"), "declares own again"),
    (GOOD.replace("10_000, gt", "-1, gt"), "base cannot have its default -1"),
    ("\0", "is not Python"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_an_error_in_the_file_is_one_message(here, text, message):
    (here / "my_model.py").write_text(text)
    before = set(sys.modules)
    line = refused()
    assert line.startswith("x.yaml, line 2: model.module: ")
    assert f"{here}/my_model.py" in line
    assert message in line
    (here / "my_model.py").write_bytes(b"\xff")
    assert "is not a text in UTF-8 (byte 0)" in refused()
    assert not {name for name in set(sys.modules) - before if name.startswith("raygpt_model")}


def test_a_file_runs_once_per_version_of_its_text(here):
    counted = GOOD + "\nopen('runs.txt', 'a').write('.')\n"
    (here / "my_model.py").write_text(counted)
    for scale in ("full", "mini", "full"):
        load_search_file("x.yaml", scale)
    assert (here / "runs.txt").read_text() == "."
    first = load_search_file("x.yaml")
    (here / "my_model.py").write_text(counted.replace("10_000", "20_000"))
    second = load_search_file("x.yaml")
    assert (here / "runs.txt").read_text() == ".."
    assert first != second
    assert first.baseline().model.base == 10_000.0
    assert second.baseline().model.base == 20_000.0


def test_the_digest_is_that_of_file_and_class(here):
    own = OwnModel.read(f"{here}/my_model.py:MyGPT")
    model = load_search_file("x.yaml").baseline().model
    assert module_digest(model) == f"MyGPT@{own.digest}"
    assert module_digest(Model()) is None
    (here / "elsewhere.py").write_text(GOOD)
    moved = load_search_file("x.yaml", "full", ["model.module=elsewhere.py:MyGPT"]).baseline()
    assert module_digest(moved.model) == module_digest(model)
    (here / "elsewhere.py").write_text(GOOD + "\n")
    edited = load_search_file("x.yaml", "full", ["model.module=elsewhere.py:MyGPT"]).baseline()
    assert module_digest(edited.model) != module_digest(model)


def test_a_copy_beside_the_recipe_comes_before_the_file(here):
    first = load_search_file("x.yaml")
    (here / COPY).write_text(GOOD)
    (here / "my_model.py").unlink()
    assert load_search_file("x.yaml") == first


def test_the_copy_stands_for_no_other_file(here):
    (here / COPY).write_text(GOOD)
    (here / "other.py").write_text(GOOD + "\n# another\n")
    other = load_search_file("x.yaml", overrides=["model.module=other.py:MyGPT"])
    assert other.own.source.endswith("# another\n")
    (here / "my_model.py").unlink()
    same = load_search_file("x.yaml", overrides=["model.module=my_model.py:MyGPT"])
    assert same == load_search_file("x.yaml")


def test_recipes_and_searches_are_unpickled_without_the_file(here):
    found = load_search_file("x.yaml")
    recipe = found.baseline()
    assert pickle.loads(pickle.dumps((found, recipe))) == (found, recipe)
    (here / "pickled").write_bytes(pickle.dumps((found, recipe)))
    (here / "my_model.py").unlink()
    code = (
        "import pickle\n"
        "found, recipe = pickle.load(open('pickled', 'rb'))\n"
        "assert found.baseline() == recipe\n"
        "print(recipe.model.base, recipe.model.own.model_class.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "10000.0 MyGPT\n"
