"""What a report says: its sections in their order, from the results of a run."""

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure

from raygpt.analysis.axes import axis
from raygpt.analysis.blocks import (
    Block,
    Code,
    Headline,
    Notice,
    Pictures,
    Points,
    Section,
    Table,
    Text,
)
from raygpt.analysis.groups import judged, short
from raygpt.analysis.importance import FEWEST_BEST, describe_importance
from raygpt.analysis.run import Run
from raygpt.errors import UserError
from raygpt.recipe.budget import rung_steps, tokens_per_step
from raygpt.results import files
from raygpt.results.confirmation import CONFIDENCE, confirmation
from raygpt.results.leaderboard import displayed, format_value, leaderboard
from raygpt.results.run_folder import is_being_run
from raygpt.results.tables import is_missing, ranked

TOP = 10
"""Rows of the leaderboard."""
SURFACES = 3
"""Contours: one for each pair of so many hyperparameters."""
CONFIRMED, SEEDS = 3, 3
"""Configurations besides the baseline, and runs of each, that a confirmation is advised of."""
EDGE = 0.05
"""So near the end of its range, as a share of it, a value may well be better beyond."""


def sections(run: Run, attention: Sequence[Pictures] = ()) -> list[Section]:
    """All sections of the report.

    Args:
        run: to report.
        attention: pictures of where the heads of the best model look, if there are any.
    """
    found = [
        Section("asked", "What was asked", list(asked(run))),
        Section("won", "What won, and by how much", list(won(run))),
        Section("cost", "What it cost", list(cost(run))),
        Section("importance", "Which hyperparameters mattered", list(mattered(run))),
        Section("region", "Where the good region lies", list(region(run))),
        Section("trials", "How the trials went", list(went(run))),
        Section("failures", "What failed, and why", list(failed(run))),
        Section("next", "What to do next, and how to train the winner", list(to_do(run))),
    ]
    if attention:
        what = Text(
            "On the validation set and in its first words, in the best trial's model and in the "
            "baseline's. A head that attends evenly has not learned where to look, as in "
            "models that were trained for a short time; one that looks as far back on average may "
            "still pick its tokens, which a map shows. Layers and heads are counted from 0."
        )
        found.insert(-2, Section("attention", "Where the heads look", [what, *attention]))
    return found


def state(run: Run) -> str:
    """How far the run has come, in a sentence."""
    own = run.trials[run.trials["confirms"].isna()]
    further = run.trials[run.trials["confirms"].notna()]
    counts = Counter(own["status"])
    text = f"{_count(len(own), 'trial')}: " + ", ".join(
        f"{number} {status}" for status, number in counts.items()
    )
    if not len(own):
        text = "No trial has begun"
    if len(further):
        text += f"; {_count(len(further), 'further run')} to confirm the best"
    return text + "."


def verdict(run: Run) -> str | None:
    """What won, by how much and whether to believe it, in short; None where nothing can be said."""
    if run.best is None or not run.searched:
        return None
    row, found = _winner(run, leaderboard([run])), confirmation(run.trials)
    text = f"Best: trial {row['trial_id']} with {row['bits_per_byte']:.4f} bits per byte"
    if found and found.winner and len(run.conclusions) > 1:
        text += f" on average over {row['runs']} further runs. {run.conclusions[1]}."
        others = [c for c in found.compared if c not in (found.winner, found.baseline)]
        ties = [c.trial_id for c in others if not found.difference(found.winner, c).real]
        if ties and found.winner is not found.baseline:
            text += f" It is not shown to be better than {' or '.join(_listed(ties))}."
        return text
    if not row.get("baseline", False) and not is_missing(gain := row.get("gain")):
        text += f", {abs(gain):.4f} {'fewer' if gain > 0 else 'more'} than the baseline"
    if found:
        return f"{text}. It is not confirmed yet."
    return f"{text}. It was trained once, and is not confirmed."


def unfinished(run: Run) -> str | None:
    """A sentence on a run that has not come to its end; None of one that has."""
    being_run = is_being_run(run.folder)
    ended = int((run.trials["status"] != "running").sum())
    wanted = _wanted(run)
    if not being_run and ended == len(run.trials) and ended >= wanted:
        return None
    last = run.history["time"].max()
    when = "" if is_missing(last) else f" The last report came at {last:%Y-%m-%d %H:%M} UTC."
    of_all = f"{ended} of {max(wanted, len(run.trials))} trials have ended."
    if being_run:
        return f"This run is still running: {of_all}{when} What follows is how it stands."
    return (
        f"This run was interrupted: {of_all}{when} What follows is what there is; the last section "
        f"says how to go on."
    )


