import json

import pytest

from raygpt.errors import UserError
from raygpt.recipe.own_model import COPY
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.run_folder import (
    create_run,
    hold_run,
    is_being_run,
    refuse_existing,
    reopen_run,
)

SEARCH = """\
name: lr
data: {corpus: sample, context: 64}
model: {dropout: {uniform: [0.0, 0.2]}, d_model: 64}
training: {tokens: 3M, batch_tokens: 2K, learning_rate: 1e-3}
search: {trials: 8}
mini:
  training: {tokens: 1M}
"""
DATA = {"corpus": "sample", "licence": "CC BY-SA 3.0"}

OWN_MODEL = """\
from torch import nn


class MyGPT(nn.Module):
    pass
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lr.yaml"
    path.write_text(SEARCH)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "lr"


@pytest.fixture
def start(file, folder):
    """Makes the run folder of a search."""

    def make(scale="mini", *overrides):
        search = load_search_file(file, scale, overrides)
        create_run(folder, search, list(overrides), ["raygpt.tune", "lr.yaml"], DATA)
        return search

    return make


def refused(folder, file, *overrides):
    """The one message with which a resumption is refused."""
    before = {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    with pytest.raises(UserError) as error:
        reopen_run(folder, file, overrides)
    assert before == {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    return str(error.value)


def test_a_run_folder_has_the_recipe_and_the_environment(start, folder):
    search = start("mini", "training.warmup=0.02")
    assert load_search_file(folder / files.SEARCH) == search
    made_with = json.loads((folder / files.ENVIRONMENT).read_text())
    assert made_with["scale"] == "mini"
    assert made_with["overrides"] == ["training.warmup=0.02"]
    assert made_with["command"] == ["raygpt.tune", "lr.yaml"]
    assert {"python", "raygpt", "ray", "torch", "optuna"} <= set(made_with["versions"])
    assert {path.name for path in folder.iterdir()} == {files.SEARCH, files.ENVIRONMENT}


def test_an_existing_run_is_not_overwritten(start, folder):
    start()
    before = (folder / files.SEARCH).read_text()
    for attempt in (lambda: refuse_existing(folder), lambda: start("full")):
        with pytest.raises(UserError, match=r"not overwritten; .* --resume, or .* --name NAME"):
            attempt()
    assert (folder / files.SEARCH).read_text() == before


def test_a_file_of_that_name_is_not_overwritten(start, folder):
    folder.parent.mkdir()
    folder.write_text("mine")
    with pytest.raises(UserError, match="exists and is not overwritten"):
        start()
    assert folder.read_text() == "mine"


def test_an_empty_folder_is_not_used(start, folder):
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="exists and is not overwritten"):
        start()


def test_a_folder_that_cannot_be_made_is_one_message(start, folder):
    folder.parent.write_text("a file where the folder of all runs would be")
    for attempt in (lambda: refuse_existing(folder), start):
        with pytest.raises(UserError, match=r"runs/lr cannot be made: .*--runs-dir"):
            attempt()


def test_a_parent_folder_without_permission_is_one_message(start, folder, monkeypatch):
    # The tests may run as root, who may write anywhere.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(
        UserError, match=r"you have no permission to write to .*runs; .* --runs-dir"
    ):
        refuse_existing(folder)


@pytest.mark.parametrize("scale", ["full", "mini"])
def test_an_unchanged_search_resumes_at_its_scale(start, folder, file, scale):
    search = start(scale, "training.warmup=0.02")
    before = (folder / files.ENVIRONMENT).read_bytes()
    for path in (file, folder / files.SEARCH):
        found = reopen_run(folder, path, [])
        assert found == search
        assert found.scale == scale
    # Repeating the options of the first start is no change.
    assert reopen_run(folder, file, ["training.warmup=0.02"]) == search
    assert (folder / files.ENVIRONMENT).read_bytes() == before


def test_a_search_resumes_with_a_copy_of_its_file(start, folder, tmp_path):
    search = start()
    copy = tmp_path / "copy.yaml"
    copy.write_text((folder / files.SEARCH).read_text())
    assert reopen_run(folder, copy, []) == search


def test_a_run_may_resume_with_another_path_of_its_data(start, folder, file):
    start()
    assert json.loads((folder / files.ENVIRONMENT).read_text())["data"] == DATA
    now = reopen_run(folder, file, ["data.corpus=wikipedia", "data.cache=s3://bucket/x"])
    assert now.fixed["data.corpus"] == "wikipedia"


def test_a_run_with_another_name_resumes(file, tmp_path):
    search = load_search_file(file, "mini")
    create_run(tmp_path / "second", search, [], [], DATA)
    assert reopen_run(tmp_path / "second", file, []) == search


def test_a_changed_file_is_refused_with_what_differs(start, folder, file):
    start()
    file.write_text(SEARCH.replace("1e-3", "2e-3").replace("0.2]", "0.3]"))
    message = refused(folder, file)
    assert message.startswith(f"--resume: {file} now differs from what {folder} was started with")
    assert "training.learning_rate was 0.001 and is 0.002" in message
    assert "model.dropout was {uniform: [0.0, 0.2]} and is {uniform: [0.0, 0.3]}" in message
    assert f"--resume with {folder / files.SEARCH}" in message
    assert "--name NAME" in message


def test_a_run_keeps_the_file_of_its_own_model(start, folder, file, tmp_path):
    model = tmp_path / "my_model.py"
    model.write_text(OWN_MODEL)
    module = f"{model}:MyGPT"
    search = start("mini", f"model.module={module}")
    assert (folder / COPY).read_text() == OWN_MODEL
    assert reopen_run(folder, file, []) == search
    model.write_text(OWN_MODEL + "# edited\n")
    assert f"the file of model.module ({model}) has changed" in refused(folder, file)
    model.unlink()
    assert "there is no file" in refused(folder, file)
    # The run's own search resumes with the copy.
    assert reopen_run(folder, folder / files.SEARCH, []) == search
    assert load_search_file(folder / files.SEARCH) == search


def test_a_change_at_the_other_scale_does_not_matter(start, folder, file):
    search = start("mini")
    file.write_text(SEARCH.replace("tokens: 3M", "tokens: 4M"))
    assert reopen_run(folder, file, []) == search


def test_a_set_that_changes_the_search_is_refused(start, folder, file):
    start()
    assert "model.dropout was {uniform: [0.0, 0.2]} and is 0.1" in refused(
        folder, file, "model.dropout=0.1"
    )
    assert "training.tokens was 1000000 and is 2000000" in refused(
        folder, folder / files.SEARCH, "training.tokens=2M"
    )
    assert "unknown key" in refused(folder, file, "x=1")


@pytest.mark.parametrize("own", [True, False])
def test_trials_may_be_raised_and_stay_raised(start, folder, file, own):
    start("mini", "training.warmup=0.02")
    path = folder / files.SEARCH if own else file
    found = reopen_run(folder, path, ["search.trials=20", "search.concurrent=2"])
    assert (found.search.trials, found.search.concurrent) == (20, 2)
    # Interrupted again, it resumes with all of them.
    for again in (file, folder / files.SEARCH):
        assert reopen_run(folder, again, []) == found
    assert load_search_file(folder / files.SEARCH) == found
    made_with = json.loads((folder / files.ENVIRONMENT).read_text())
    assert made_with["overrides"][0] == "training.warmup=0.02"
    assert made_with["command"] == ["raygpt.tune", "lr.yaml"]


def test_a_search_may_be_confirmed_afterwards(start, folder, file):
    start()
    found = reopen_run(folder, file, ["search.confirm={top: 2, seeds: 4}"])
    assert (found.search.confirm.top, found.search.confirm.seeds) == (2, 4)
    assert load_search_file(folder / files.SEARCH) == found
    assert reopen_run(folder, file, ["search.confirm=null"]).search.confirm is None


def test_trials_may_be_raised_in_the_file(start, folder, file):
    start()
    file.write_text(SEARCH.replace("trials: 8", "trials: 9"))
    assert reopen_run(folder, file, []).search.trials == 9
    assert load_search_file(folder / files.SEARCH).search.trials == 9


def test_without_a_run_there_is_nothing_to_resume(folder, file):
    assert refused(folder, file).endswith(
        f"there is no run in {folder}; leave out --resume to start one"
    )
    folder.mkdir(parents=True)
    assert f"{folder} is not a run folder (no search.yaml in it)" in refused(folder, file)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[1]", b"{}", b'{"scale": "mini"}', None])
def test_a_damaged_environment_is_one_message(start, folder, file, damage):
    start()
    if damage is None:
        (folder / files.ENVIRONMENT).unlink()
    else:
        (folder / files.ENVIRONMENT).write_bytes(damage)
    message = refused(folder, file)
    assert "environment.json cannot be read" in message
    assert "\n" not in message


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"name: [", b"name: lr\n"])
def test_a_damaged_search_is_one_message(start, folder, file, damage):
    start()
    (folder / files.SEARCH).write_bytes(damage)
    assert str(folder / files.SEARCH) in refused(folder, file)


def test_a_running_run_is_recognised_by_its_lock(start, folder):
    start()
    assert not is_being_run(folder)
    with hold_run(folder):
        assert is_being_run(folder)
        with pytest.raises(UserError, match="another process is running in "), hold_run(folder):
            pass
    assert not is_being_run(folder)
