from pathlib import Path

import pytest

from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.search.summary import summarise


@pytest.fixture
def run(tables, begin, report):
    """Runs a trial for each of the given statuses."""

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
def summary_of(folder, make_search):
    def summary(trials, folder=folder, overrides=()):
        search_file = make_search(f"search.trials={trials}", *overrides)
        return summarise(load_results(folder), search_file)

    return summary


def test_a_search_that_ended(run, summary_of, folder):
    run("completed", "stopped", "diverged", "completed")
    text, status = summary_of(4)
    assert status == 0
    lines = text.splitlines()
    assert lines[0] == "4 of 4 trials ended (2 completed, 1 stopped, 1 diverged)."
    # The last line of the headings, and the trials.
    heading = next(number for number, line in enumerate(lines) if line.startswith("trial"))
    table = lines[heading : heading + 5]
    assert [line.split()[0] for line in table] == ["trial", "0000", "0003", "0001", "0002"]
    assert f"all trials    python -m raygpt.leaderboard {folder}" in lines
    assert f"tables        {folder / 'trials.parquet'}, {folder / 'history.parquet'}" in lines
    assert f"log           {folder / 'run.log'}" in lines
    assert "best recipe" not in text
    assert "best model" not in text


def test_best_recipe_and_model_are_named_if_they_exist(run, summary_of, tables, folder):
    run("completed", "completed")
    tables.set_checkpoint("0000", folder.absolute() / "trials/0000/checkpoint")
    (folder / files.BEST_RECIPE).write_text("")
    lines = summary_of(2)[0].splitlines()
    assert f"best recipe   python -m raygpt.train {folder / 'best.yaml'}" in lines
    assert f"best model    {folder / 'trials/0000/checkpoint'}" in lines


def test_only_the_best_few_are_shown(run, summary_of):
    run(*["completed"] * 9)
    assert "0004" in summary_of(9)[0]
    assert "0005" not in summary_of(9)[0]


def test_without_a_result_the_status_is_1(run, summary_of):
    run("failed", "diverged")
    text, status = summary_of(2)
    assert status == 1
    assert text.startswith("2 of 2 trials ended (1 failed, 1 diverged).")
    assert "it went wrong" in text


def test_a_single_result_is_success(run, summary_of):
    run("failed", "diverged", "stopped")
    assert summary_of(3)[1] == 0


@pytest.mark.parametrize("statuses", [(), ("completed", "running"), ("failed",), ("completed",)])
def test_an_interrupted_search_says_how_to_continue(run, summary_of, folder, statuses):
    run(*statuses)
    text, status = summary_of(3)
    assert status == 130
    ended = sum(status != "running" for status in statuses)
    assert text.startswith(f"Interrupted: {ended} of 3 trials ended")
    assert (
        f"  python -m raygpt.tune {folder / 'search.yaml'} --resume --runs-dir {folder.parent}"
    ) in text.splitlines()


def test_in_the_default_folder_the_command_is_shorter(run, summary_of, folder, monkeypatch):
    run("running")
    monkeypatch.chdir(folder.parent.parent)
    lines = summary_of(3, Path("runs/tiny"))[0].splitlines()
    assert "  python -m raygpt.tune runs/tiny/search.yaml --resume" in lines


def test_commands_are_quoted_where_a_shell_needs_it(run, summary_of, folder):
    run("running")
    odd = folder.parent.parent / "my runs"
    odd.mkdir()
    folder.rename(odd / "tiny")
    text = summary_of(3, odd / "tiny")[0]
    assert f"raygpt.tune '{odd}/tiny/search.yaml' --resume --runs-dir '{odd}'" in text
    assert f"raygpt.leaderboard '{odd}/tiny'" in text


# --- confirmation -------------------------------------------------------------------------------

CONFIRM = ["search.confirm={top: 2, seeds: 2}"]


@pytest.fixture
def confirm(tables, begin, report):
    """Runs that confirm a trial, by their scores; None for one that is running."""

    def confirm(trial_id, *scores):
        for number, bits in enumerate(scores, 1):
            name = f"{trial_id}-{number}"
            begin(name, seed=10 + number, confirms=trial_id)
            if bits is not None:
                tables.add_report(name, report(2, bits))
                tables.end_trial(name, "completed")

    return confirm


def test_a_confirmed_search_says_which_differences_are_real(run, confirm, summary_of):
    run("completed", "completed", "stopped")
    confirm("0000", 2.5, 2.51)
    confirm("0001", 2.25, 2.26)
    text, status = summary_of(3, overrides=CONFIRM)
    assert status == 0
    lines = text.splitlines()
    assert lines[0] == (
        "3 of 3 trials ended (2 completed, 1 stopped). "
        "4 of 4 runs that confirm them ended (4 completed)."
    )
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["trial", "runs"],
        ["0001", "2"],
        ["0000", "2"],
    ]
    assert any(line.startswith("- 0001 is better than 0000 (0.2500 bits") for line in lines)


def test_an_interrupted_confirmation_can_be_continued(run, confirm, summary_of):
    run("completed", "completed")
    confirm("0000", 2.5, None)
    text, status = summary_of(2, overrides=CONFIRM)
    assert status == 130
    assert text.startswith(
        "Interrupted: 2 of 2 trials ended (2 completed). "
        "1 of 4 runs that confirm them ended (1 completed, 1 running). All results are kept; "
        "continue with"
    )
    # The user may also have taken the confirmation out of the recipe.
    text, status = summary_of(2)
    assert status == 0


def test_a_search_interrupted_before_its_confirmation(run, summary_of):
    run("completed", "running")
    text, status = summary_of(2, overrides=CONFIRM)
    assert status == 130
    assert text.startswith("Interrupted: 1 of 2 trials ended (1 completed, 1 running). All results")


@pytest.mark.parametrize(("statuses", "best"), [(["stopped"] * 2, 0), (["completed"] * 1, 1)])
def test_a_confirmation_with_too_few_completed_configurations_is_reported(
    run, summary_of, confirm, statuses, best
):
    run(*statuses)
    if best:
        confirm("0000", 2.5, 2.51)
    text, status = summary_of(len(statuses), overrides=CONFIRM)
    assert status == 0
    assert text.splitlines()[0].endswith(
        f" Only {best} of the 2 configurations to confirm were completed."
    )


def test_all_confirmed_trials_are_shown(run, confirm, summary_of):
    run(*["completed"] * 8)
    for number in range(6):
        confirm(f"{number:04}", 2.5, 2.51)
    text, _ = summary_of(8)
    assert "12 of 12 runs that confirm them ended (12 completed)." in text
    for block in text.split("\n\n")[1:4:2]:
        assert [line[:4] for line in block.splitlines() if line[:1] == "0"] == [
            f"{number:04}" for number in range(6)
        ]


def test_the_best_model_is_one_of_the_full_budget(run, confirm, summary_of, tables, folder):
    run("stopped", "completed")
    tables.set_checkpoint("0000", folder.absolute() / "trials/0000/checkpoint")
    confirm("0000", 1.5, 1.51)
    tables.set_checkpoint("0000-2", folder.absolute() / "trials-2/0000-2/checkpoint")
    lines = summary_of(2)[0].splitlines()
    assert f"best model    {folder / 'trials-2/0000-2/checkpoint'}" in lines
