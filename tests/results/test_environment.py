import json
import re
import subprocess

from raygpt.results import environment as module
from raygpt.results.environment import environment, git_commit


def test_the_environment_is_plain_json():
    found = environment(["raygpt.tune", "x.yaml"])
    assert json.loads(json.dumps(found)) == found
    assert found["command"] == ["raygpt.tune", "x.yaml"]
    assert set(found["versions"]) == {"python", "raygpt", *module.LIBRARIES}
    assert all(re.match(r"\d+\.", number) for number in found["versions"].values())
    assert found["cpus"] >= 1
    assert isinstance(found["gpus"], list)
    assert found["processor"]


def checkout(folder):
    """A git repository with raygpt's modules where they lie in a checkout."""
    place = folder / "raygpt" / "results" / "environment.py"
    place.parent.mkdir(parents=True)
    place.write_text("")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return place


def test_the_commit_and_whether_there_are_changes(tmp_path, monkeypatch):
    place = checkout(tmp_path)
    monkeypatch.setattr(module, "__file__", str(place))
    assert re.fullmatch("[0-9a-f]{40}", git_commit())
    place.write_text("changed")
    assert re.fullmatch("[0-9a-f]{40}-dirty", git_commit())


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "raygpt/results/environment.py"))
    assert git_commit() is None


def test_the_commit_of_another_projects_checkout_is_not_used(tmp_path, monkeypatch):
    checkout(tmp_path)
    installed = tmp_path / "venv/site-packages/raygpt/results/environment.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(installed))
    assert git_commit() is None


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(checkout(tmp_path)))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None
