import math
import time
from datetime import datetime, timedelta, timezone

import pandas as pd
import pytest

import raygpt
from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.columns import HISTORY_COLUMNS, TRIAL_COLUMNS
from raygpt.results.tables import (
    RunTables,
    best_trial,
    load_results,
    ranked,
    rows,
)

DESIGNED = [
    *("trial_id", "status", "tokens", "tokens_trained", "bits_per_byte", "bits_per_token"),
    *("next_token_accuracy", "seconds", "tokens_per_second", "seed", "error"),
]


def test_the_columns_are_those_of_the_design(search):
    results = raygpt.load_results(search.folder)
    assert set(DESIGNED) <= set(results.trials)
    assert list(results.trials) == [*TRIAL_COLUMNS, *search.searched]
    assert list(results.history) == list(HISTORY_COLUMNS)
    for frame, columns in ((results.trials, TRIAL_COLUMNS), (results.history, HISTORY_COLUMNS)):
        types = {name: column.type for name, column in columns.items()}
        assert {name: str(frame[name].dtype) for name in columns} == types
        assert all(column.meaning for column in columns.values())
    assert results.trials["training.weight_decay"].dtype == "float64"
    assert results.trials["model.n_layers"].dtype == "int64"


def test_an_empty_search_has_its_tables(tables):
    results = load_results(tables.folder)
    assert list(results.trials) == [*TRIAL_COLUMNS, *tables.searched]
    assert len(results.trials) == len(results.history) == 0
    assert str(results.history["time"].dtype) == HISTORY_COLUMNS["time"].type
    assert results.best is None
    assert tables.best() is None
    assert (tables.folder / files.LEADERBOARD).read_text().startswith("trial_id,status,")


def test_a_trial_without_reports_is_running(tables, begin):
    begin("0000", learning_rate=3e-4)
    (row,) = load_results(tables.folder).trials.to_dict("records")
    assert (row["trial_id"], row["status"], row["seed"]) == ("0000", "running", 7)
    assert row["training.learning_rate"] == 3e-4
    for name in ("tokens", "bits_per_byte", "error", "checkpoint"):
        assert pd.isna(row[name])
    assert load_results(tables.folder).best is None


def test_a_report_between_rungs_leaves_the_figures_of_the_last_rung(tables, begin, report):
    begin("0000")
    tables.add_report("0000", report(300, 2.0, 0))
    tables.add_report("0000", report(600))
    results = load_results(tables.folder)
    (row,) = results.trials.to_dict("records")
    assert (row["tokens"], row["rung"], row["bits_per_byte"]) == (300, 0, 2.0)
    assert (row["tokens_trained"], row["seconds"], row["tokens_per_second"]) == (600, 1.2, 500)
    assert list(results.history["tokens"]) == [300, 600]
    assert results.history["rung"].isna().tolist() == [False, True]
    assert results.history["bits_per_byte"].isna().tolist() == [False, True]
    age = datetime.now(timezone.utc) - results.history["time"].iloc[-1]
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_how_trials_end(search):
    rows = load_results(search.folder).trials.set_index("trial_id")
    assert list(rows["status"]) == [
        "completed",
        "stopped",
        "running",
        "completed",
        "running",
        "diverged",
        "failed",
    ]
    assert rows.loc["0005", "error"] == "the training loss is nan"
    assert rows.loc["0006", "error"].endswith("is full | a :smile:\nno room")
    assert rows["error"].notna().sum() == 2
    with pytest.raises(AssertionError):
        search.end_trial("0002", "lost")


def test_existing_tables_are_continued_unchanged(search, made_search):
    before = load_results(search.folder)
    again = search
    assert again.trials == made_search.trials
    assert again.history == made_search.history
    assert "error" not in again.trial("0003")
    again.begin_trial("0002", 7, {})
    after = load_results(search.folder)
    pd.testing.assert_frame_equal(after.trials, before.trials)
    pd.testing.assert_frame_equal(after.history, before.history)


def test_a_resumed_trial_drops_reports_that_it_will_repeat(search, report):
    again = RunTables(search.folder, search.searched)
    again.drop_reports_after("0004", 300)
    history = load_results(search.folder).history
    assert list(history[history["trial_id"] == "0004"]["tokens"]) == [300]
    assert len(history) == 6
    again.add_report("0004", report(600))
    history = load_results(search.folder).history
    assert list(history[history["trial_id"] == "0004"]["tokens"]) == [300, 600]


def test_a_failed_trial_that_resumes_has_no_error(search):
    search.begin_trial("0006", 7, {})
    row = load_results(search.folder).trials.set_index("trial_id").loc["0006"]
    assert row["status"] == "running"
    assert pd.isna(row["error"])


