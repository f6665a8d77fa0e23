import pytest

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.fields import GPT_SCHEMA
from raygpt.recipe.settings import check_file, check_overrides, read_file, read_overrides


def settings_of(path):
    return check_file(read_file(path), path, GPT_SCHEMA)


def test_settings_know_their_file_and_line(written):
    path = written("name: n\ntraining:\n  tokens: 3M\nmini:\n  training: {tokens: 1M}\n")
    settings, mini, problems = settings_of(path)
    assert problems == []
    assert list(settings) == ["name", "training.tokens"]
    assert settings["training.tokens"].where == f"{path}, line 3"
    assert settings["training.tokens"].label == "training.tokens"
    assert mini["training.tokens"].where == f"{path}, line 5"
    assert mini["training.tokens"].label == "mini.training.tokens"


def test_empty_sections_and_a_byte_order_mark_are_fine(written):
    assert settings_of(written(b"\xef\xbb\xbfmodel:\nmini:\n")) == ({}, {}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: is not a recipe (given nothing)"),
        ("just text", "line 1: is not a recipe (given just text)"),
        ("- a", "line 1: is not a recipe (given [a])"),
        ("a: [", "line 1: is not YAML"),
        (b"name: \xff", "not a text in UTF-8 (byte 6)"),
        ("model: {n_heads: 1, n_heads: 2}", "line 1: model.n_heads: is given twice (given 2)"),
    ],
)
def test_files_without_a_recipe(written, text, message):
    path = written(text)
    with pytest.raises(RecipeError) as error:
        read_file(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "lr_sched.yaml").write_text("")
    with pytest.raises(RecipeError, match=r"no such file; did you mean .*lr_sched\.yaml"):
        read_file(tmp_path / "lr_shed.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        read_file(tmp_path)


def test_overrides():
    given, problems = read_overrides(
        ["training.tokens=2M", "model.dropout = {uniform: [0, 1/2]}", "training.tokens=3M"]
    )
    assert problems == []
    settings, problems = check_overrides(given, GPT_SCHEMA)
    assert problems == []
    assert settings["training.tokens"].entry.plain() == "3M"
    assert settings["model.dropout"].entry.plain() == {"uniform": [0, "1/2"]}
    assert settings["model.dropout"].where == "--set model.dropout = {uniform: [0, 1/2]}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.tokens", "is not a setting; write --set KEY=VALUE"),
        ("tokens=2M", 'tokens: unknown key (given 2M); it belongs elsewhere, as "training.tokens"'),
        ("training.tokns=2M", 'did you mean "tokens"'),
        ("trainig.tokens=2M", 'unknown section "trainig" (given 2M); did you mean "training"'),
        ("model={d_model: 3}", "model: is a section (given {d_model: 3}); set one of its keys"),
        ("mini.model.n_heads=2", "set model.n_heads itself"),
        ("model.n_heads=[", "--set model.n_heads=[: is not YAML"),
        ("model.n_heads=!!python/name:os.x 1", "the tag !!python/name:os.x is refused"),
    ],
)
def test_overrides_refused(override, message):
    given, problems = read_overrides([override])
    settings, more_problems = check_overrides(given, GPT_SCHEMA)
    (problem,) = problems + more_problems
    assert settings == {}
    assert problem.startswith(f"--set {override}: ")
    assert message in problem
