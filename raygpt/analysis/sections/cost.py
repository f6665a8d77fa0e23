"""Report: what the run cost, beside what was planned."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from raygpt.analysis.blocks import Block, Code, Table, Text
from raygpt.analysis.groups import judged
from raygpt.analysis.run import Run
from raygpt.results import files
from raygpt.wording import counted, duration


def blocks(run: Run) -> Iterator[Block]:
    """Tokens, time and hardware."""
    made_with = files.read_json(run.folder / files.ENVIRONMENT)
    yield _spent(run, made_with)
    if text := _saved(run):
        yield Text(text)
    if made_with:
        hardware = ", ".join(made_with.get("gpus") or [])
        hardware = hardware or f"{made_with.get('cpus')} CPU cores, {made_with.get('processor')}"
        yield Text(f"The run was started on a machine with {hardware}.")
        yield Code(
            json.dumps(made_with, indent=2),
            f"{files.ENVIRONMENT}: versions, command and hardware",
            folded=True,
        )


def _spent(run: Run, made_with: dict[str, Any]) -> Table:
    plan = files.read_json(run.folder / files.PLAN)
    tokens = run.trials["tokens_trained"].fillna(0)
    seconds = run.trials["seconds"].fillna(0).sum()
    rows = [["tokens trained", f"{tokens.sum():,.0f}", _planned(plan, "tokens", "{:,.0f}".format)]]
    ended = run.trials["status"].isin(["completed", "stopped"])
    if (cooldowns := (tokens - run.trials["tokens"]).where(ended).sum()) > 0:
        rows.append(["of these in cooldowns to rungs", f"{cooldowns:,.0f}", ""])
    if (further := run.trials["confirms"].notna()).any():
        rows.append(["of these in further runs", f"{tokens[further].sum():,.0f}", ""])
    if not run.history.empty:
        elapsed = _seconds_running(run.history)
        rows.append(
            ["time in which trials ran", duration(elapsed), _planned(plan, "seconds", duration)]
        )
        at_once = f" ({seconds / elapsed:.1f} at a time)" if elapsed > 0 else ""
        rows.append([f"time of all trials together{at_once}", duration(seconds), ""])
    if gpus := _gpus_of_a_trial(run, made_with, plan):
        hours = f"{gpus * seconds / 3600:.2f}"
        rows.append(["GPU-hours in trials", hours, _planned(plan, "gpu_hours", "{:.2f}".format)])
    headings = ["", "spent", "planned"]
    if not any(planned for _, _, planned in rows):
        headings, rows = headings[:2], [row[:2] for row in rows]
    return Table(headings, rows, frozenset({"spent", "planned"}))


def _planned(plan: dict[str, Any], name: str, show: Callable[[float], str]) -> str:
    return show(plan[name]) if plan.get(name) else ""


def _seconds_running(history: pd.DataFrame) -> float:
    """Seconds in which at least one trial was running, without breaks between sessions."""
    history = history.sort_values(["trial_id", "tokens_trained"])
    # Each report covers the time since the trial's report before.
    ran = history.groupby("trial_id")["seconds"].diff().fillna(history["seconds"])
    stop = (history["time"] - history["time"].min()).dt.total_seconds()
    spans = pd.DataFrame({"start": stop - ran, "stop": stop}).sort_values("start")
    covered = spans["stop"].cummax().shift(fill_value=-math.inf)
    return float((spans["stop"] - spans["start"].clip(lower=covered)).clip(lower=0).sum())


def _saved(run: Run) -> str:
    """How many tokens stopping has saved; empty if no trial was stopped."""
    ended = run.trials[run.trials["confirms"].isna()]
    ended = ended[ended["status"].isin(["completed", "stopped"])]
    stopped = int((ended["status"] == "stopped").sum())
    if stopped in (0, len(ended)):
        return ""
    full = len(ended) * float(judged(run)["tokens"].max())
    spent = float(ended["tokens_trained"].sum())
    share = f"{abs(1 - spent / full):.0%} {'fewer' if spent < full else 'more'}"
    return (
        f"{counted(stopped, 'trial')} stopped early: the {len(ended)} trials that ended trained on "
        f"{share} tokens than the {full:,.0f} that their full budgets would have taken."
    )


def _gpus_of_a_trial(run: Run, made_with: dict[str, Any], plan: dict[str, Any]) -> float:
    """GPUs that each trial held; 0 if none are known."""
    if not (made_with.get("gpus") or plan.get("gpu_hours")) or run.search_file is None:
        return 0.0
    search = run.search_file.search
    each = 1.0 if search.gpus_per_worker is None else float(search.gpus_per_worker)
    return search.workers_per_trial * each
