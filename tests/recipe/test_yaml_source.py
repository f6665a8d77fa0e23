import pytest

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.yaml_source import read_yaml

TEXT = """\
# a comment
a: 1_000
b:
  c: {uniform: [2e-4,
                1/3]}
  d: "12"
e:
f: [true, yes, ~, 2020-01-01, 0x10]
"""


def test_values_lines_and_wording():
    root = read_yaml(TEXT)
    assert root.plain() == {
        "a": 1000,
        "b": {"c": {"uniform": [0.0002, "1/3"]}, "d": "12"},
        "e": None,
        "f": [True, "yes", None, "2020-01-01", "0x10"],
    }
    inner = root.value["b"].value
    assert (root.value["a"].line, inner["c"].line, inner["d"].line) == (2, 4, 6)
    assert inner["c"].text == "{uniform: [2e-4, 1/3]}"
    assert root.value["a"].quote() == "1_000"
    assert root.value["e"].quote() == "nothing"


def test_long_wording_is_cut():
    assert read_yaml("x" * 500).quote() == "x" * 79 + "…"


def test_an_empty_text_has_no_value():
    assert read_yaml("# only a comment\n").plain() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a: is given twice (given 3); first on line 1"),
        ("t:\n  a: 1\n  a: 2", "line 3: t.a: is given twice (given 2); first on line 2"),
        ("a: [1\nb: 2", "line 2: is not YAML"),
        ("a: 1\n\tb: 2", "line 2: is not YAML"),
        ("a: 1\n---\nb: 2", "line 2: is not YAML"),
        ("a: 1\nb: !!python/object:os.system x", "line 2: b: the tag !!python/object:os.system"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: a: the tag !!python/object/apply"),
        ("a: !mine 3", "line 1: a: the tag !mine is refused"),
        ("a: &x {b: 1}\nc: *x", "line 2: c: is a YAML alias of an anchor"),
        ("a: &x [*x]", "line 1: a: is a YAML alias of an anchor"),
        ("a: *x", "line 1: is not YAML"),
        ("? [a]\n: 1", "line 1: a key must be a single word"),
        ("[" * 1000, "line 1: is nested too deeply"),
        ("a: \x01", "line 1: is not YAML"),
    ],
)
def test_invalid_yaml_is_refused(text, message):
    with pytest.raises(RecipeError) as error:
        read_yaml(text)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_several_problems_come_together():
    with pytest.raises(RecipeError) as error:
        read_yaml("a: 1\na: 2\nb: !x 3")
    assert len(str(error.value).splitlines()) == 2
