"""Watching a run in progress."""

import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

SECONDS_BETWEEN_LOOKS = 2.0


def watch(look: Callable[[], Text], is_running: Callable[[], bool], console: Console) -> None:
    """Show a text that changes: in place in a terminal, printed again after each change elsewhere.

    If it does not fit into the terminal, its end is left out until the last update.

    Args:
        look: returns the current text.
        is_running: returns whether the text may still change.
        console: where to show it.
    """
    shown = None
    with Live(console=console, auto_refresh=False) as live:
        while True:
            # Before the look, so that the last look sees the final state.
            more = is_running()
            seen = look()
            clock = Text(f"{datetime.now():%H:%M:%S}", style="dim")
            if console.is_terminal:
                live.update(Group(clock, seen), refresh=True)
            elif seen != shown:
                console.print(clock, seen, sep="\n", soft_wrap=True)
            shown = seen
            if not more:
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)
