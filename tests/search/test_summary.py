from pathlib import Path

import pytest

from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.search.summary import summarise


@pytest.fixture
def run(tables, begin, report):
    """Runs as many trials as statuses are named."""

    def run(*statuses):
        for number, status in enumerate(statuses):
            name = f"{number:04}"
            begin(name, learning_rate=1e-3 * (number + 1))
            if status in ("failed", "diverged"):
                tables.end_trial(name, status, "it went wrong")
                continue
            rung = {"completed": 2, "stopped": 0, "running": 1}[status]
            tables.add_report(name, report(rung, 2.0 + number / 10))
            if status != "running":
                tables.end_trial(name, status)

    return run


@pytest.fixture
def said(folder, make_search):
    def summary(trials, folder=folder):
        return summarise(load_results(folder), make_search(f"search.trials={trials}"))

    return summary


def test_a_search_that_ended(run, said, folder):
    run("completed", "stopped", "diverged", "completed")
    text, status = said(4)
    assert status == 0
    lines = text.splitlines()
    assert lines[0] == "4 of 4 trials ended (2 completed, 1 stopped, 1 diverged)."
    assert [line.split()[0] for line in lines[2:7]] == ["trial", "0000", "0003", "0001", "0002"]
    assert f"leaderboard   python -m raygpt.leaderboard {folder}" in lines
    assert f"tables        {folder / 'trials.parquet'}, {folder / 'history.parquet'}" in lines
    assert f"log           {folder / 'run.log'}" in lines
    assert "best recipe" not in text
    assert "best model" not in text


def test_best_recipe_and_model_are_named_where_there_are_any(run, said, tables, folder):
    run("completed", "completed")
    tables.set_checkpoint("0000", folder.absolute() / "trials/0000/checkpoint")
    (folder / files.BEST_RECIPE).write_text("")
    lines = said(2)[0].splitlines()
    assert f"best recipe   python -m raygpt.train {folder / 'best.yaml'}" in lines
    assert f"best model    {folder / 'trials/0000/checkpoint'}" in lines


def test_no_more_than_the_best_few_are_shown(run, said):
    run(*["completed"] * 9)
    assert "0004" in said(9)[0]
    assert "0005" not in said(9)[0]


def test_without_a_result_the_status_is_1(run, said):
    run("failed", "diverged")
    text, status = said(2)
    assert status == 1
    assert text.startswith("2 of 2 trials ended (1 failed, 1 diverged).")
    assert "it went wrong" in text


def test_a_single_result_is_success(run, said):
    run("failed", "diverged", "stopped")
    assert said(3)[1] == 0


@pytest.mark.parametrize("statuses", [(), ("completed", "running"), ("failed",), ("completed",)])
def test_an_interrupted_search_says_how_to_go_on(run, said, folder, statuses):
    run(*statuses)
    text, status = said(3)
    assert status == 130
    ended = sum(status != "running" for status in statuses)
    assert text.startswith(f"Interrupted: {ended} of 3 trials ended")
    assert (
        f"  python -m raygpt.tune {folder / 'search.yaml'} --resume --runs-dir {folder.parent}"
    ) in text.splitlines()


def test_in_the_usual_folder_the_command_is_shorter(run, said, folder, monkeypatch):
    run("running")
    monkeypatch.chdir(folder.parent.parent)
    lines = said(3, Path("runs/tiny"))[0].splitlines()
    assert "  python -m raygpt.tune runs/tiny/search.yaml --resume" in lines


def test_commands_are_quoted_where_a_shell_needs_it(run, said, folder):
    run("running")
    odd = folder.parent.parent / "my runs"
    odd.mkdir()
    folder.rename(odd / "tiny")
    text = said(3, odd / "tiny")[0]
    assert f"raygpt.tune '{odd}/tiny/search.yaml' --resume --runs-dir '{odd}'" in text
    assert f"raygpt.leaderboard '{odd}/tiny'" in text
