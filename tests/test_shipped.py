from pathlib import Path

import pytest

from raygpt.errors import UserError
from raygpt.recipe import load_search_file
from raygpt.shipped import describe_shipped, find_recipe, question, shipped_recipes

FOLDER = Path(__file__).parents[1] / "search_spaces"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(name):
    with pytest.raises(UserError) as error:
        find_recipe(Path(name))
    return str(error.value)


def test_every_file_of_the_folder_is_found_by_the_name_that_its_run_gets(here):
    assert set(shipped_recipes().values()) == set(FOLDER.glob("*.yaml"))
    for name, path in shipped_recipes().items():
        assert find_recipe(Path(name)) == path
        assert load_search_file(path).name == name


def test_each_shipped_recipe_is_described_by_its_question(here):
    lines = describe_shipped().splitlines()
    assert [line.split()[0] for line in lines] == sorted(shipped_recipes())
    assert "  lr_sched              Which learning-rate schedule, " in describe_shipped()
    for path in shipped_recipes().values():
        assert question(path).endswith("?")


def test_a_file_without_a_comment_has_no_question(here):
    (here / "a.yaml").write_text("data: {}\n# Which?\n")
    (here / "b.yaml").write_text("")
    assert (question(here / "a.yaml"), question(here / "b.yaml")) == ("", "")


def test_a_file_here_comes_first_and_a_folder_does_not(here):
    (here / "lr_sched").mkdir()
    assert find_recipe(Path("lr_sched")) == FOLDER / "lr_sched.yaml"
    (here / "baseline").write_text("data: {}\n")
    assert find_recipe(Path("baseline")) == Path("baseline")


def test_paths_are_left_as_they_are(here):
    (here / "my.yaml").write_text("")
    for given in ("my.yaml", str(here / "my.yaml"), "nowhere/lr_sched", "/nowhere", "n" * 300):
        assert find_recipe(Path(given)) == Path(given)


def test_an_unknown_name_lists_the_shipped_recipes_and_the_nearest(here):
    message = refusal("lr_shed")
    assert 'no recipe of that name comes with raygpt; did you mean "lr_sched"? ' in message
    assert message.endswith(f"These come with raygpt:\n{describe_shipped()}")
    assert 'did you mean "lr_sched"?' in refusal("lr_sched.yaml")
    assert "did you mean" not in refusal("zzz")
    (here / "tiny.yaml").write_text("")
    assert refusal("tiny").startswith("tiny: there is no such file here, and ")
    assert 'did you mean "tiny.yaml"?' in refusal("tiny.yml")


def test_a_broken_link_is_named(here):
    (here / "link.yaml").symlink_to("gone.yaml")
    assert refusal("link.yaml") == "link.yaml: is a link to gone.yaml, which does not exist"
