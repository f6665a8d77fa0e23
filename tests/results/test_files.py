import subprocess
import sys
import time

import pytest

from raygpt.errors import UserError
from raygpt.results.files import replace_file

REWRITE_FOR_EVER = """
import sys
from pathlib import Path
from raygpt.results.tables import RunTables
tables = RunTables(Path(sys.argv[1]), ["x"])
tables.begin_trial("0000", 0, {"x": 0.5})
number = 0
while True:
    number += 1
    tables.add_report("0000", {
        "tokens": number, "tokens_trained": number, "seconds": 1.0, "rung": 0,
        "bits_per_byte": 1 / number, "bits_per_token": 1.0, "next_token_accuracy": 0.5,
    })
    print(number, flush=True)
"""


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "table"
    replace_file(path, lambda partial: partial.write_text("old"))
    assert path.read_text() == "old"
    replace_file(path, lambda partial: partial.write_text("new"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content(tmp_path):
    path = tmp_path / "table"
    path.write_text("old")

    def half(partial):
        partial.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, half)
    assert path.read_text() == "old"
    replace_file(path, lambda partial: partial.write_text("new"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_one_message(tmp_path):
    path = tmp_path / "gone" / "table"
    with pytest.raises(UserError, match=r"gone/table cannot be written: No such file"):
        replace_file(path, lambda partial: partial.write_text("x"))


@pytest.mark.slow
def test_a_killed_writer_leaves_readable_tables(tmp_path):
    from raygpt.results.tables import RunTables, load_results

    seen = []
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", REWRITE_FOR_EVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        child.stdout.readline()
        # Read while it writes, and kill it at any moment.
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            results = load_results(tmp_path)
            assert list(results.trials["status"]) == ["running"]
            assert len(results.history) >= results.trials.loc[0, "tokens_trained"]
        child.kill()
        printed = child.stdout.read().split()
        child.wait()

        results = load_results(tmp_path)
        rows = len(results.history)
        assert results.history["bits_per_byte"].notna().all()
        seen.append(rows)
        if printed:
            # All reports that were printed are on disk.
            assert int(printed[-1]) <= results.history.iloc[-1]["tokens"] <= int(printed[-1]) + 1
        assert rows == len(RunTables(tmp_path, ["x"]).history)
    assert seen == sorted(seen)
    leftovers = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert len(leftovers) <= 3
