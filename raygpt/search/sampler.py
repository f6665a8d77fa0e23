"""Which values to try next: an Optuna study behind Ray Tune's searcher interface.

Ray's own `OptunaSearch` tells the study that a trial stopped at a rung is complete, with the value
of its small budget, and keeps the study in memory; here a stopped trial is pruned, with a value
for every rung, and the study is a file that outlives the process.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from raygpt.recipe.schema import Recipe, Search
from raygpt.recipe.search_file import SearchFile
from raygpt.search.cluster import Placement
from raygpt.search.scheduler import METRIC
from raygpt.search.trial import trial_config
from raygpt.seeds import derived_seed


def open_study(path: Path, name: str) -> optuna.Study:
    """The study in that SQLite file, made if it is not there; `optuna-dashboard` opens it."""
    return optuna.create_study(
        storage=f"sqlite:///{path}", study_name=name, direction="minimize", load_if_exists=True
    )


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """The recipe's sampler, to propose one trial.

    Each trial's sampler is seeded with the search's seed and the trial's number, so that a search
    that was interrupted proposes what it would have proposed undisturbed.
    """
    seed = derived_seed(search.seed, number, bits=32)
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=seed
        )


def trial_name(number: int) -> str:
    """The trial's identifier in tables and folders, from its number in the study."""
    return f"{number:04d}"


class StudySearcher(Searcher):
    """Proposes trials from a study and tells it how they went.

    Args:
        study: the memory of the search.
        search_file: ranges, and what is fixed.
        needed: resources of a trial.
        storage: folder of the trials' folders.
        resumed: unfinished trials, which go first, by study number: the checkpoint of each.
    """

    def __init__(
        self,
        study: optuna.Study,
        search_file: SearchFile,
        needed: Placement,
        storage: str,
        resumed: Mapping[int, str | None],
    ):
        super().__init__(metric=METRIC, mode="min")
        self._study = study
        self._search_file = search_file
        self._needed = needed
        self._storage = storage
        self._resumed = dict(resumed)
        self._asked: dict[str, optuna.Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for Tune's own state files: a run is resumed from its tables and its study."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        checkpoint = None
        if self._resumed:
            number = next(iter(self._resumed))
            checkpoint = self._resumed.pop(number)
            frozen = self._study.trials[number]
            trial = optuna.Trial(self._study, frozen._trial_id)
        else:
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = make_sampler(self._search_file.search, number)
            trial = self._study.ask()
        values = suggest_values(self._search_file, trial)
        self._asked[trial_id] = trial
        recipe = trial_recipe(self._search_file, trial.number, values)
        return trial_config(
            trial_name(trial.number), recipe, self._needed, self._storage, checkpoint
        ) | {"values": values}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if METRIC in result:
            self._asked[trial_id].report(result[METRIC], step=int(result["tokens"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self._asked.pop(trial_id)
        result = result or {}
        if error or METRIC not in result:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            # Tune does not call on_trial_result for the report at which it stops a trial.
            tell_outcome(self._study, trial, result, self._search_file)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def suggest_values(search_file: SearchFile, trial: optuna.Trial) -> dict[str, Any]:
    """A value for each range; those that a resumed trial has already."""
    return {name: spec.suggest(trial, name) for name, spec in search_file.ranges.items()}


def trial_recipe(search_file: SearchFile, number: int, values: Mapping[str, Any]) -> Recipe:
    """The recipe of a trial. Where nothing is searched, trials differ in their seed."""
    recipe = search_file.recipe(values)
    if search_file.ranges:
        return recipe
    training = recipe.training.model_copy(update={"seed": recipe.training.seed + number})
    return recipe.model_copy(update={"training": training})


def settle_study(
    study: optuna.Study, trials: Mapping[str, Mapping[str, Any]], search_file: SearchFile
) -> list[int]:
    """Bring a study that a kill left behind in line with the tables.

    Args:
        study: where trials that ended may still be running.
        trials: the rows of the trials' table, by trial_id.
        search_file: of the search.

    Returns:
        The numbers of the trials that are still to be finished.
    """
    unfinished = []
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        row = trials.get(trial_name(frozen.number), {})
        status = row.get("status", "running")
        if status == "running" and set(frozen.params) == set(search_file.ranges):
            unfinished.append(frozen.number)
        elif status in ("completed", "stopped"):
            tell_outcome(study, optuna.Trial(study, frozen._trial_id), row, search_file)
        else:
            study.tell(frozen.number, state=TrialState.FAIL)
    return unfinished


def tell_outcome(
    study: optuna.Study, trial: optuna.Trial, result: Mapping[str, Any], search_file: SearchFile
) -> None:
    """Tell the study the last figures of a trial: complete at the last rung, pruned at others."""
    trial.report(result[METRIC], step=int(result["tokens"]))
    if result["rung"] == len(search_file.search.rungs) - 1:
        study.tell(trial, result[METRIC])
    else:
        study.tell(trial, state=TrialState.PRUNED)