def test_checkpoints_are_relative_within_the_run_folder(tables, begin, report):
    begin("0000")
    tables.set_checkpoint("0000", tables.folder / "trials/0000", tokens_trained=150)
    assert tables.trial("0000")["checkpoint"] == "trials/0000"
    assert load_results(tables.folder).trials.loc[0, "checkpoint_tokens"] == 150
    tables.add_report("0000", report(300))
    tables.set_checkpoint("0000", "/elsewhere/0000")
    row = load_results(tables.folder).trials.loc[0]
    assert (row["checkpoint"], row["checkpoint_tokens"]) == ("/elsewhere/0000", 300)


def test_a_larger_budget_ranks_before_fewer_bits(search):
    order = ranked(load_results(search.folder).trials)
    assert list(order["trial_id"]) == ["0003", "0000", "0004", "0001", "0002", "0005", "0006"]
    assert list(order.index) == list(range(7))
    search.flush()
    on_disk = pd.read_csv(search.folder / files.LEADERBOARD, dtype={"trial_id": str})
    assert list(on_disk["trial_id"]) == list(order["trial_id"])
    assert list(on_disk) == list(order)


def test_the_best_trial(search):
    assert search.best()["trial_id"] == "0003"
    assert load_results(search.folder).best["trial_id"] == "0003"


def test_a_trial_without_a_score_is_never_the_best(search):
    frame = load_results(search.folder).trials
    assert best_trial(frame[frame["trial_id"].isin(["0002", "0006"])]) is None
    assert best_trial(frame[frame["trial_id"].isin(["0001", "0002", "0005"])])["trial_id"] == "0001"


def test_equal_trials_keep_their_order(tables, begin, report):
    for trial_id in ("0000", "0001", "0002"):
        begin(trial_id)
    for trial_id in ("0002", "0000", "0001"):
        tables.add_report(trial_id, report(300, 2.0, 0))
    assert list(ranked(load_results(tables.folder).trials)["trial_id"]) == ["0000", "0001", "0002"]


def test_confirmed_trials_rank_first_by_their_further_runs(confirmed):
    results = load_results(confirmed.folder)
    order = ranked(results.trials)
    assert list(order["trial_id"]) == ["0001", "0002", "0000", "0003", "0004"]
    added = ["runs", "diverged_runs", "mean", "standard_error", "ci_low", "ci_high"]
    assert list(order) == [*results.trials, *added]
    assert order["mean"][0] == pytest.approx(2.49)
    confirmed.flush()
    on_disk = pd.read_csv(confirmed.folder / files.LEADERBOARD, dtype={"trial_id": str})
    assert list(on_disk) == list(order)
    assert list(on_disk["trial_id"]) == list(order["trial_id"])
    # The row of the search itself.
    assert (results.best["trial_id"], results.best["bits_per_byte"]) == ("0001", 2.5)
    assert confirmed.best()["trial_id"] == "0001"
    assert [row["trial_id"] for row in confirmed.search_trials] == [f"{n:04}" for n in range(5)]
    assert results.conclusions[1].startswith("0001 is better than baseline 0000")


def test_one_further_run_decides_nothing(tables, begin, report):
    for trial_id, bits in {"0000": 2.5, "0001": 2.0}.items():
        begin(trial_id)
        tables.add_report(trial_id, report(900, bits, 1))
        tables.end_trial(trial_id, "completed")
    for number, best in [(1, "0001"), (2, "0000")]:
        begin(f"0000-{number}", seed=number, confirms="0000")
        tables.add_report(f"0000-{number}", report(900, 1.5, 1))
        assert tables.best()["trial_id"] == "0001"
        tables.end_trial(f"0000-{number}", "completed")
        assert tables.best()["trial_id"] == best


def test_tables_of_an_earlier_version_lack_columns(search):
    trials = pd.read_parquet(search.folder / files.TRIALS)
    trials.drop(columns=["baseline", "confirms"]).to_parquet(search.folder / files.TRIALS)
    results = load_results(search.folder)
    assert list(results.trials)[: len(TRIAL_COLUMNS)] == list(TRIAL_COLUMNS)
    assert results.best["trial_id"] == "0003"


def made(folder):
    folder.mkdir(parents=True)
    return folder


def test_a_folder_without_a_run_is_one_message(tmp_path):
    RunTables(made(tmp_path / "runs" / "lr_sched"), ())
    RunTables(made(tmp_path / "runs" / "baseline"), ())
    with pytest.raises(UserError, match=r"nowhere: no such folder$"):
        load_results(tmp_path / "nowhere")
    with pytest.raises(
        UserError, match=r"not a run folder .*; run folders in it: \S+baseline, \S+lr_sched$"
    ):
        load_results(tmp_path / "runs")
    empty = made(tmp_path / "empty")
    with pytest.raises(UserError, match=r"empty: not a run folder \(no trials.parquet in it\)$"):
        load_results(empty)


