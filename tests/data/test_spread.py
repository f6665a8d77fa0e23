import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raygpt.data.spread import ahead, in_processes
from raygpt.errors import UserError


def slow_square(number):
    """The first ones take longest."""
    time.sleep(0.02 * (10 - number) if number < 10 else 0)
    return number**2, os.getpid()


def fail_at_three(number):
    if number == 3:
        raise UserError(f"{number} is bad")
    return number


def die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_results_come_in_the_order_of_the_items():
    results = list(in_processes(3)(slow_square, iter(range(20))))
    assert [square for square, _ in results] == [n**2 for n in range(20)]
    processes = {process for _, process in results}
    assert 1 < len(processes) <= 3
    assert os.getpid() not in processes


@pytest.mark.parametrize(("tasks", "items"), [(1, 4), (3, 1)])
def test_one_task_or_item_starts_no_process(tasks, items):
    results = list(in_processes(tasks)(slow_square, range(items)))
    assert {process for _, process in results} == {os.getpid()}


def test_no_more_items_are_taken_than_are_needed():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_processes(2)(slow_square, items())
    for _ in range(3):
        next(results)
    results.close()
    assert len(taken) <= 3 + 2 + 3


def test_ahead_takes_count_items_more_and_yields_all():
    taken = []
    items = ahead((taken.append(n) or n for n in range(10)), 3)
    assert next(items) == 0
    assert taken == [0, 1, 2, 3]
    assert list(items) == list(range(1, 10))


def test_items_taken_before_an_error_are_yielded_first():
    def items():
        yield from range(5)
        raise ValueError("no more")

    given = ahead(items(), 3)
    assert [next(given) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no more"):
        next(given)


def test_a_user_error_is_raised_unchanged():
    with pytest.raises(UserError, match="3 is bad"):
        list(in_processes(2)(fail_at_three, range(9)))


def test_a_killed_process_is_reported():
    with pytest.raises(UserError, match="A process that tokenised was killed"):
        list(in_processes(2)(die_at_three, range(9)))


def test_the_processes_end_if_their_parent_is_killed():
    program = """
import time
from raygpt.data.spread import in_processes
for process in in_processes(2)(eval, ["__import__('os').getpid()"] * 9):
    print(process, flush=True)
    time.sleep(0.1)
time.sleep(60)
"""
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    processes = {int(run.stdout.readline()) for _ in range(9)}
    run.kill()
    run.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)
