"""Curves over tokens: bits per byte, and the learning rate."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raygpt.analysis.groups import BASELINE, BEST, COLOURS, FURTHER, WIDER, groups, hover_texts
from raygpt.results.comparability import bytes_per_token
from raygpt.results.tables import Results

GAP = {"tokens": np.nan, "y": np.nan, "text": ""}
WIDTHS = {BEST: 2.6, BASELINE: 2.2}
OPACITIES = {"stopped": 0.55, "completed": 0.75, "running": 0.75}
ENDS = {"stopped": "x", "diverged": "diamond", "failed": "diamond"}
"""Symbols at the ends of trials that did not complete the budget."""


def learning_curves(results: Results, trials: Iterable[str] | None = None) -> go.Figure:
    """Bits per byte over tokens, with rungs as vertical lines and dotted cooldowns.

    Points at rungs are measured on the validation set. The lines between them are the training
    loss, the mean since the report before, converted to bits per byte with the validation set's
    bytes per token. That assumes that training text has as many bytes per token as validation text,
    which holds within a corpus up to chance. Training has dropout, so a line may lie above its
    points. Before the first evaluation of any trial, the unit is bits per token.

    A cooldown leaves the trial's curve on the way to a rung; the trial then resumes from where the
    cooldown began. Runs that confirm a trial have no cooldowns, so only their end is a point.

    Args:
        results: results of a run.
        trials: trial_ids to show. If left out, all are shown, but runs that confirm a trial only
            after a click on their name in the legend.
    """
    history, ratio = results.history, bytes_per_token(results.history)
    known = np.isfinite(ratio)
    further = results.trials.loc[results.trials["confirms"].notna(), "trial_id"]
    uncooled = history["trial_id"].isin(further) & (history["rung"] < history["rung"].max())
    history = history.assign(
        y=history["train_bits_per_token"] / (ratio if known else 1.0),
        bits_per_byte=history["bits_per_byte"].mask(uncooled.fillna(False).astype(bool)),
    )
    unit = "bits per byte" if known else "bits per token"
    figure = _curves(results, history, trials, f"%{{y:.4f}} {unit} in training")
    _add_rungs(figure, results, history, trials)
    title = f"{unit}: points held out, lines in training" if known else unit
    figure.update_yaxes(title_text=title, **_judged_range(history, trials))
    return figure


def learning_rates(results: Results, trials: Iterable[str] | None = None) -> go.Figure:
    """Learning rates over tokens, with dotted cooldowns to rungs.

    Arguments are those of `learning_curves`.
    """
    history = results.history.assign(y=results.history["learning_rate"])
    figure = _curves(results, history, trials, "learning rate %{y:.3g}")
    figure.update_yaxes(title_text="learning rate", rangemode="tozero")
    return figure


def _curves(
    results: Results, history: pd.DataFrame, trials: Iterable[str] | None, hover: str
) -> go.Figure:
    """The curve and the dotted cooldowns of every trial, from the column `y`.

    The trials of a group share a trace with gaps in it, because hundreds of traces would be slow.
    """
    figure = go.Figure()
    texts = hover_texts(results)
    by_trial = dict(list(history.dropna(subset="y").groupby("trial_id")))
    for group, members in _members(results, trials):
        trunk, cooldowns = [], []
        for trial_id in members:
            if trial_id not in by_trial:
                continue
            reports = by_trial[trial_id].sort_values("tokens_trained", kind="stable")
            for cooldown, rows in _stretches(reports):
                rows = rows[["tokens", "y"]].assign(text=texts[trial_id])
                (cooldowns if cooldown else trunk).extend([*rows.to_dict("records"), GAP])
        for points, dash in ((trunk, "solid"), (cooldowns, "dot")):
            if not points:
                continue
            table = pd.DataFrame(points)
            figure.add_scatter(
                x=table["tokens"],
                y=table["y"],
                text=table["text"],
                mode="lines",
                line={"color": COLOURS[group], "width": WIDTHS.get(group, 1.3), "dash": dash},
                opacity=OPACITIES.get(group, 1.0),
                name=group,
                legendgroup=group,
                showlegend=dash == "solid" or not trunk,
                visible=_visible(group, trials),
                hovertemplate=f"%{{text}}<br>{hover} at %{{x:,}} tokens<extra></extra>",
            )
    figure.update_xaxes(title_text="tokens", rangemode="tozero")
    figure.update_layout(
        hovermode="closest", legend={"orientation": "h", "y": 1, "yanchor": "bottom"}
    )
    return figure


def _members(results: Results, trials: Iterable[str] | None) -> Iterator[tuple[str, Sequence[str]]]:
    """The groups in drawing order, with the trial_ids of each."""
    group = groups(results)
    for name in COLOURS:
        members = results.trials.loc[group == name, "trial_id"]
        yield name, list(members if trials is None else members[members.isin(list(trials))])


def _stretches(reports: pd.DataFrame) -> Iterator[tuple[bool, pd.DataFrame]]:
    """The reports outside cooldowns, then those of each cooldown from where it began.

    Args:
        reports: reports of one trial, in the order in which they were made.

    Yields:
        Whether it is a cooldown, and its reports.
    """
    cooldown = reports["cooldown"].fillna(False).to_numpy(bool)
    trunk = reports[~cooldown]
    yield False, trunk
    starts = np.flatnonzero(cooldown & ~np.concatenate([[False], cooldown[:-1]]))
    for start in starts:
        stop = start + int(np.argmin(np.append(cooldown[start:], False)))
        # After a cooldown a trial resumes at fewer tokens, so order by position would be wrong.
        before = reports.iloc[:start]
        before = before[~cooldown[:start]].tail(1)
        yield True, pd.concat([before, reports.iloc[start:stop]])


def _visible(group: str, trials: Iterable[str] | None) -> bool | str:
    """Whether a group is shown at first. Further runs would cover the trials that they confirm."""
    return "legendonly" if group == FURTHER and trials is None else True


def _add_rungs(
    figure: go.Figure, results: Results, history: pd.DataFrame, trials: Iterable[str] | None
) -> None:
    """Add vertical lines at the rungs, the trials' points there, and symbols where trials ended."""
    scored = history.dropna(subset="bits_per_byte")
    own = results.trials.loc[results.trials["confirms"].isna(), "trial_id"]
    for tokens in sorted(scored.loc[scored["trial_id"].isin(own), "tokens"].unique()):
        figure.add_vline(x=int(tokens), line={"width": 1, "dash": "dash", "color": "#8e959e"})
    texts = hover_texts(results)
    for group, members in _members(results, trials):
        points = scored[scored["trial_id"].isin(members)]
        if points.empty:
            continue
        last = points["tokens_trained"] == points.groupby("trial_id")["tokens_trained"].transform(
            "max"
        )
        figure.add_scatter(
            x=points["tokens"],
            y=points["bits_per_byte"],
            text=points["trial_id"].map(texts),
            mode="markers",
            marker={
                "color": COLOURS[group],
                "size": 10 if group in WIDER else 7,
                "symbol": np.where(last, ENDS.get(group, "circle"), "circle"),
            },
            opacity=OPACITIES.get(group, 1.0),
            name=group,
            legendgroup=group,
            showlegend=not any(trace.legendgroup == group for trace in figure.data),
            visible=_visible(group, trials),
            hovertemplate="%{text}<br>judged at %{x:,} tokens: %{y:.4f} bits per byte"
            "<extra></extra>",
        )


def _judged_range(history: pd.DataFrame, trials: Iterable[str] | None) -> dict[str, list[float]]:
    """The axis range from the lowest value to the worst at a rung, without the steep beginnings.

    Outliers, which belong to trials that diverged or were about to, are left out as well.
    """
    if trials is not None:
        history = history[history["trial_id"].isin(list(trials))]
    figures = history["bits_per_byte"].dropna()
    if figures.empty:
        return {}
    first, third = figures.quantile([0.25, 0.75])
    # Tukey's outer fence.
    inside = figures[figures <= third + 3 * (third - first)]
    low, high = min(figures.min(), history["y"].min()), inside.max()
    margin = 0.08 * max(high - low, 0.01 * low)
    return {"range": [low - margin, high + 2 * margin]}
