"""Watching a run that goes on."""

import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

SECONDS_BETWEEN_LOOKS = 2.0


def watch(look: Callable[[], Text], is_running: Callable[[], bool], console: Console) -> None:
    """Show something in place in a terminal, elsewhere again whenever it has changed.

    Where it does not fit in the terminal, its end is left out until the watch is over.

    Args:
        look: what is to be seen now.
        is_running: whether it may still change.
        console: where to show it.
    """
    shown = None
    with Live(console=console, auto_refresh=False) as live:
        while True:
            # Asked first, so that the last look sees the end.
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
