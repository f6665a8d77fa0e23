"""Poisons the trials of a search: some learning rates make their training diverge, fail or hang.

Every Python process that has this folder on its path imports this file when it starts. Only the
processes of trials are changed.
"""

import importlib.util
import math
import os
import signal
import sys
import time
from pathlib import Path

GOOD, DIVERGES, DIVERGES_LATE = 1e-2, 1e6, 5e-3
RAISES, DIES, HANGS, FREEZES = 1e-3, 2e-3, 3e-3, 4e-3
RATES = [GOOD, DIVERGES, DIVERGES_LATE, RAISES, DIES, HANGS, FREEZES]


class Poison:
    """An import hook that changes the training loop when it is imported."""

    def find_spec(self, name, path, target=None):
        if name != "raygpt.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), poison(module))
        return spec


def poison(loop):
    from raygpt.training.parallel import worker_count, worker_rank

    healthy = loop.TrainingRun.learning_rate

    def learning_rate(self, step, *budget):
        rate = self.recipe.training.learning_rate
        if rate == DIVERGES_LATE and self.step > 8:  # past the rung
            return math.nan
        if step == 5 and worker_rank() == worker_count() - 1:
            if rate == RAISES:
                raise ValueError("the poison is at work")
            if rate == DIES:
                os._exit(7)
            if rate == HANGS:
                time.sleep(10**6)
            if rate == FREEZES:
                with Path(os.environ["FROZEN"]).open("a") as file:
                    print(os.getpid(), file=file)
                os.kill(os.getpid(), signal.SIGSTOP)
        return healthy(self, step, *budget)

    loop.TrainingRun.learning_rate = learning_rate


# The command itself is left alone.
if any("default_worker.py" in argument for argument in sys.orig_argv):
    sys.meta_path.insert(0, Poison())