def asked(run: Run) -> Iterator[Block]:
    """What was asked."""
    names, found = run.searched, run.search_file
    if found is None:
        yield Text(
            f"The run's {files.SEARCH} is missing or cannot be read, so what was asked is known "
            f"from the tables alone: {', '.join(map(short, names)) or 'nothing'} was searched."
        )
        return
    recipe = found.baseline()
    model = (
        f"a model {recipe.model.d_model} wide with {_count(recipe.model.n_layers, 'layer')}, on "
        f"the corpus {recipe.data.corpus}"
    )
    judgement = "judged by its bits per byte on held-out text; fewer are better."
    step = tokens_per_step(recipe)
    *rungs, whole = (steps * step for steps in rung_steps(recipe))
    if not names:
        runs = _count(len(run.trials), "run")
        seeds = ", each with a seed of its own," if len(run.trials) > 1 else ""
        yield Text(
            f"Nothing was searched: {runs}{seeds} of the recipe {found.name} trained {model}, for "
            f"{whole:,} tokens, {judgement}"
        )
    else:
        yield Text(
            f"Which {' and '.join(_listed([short(name) for name in names]))} are best? "
            f"{_count(_wanted(run), 'trial')} of the recipe {found.name}, each of them {model}, "
            f"for up to {whole:,} tokens, {judgement}"
        )
        sampler = {"tpe": "Optuna's TPE", "random": "chance"}[recipe.search.sampler]
        text = f"Values were proposed by {sampler}."
        if recipe.search.stops_trials and rungs:
            at = " and ".join(f"{tokens:,}" for tokens in rungs)
            how = (
                "cooled down as if it were the end"
                if recipe.search.rung_metric == "cooldown"
                else ""
            )
            text += (
                f" At {at} tokens ASHA compared the trials{', each ' + how if how else ''}, and "
                f"let about one in {recipe.search.reduction_factor:g} go on, the best so far: of "
                f"the early ones more, as it does not wait for later ones to compare them with, "
                f"and the baseline always."
            )
        yield Text(text)
        start = found.start_values()
        rows = [
            [
                short(name),
                " ".join(f"{key} {_plain(value)}" for key, value in _as_range(found, name)),
                format_value(start[name]),
                found.schema.fields[name].description or "",
            ]
            for name in names
            if name in found.ranges
        ]
        yield Table(["hyperparameter", "searched", "baseline", "what it is"], rows)
    yield Code(found.to_yaml(), f"{files.SEARCH}, every setting of it", folded=True)


def won(run: Run) -> Iterator[Block]:
    """What won and by how much, and whether to believe it."""
    best = run.best
    if best is None:
        yield Text("No trial has a result yet.")
        return
    board = leaderboard([run])
    found = confirmation(run.trials)
    confirmed = found is not None and found.winner is not None
    yield Headline(list(_headline(run, board, confirmed)))
    others = run.searched
    if found:
        yield Points(run.conclusions)
        if not confirmed:
            yield Notice("The confirmation has not come to its end, so no winner is sure yet.")
        if any(c.scores for c in found.configurations):
            yield Pictures(
                [run.plot_confirmation()],
                f"Further runs of the configurations that were confirmed: diamonds are their means "
                f"with {CONFIDENCE:.0%} intervals, by the scatter of all runs together, and rings "
                f"single runs. The run that a configuration was picked for is not among them.",
            )
            yield from _further_runs(run, board)
    elif others:
        compared = judged(run)
        yield Notice(_unconfirmed(best["trial_id"], compared))
    elif len(run.trials) > 1:
        yield Text(_noise(run))
    # The search's own figures: means of further runs would not compare with them.
    board = leaderboard([_search_alone(run)])
    top = board.head(TOP)
    yield _as_table(top.drop(columns=["error", "folder"], errors="ignore"))
    if "gain" in board:
        yield Text(
            "Gain: how many bits per byte fewer than the baseline had at the same number of tokens."
        )
    if len(board) > len(top):
        yield Text(
            f"The best {len(top)} of {len(board)}; all of them: "
            f"python -m raygpt.leaderboard {_quoted(run.folder)}"
        )


