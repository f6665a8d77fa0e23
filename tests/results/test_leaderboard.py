import csv
import io
import json

import pytest

from raygpt.errors import UserError
from raygpt.results.leaderboard import FORMATS, leaderboard, render
from raygpt.results.tables import RunTables, load_results


def order(frame):
    return [int(trial_id) for trial_id in frame["trial_id"]]


def test_best_first_with_the_searched_values(results):
    frame = leaderboard(results)
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
    assert order(leaderboard(results, top=2)) == [3, 0]
    assert order(leaderboard(results, top=100)) == order(frame)


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
    assert order(leaderboard(results, sort)) == expected


def test_the_column_sorted_by_is_shown(results):
    assert list(leaderboard(results, "-seconds"))[-2:] == ["seconds", "error"]
    assert list(leaderboard(results, "tokens")) == list(leaderboard(results))


def test_an_unknown_column(results):
    with pytest.raises(UserError) as error:
        leaderboard(results, "-learning_rat")
    message = str(error.value)
    assert message.startswith("--sort learning_rat: there is no such column; did you mean")
    assert "training.learning_rate" in message
    assert "bits_per_byte" in message


def test_without_searched_values_the_seed_is_shown(tmp_path, report):
    tables = RunTables(tmp_path, ())
    tables.begin_trial("0000", 11, {})
    tables.add_report("0000", report(300, 2.0, 0))
    text = render(leaderboard(load_results(tmp_path)), "table", 80)
    assert text.splitlines() == [
        "trial  status   bits per byte  tokens  seed",
        "0000   running         2.0000     300    11",
    ]


@pytest.mark.parametrize("style", FORMATS)
def test_an_empty_search_in_every_format(tables, style):
    text = render(leaderboard(load_results(tables.folder)), style, 80)
    if style == "json":
        assert json.loads(text) == []
    else:
        assert len(text.splitlines()) == {"table": 1, "csv": 1, "markdown": 2}[style]
        assert "status" in text


def test_csv_keeps_every_digit_and_leaves_out_what_is_missing(results):
    rows = list(csv.DictReader(io.StringIO(render(leaderboard(results, "trial_id"), "csv"))))
    assert [row["trial_id"] for row in rows] == [f"{number:04}" for number in range(7)]
    assert float(rows[2]["training.learning_rate"]) == 1e-3 * 3
    assert rows[2]["bits_per_byte"] == rows[2]["tokens"] == rows[2]["error"] == ""
    assert rows[6]["error"] == "OSError: [/disk] is full | a :smile:\nno room"


def test_json_keeps_every_digit_and_says_null(tables, begin, report):
    begin("0000", learning_rate=0.00012345678901234567)
    tables.add_report("0000", report(300, 1.2345678901234567, 0))
    begin("0001")
    scored, unscored = json.loads(render(leaderboard(load_results(tables.folder)), "json"))
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
    lines = render(leaderboard(results), "markdown").splitlines()
    assert len(lines) == 2 + 7
    assert lines[0].startswith("| trial | status | bits per byte | tokens | learning rate |")
    for line in lines:
        assert line.replace("\\|", "").count("|") == 9
    assert lines[2] == "| 0003 | completed | 1.7500 | 900 | 0.004 | 0.1 | 2 |  |"
    assert lines[-1].endswith(r"OSError: [/disk] is full \| a :smile: no room |")


def test_a_table_reads_well(results):
    lines = render(leaderboard(results, top=3), "table", 140).splitlines()
    headings = "trial status bits per byte tokens learning rate weight decay n layers error"
    assert lines[0].split() == headings.split()
    assert lines[1].split() == ["0003", "completed", "1.7500", "900", "0.004", "0.1", "2"]
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 200])
def test_no_value_is_cut_however_narrow(results, width):
    text = render(leaderboard(results), "table", width)
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
    lines = render(leaderboard(load_results(tmp_path)), "table", 80).splitlines()
    assert max(map(len, lines)) <= 80
    shown = "0000 completed 1.2000 300,032,000 0.123 0.00123 0.0123 0.0123 0.123"
    assert lines[-1].split() == shown.split()


def test_a_very_long_error(tables, begin):
    begin("0000")
    tables.end_trial("0000", "failed", "/a/very/long/path" * 20 + " and so on" * 50)
    frame = leaderboard(load_results(tables.folder))
    lines = render(frame, "table", 100).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("0000   failed") for line in lines) == 1
    at = next(line.index("error") for line in lines if "error" in line)
    spread = "".join(line[at:] for line in lines).replace(" ", "")
    assert spread == "error" + "/a/very/long/path" * 20 + "andsoon" * 50
    assert len(render(frame, "csv").splitlines()) == 2