@pytest.mark.parametrize("name", [files.TRIALS, files.HISTORY])
@pytest.mark.parametrize("damage", [b"", b"PAR1 is how it begins", None])
def test_a_broken_table_is_one_message(search, name, damage):
    if damage is None:
        (search.folder / name).unlink()
        (search.folder / name).mkdir()
        (search.folder / name / "x.parquet").write_bytes(b"")
    else:
        (search.folder / name).write_bytes(damage)
    with pytest.raises(UserError, match="parquet"):
        load_results(search.folder)


# --- the journal --------------------------------------------------------------------------------


@pytest.fixture
def journalled(tables, begin, report, monkeypatch):
    """Tables whose changes so far are all in the journal."""
    monkeypatch.setattr(tables, "_due", math.inf)
    begin("0000", learning_rate=3e-4)
    begin("0001", n_layers=3)
    tables.add_report("0000", report(300, 2.0, 0))
    tables.set_checkpoint("0000", tables.folder / "trials" / "0000")
    tables.add_report("0001", report(300, 2.5, 0))
    tables.end_trial("0001", "diverged", "the loss is nan\n\u2028Ωx")
    tables.add_report("0000", report(900, 1.75, 1))
    tables.end_trial("0000", "completed")
    return tables


def tables_on_disk(folder):
    """The tables on disk, for comparison."""
    results = load_results(folder)
    tables = (results.trials, results.history)
    return [(table.to_json(date_format="iso"), str(table.dtypes)) for table in tables]


def test_changes_in_the_journal_are_loaded(journalled):
    assert len(pd.read_parquet(journalled.folder / files.TRIALS)) == 0
    before = tables_on_disk(journalled.folder)
    assert load_results(journalled.folder).best["bits_per_byte"] == 1.75
    assert rows(load_results(journalled.folder).trials) == journalled.trials
    journalled.flush()
    assert not (journalled.folder / files.JOURNAL).exists()
    assert tables_on_disk(journalled.folder) == before
    assert len(pd.read_parquet(journalled.folder / files.TRIALS)) == 2


def test_existing_tables_are_continued_with_their_journal(journalled):
    again = RunTables(journalled.folder, journalled.searched)
    assert again.trials == journalled.trials
    assert [row["tokens"] for row in again.history] == [300, 300, 900]
    with (journalled.folder / files.JOURNAL).open("a") as file:
        file.write('{"trial": {"trial_id": "00')  # a kill
    again.end_trial("0000", "failed", "x")
    assert load_results(journalled.folder).trials["status"].tolist() == ["failed", "diverged"]
    assert not (journalled.folder / files.JOURNAL).exists()


def test_an_incomplete_journal_line_is_ignored(journalled):
    path = journalled.folder / files.JOURNAL
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert load_results(journalled.folder).trials["status"].tolist() == ["running", "diverged"]
    assert len(load_results(journalled.folder).history) == 3


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_kill_between_the_files_of_a_flush(journalled, monkeypatch, written):
    before = tables_on_disk(journalled.folder)
    left = [None] * written
    replace = files.replace_file

    def until_killed(*arguments):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        replace(*arguments)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "replace_file", until_killed)
    monkeypatch.setattr(type(journalled.folder), "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        journalled.flush()
    assert tables_on_disk(journalled.folder) == before


def test_the_table_files_are_refreshed_when_due(journalled, monkeypatch):
    journalled.refresh()
    assert len(pd.read_parquet(journalled.folder / files.TRIALS)) == 0
    monkeypatch.setattr(journalled, "_due", 0.0)
    journalled.refresh()
    assert len(pd.read_parquet(journalled.folder / files.TRIALS)) == 2
    assert journalled._due > time.monotonic()


def test_dropped_reports_do_not_return_from_the_journal(journalled, report):
    journalled.drop_reports_after("0000", 300)
    journalled._due = math.inf
    journalled.add_report("0000", report(600))
    assert load_results(journalled.folder).history["tokens"].tolist() == [300, 300, 600]


# --- the data of a run --------------------------------------------------------------------------


def test_a_run_with_other_data_is_not_resumed(tmp_path):
    tables = RunTables(tmp_path, ["x.y"], {"data": "d", "validation_set": "v"})
    tables.begin_trial("0000", 0, {})
    RunTables(tmp_path, ["x.y"], {"data": "d", "validation_set": "v"})
    with pytest.raises(
        UserError,
        match=r"data was d and is e.*environment\.json.*--set data\.corpus.*another cleaning",
    ):
        RunTables(tmp_path, ["x.y"], {"data": "e", "validation_set": "v"})
    row = load_results(tmp_path).trials.iloc[0]
    assert (row["data"], row["validation_set"]) == ("d", "v")