def _search_alone(run: Run) -> Run:
    """The run without the further runs that confirm its trials."""
    return replace(run, trials=run.trials[run.trials["confirms"].isna()])


def _further_runs(run: Run, board: pd.DataFrame) -> Iterator[Block]:
    """The configurations that were confirmed, and how their trials had come out in the search."""
    names = ("trial_id", "baseline", "runs", "bits_per_byte", "standard_error", "ci_low", "ci_high")
    frame = board.loc[board["runs"].notna(), [n for n in (*names, "gain") if n in board]]
    own = _search_alone(run).trials.set_index("trial_id")
    figures = own.loc[frame["trial_id"], "bits_per_byte"].map("{:.4f}".format)
    yield _as_table(frame.assign(in_the_search=figures.to_numpy()))
    text = "Means of further runs; gains are over the baseline's mean."
    if own["seed"].nunique() == 1:
        text += (
            f" In the search every trial had the seed {own['seed'].iloc[0]}, whose luck is in all "
            f"of its figures; each further run has a seed of its own."
        )
    yield Text(text)
    yield Text("The search's own runs, one of each configuration:")


def _as_table(frame: pd.DataFrame) -> Table:
    """Rows of a leaderboard."""
    headings, rows = displayed(frame)
    return Table(headings, rows, frozenset(headings) - {"trial", "status", "run"})


def _winner(run: Run, board: pd.DataFrame) -> pd.Series:
    """The best trial's row of the run's leaderboard."""
    return board[board["trial_id"] == run.best["trial_id"]].iloc[0]


def _headline(run: Run, board: pd.DataFrame, confirmed: bool) -> Iterator[tuple[str, str]]:
    row = _winner(run, board)
    name = "the run" if len(run.trials) == 1 else f"trial {row['trial_id']}"
    if not is_missing(error := row.get("standard_error")) and confirmed:
        runs = f"mean of {row['runs']} further runs, with its standard error"
        yield f"{row['bits_per_byte']:.4f} ± {error:.4f}", f"bits per byte, {name}: {runs}"
    else:
        at = f"at {row['tokens']:,} tokens, one run"
        yield f"{row['bits_per_byte']:.4f}", f"bits per byte, {name}, {at}"
    gain = row.get("gain")
    if row.get("baseline", False):
        yield "baseline", "is the best itself: no trial was better"
    elif not is_missing(gain):
        share = abs(gain) / (gain + row["bits_per_byte"])
        than = "fewer" if gain > 0 else "more"
        yield f"{abs(gain):.4f}", f"bits per byte {than} than the baseline, {share:.1%}"
    first_two = judged(run).nsmallest(2, "bits_per_byte")
    # Where the next is the baseline, that has been said.
    known = len(first_two) < 2 or first_two["baseline"].fillna(False).iloc[1]
    if run.searched and not confirmed and not known:
        ahead = f"{first_two['bits_per_byte'].diff().iloc[1]:.4f}"
        yield ahead, "bits per byte fewer than the next, of one run each"


def _unconfirmed(best: str, compared: pd.DataFrame) -> str:
    text = (
        f"Nothing was confirmed: every configuration was trained once, and {best} was picked as "
        f"the best of {len(compared)} that reached {compared['tokens'].max():,} tokens. "
    )
    if len(compared) < 2:
        return text + "There is nothing to compare it with yet."
    return text + (
        "Another seed gives another figure, and the best of many was lucky too, so expect less of "
        "it, and take no small difference for real. The last section says how to confirm it."
    )


def _noise(run: Run) -> str:
    scores = judged(run)["bits_per_byte"]
    if len(scores) < 2:
        return "There is no second result yet to tell the noise from."
    return (
        f"The {len(scores)} runs at {judged(run)['tokens'].max():,} tokens have a mean of "
        f"{scores.mean():.4f} bits per byte and a standard deviation of {scores.std():.4f}: "
        f"that is the noise from run to run. The best is no better a recipe than the others."
    )


