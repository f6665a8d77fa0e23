"""Work spread over the cores of this machine, its results in order."""

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
"""Calls a function for each item, somewhere, and yields what it returns in the items' order.

Both can be pickled. Items are taken a few ahead of the results.
"""


def in_processes(tasks: int | None = None) -> Spread:
    """Spread work over processes of this machine; over none where there is one item or task only.

    Args:
        tasks: how many at once; None for the cores that there are.
    """
    # Fewer than the machine has, in a container or under a batch system; macOS does not say.
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    at_once = tasks or len(allowed)

    def spread(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        items = iter(items)
        begin = list(itertools.islice(items, 2))
        items = itertools.chain(begin, items)
        if at_once == 1 or len(begin) < 2:
            yield from map(function, items)
            return
        # Not forked: other threads of this process may hold locks at the moment, such as Ray's.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(at_once, context, _begin_process, (function,))
        try:
            calls = (pool.submit(_call, item) for item in items)
            yield from (call.result() for call in ahead(calls, at_once + 2))
        except BrokenProcessPool:
            raise UserError(
                "A process that tokenised was killed, perhaps for want of memory, or could not "
                "start. What was finished is kept; run the command again, with less beside it."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    return spread


def ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The items, each after `count` more have been taken, as long as there are so many.

    If no more can be taken because of an error, it is raised after all that have been.
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
    """Set a process up: the function comes once, and Ctrl-C is for the parent to handle."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _call(item: Any) -> Any:
    return _function(item)
