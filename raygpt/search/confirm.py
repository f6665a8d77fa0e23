"""The confirmation of a search: its best configurations and the baseline, with further seeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from ray.tune.search import Searcher

from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile
from raygpt.recipe.writer import recipe_to_yaml
from raygpt.results import files
from raygpt.results.confirmation import confirmation
from raygpt.results.tables import RunTables, load_results
from raygpt.search.cluster import Placement
from raygpt.search.scheduler import METRIC
from raygpt.search.trial import trial_config

SEED = "training.seed"

Row = Mapping[str, Any]
"""Of the trials' table, with what is missing left out."""


@dataclass(frozen=True)
class ConfirmingRun:
    """A run that trains the values of one of the search's trials again."""

    trial_id: str
    confirms: str
    """The trial_id of that trial."""
    seed: int
    """No other run of the search has it, so that all runs are independent."""
    values: dict[str, Any]
    """By dotted name; a searched seed gives way to the run's own."""

    def recipe(self, search_file: SearchFile) -> Recipe:
        """What is trained: the whole budget, with no tokens spent on what only rungs need."""
        recipe = search_file.recipe(self.values)
        training = recipe.training.model_copy(update={"seed": self.seed})
        search = recipe.search.model_copy(update={"rung_metric": "raw"})
        return recipe.model_copy(update={"training": training, "search": search})


def confirming_runs(trials: Sequence[Row], search_file: SearchFile) -> list[ConfirmingRun]:
    """All runs that the recipe's `search.confirm` asks for after a search, done or not.

    It is the same list however many of them are done: it depends on the search's own trials and on
    the seeds of the runs that were begun. A run of each configuration comes before the second
    of any, so that a confirmation that is cut short has as many of each.

    Args:
        trials: of the search, which has come to its end.
        search_file: of the search; one without ranges has nothing to confirm.
    """
    confirm = search_file.search.confirm
    if confirm is None or not search_file.ranges:
        return []
    begun = {row["trial_id"]: row for row in trials}
    taken = {int(row["seed"]) for row in trials}
    first = search_file.fixed.get(SEED, 0)
    free = (seed % 2**32 for seed in count(first + 1) if seed % 2**32 not in taken)
    runs = []
    for number in range(1, confirm.seeds + 1):
        for row in configurations_to_confirm(trials, search_file):
            trial_id = f"{row['trial_id']}-{number}"
            seed = int(begun[trial_id]["seed"]) if trial_id in begun else next(free)
            values = {name: row[name] for name in search_file.ranges}
            values |= {SEED: seed} if SEED in values else {}
            runs.append(ConfirmingRun(trial_id, row["trial_id"], seed, values))
    return runs


def configurations_to_confirm(trials: Iterable[Row], search_file: SearchFile) -> list[Row]:
    """The search's trials to confirm: the baseline if it reached a rung, then the best by value.

    None if no trial was completed. Trials of the same values are one configuration.
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
    """Those of the runs to make that have not ended."""
    ended = {row["trial_id"] for row in trials if row["status"] != "running"}
    return [run for run in confirming_runs(trials, search_file) if run.trial_id not in ended]


def expected_runs(trials: Sequence[Row], search_file: SearchFile) -> int:
    """How many runs the confirmation will have in all; a guess as long as the search goes on."""
    search = search_file.search
    own = [row for row in trials if "confirms" not in row]
    if sum(row["status"] != "running" for row in own) >= search.trials:
        return len(confirming_runs(trials, search_file))
    if search.confirm is None or not search_file.ranges:
        return 0
    return search.confirm.seeds * (search.confirm.top + any(row.get("baseline") for row in own))


class RunSearcher(Searcher):
    """Proposes runs from a list.

    Args:
        runs: in their order.
        search_file: what is fixed.
        needed: resources of a run.
        storage: folder of the runs' folders.
        checkpoints: by trial_id, where a run goes on from; None to start at the beginning.
    """

    def __init__(
        self,
        runs: Iterable[ConfirmingRun],
        search_file: SearchFile,
        needed: Placement,
        storage: str,
        checkpoints: Mapping[str, str | None],
    ):
        super().__init__(metric=METRIC, mode="min")
        self._runs: Iterator[ConfirmingRun] = iter(runs)
        self._search_file = search_file
        self._needed = needed
        self._storage = storage
        self._checkpoints = checkpoints

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for Tune's own state files: a run is resumed from its tables."""
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
            self._checkpoints[run.trial_id],
        ) | {"values": run.values, "baseline": False, "confirms": run.confirms}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: no run depends on another."""

    def ended(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Nothing: see `on_trial_complete`."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the tables are on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def write_confirmed_best(tables: RunTables, search_file: SearchFile) -> None:
    """Make the best recipe in the run folder that of the winner, if there is one."""
    found = confirmation(load_results(tables.folder).trials)
    if not found or not found.winner:
        return
    winner = found.winner
    row = tables.trial(winner.trial_id)
    recipe = search_file.recipe({name: row[name] for name in search_file.ranges})
    figures = f"{winner.mean:.4f} ± {found.standard_error(winner):.4f} bits per byte"
    text = (
        f"# Trial {winner.trial_id}: {figures} at {budget_tokens(recipe):,} tokens, mean and "
        f"standard error of {len(winner.scores)} runs with other seeds.\n"
        + recipe_to_yaml(recipe.model_copy(update={"name": f"{recipe.name}-best"}))
    )
    path = tables.folder / files.BEST_RECIPE
    files.replace_file(path, lambda partial: partial.write_text(text))
