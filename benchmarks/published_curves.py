"""Rung fidelity on published training curves: `python -m benchmarks.published_curves CLONE`

CLONE is a clone of https://github.com/fabian-sp/lr-scheduling, which holds the logs of Schaipp et
al. (ICML 2025, arXiv 2501.18965): 124M-parameter models on SlimPajama, peak rates and decay
fractions of a warmup-hold-decay schedule in combination, each trained to 15, 25, 35 and 50
thousand steps. A short run gives the value after a cooldown to a rung; the long run's loss at the
same step is the mid-run value. The repository contains none of the logs.
"""

import argparse
import json
import re
from fractions import Fraction
from pathlib import Path

import pandas as pd

from benchmarks.rung_fidelity import as_markdown, fidelity
from raygpt.command import run_command
from raygpt.errors import UserError

FULL_STEPS = 50_000
DECAYED = re.compile(r"ann124-.*_lr([\d.]+)_sched_wsd_.*_decay_linear_([\d.]+)_iter(\d+)_")
HELD = re.compile(r"stable-124m_.*_lr([\d.]+)_")

Key = tuple[str, str, int]
"""Peak rate, fraction of the run in which it decays, number of steps of the run."""


def read_runs(folder: Path) -> tuple[dict[Key, float], dict[Key, pd.Series]]:
    """Each run's final loss on the whole validation set, and its curve of the loss on a part of it.

    The log of a run begins where it branched off its trunk, which has its own log.
    """
    final, curves, trunks = {}, {}, {}
    for path in sorted(folder.glob("data/*124*.json")):
        decayed, held = DECAYED.match(path.name), HELD.match(path.name)
        if not decayed and not held:
            continue
        log = json.loads(path.read_text())
        curve = pd.Series(log["history"]["val"]["val_loss"], log["history"]["val"]["iter"])
        if held:
            trunks[held[1]] = curve
        else:
            key = decayed[1], decayed[2], int(decayed[3])
            curves[key] = curve
            final[key] = log["summary"]["final-val/loss"]
    if not final or not trunks:
        raise UserError(
            f"{folder} holds no logs; clone github.com/fabian-sp/lr-scheduling and give its folder"
        )
    for key, curve in curves.items():
        trunk = trunks[key[0]]
        curves[key] = pd.concat([trunk[trunk.index < curve.index[0]], curve])
    return final, curves


def rung_rows(final: dict[Key, float], curves: dict[Key, pd.Series]) -> pd.DataFrame:
    """Rows for `rung_fidelity.fidelity`, with losses in place of bits per byte."""
    rows = []
    for (rate, decay, steps), loss in final.items():
        name = f"{rate} {decay}"
        if steps == FULL_STEPS:
            rows.append((name, "1", "final", loss))
        elif (rate, decay, FULL_STEPS) in final:
            rung = str(Fraction(steps, FULL_STEPS))
            whole = curves[rate, decay, FULL_STEPS]
            rows.append((name, rung, "cooldown", loss))
            rows.append((name, rung, "raw", whole.iloc[abs(whole.index - steps).argmin()]))
    return pd.DataFrame(rows, columns=["configuration", "rung", "metric", "bits_per_byte"])


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.published_curves", description=__doc__.splitlines()[0]
    )
    parser.add_argument("clone", type=Path)
    rows = rung_rows(*read_runs(parser.parse_args(arguments).clone))
    print(as_markdown(fidelity(rows)))


if __name__ == "__main__":
    run_command(main)
