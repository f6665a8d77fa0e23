from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from raygpt.results import watch as module
from raygpt.results.watch import watch


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0)


def watched(seen, **console):
    """The output of a watch that sees one text after the other, until nothing is running."""
    texts = iter(seen)
    left = [True] * (len(seen) - 1) + [False]
    file = StringIO()
    console = Console(file=file, width=40, height=8, **console)
    watch(lambda: Text(next(texts)), lambda: left.pop(0), console)
    assert left == []
    return file.getvalue()


def test_outside_a_terminal_only_changes_are_written():
    lines = watched(["one", "one", "two", "two", "three"]).splitlines()
    assert lines[1::2] == ["one", "two", "three"]
    assert all(line.count(":") == 2 for line in lines[::2])


def test_long_lines_are_not_broken_outside_a_terminal():
    assert watched(["word " * 30]).splitlines()[1].rstrip() == ("word " * 30).rstrip()


def test_a_run_that_has_ended_is_shown_once():
    assert len(watched(["one"]).splitlines()) == 2


def test_a_terminal_is_updated_in_place_and_shows_all_at_the_end():
    rows = [f"row {number}" for number in range(20)]
    written = watched(["first", "\n".join(rows), "\n".join(rows)], force_terminal=True)
    # The cursor goes up again, to write over what was there.
    assert "\x1b[1A" in written
    *_, last = written.split("\x1b[1A")
    assert [row for row in rows if row in last] == rows
    # Meanwhile only what fits.
    assert written.count("row 3") > written.count("row 19") == 1


def test_the_cursor_is_restored_if_the_watch_is_interrupted():
    def interrupted():
        raise KeyboardInterrupt

    file = StringIO()
    with pytest.raises(KeyboardInterrupt):
        watch(interrupted, lambda: True, Console(file=file, force_terminal=True))
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")
