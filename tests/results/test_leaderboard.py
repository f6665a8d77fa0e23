import csv
import io
import json

import pytest

from raygpt.errors import UserError
from raygpt.recipe.quantities import parse_count, parse_number
from raygpt.results.leaderboard import FORMATS, format_value, leaderboard, linked_table, render
from raygpt.results.tables import RunTables, load_results


def order(frame):
    return [int(trial_id) for trial_id in frame["trial_id"]]


def test_best_first_with_the_searched_values(results):
    frame = leaderboard([results])
    assert list(frame) == [
        "trial_id",
        "status",
        "bits_per_byte",
        "tokens",
        "training.learning_rate",
        "training.weight_decay",
        "model.n_layers",
        "error",
    ]
    assert order(frame) == [3, 0, 4, 1, 2, 5, 6]
    assert order(leaderboard([results], top=2)) == [3, 0]
    assert order(leaderboard([results], top=100)) == order(frame)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("training.learning_rate", [0, 1, 2, 3, 4, 5, 6]),
        ("learning_rate", [0, 1, 2, 3, 4, 5, 6]),
        ("-learning_rate", [6, 5, 4, 3, 2, 1, 0]),
        # Equal ones stay best first.
        ("n_layers", [3, 0, 6, 4, 1, 2, 5]),
        # What is missing comes last either way.
        ("bits_per_byte", [5, 4, 1, 3, 0, 2, 6]),
        ("-bits_per_byte", [0, 3, 1, 4, 5, 2, 6]),
        ("tokens", [4, 1, 5, 3, 0, 2, 6]),
        ("status", [3, 0, 5, 6, 4, 2, 1]),
        ("trial_id", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_sorted_by_any_column(results, sort, expected):
    assert order(leaderboard([results], sort)) == expected


def test_the_column_sorted_by_is_shown(results):
    assert list(leaderboard([results], "-seconds"))[-2:] == ["seconds", "error"]
    assert list(leaderboard([results], "tokens")) == list(leaderboard([results]))


def test_an_unknown_column(results):
    with pytest.raises(UserError) as error:
        leaderboard([results], "-learning_rat")
    message = str(error.value)
    assert message.startswith("--sort learning_rat: there is no such column; did you mean")
    assert "training.learning_rate" in message
    assert "bits_per_byte" in message


def test_without_searched_values_the_seed_is_shown(tmp_path, report):
    tables = RunTables(tmp_path, ())
    tables.begin_trial("0000", 11, {})
    tables.add_report("0000", report(300, 2.0, 0))
    text = render(leaderboard([load_results(tmp_path)]), "table", 80)
    assert text.splitlines() == [
        "trial  status   bits per byte  tokens  seed",
        "0000   running         2.0000     300    11",
    ]


@pytest.mark.parametrize("style", FORMATS)
def test_an_empty_search_in_every_format(tables, style):
    text = render(leaderboard([load_results(tables.folder)]), style, 80)
    if style == "json":
        assert json.loads(text) == []
    else:
        assert len(text.splitlines()) == {"table": 1, "csv": 1, "markdown": 2}[style]
        assert "status" in text


def test_csv_keeps_every_digit_and_leaves_out_what_is_missing(results):
    rows = list(csv.DictReader(io.StringIO(render(leaderboard([results], "trial_id"), "csv"))))
    assert [row["trial_id"] for row in rows] == [f"{number:04}" for number in range(7)]
    assert float(rows[2]["training.learning_rate"]) == 1e-3 * 3
    assert rows[2]["bits_per_byte"] == rows[2]["tokens"] == rows[2]["error"] == ""
    assert rows[6]["error"] == "OSError: [/disk] is full | a :smile:\nno room"


def test_json_keeps_every_digit_and_says_null(tables, begin, report):
    begin("0000", learning_rate=0.00012345678901234567)
    tables.add_report("0000", report(300, 1.2345678901234567, 0))
    begin("0001")
    scored, unscored = json.loads(render(leaderboard([load_results(tables.folder)]), "json"))
    assert scored == {
        "trial_id": "0000",
        "status": "running",
        "bits_per_byte": 1.2345678901234567,
        "tokens": 300,
        "training.learning_rate": 0.00012345678901234567,
        "training.weight_decay": 0.1,
        "model.n_layers": 2,
    }
    assert unscored["bits_per_byte"] is None
    assert unscored["tokens"] is None


def test_markdown_is_a_whole_table(results):
    lines = render(leaderboard([results]), "markdown").splitlines()
    assert len(lines) == 2 + 7
    assert lines[0].startswith("| trial | status | bits per byte | tokens | learning rate |")
    for line in lines:
        assert line.replace("\\|", "").count("|") == 9
    assert lines[2] == "| 0003 | completed | 1.7500 | 900 | 0.004 | 0.1 | 2 |  |"
    assert lines[-1].endswith(r"OSError: [/disk] is full \| a :smile: no room |")


def test_a_table_reads_well(results):
    lines = render(leaderboard([results], top=3), "table", 140).splitlines()
    headings = "trial status bits per byte tokens learning rate weight decay n layers error"
    assert lines[0].split() == headings.split()
    assert lines[1].split() == ["0003", "completed", "1.7500", "900", "0.004", "0.1", "2"]
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 200])
def test_no_value_is_cut_in_a_narrow_terminal(results, width):
    text = render(leaderboard([results]), "table", width)
    assert "…" not in text
    words = text.split()
    for word in ("completed", "diverged", "running", "stopped", "failed", "1.7500", "0003"):
        assert word in words
    # The long text is not cut either, only spread over lines.
    for word in ("OSError:", "[/disk]", ":smile:", "room"):
        assert word in words


