"""Which values to try next: an Optuna study behind Ray Tune's searcher interface.

Ray's own `OptunaSearch` tells the study that a trial stopped at a rung is complete, with the value
of its small budget, and keeps the study in memory; here the study is a file that outlives the
process, and each trial stands in it as in the tables:

| in the tables | in the study |
|---|---|
| completed | COMPLETE, with the value of the full budget |
| stopped | PRUNED, with a value for every rung reached, by its budget in tokens |
| diverged | PRUNED and infeasible: TPE ranks it after all others, whatever it reported before |
| failed | FAIL, which teaches nothing: it says nothing of the values |
| running | RUNNING; TPE keeps away from its values, for it may become a bad one |

The study may begin with trials of earlier searches (`warm_start`), and this search's own follow.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.recipe.sections import Search
from raygpt.search.cluster import Placement
from raygpt.search.scheduler import METRIC
from raygpt.search.trial import trial_config
from raygpt.seeds import derived_seed

BASELINE = "baseline"
"""Attribute of the trial that starts from the recipe's own values."""
EARLIER_RUN = "warm_start"
"""Attribute of trials that were taken over: the run folder that they are of."""
DIVERGED = "diverged"
"""The constraint that a diverged trial has violated."""


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
    """The trial's identifier in tables and folders, from its number in the search."""
    return f"{number:04d}"


class StudySearcher(Searcher):
    """Proposes trials from a study and tells it how they went.

    Args:
        study: the memory of the search.
        search_file: ranges, and what is fixed.
        needed: resources of a trial.
        storage: folder of the trials' folders.
        resumed: unfinished trials, which go first, by their number in the search: the checkpoint
            of each.
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
        own = own_trials(self._study)
        # The baseline waits in the study from the beginning.
        number = sum(frozen.state != TrialState.WAITING for frozen in own)
        checkpoint = None
        if self._resumed:
            number = next(iter(self._resumed))
            checkpoint = self._resumed.pop(number)
        self._study.sampler = make_sampler(self._search_file.search, number)
        if number < len(own) and own[number].state == TrialState.RUNNING:
            trial = optuna.Trial(self._study, own[number]._trial_id)
        else:
            trial = self._study.ask()
        values = suggest_values(self._search_file, trial)
        self._asked[trial_id] = trial
        name = trial_name(number)
        # Its number in the study is another one after a warm start.
        trial.set_user_attr("trial", name)
        recipe = trial_recipe(self._search_file, number, values)
        return trial_config(name, recipe, self._needed, self._storage, checkpoint) | {
            "values": values,
            "baseline": trial.user_attrs.get(BASELINE, False),
            "confirms": None,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if METRIC in result:
            self._asked[trial_id].report(result[METRIC], step=int(result["tokens"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: Tune does not say here how the trial ended; see `ended`."""

    def ended(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """A trial is over.

        Args:
            trial_id: Tune's.
            row: of the trials' table, where its end is written already.
        """
        tell_outcome(self._study, self._asked.pop(trial_id), row)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def own_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials of this search itself, in the order of their numbers in it."""
    return [
        frozen
        for frozen in study.get_trials(deepcopy=False)
        if EARLIER_RUN not in frozen.user_attrs
    ]


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


def settle_study(study: optuna.Study, trials: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """Bring a study that a kill left behind in line with the tables.

    Args:
        study: where trials that ended may still be running.
        trials: the rows of the trials' table, by trial_id.

    Returns:
        The numbers, in the search, of the trials that are still to be finished.
    """
    unfinished = []
    for number, frozen in enumerate(own_trials(study)):
        if frozen.state != TrialState.RUNNING:
            continue
        row = trials.get(trial_name(number), {"status": "running"})
        if row["status"] == "running":
            unfinished.append(number)
        else:
            tell_outcome(study, optuna.Trial(study, frozen._trial_id), row)
    return unfinished


def tell_outcome(study: optuna.Study, trial: optuna.Trial, row: Mapping[str, Any]) -> None:
    """Tell the study how a trial ended, as its row of the trials' table has it."""
    status = row["status"]
    if "error" in row:
        trial.set_user_attr("error", row["error"])
    reported = study.get_trials(deepcopy=False)[trial.number].intermediate_values
    if METRIC in row and row["tokens"] not in reported:
        # Tune does not tell the searcher of the report at which it stops a trial.
        trial.report(row[METRIC], step=int(row["tokens"]))
    if status == "completed":
        study.tell(trial, row[METRIC])
    elif status == "failed":
        study.tell(trial, state=TrialState.FAIL)
    else:
        if status == "diverged":
            trial.set_constraint(DIVERGED, 1.0)
        study.tell(trial, state=TrialState.PRUNED)
