import io
import signal

import pytest
from rich.console import Console

from raygpt.command import called_as, command_summary, printable, progress_bar
from raygpt.train import InterruptRequest


def shown(terminal):
    stream = io.StringIO()
    with progress_bar(Console(file=stream, force_terminal=terminal, width=100)) as progress:
        task = progress.add_task("training", total=8, status="")
        progress.update(task, completed=2, status="3.4 bits per token")
        progress.refresh()
    return stream.getvalue()


def test_the_progress_bar_shows_task_progress_and_time():
    for text in ("training", "25%", "3.4 bits per token", "0:00:00", "left"):
        assert text in shown(terminal=True)


def test_there_is_no_progress_bar_outside_a_terminal():
    assert shown(terminal=False).strip() == ""


def test_control_characters_are_escaped_and_other_text_is_not():
    text = "a line\nΕλλάδα “quoted” 東京 🦜"
    assert printable(text) == text
    assert printable("\x1b[31m\t\x00\udcff") == r"\x1b[31m\t\x00\udcff"


def test_a_summary_is_the_docstring_without_its_command_line():
    assert command_summary("`python -m raygpt.x RUN`: say what\nis there.\n\nMore.") == (
        "say what is there."
    )
    assert command_summary("No command line here.") == "No command line here."
    assert command_summary(None) == ""


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/usr/bin/raygpt", "raygpt tune"),
        ("/lib/raygpt/__main__.py", "python -m raygpt tune"),
        ("/lib/raygpt/tune.py", "python -m raygpt.tune"),
        ("/lib/pytest/__main__.py", "python -m raygpt.tune"),
    ],
)
def test_usage_shows_the_command_as_it_was_called(monkeypatch, program, name):
    monkeypatch.setattr("sys.argv", [program, "tune"])
    assert called_as("tune") == name


def test_a_first_interrupt_is_a_request_and_the_handlers_come_back():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    calls = []
    with InterruptRequest(lambda: calls.append("asked")) as interrupt:
        assert not interrupt.requested
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert calls == ["asked"]
    assert [signal.getsignal(number) for number in numbers] == before