def cost(run: Run) -> Iterator[Block]:
    """What was spent, beside what was planned."""
    trials = run.trials
    made_with = files.read_json(run.folder / files.ENVIRONMENT)
    plan = files.read_json(run.folder / files.PLAN)
    tokens = trials["tokens_trained"].fillna(0)
    seconds = trials["seconds"].fillna(0).sum()
    rows = [["tokens trained", f"{tokens.sum():,.0f}", _planned(plan, "tokens", "{:,.0f}")]]
    cooldowns = (tokens - trials["tokens"]).where(trials["status"].isin(["completed", "stopped"]))
    if cooldowns.sum() > 0:
        rows.append(["of these in cooldowns to rungs", f"{cooldowns.sum():,.0f}", ""])
    if trials["confirms"].notna().any():
        further = tokens[trials["confirms"].notna()].sum()
        rows.append(["of these to confirm", f"{further:,.0f}", ""])
    if not run.history.empty:
        elapsed = _seconds_running(run.history)
        planned = _planned(plan, "seconds", "", _duration)
        rows.append(["time in which trials ran", _duration(elapsed), planned])
        at_once = f" ({seconds / elapsed:.1f} at a time)" if elapsed > 0 else ""
        rows.append([f"time of all trials together{at_once}", _duration(seconds), ""])
    gpus = _gpus_of_a_trial(run, made_with, plan)
    if gpus:
        hours = f"{gpus * seconds / 3600:.2f}"
        rows.append(["GPU-hours in trials", hours, _planned(plan, "gpu_hours", "{:.2f}")])
    headings = ["", "spent", "planned"]
    if not any(row[2] for row in rows):
        headings, rows = headings[:2], [row[:2] for row in rows]
    yield Table(headings, rows, frozenset({"spent", "planned"}))
    if text := _saved(run):
        yield Text(text)
    if made_with:
        hardware = ", ".join(made_with.get("gpus") or [])
        hardware = hardware or f"{made_with.get('cpus')} CPU cores, {made_with.get('processor')}"
        yield Text(f"It was started on a machine with {hardware}.")
        yield Code(
            json.dumps(made_with, indent=2),
            f"{files.ENVIRONMENT}, what it was made with",
            folded=True,
        )


def _seconds_running(history: pd.DataFrame) -> float:
    """Seconds in which at least one trial was running: without the breaks of an interrupted run."""
    history = history.sort_values(["trial_id", "tokens_trained"])
    # A report covers what its trial had run since the one before.
    ran = history.groupby("trial_id")["seconds"].diff().fillna(history["seconds"])
    stop = (history["time"] - history["time"].min()).dt.total_seconds()
    spans = pd.DataFrame({"start": stop - ran, "stop": stop}).sort_values("start")
    covered = spans["stop"].cummax().shift(fill_value=-math.inf)
    return float((spans["stop"] - spans["start"].clip(lower=covered)).clip(lower=0).sum())


def _planned(plan: dict, name: str, pattern: str, show: Any = None) -> str:
    value = plan.get(name)
    if not value:
        return ""
    return show(value) if show else pattern.format(value)


def _saved(run: Run) -> str:
    ended = run.trials[run.trials["confirms"].isna()]
    ended = ended[ended["status"].isin(["completed", "stopped"])]
    stopped = int((ended["status"] == "stopped").sum())
    if stopped in (0, len(ended)):
        return ""
    whole = len(ended) * float(judged(run)["tokens"].max())
    spent = float(ended["tokens_trained"].sum())
    share = f"{abs(1 - spent / whole):.0%} {'less' if spent < whole else 'more'}"
    return (
        f"{_count(stopped, 'trial')} stopped early: the {len(ended)} together trained on {share} "
        f"than the {whole:,.0f} tokens that the full budget of each would have been."
    )


def _gpus_of_a_trial(run: Run, made_with: dict, plan: dict) -> float:
    """GPUs that a trial held; 0 where it is not known that there were any."""
    if not (made_with.get("gpus") or plan.get("gpu_hours")) or run.search_file is None:
        return 0.0
    search = run.search_file.search
    each = 1.0 if search.gpus_per_worker is None else float(search.gpus_per_worker)
    return search.workers_per_trial * each


def mattered(run: Run) -> Iterator[Block]:
    """Which hyperparameters mattered."""
    try:
        found = run.importance
    except UserError as error:
        yield Text(f"This cannot be said: {error}.")
        return
    yield Text(describe_importance(found))
    yield Pictures(
        [run.plot_importance()],
        "Optuna's PED-ANOVA: how different the values of the best trials are from those of all, as "
        "a share. Trials that were stopped count as not among the best. Whiskers are 90% intervals "
        "over random halves of the trials. If no hyperparameter mattered, in 95 of 100 searches "
        "not one bar would cross the dotted line; bars that do not are grey. The line is for the "
        "bars, not for their whiskers.",
    )


