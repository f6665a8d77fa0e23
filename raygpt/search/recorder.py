"""Records the events of a search in its tables."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.train import Checkpoint
from ray.tune import Callback
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY

from raygpt.errors import UserError
from raygpt.recipe.json_text import read_recipe_json
from raygpt.results.best_recipe import write_best_recipe
from raygpt.results.tables import RunTables
from raygpt.search.progress import Progress
from raygpt.search.scheduler import METRIC
from raygpt.search.trial import ALIVE


class Recorder(Callback):
    """A Tune callback that keeps the result tables and the progress view up to date.

    Args:
        tables: the run's tables.
        progress: told of every event when the tables are on disk.
        last_rung: number of the rung at which a trial is complete.
        ended: called for every trial that ended, when the tables are on disk, with Tune's
            identifier and the trial's row of the table.
    """

    def __init__(
        self,
        tables: RunTables,
        progress: Progress,
        last_rung: int,
        ended: Callable[[str, Mapping[str, Any]], None],
    ):
        self._tables = tables
        self._progress = progress
        self._last_rung = last_rung
        self._ended = ended
        self._diverged: dict[str, str] = {}
        self._given_up: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Empty: a run is resumed from its tables and its study, not from Tune's state files."""
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info) -> None:
        config = trial.config
        seed = read_recipe_json(config["recipe"]).training.seed
        self._tables.begin_trial(
            config["trial"],
            seed,
            config["values"],
            baseline=config["baseline"],
            confirms=config["confirms"],
        )
        self._progress.began(config["trial"])

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info
    ) -> None:
        name = trial.config["trial"]
        if "diverged" in result:
            self._diverged[name] = result["diverged"]
        if not is_report(result):
            return
        self._tables.add_report(name, result)
        if CHECKPOINT_PATH_KEY in result:
            self._keep(name, result[CHECKPOINT_PATH_KEY])
        if METRIC in result and self._tables.best()["trial_id"] == name:
            self._write_best(trial)
        self._progress.reported(name)

    def _write_best(self, trial: Any) -> None:
        name = trial.config["trial"]
        row = self._tables.trial(name)
        write_best_recipe(
            self._tables.folder,
            read_recipe_json(trial.config["recipe"]),
            f"Trial {name}: {row[METRIC]:.4f} bits per byte at {row['tokens']:,} tokens",
        )

    def on_checkpoint(
        self, iteration: int, trials: list, trial: Any, checkpoint: Any, **info
    ) -> None:
        self._keep(trial.config["trial"], checkpoint.path)

    def _keep(self, name: str, path: str) -> None:
        """Keep this checkpoint of a trial and delete the one before it.

        The old one is deleted after the tables name the new one, so that a kill in between leaves
        both. Ray's own `num_to_keep` deletes first.
        """
        old = self._tables.trial(name).get("checkpoint")
        self._tables.set_checkpoint(name, path)
        if old:
            old = Checkpoint(str(self._tables.folder.absolute() / old))
            old.filesystem.delete_dir(old.path)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info) -> None:
        name = trial.config["trial"]
        error = self._diverged.get(name)
        if error:
            status = "diverged"
        elif self._tables.trial(name).get("rung") == self._last_rung:
            status = "completed"
        else:
            status = "stopped"
        self._end(trials, trial, status, error)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info) -> None:
        name = trial.config["trial"]
        if name not in {row["trial_id"] for row in self._tables.trials}:
            # Its process died before it began.
            self.on_trial_start(iteration, trials, trial)
        self._end(trials, trial, "failed", self._given_up.get(name) or first_cause(trial))

    def on_step_end(self, iteration: int, trials: list, **info) -> None:
        """Tune calls this many times a second."""
        self._tables.refresh()

    def give_up(self, name: str, reason: str) -> None:
        """Note why a trial is about to be killed, which Tune reports as a crash."""
        self._given_up[name] = reason

    def _end(self, trials: list, trial: Any, status: str, error: str | None) -> None:
        name = trial.config["trial"]
        self._tables.end_trial(name, status, error)
        row = self._tables.trial(name)
        self._ended(trial.trial_id, row)
        if error and METRIC in row:
            # It may have been the best trial until now.
            best = self._tables.best()["trial_id"]
            for other in trials:
                if other.config["trial"] == best:
                    self._write_best(other)
        self._progress.ended(name)


def is_report(result: Mapping[str, Any]) -> bool:
    """Whether a trial's message to Tune has figures, and is not only a sign of life."""
    return ALIVE not in result and "diverged" not in result


def first_cause(trial: Any) -> str:
    """The cause of a trial's failure in one line, without the tracebacks of Ray around it."""
    path = trial.pickled_error_file
    if not path or not Path(path).exists():
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        return next(reversed(text.strip().splitlines()), "it ended without a message; see the log")
    error = cloudpickle.loads(Path(path).read_bytes())
    while isinstance(inner := getattr(error, "cause", None) or error.__cause__, BaseException):
        error = inner
    message = next(reversed(str(error).strip().splitlines()), "")
    if isinstance(error, RayActorError):
        # Ray appends a list of possible causes.
        detail = message.partition(" Some common causes")[0].rpartition(" exit detail: ")[2]
        return f"its process died: {detail}"
    return message if isinstance(error, UserError) else f"{type(error).__name__}: {message}"
