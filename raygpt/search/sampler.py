"""Proposes the values to try next: an Optuna study behind Ray Tune's searcher interface.

Ray's own `OptunaSearch` tells the study that a trial stopped at a rung is complete, with the value
of its small budget, and keeps the study in memory. Here the study is a file that outlives the
process, and each trial has the same state in it as in the tables:

| in the tables | in the study |
|---|---|
| completed | COMPLETE, with the value of the full budget |
| stopped | PRUNED, with a value for every rung reached, by its budget in tokens |
| diverged | PRUNED and infeasible: TPE ranks it after all others, whatever it reported before |
| failed | FAIL, which TPE ignores, because it says nothing about the values |
| running | RUNNING; TPE avoids its values, because they may turn out bad |

The study may begin with trials of earlier searches (`warm_start`); this search's own follow.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from raygpt.recipe.ranges import Range
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.recipe.sections import Search
from raygpt.search.cluster import Placement
from raygpt.search.names import trial_name, trial_number
from raygpt.search.resume import Unfinished
from raygpt.search.scheduler import METRIC
from raygpt.search.trial import trial_config
from raygpt.seeds import derived_seed

BASELINE = "baseline"
"""Attribute of the trial that starts from the recipe's own values."""
EARLIER_RUN = "warm_start"
"""Attribute of trials of earlier searches: the run folder that they come from."""
DIVERGED = "diverged"
"""The constraint that a diverged trial has violated."""


def open_study(path: Path, name: str) -> optuna.Study:
    """The study in an SQLite file, which is made if necessary; `optuna-dashboard` opens it."""
    return optuna.create_study(
        storage=f"sqlite:///{path}", study_name=name, direction="minimize", load_if_exists=True
    )


