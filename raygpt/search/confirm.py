"""The confirmation of a search: its best configurations and the baseline, with further seeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from ray.tune.search import Searcher

from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.recipe.sections import Confirm
from raygpt.results.best_recipe import write_best_recipe
from raygpt.results.confirmation import confirmation
from raygpt.results.tables import RunTables, load_results
from raygpt.search.cluster import Placement
from raygpt.search.names import confirming_name
from raygpt.search.resume import Unfinished
from raygpt.search.scheduler import METRIC
from raygpt.search.trial import trial_config

SEED = "training.seed"

Row = Mapping[str, Any]
"""A row of the trials' table, without its empty columns."""


@dataclass(frozen=True)
class ConfirmingRun:
    """A run that trains the values of one of the search's trials again."""

    trial_id: str
    confirms: str
    """The trial_id of that trial."""
    seed: int
    """Different from that of every other run of the search, so that all runs are independent."""
    values: dict[str, Any]
    """By dotted name; a searched seed is replaced by the run's own."""

    def recipe(self, search_file: SearchFile) -> Recipe:
        """The recipe that is trained, without cooldowns to lower rungs, where no run is stopped."""
        recipe = search_file.recipe(self.values)
        training = recipe.training.model_copy(update={"seed": self.seed})
        search = recipe.search.model_copy(update={"rung_metric": "raw"})
        return recipe.model_copy(update={"training": training, "search": search})


def confirm_settings(search_file: SearchFile) -> Confirm | None:
    """The confirmation that a recipe asks for; None without ranges: nothing is compared then."""
    return search_file.search.confirm if search_file.ranges else None


def confirming_runs(trials: Sequence[Row], search_file: SearchFile) -> list[ConfirmingRun]:
    """All runs that the recipe's `search.confirm` asks for after a search, finished or not.

    The list does not depend on how many of them are finished, only on the search's own trials and
    on the seeds of the runs that were begun. The first run of every configuration comes before the
    second run of any, so that an interrupted confirmation has about as many runs of each.

    Args:
        trials: rows of the trials' table of a search that has ended.
        search_file: ranges and recipe; without ranges there is nothing to confirm.
    """
    confirm = confirm_settings(search_file)
    if confirm is None:
        return []
    begun = {row["trial_id"]: row for row in trials}
    taken = {int(row["seed"]) for row in trials}
    first = search_file.fixed.get(SEED, 0)
    free = (seed % 2**32 for seed in count(first + 1) if seed % 2**32 not in taken)
    runs = []
    for number in range(1, confirm.seeds + 1):
        for row in configurations_to_confirm(trials, search_file):
            trial_id = confirming_name(row["trial_id"], number)
            seed = int(begun[trial_id]["seed"]) if trial_id in begun else next(free)
            values = {name: row[name] for name in search_file.ranges}
            values |= {SEED: seed} if SEED in values else {}
            runs.append(ConfirmingRun(trial_id, row["trial_id"], seed, values))
    return runs


def configurations_to_confirm(trials: Iterable[Row], search_file: SearchFile) -> list[Row]:
    """The search's trials to confirm: the baseline if it reached a rung, then the best trials.

    The list is empty if no trial was completed. Trials of the same values are one configuration.
    """
    own = [row for row in trials if "confirms" not in row]
    baseline = [row for row in own if row.get("baseline") and METRIC in row]
    completed = sorted(
        (row for row in own if row["status"] == "completed"), key=lambda row: row[METRIC]
    )
    if not completed:
        return []
    different: dict[tuple, Row] = {}
    for row in [*baseline, *completed]:
        values = tuple(row[name] for name in search_file.ranges if name != SEED)
        different.setdefault(values, row)
    return list(different.values())[: search_file.search.confirm.top + len(baseline)]


def unfinished_runs(trials: Sequence[Row], search_file: SearchFile) -> list[ConfirmingRun]:
    """The confirming runs that have not ended."""
    ended = {row["trial_id"] for row in trials if row["status"] != "running"}
    return [run for run in confirming_runs(trials, search_file) if run.trial_id not in ended]


def expected_runs(trials: Sequence[Row], search_file: SearchFile) -> int:
    """The number of runs of the confirmation; an estimate until the search has ended."""
    own = [row for row in trials if "confirms" not in row]
    if sum(row["status"] != "running" for row in own) >= search_file.search.trials:
        return len(confirming_runs(trials, search_file))
    confirm = confirm_settings(search_file)
    if confirm is None:
        return 0
    return confirm.seeds * (confirm.top + any(row.get("baseline") for row in own))


class RunSearcher(Searcher):
    """Proposes runs from a list.

    Args:
        runs: the runs, in their order.
        search_file: ranges and recipe.
        needed: resources of a run.
        storage: the session folder, which the runs' folders are made in.
        resumed: runs that were begun, with their checkpoints.
    """

    def __init__(
        self,
        runs: Iterable[ConfirmingRun],
        search_file: SearchFile,
        needed: Placement,
        storage: str,
        resumed: Iterable[Unfinished] = (),
    ):
        super().__init__(metric=METRIC, mode="min")
        self._runs: Iterator[ConfirmingRun] = iter(runs)
        self._search_file = search_file
        self._needed = needed
        self._storage = storage
        self._checkpoints = {attempt.trial_id: attempt.checkpoint for attempt in resumed}

    def __getstate__(self) -> dict[str, Any]:
        """Empty: a run is resumed from its tables, not from Tune's state files."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        run = next(self._runs, None)
        if run is None:
            return Searcher.FINISHED
        return trial_config(
            run.trial_id,
            run.recipe(self._search_file),
            self._needed,
            self._storage,
            self._checkpoints.get(run.trial_id),
            values=run.values,
            confirms=run.confirms,
        )

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Does nothing: no run depends on another."""

    def ended(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Does nothing; see `on_trial_complete`."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the tables are on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing; see `save`."""


def write_confirmed_best(tables: RunTables, search_file: SearchFile) -> None:
    """Write the recipe of the confirmation's winner as the run's best one, if there is a winner."""
    found = confirmation(load_results(tables.folder).trials)
    if not found or not found.winner:
        return
    winner = found.winner
    row = tables.trial(winner.trial_id)
    recipe = search_file.recipe({name: row[name] for name in search_file.ranges})
    write_best_recipe(
        tables.folder,
        recipe,
        f"Trial {winner.trial_id}: {winner.mean:.4f} ± {found.standard_error(winner):.4f} bits per "
        f"byte at {budget_tokens(recipe):,} tokens, mean and standard error of "
        f"{len(winner.scores)} runs with other seeds",
    )
