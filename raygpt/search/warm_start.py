"""The first entries of a new study: trials of earlier searches, and the values to try first."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from raygpt.errors import UserError
from raygpt.recipe.fields import SAME_FIGURES
from raygpt.recipe.ranges import Choice, Range
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.results import files
from raygpt.results.comparability import differences, why_incomparable
from raygpt.results.run_comparison import scored_texts
from raygpt.results.tables import Results, load_results
from raygpt.search.sampler import BASELINE, DIVERGED, EARLIER_RUN, own_trials, suggest_values
from raygpt.search.scheduler import METRIC

STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
}

# Settings that change a trial's cost, or its figures only within noise.
MAY_DIFFER = (*SAME_FIGURES, "name", "model.compile", "training.seed")
# The only setting in `search` that changes the figures of a trial by more than noise.
DECIDES = "search.rung_metric"


def earlier_runs(search_file: SearchFile, scored: Mapping[str, Any] | None = None) -> list[Results]:
    """The searches that `search.warm_start` names.

    Args:
        search_file: ranges and recipe.
        scored: the text that this search is scored on, from `Dataset.fingerprints`; only the
            settings are compared if it is left out.

    Raises:
        UserError: one is not a search, or its trials cannot be compared with this search's.
    """
    folders = dict.fromkeys(search_file.search.warm_start)
    if folders and not search_file.ranges:
        raise UserError(
            "search.warm_start: the recipe has no ranges that it could help with; leave it out"
        )
    runs = []
    for folder in folders:
        try:
            results = load_results(folder)
            earlier = load_search_file(results.folder / files.SEARCH)
        except UserError as error:
            raise UserError(f"search.warm_start: {error}") from None
        found = [*_differences(earlier, search_file), *_other_text(results, scored)]
        if found:
            raise UserError(
                f"search.warm_start: the trials of {folder} cannot be compared with this search's: "
                f"{'; '.join(found)}. Make these the same, or leave that run out"
            )
        runs.append(results)
    return runs


def _differences(earlier: SearchFile, now: SearchFile) -> Iterator[str]:
    """The settings whose difference makes the trials of two searches incomparable, in words."""
    if earlier.own != now.own and earlier.fixed["model.module"] == now.fixed["model.module"]:
        yield f"the file of model.module ({now.own.path}) has changed"
    for key in dict.fromkeys([*earlier.schema.fields, *now.schema.fields]):
        there, here = (
            "searched" if key in search.ranges else search.fixed.get(key)
            for search in (earlier, now)
        )
        decides = key not in MAY_DIFFER and (key == DECIDES or not key.startswith("search."))
        if there != here and (decides or "searched" in (there, here)):
            yield f"{key} is {there} there and {here} here"


def _other_text(results: Results, scored: Mapping[str, Any] | None) -> Iterator[str]:
    """Why an earlier run's figures cannot be compared with figures on this text, in words."""
    texts = scored_texts(results)
    if scored and differences(scored, *texts):
        yield why_incomparable({"there": texts, "here": [scored]})


def seed_study(
    study: optuna.Study, search_file: SearchFile, scored: Mapping[str, Any] | None = None
) -> list[str]:
    """Add the trials of earlier runs to a new study, and the start values for the first trial.

    A study that already has trials of its own search is left as it is.

    Args:
        study: the search's study.
        search_file: ranges and recipe.
        scored: see `earlier_runs`.

    Returns:
        A line for each earlier run: how many of its trials were taken over.

    Raises:
        UserError: see `earlier_runs`.
    """
    if own_trials(study):
        return []
    # A kill may have left some of them in the study.
    known = {(t.user_attrs[EARLIER_RUN], t.user_attrs["trial"]) for t in study.trials}
    lines = []
    for results in earlier_runs(search_file, scored):
        counts: Counter[str] = Counter()
        rows = results.trials[results.trials["confirms"].isna()]
        for row in rows.to_dict("records"):
            values = {
                key: search_file.schema.read_value(key, row[key]) for key in search_file.ranges
            }
            if row["status"] not in STATES:
                counts["failed or unfinished"] += 1
            elif not all(found.contains(values[key]) for key, found in search_file.ranges.items()):
                counts["outside the ranges"] += 1
            else:
                counts["taken"] += 1
                if (str(results.folder), row["trial_id"]) not in known:
                    study.add_trial(_as_study_trial(row, values, results, search_file))
        taken = counts.pop("taken", 0)
        left_out = "".join(f", {number} {why}" for why, number in counts.items())
        lines.append(f"Warm start: {taken} of {len(rows)} trials of {results.folder}{left_out}.")
    if search_file.ranges:
        study.enqueue_trial(search_file.start_values(), user_attrs={BASELINE: True})
    return lines


def _as_study_trial(
    row: Mapping[str, Any], values: Mapping[str, Any], results: Results, search_file: SearchFile
) -> FrozenTrial:
    """A trial of an earlier run as the study has its own trials; see `tell_outcome`."""
    params = {key: _clipped(found, values[key]) for key, found in search_file.ranges.items()}
    asked = FixedTrial(params)
    suggest_values(search_file, asked)
    history = results.history
    at_rungs = history[(history["trial_id"] == row["trial_id"]) & history[METRIC].notna()]
    return optuna.trial.create_trial(
        state=STATES[row["status"]],
        value=row[METRIC] if row["status"] == "completed" else None,
        params=params,
        distributions=asked.distributions,
        # Python's numbers, because numpy's would be stored as bytes.
        intermediate_values=dict(
            zip(at_rungs["tokens"].tolist(), at_rungs[METRIC].tolist(), strict=True)
        ),
        user_attrs={EARLIER_RUN: str(results.folder), "trial": row["trial_id"]},
        constraints={DIVERGED: 1.0} if row["status"] == "diverged" else None,
    )


def _clipped(found: Range, value: Any) -> Any:
    """A value that the range contains up to rounding errors, moved inside its bounds."""
    if isinstance(found, Choice):
        return value
    return min(max(value, found.extremes()[0]), found.extremes()[-1])