def make_sampler(
    search: Search, number: int, ranges: Mapping[str, Range] | None = None
) -> optuna.samplers.BaseSampler:
    """The recipe's sampler, to propose one trial.

    Each trial's sampler is seeded with the search's seed and the trial's number, so that a search
    that was interrupted makes the same proposals as one that was not.

    Args:
        search: the recipe's section.
        number: number of the trial in the search.
        ranges: by parameter name. If given, the study stores the trial's own values, which are
            points of a grid, instead of the raw proposals.
    """
    seed = derived_seed(search.seed, number, bits=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = SAMPLERS[search.sampler](seed)
    return OnGrid(sampler, ranges) if ranges else sampler


SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(
        multivariate=True, group=True, constant_liar=True, seed=seed
    ),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


class OnGrid(optuna.samplers.BaseSampler):
    """A sampler that proposes only values that a trial can have; see `Range.grid_point`.

    Args:
        sampler: makes the proposals.
        ranges: by parameter name.
    """

    def __init__(self, sampler: optuna.samplers.BaseSampler, ranges: Mapping[str, Range]):
        self._sampler = sampler
        self._ranges = ranges

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        proposed = self._sampler.sample_relative(study, trial, search_space)
        return {name: self._ranges[name].grid_point(value) for name, value in proposed.items()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        proposed = self._sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._ranges[param_name].grid_point(proposed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Any,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()


class StudySearcher(Searcher):
    """Proposes trials from a study and tells it how they ended.

    Args:
        study: the memory of the search.
        search_file: ranges and recipe.
        needed: resources of a trial.
        storage: the session folder, which the trials' folders are made in.
        resumed: unfinished trials of the search, which come before new ones.
    """

    def __init__(
        self,
        study: optuna.Study,
        search_file: SearchFile,
        needed: Placement,
        storage: str,
        resumed: Iterable[Unfinished] = (),
    ):
        super().__init__(metric=METRIC, mode="min")
        self._study = study
        self._search_file = search_file
        self._needed = needed
        self._storage = storage
        self._resumed = list(resumed)
        self._asked: dict[str, optuna.Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Empty: a run is resumed from its tables and its study, not from Tune's state files."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        own = own_trials(self._study)
        if self._resumed:
            attempt = self._resumed.pop(0)
            number = trial_number(attempt.trial_id)
        else:
            # The baseline waits in the study from the beginning.
            number = sum(frozen.state != TrialState.WAITING for frozen in own)
            attempt = Unfinished(trial_name(number))
        search_file = self._search_file
        self._study.sampler = make_sampler(search_file.search, number, search_file.ranges)
        if number < len(own) and own[number].state == TrialState.RUNNING:
            trial = optuna.Trial(self._study, own[number]._trial_id)
        else:
            trial = self._study.ask()
        # An unfinished trial keeps its values to the last digit: its checkpoint depends on them.
        kept = dict(trial.params if attempt.values is None else attempt.values)
        values = suggest_values(search_file, trial) | kept
        self._asked[trial_id] = trial
        # Its number in the study is different after a warm start.
        trial.set_user_attr("trial", attempt.trial_id)
        return trial_config(
            attempt.trial_id,
            trial_recipe(search_file, number, values),
            self._needed,
            self._storage,
            attempt.checkpoint,
            values=values,
            baseline=trial.user_attrs.get(BASELINE, False),
        )

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if METRIC in result:
            self._asked[trial_id].report(result[METRIC], step=int(result["tokens"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Does nothing: Tune does not say here how the trial ended; see `ended`."""

    def ended(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """A trial ended.

        Args:
            trial_id: Tune's.
            row: its row of the trials' table, which already has its final status.
        """
        tell_outcome(self._study, self._asked.pop(trial_id), row)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing; see `save`."""


def own_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of this search itself, in the order of their numbers in the search."""
    return [
        frozen
        for frozen in study.get_trials(deepcopy=False)
        if EARLIER_RUN not in frozen.user_attrs
    ]


def suggest_values(search_file: SearchFile, trial: optuna.Trial) -> dict[str, Any]:
    """A value for each range; a trial that has values already keeps them."""
    return {name: spec.suggest(trial, name) for name, spec in search_file.ranges.items()}


def trial_recipe(search_file: SearchFile, number: int, values: Mapping[str, Any]) -> Recipe:
    """The recipe of a trial. If nothing is searched, trials differ in their seed."""
    recipe = search_file.recipe(values)
    if search_file.ranges:
        return recipe
    training = recipe.training.model_copy(update={"seed": recipe.training.seed + number})
    return recipe.model_copy(update={"training": training})


def settle_study(study: optuna.Study, trials: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Bring a study in line with the tables after its process was killed.

    Args:
        study: the study, in which trials that ended may still be marked as running.
        trials: the rows of the trials' table, by trial_id.

    Returns:
        The names of the search's trials that are not finished.
    """
    unfinished = []
    for number, frozen in enumerate(own_trials(study)):
        if frozen.state != TrialState.RUNNING:
            continue
        name = trial_name(number)
        row = trials.get(name, {"status": "running"})
        if row["status"] == "running":
            unfinished.append(name)
        else:
            tell_outcome(study, optuna.Trial(study, frozen._trial_id), row)
    return unfinished


def tell_outcome(study: optuna.Study, trial: optuna.Trial, row: Mapping[str, Any]) -> None:
    """Tell the study how a trial ended, according to its row of the trials' table."""
    status = row["status"]
    if "error" in row:
        trial.set_user_attr("error", row["error"])
    reported = study.get_trials(deepcopy=False)[trial.number].intermediate_values
    if METRIC in row and row["tokens"] not in reported:
        # Tune does not tell the searcher about the report at which it stops a trial.
        trial.report(row[METRIC], step=int(row["tokens"]))
    if status == "completed":
        study.tell(trial, row[METRIC])
    elif status == "failed":
        study.tell(trial, state=TrialState.FAIL)
    else:
        if status == "diverged":
            trial.set_constraint(DIVERGED, 1.0)
        study.tell(trial, state=TrialState.PRUNED)