def test_a_wide_search_fits_in_80_columns(tmp_path, report):
    searched = ["model.dropout", "training.learning_rate", "training.weight_decay"]
    tables = RunTables(tmp_path, [*searched, "training.warmup", "training.hold"])
    values = dict(zip(tables.searched, (0.123, 0.00123, 0.0123, 0.0123, 0.123), strict=True))
    tables.begin_trial("0000", 0, values)
    tables.add_report("0000", report(300_032_000, 1.2, 0))
    tables.end_trial("0000", "completed")
    lines = render(leaderboard([load_results(tmp_path)]), "table", 80).splitlines()
    assert max(map(len, lines)) <= 80
    shown = "0000 completed 1.2000 300,032,000 0.123 0.00123 0.0123 0.0123 0.123"
    assert lines[-1].split() == shown.split()


def test_a_very_long_error(tables, begin):
    begin("0000")
    tables.end_trial("0000", "failed", "/a/very/long/path" * 20 + " and so on" * 50)
    frame = leaderboard([load_results(tables.folder)])
    lines = render(frame, "table", 100).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("0000   failed") for line in lines) == 1
    at = next(line.index("error") for line in lines if "error" in line)
    spread = "".join(line[at:] for line in lines).replace(" ", "")
    assert spread == "error" + "/a/very/long/path" * 20 + "andsoon" * 50
    assert len(render(frame, "csv").splitlines()) == 2


def test_a_table_that_does_not_fit_is_split_into_figures_and_values(tmp_path, report):
    searched = ["model.dropout", "training.learning_rate", "training.weight_decay"]
    tables = RunTables(tmp_path, [*searched, "training.warmup", "training.hold"])
    values = (0.02907, 0.007366, 0.3393, 0.03325, 0.2239)
    for number in range(2):
        tables.begin_trial(f"{number:04}", 0, dict(zip(tables.searched, values, strict=True)))
        tables.add_report(f"{number:04}", report(300_032_000, 1.2 + number, 0))
    tables.end_trial("0001", "failed", "/a/very/long/path")
    frame = leaderboard([load_results(tmp_path)])
    whole = render(frame, "table", 140).splitlines()
    assert len(whole) == 3
    lines = render(frame, "table", 80).splitlines()
    assert max(map(len, lines)) <= 80
    figures, values = (part.splitlines() for part in "\n".join(lines).split("\n\n"))
    assert [line.split() for line in figures[-2:]] == [
        ["0000", "running", "1.2000", "300,032,000"],
        ["0001", "failed", "2.2000", "300,032,000", "/a/very/long/path"],
    ]
    shown = ["0.02907", "0.007366", "0.3393", "0.03325", "0.2239"]
    assert [line.split() for line in values[-2:]] == [
        ["0000", "1.2000", *shown],
        ["0001", "2.2000", *shown],
    ]


def test_notes_stand_below_the_table(results):
    frame = leaderboard([results], top=1)
    for style in ("table", "markdown"):
        lines = render(frame, style, 200, notes=["A note."]).splitlines()
        assert lines[-2:] == ["", "A note."]
    for style in ("csv", "json"):
        assert "A note." not in render(frame, style, notes=["A note."])


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.3, "0.3"),
        (0.002761, "0.002761"),
        (2.761e-05, "2.761e-05"),
        (0.00123456, "0.00123456"),
        (1234.5, "1234.5"),
        (-0.05, "-0.05"),
        (0.0, "0"),
        (3.0, "3"),
        (4_000_000.0, "4000000"),
        (1e22, "1e+22"),
        (256_000, "256000"),
        (True, "True"),
        ("bf16", "bf16"),
    ],
)
def test_a_shown_value_reads_back_equal(value, shown):
    assert format_value(value) == shown
    if isinstance(value, float):
        assert parse_number(shown) == value
    elif not isinstance(value, (bool, str)):
        assert parse_count(shown) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.30000000000000004, "0.3"),
        (0.0023456789012345, "0.002346"),
        (1.23456789e-07, "1.235e-07"),
        (25216.639496, "25217"),
        (float("nan"), "nan"),
    ],
)
def test_values_of_old_runs_are_rounded(value, shown):
    assert format_value(value) == shown