def region(run: Run) -> Iterator[Block]:
    """Where the good region lies."""
    names = run.searched
    best, compared = run.best, judged(run)
    if not names or best is None:
        yield Text("Nothing was searched." if not names else "No trial has a result yet.")
        return
    number = max(min(FEWEST_BEST, len(compared)), math.ceil(len(compared) / 10))
    top = ranked(compared).head(number)
    axes = {name: axis(name, run.trials[name], run.ranges.get(name)) for name in names}
    tried = run.trials[run.trials["confirms"].isna()]
    rows = [
        [short(name), format_value(best[name])]
        + [_between(table[name], axes[name].categories) for table in (top, tried)]
        for name in names
    ]
    titles = ["the best trial", f"the best {number} trials", f"all {len(tried)} trials"]
    yield Table(["hyperparameter", *titles], rows)
    if edges := list(_at_the_edge(run, axes)):
        yield Points(edges)
    at = f"{compared['tokens'].max():,} tokens"
    if (found := confirmation(run.trials)) and found.degrees:
        scores = compared["bits_per_byte"]
        yield Text(
            f"These are the search's own runs, while the best was chosen by further ones. From run "
            f"to run the standard deviation is {found.deviation:.4f} bits per byte, and all points "
            f"lie within {scores.max() - scores.min():.4f}: differences as small as the former are "
            f"noise."
        )
    yield Pictures(
        [_one_panel(run, name) for name in names],
        f"A point is a trial at {at}, over one of its values at a time: orange the best, green the "
        f"baseline. Crosses at the top edge are trials that ended earlier: they have no figure "
        f"there, but show which values were tried. Point at one to read its trial.",
    )
    numbers = [name for name in _by_importance(run, names) if axes[name].categories is None]
    pairs = list(combinations(numbers[:SURFACES], 2))
    if pairs:
        yield Pictures(
            [run.plot_contour(x, y).update_layout(showlegend=False) for x, y in pairs],
            f"Two values at a time: the local mean of the trials at {at}, bright where it is good. "
            f"With few trials it is a rough guess, as the points show, which have the colour of "
            f"their own trial (ringed orange the best, green the baseline). Crosses are trials "
            f"that ended earlier; where it was mostly such ones, or none is near, it is blank. "
            f"Shown are the hyperparameters that come first above.",
        )


def _one_panel(run: Run, name: str) -> Figure:
    figure = run.plot_slices([name])
    return figure.update_layout(height=300, showlegend=False)


def _by_importance(run: Run, names: Sequence[str]) -> list[str]:
    try:
        return list(run.importance["name"])
    except UserError:
        return list(names)


def _between(values: pd.Series, categories: Sequence[str] | None) -> str:
    if categories is not None:
        counts = Counter(str(value) for value in values)
        return ", ".join(f"{value} ({number})" for value, number in counts.most_common())
    return f"{format_value(float(values.min()))} to {format_value(float(values.max()))}"


def _at_the_edge(run: Run, axes: dict) -> Iterator[str]:
    for name, along in axes.items():
        if along.categories is not None or name not in run.ranges:
            continue
        share = along.shares([run.best[name]])[0]
        end = "lower" if share <= EDGE else "upper" if share >= 1 - EDGE else ""
        if end:
            yield (
                f"The best trial's {along.title} of {format_value(run.best[name])} lies at the "
                f"{end} end of what was searched: the best may lie beyond. Consider a wider range."
            )


def went(run: Run) -> Iterator[Block]:
    """How the trials went."""
    yield Text(state(run))
    if run.history.empty:
        yield Text("No trial has reported yet.")
        return
    further = ""
    if run.trials["confirms"].notna().any():
        further = " Further runs wait for a click on their name; only their ends are judged."
    yield Pictures(
        [run.plot_curves()],
        "Bits per byte over tokens. Points are figures of the held-out text, at the rungs (dashed "
        "uprights); a cross is where a trial was stopped. Lines are the training loss in between, "
        "brought to bits per byte by the held-out text's bytes a token. Dotted lines are "
        "cooldowns: a trial is judged as if the rung were its end, then goes back to where the "
        "dotted line began. Only points rank trials: with more dropout the training loss is higher "
        "for the same figure on held-out text. Click a name to hide it, double-click to see it "
        "alone." + further,
    )
    yield Pictures(
        [run.plot_learning_rates()],
        "Learning rates from a trial's first report on; cooldowns to rungs are dotted.",
    )
    if run.searched and run.best is not None:
        yield Pictures(
            [run.plot_parallel_coordinates()],
            "A line is a trial, from its values to its place on the leaderboard: orange the best, "
            "blue those after it, grey the last. Drag along an axis to see only the trials that "
            "lie there.",
            least_width=110 * (len(run.searched) + 1),
        )


