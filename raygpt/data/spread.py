"""Running work on all cores of this machine, with the results in order."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from raygpt.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Spread = Callable[[Callable[[Item], Result], Iterable[Item]], Iterator[Result]]
"""Calls a function for each item in some process, and yields the results in the items' order.

Function and items can be pickled. It takes only a few more items than it has yielded results.
"""


def in_processes(tasks: int | None = None) -> Spread:
    """Run work in processes of this machine; in this process if there is only one item or task.

    Args:
        tasks: number of processes; None for one per core.
    """
    # A container or batch system may allow fewer cores than the machine has; macOS cannot tell.
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    at_once = tasks or len(allowed)

    def spread(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        items = iter(items)
        begin = list(itertools.islice(items, 2))
        items = itertools.chain(begin, items)
        if at_once == 1 or len(begin) < 2:
            yield from map(function, items)
            return
        # Not forked: other threads of this process, such as Ray's, may hold locks.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(at_once, context, _begin_process, (function,))
        try:
            calls = (pool.submit(_call, item) for item in items)
            yield from (call.result() for call in ahead(calls, at_once + 2))
        except BrokenProcessPool:
            raise UserError(
                "A process that tokenised was killed, perhaps for lack of memory, or could not "
                "start. Finished files are kept; free some memory and run the command again."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    return spread


def ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The items, taken up to `count` items ahead of the one that is yielded.

    If taking an item fails, the items already taken are yielded before the error is raised.
    """
    waiting: deque[Item] = deque()
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) > count:
                yield waiting.popleft()
    except Exception:
        yield from waiting
        raise
    yield from waiting


_function: Callable[[Any], Any]


def _begin_process(function: Callable[[Any], Any]) -> None:
    """Set up a process: it gets the function once, and leaves Ctrl-C to its parent."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _call(item: Any) -> Any:
    return _function(item)