def test_every_digit_of_an_old_value_is_in_the_data(tables, begin):
    begin("0000", learning_rate=0.0023456789012345, weight_decay=0.30000000000000004)
    frame = leaderboard([load_results(tables.folder)])
    (row,) = csv.DictReader(io.StringIO(render(frame, "csv")))
    (found,) = json.loads(render(frame, "json"))
    for read in (row, found):
        assert float(read["training.learning_rate"]) == 0.0023456789012345
        assert float(read["training.weight_decay"]) == 0.30000000000000004
    assert render(frame, "table", 100).split()[-3:] == ["0.002346", "0.3", "2"]


# --- the baseline -------------------------------------------------------------------------------


@pytest.fixture
def with_baseline(tables, begin, report):
    """A search whose baseline reached the first rung, and other trials that went farther or not."""
    for trial_id, scores in {
        "0000": (3.0,),
        "0001": (2.75, 2.5),
        "0002": (3.25,),
        "0003": (2.5,),
    }.items():
        begin(trial_id, baseline=trial_id == "0000")
        for rung, score in enumerate(scores):
            tables.add_report(trial_id, report((300, 900)[rung], score, rung))
        tables.end_trial(trial_id, "stopped")
    return load_results(tables.folder)


def test_gains_are_over_the_baseline_at_the_same_budget(with_baseline):
    frame = leaderboard([with_baseline])
    assert list(frame)[:6] == ["trial_id", "baseline", "status", "bits_per_byte", "gain", "tokens"]
    assert order(frame) == [1, 3, 0, 2]
    # The baseline was not judged where 0001 was in the end.
    assert frame["gain"].isna().tolist() == [True, False, False, False]
    assert frame["gain"].tolist()[1:] == [0.5, 0.0, -0.25]
    assert frame["baseline"].tolist() == [False, False, True, False]
    assert order(leaderboard([with_baseline], "-gain")) == [3, 0, 2, 1]


def test_a_gain_at_a_lower_rung_uses_the_baselines_value_there(tables, begin, report):
    for trial_id, scores in {"0000": (3.0, 2.75), "0001": (3.5,)}.items():
        begin(trial_id, baseline=trial_id == "0000")
        for rung, score in enumerate(scores):
            tables.add_report(trial_id, report((300, 900)[rung], score, rung))
        tables.add_report(trial_id, report(950))
    assert list(leaderboard([load_results(tables.folder)])["gain"]) == [0.0, -0.5]


def test_the_gain_column_says_which_trial_is_the_baseline(with_baseline):
    lines = render(leaderboard([with_baseline]), "table", 100).splitlines()
    assert lines[0].split()[:6] == ["trial", "status", "bits", "per", "byte", "gain"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["0001", "stopped", "2.5000", "900"],
        ["0003", "stopped", "2.5000", "+0.5000"],
        ["0000", "stopped", "3.0000", "baseline"],
        ["0002", "stopped", "3.2500", "-0.2500"],
    ]
    found = json.loads(render(leaderboard([with_baseline]), "json"))[2]
    assert (found["baseline"], found["gain"]) == (True, 0.0)


def test_there_are_no_gains_without_a_result_of_the_baseline(tables, begin, report):
    begin("0000", baseline=True)
    begin("0001")
    tables.add_report("0001", report(300, 2.0, 0))
    frame = leaderboard([load_results(tables.folder)])
    assert not {"baseline", "gain"} & set(frame)


def test_the_five_values_of_a_search_and_its_gains_fit_in_80_columns(tmp_path, report):
    searched = ["model.dropout", "training.learning_rate", "training.weight_decay"]
    tables = RunTables(tmp_path, [*searched, "training.warmup", "training.hold"])
    values = dict(zip(tables.searched, (0.0872, 0.000276, 0.0042, 0.0332, 0.224), strict=True))
    for number in range(2):
        tables.begin_trial(f"{number:04}", 0, values, baseline=not number)
        tables.add_report(f"{number:04}", report(900_096, 2.5 + number, 0))
        tables.end_trial(f"{number:04}", "completed")
    lines = render(leaderboard([load_results(tmp_path)]), "table", 80).splitlines()
    assert max(map(len, lines)) <= 80
    shown = "0001 completed 3.5000 -1.0000 900,096 0.0872 0.000276 0.0042 0.0332 0.224"
    assert lines[-1].split() == shown.split()