def failed(run: Run) -> Iterator[Block]:
    """What failed and why."""
    trials = run.trials[run.trials["status"].isin(["failed", "diverged"])]
    if trials.empty:
        yield Text("No trial failed or diverged.")
        return
    names = run.searched
    rows = [
        [row["trial_id"], row["status"], "" if is_missing(row["error"]) else row["error"]]
        + [format_value(row[name]) for name in names]
        for row in trials.to_dict("records")
    ]
    titles = [short(name) for name in names]
    yield Text(f"{_count(len(trials), 'trial')} of {len(run.trials)} came to no result:")
    yield Table(["trial", "status", "why", *titles], rows, frozenset(titles))
    if (run.folder / files.LOG).is_file():
        yield Text(f"{run.folder / files.LOG} has what Ray and Optuna had to say.")


def to_do(run: Run) -> Iterator[Block]:
    """How to train the winner, and what to do next."""
    folder, names = run.folder, run.searched
    runs_dir = "" if folder.parent == Path("runs") else f" --runs-dir {_quoted(folder.parent)}"
    command = "tune" if names or (folder / files.STUDY).exists() else "train"
    resume = f"python -m raygpt.{command} {_quoted(folder / files.SEARCH)} --resume{runs_dir}"
    if unfinished(run) and not is_being_run(folder):
        yield Code(resume, "Go on with this run")
    if names and confirmation(run.trials) is None and run.best is not None:
        yield Code(
            f"{resume} --set 'search.confirm={{top: {CONFIRMED}, seeds: {SEEDS}}}'",
            f"Confirm it: {SEEDS} further runs of each of the {CONFIRMED} best and of the baseline "
            f"say what is real, for at most "
            f"{(CONFIRMED + 1) * SEEDS * run.best['tokens']:,} tokens (the search so far: "
            f"{run.trials['tokens_trained'].sum():,})",
        )
    recipe = folder / files.BEST_RECIPE
    if recipe.is_file():
        yield Code(
            f"python -m raygpt.train {_quoted(recipe)}",
            "Train the winner (the very same run; --set training.seed=1 makes it another)",
        )
        yield Code(recipe.read_text(), f"Its recipe, {recipe}")
    elif not names and (folder / files.SEARCH).is_file():
        recipe = folder / files.SEARCH
        yield Code(f"python -m raygpt.train {_quoted(recipe)} --name NAME", "Train it again")
    if run.best is not None and not is_missing(checkpoint := run.best["checkpoint"]):
        yield Text(f"Its trained model: {folder / checkpoint}")
        yield Code(
            f"python -m raygpt.export {_quoted(folder)} --out my-model",
            "Export it, for transformers to load",
        )
    if names and run.best is not None and not unfinished(run):
        earlier = shlex.quote(f"search.warm_start=[{json.dumps(str(folder))}]")
        yield Code(
            f"python -m raygpt.tune {_quoted(folder / files.SEARCH)}{runs_dir} "
            f"--name {shlex.quote(folder.absolute().name + '-2')} --set {earlier}",
            "Search on, from what was learnt, in a run of its own; "
            "--set 'training.learning_rate={loguniform: [1e-3, 1e-2]}' and the like change ranges",
        )


def _wanted(run: Run) -> int:
    """Trials that the search was asked for."""
    if run.search_file is None or not (run.searched or (run.folder / files.STUDY).exists()):
        return len(run.trials)
    return run.search_file.search.trials


def _as_range(found: Any, name: str) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in found.ranges[name].as_yaml().items() if k != "start"]


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(map(_plain, value)) if len(value) == 2 else ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(words: Sequence[str]) -> list[str]:
    """At most two parts, to be joined by "and"."""
    return [", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