# --- what was confirmed -------------------------------------------------------------------------


def test_confirmed_trials_come_first_by_their_means(confirmed):
    frame = leaderboard([load_results(confirmed.folder)])
    assert list(frame)[:10] == [
        *("trial_id", "baseline", "status", "runs", "bits_per_byte", "standard_error"),
        *("ci_low", "ci_high", "gain", "tokens"),
    ]
    # A row per configuration; 0003 had the best values, but one of its runs diverged.
    assert order(frame) == [1, 2, 0, 3, 4]
    assert list(frame["status"]) == [*["confirmed"] * 3, "diverged", "stopped"]
    assert list(frame["runs"].fillna(0)) == [3, 3, 3, 2, 0]
    assert list(frame["bits_per_byte"]) == pytest.approx([2.49, 2.5, 2.75, 2.005, 3.5])
    assert frame["standard_error"].notna().tolist() == [True] * 3 + [False] * 2
    assert frame["standard_error"][0] == pytest.approx(0.01 / 3**0.5)
    # Of Student's t with 6 degrees of freedom.
    assert frame["ci_high"][0] - 2.49 == pytest.approx(2.4469 * 0.01 / 3**0.5, rel=1e-4)
    assert frame["ci_low"][0] + frame["ci_high"][0] == pytest.approx(2 * 2.49)
    # Over the baseline's mean; unconfirmed trials over the baseline's value in the search.
    assert list(frame["gain"].fillna(9)) == pytest.approx([0.26, 0.25, 0, 9, -0.5])
    # The baseline was stopped in the search, but confirmed at the full budget.
    assert list(frame["tokens"]) == [900, 900, 900, 900, 300]


def test_confirmed_trials_can_be_sorted_too(confirmed):
    results = load_results(confirmed.folder)
    assert order(leaderboard([results], "bits_per_byte")) == [3, 1, 2, 0, 4]
    assert order(leaderboard([results], "-gain", top=2)) == [1, 2]
    assert order(leaderboard([results], "standard_error"))[-2:] == [3, 4]


def test_the_words_stand_below_the_figures(confirmed):
    results = load_results(confirmed.folder)
    assert len(results.conclusions) == 6
    text = render(leaderboard([results]), "table", 80, results.conclusions)
    figures, words, everything = text.split("\n\n")
    assert max(map(len, text.splitlines())) <= 80
    assert figures.splitlines()[0].split() == (
        "trial runs bits per byte standard error 95% from 95% to gain".split()  # noqa: SIM905
    )
    assert [line.split()[:3] for line in figures.splitlines()[1:]] == [
        ["0001", "3", "2.4900"],
        ["0002", "3", "2.5000"],
        ["0000", "3", "2.7500"],
        ["0003", "2", "2.0050"],
    ]
    assert words.splitlines()[2].startswith("- 0001 is better than baseline 0000 (0.2600 bits per")
    assert "- 0001 and 0002: no difference shown (0.0100 bits per byte, 0.4%; 95% interval" in words
    assert "- 0003 diverged in 1 of 3 runs, so" in words
    assert "Tukey's HSD test" in words
    rows = everything.splitlines()[-5:]
    assert [row.split()[0] for row in rows] == ["0001", "0002", "0000", "0003", "0004"]
    assert "learning" in everything
    assert "standard" not in everything


def test_in_markdown_the_words_are_a_list(confirmed):
    results = load_results(confirmed.folder)
    lines = render(leaderboard([results]), "markdown", words=results.conclusions).splitlines()
    assert lines[0].startswith("| trial | status | runs | bits per byte | standard error | 95% ")
    assert lines[2].startswith(
        "| 0001 | confirmed | 3 | 2.4900 | 0.0058 | 2.4759 | 2.5041 | +0.2600"
    )
    assert lines[7] == ""
    assert lines[8:] == [f"- {text}" for text in results.conclusions]


@pytest.mark.parametrize("style", ["csv", "json"])
def test_csv_and_json_have_no_sentences(confirmed, style):
    results = load_results(confirmed.folder)
    text = render(leaderboard([results]), style, words=results.conclusions)
    assert "Tukey" not in text
    if style == "json":
        first = json.loads(text)[0]
        assert (first["trial_id"], first["status"], first["runs"]) == ("0001", "confirmed", 3)
        assert first["bits_per_byte"] == pytest.approx(2.49)
        assert json.loads(text)[-1]["ci_low"] is None


def test_runs_that_have_not_ended_change_nothing(with_baseline, tables, begin):
    before = leaderboard([with_baseline])
    begin("0001-1", seed=9, confirms="0001")
    results = load_results(tables.folder)
    after = leaderboard([results])
    assert list(after["status"]) == list(before["status"])
    assert after["runs"].isna().all()
    text = render(after, "table", 100, results.conclusions)
    assert "Not finished yet: 1 of 1 run of 0001." in text


# --- which rows ---------------------------------------------------------------------------------


def test_only_rows_that_meet_every_condition(results, with_baseline):
    assert order(leaderboard([results], where=["learning_rate > 0.0025"])) == [3, 4, 2, 5, 6]
    both = ["learning_rate > 0.0025", "status != running"]
    assert order(leaderboard([results], where=both)) == [3, 5, 6]
    assert order(leaderboard([results], where=both, top=1)) == [3]
    assert order(leaderboard([results], "-learning_rate", where=both)) == [6, 5, 3]
    # Gains are over the baseline, whether it is shown or not.
    frame = leaderboard([with_baseline], where=["gain > 0"])
    assert (order(frame), list(frame["gain"])) == ([3], [0.5])


def test_the_columns_asked_for_are_shown(results):
    assert list(leaderboard([results], where=["seconds > 0", "status = stopped"]))[-1] == "seconds"
    assert "error" in leaderboard([results], where=["status = failed"])


@pytest.mark.parametrize("style", FORMATS)
def test_a_leaderboard_may_be_empty(results, confirmed, style):
    for each in (results, load_results(confirmed.folder)):
        text = render(leaderboard([each], where=["tokens < 0"]), style, 80, ["a word"])
        assert "0001" not in text


# --- the trials' folders ------------------------------------------------------------------------


@pytest.fixture
def in_folders(tables, begin, report):
    """A trial with a checkpoint, one with a folder that has none yet, and one without a folder."""
    for number in range(3):
        begin(f"{number:04}")
        tables.add_report(f"{number:04}", report(300, 2.0 + number, 0))
    (tables.folder / "trials-2/0000/a checkpoint").mkdir(parents=True)
    (tables.folder / "trials/0001").mkdir(parents=True)
    tables.set_checkpoint("0000", tables.folder / "trials-2/0000/a checkpoint")
    return load_results(tables.folder)


def test_each_trial_has_its_folder(in_folders, tmp_path):
    frame = leaderboard([in_folders])
    assert list(frame)[-1] == "folder"
    folders = [str(tmp_path / "trials-2/0000"), str(tmp_path / "trials/0001")]
    assert list(frame["folder"])[:2] == folders
    rows = json.loads(render(frame, "json"))
    assert [row["folder"] for row in rows] == [*folders, None]
    assert render(frame, "csv").splitlines()[1].endswith(f",{folders[0]}")


def test_links_in_a_table_do_not_widen_it(in_folders, tmp_path):
    frame = leaderboard([in_folders])
    text = linked_table(frame, 80)
    linked = [(text.plain[span.start : span.end], span.style.link) for span in text.spans]
    assert [(cell, link) for cell, link in linked if link] == [
        ("0000", (tmp_path / "trials-2/0000").as_uri()),
        ("0001", (tmp_path / "trials/0001").as_uri()),
    ]
    assert text.plain == render(frame, "table", 80)
    assert text.plain == render(frame.drop(columns="folder"), "table", 80)


def test_confirmed_trials_have_links_in_both_tables(confirmed, tmp_path):
    frame = leaderboard([load_results(confirmed.folder)]).assign(folder=str(tmp_path))
    spans = linked_table(frame, 80, ["a word"]).spans
    assert len([span for span in spans if span.style.link == tmp_path.as_uri()]) == 4 + 5


def test_markdown_links_are_relative_if_possible(in_folders, tmp_path, monkeypatch):
    def cells():
        lines = render(leaderboard([in_folders]), "markdown").splitlines()[2:]
        return [line.split(" | ")[0] for line in lines]

    monkeypatch.chdir(tmp_path)
    assert cells() == ["| [0000](trials-2/0000)", "| [0001](trials/0001)", "| 0002"]
    monkeypatch.chdir("/")
    assert cells()[1] == f"| [0001]({(tmp_path / 'trials/0001').relative_to('/')})"
    monkeypatch.chdir(tmp_path / "trials")
    assert cells()[1] == "| [0001](0001)"
    assert cells()[0] == f"| [0000]({(tmp_path / 'trials-2/0000').as_uri()})"
