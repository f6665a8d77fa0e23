"""Logs a search to TensorBoard, MLflow or Weights & Biases, through Tune callbacks."""

import importlib.util
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback
from ray.tune.logger import LoggerCallback
from ray.tune.result import TRAINING_ITERATION
from rich.console import Console

from raygpt.errors import UserError
from raygpt.results.event_files import EventFiles, hyperparameters
from raygpt.results.tables import HISTORY_COLUMNS, RunTables
from raygpt.search.recorder import is_report


class Follower(Callback):
    """Receives the events of a search after the `Recorder`, which comes first, has recorded them.

    Args:
        tables: the run's tables.
    """

    def __init__(self, tables: RunTables):
        self._tables = tables
        self._begun: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Empty: a run is resumed from its tables and its study, not from Tune's state files."""
        return {}

    def began(self, trial: Any, row: dict[str, Any]) -> None:
        """A trial started or was resumed: Tune's trial, and its row of the trials' table."""

    def reported(self, trial_id: str, report: dict[str, Any]) -> None:
        """A trial made a report."""

    def ended(self, row: dict[str, Any]) -> None:
        """A trial ended."""

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info) -> None:
        name = trial.config["trial"]
        self._begun.add(name)
        self.began(trial, self._tables.trial(name))

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info
    ) -> None:
        if is_report(result):
            self.reported(trial.config["trial"], result)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info) -> None:
        name = trial.config["trial"]
        if name not in self._begun:
            # Its process died before it started.
            self.on_trial_start(iteration, trials, trial)
        self.ended(self._tables.trial(name))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info) -> None:
        self.on_trial_complete(iteration, trials, trial)


class TensorBoard(Follower):
    """Writes the event files of a run."""

    def __init__(self, tables: RunTables):
        super().__init__(tables)
        self._files = EventFiles(tables.folder)

    def began(self, trial: Any, row: dict[str, Any]) -> None:
        reports = [
            report for report in self._tables.history if report["trial_id"] == row["trial_id"]
        ]
        self._files.begin_trial(row, reports)

    def reported(self, trial_id: str, report: dict[str, Any]) -> None:
        self._files.add_report(trial_id, report)

    def ended(self, row: dict[str, Any]) -> None:
        self._files.end_trial(row)


@dataclass(eq=False)
class TrackedTrial:
    """A Tune trial as it is passed to one of Ray's integrations: the attributes that these read."""

    name: str
    trial_id: str
    config: Mapping[str, Any]
    experiment_dir_name: str
    local_path: str
    """Where an integration may write files, as Weights & Biases does offline."""

    def __str__(self) -> str:
        return self.name


class Tracker(Follower):
    """Passes the events of a search to one of Ray's integrations.

    Used directly, an integration would log everything that trials send to Tune, including whole
    recipes and signs of life. Here a trial has its searched values and its seed, and its figures
    are plotted over `tokens_trained`, which, unlike `tokens`, never goes back.

    If a tracker fails, the search continues without it.

    Args:
        integration: the result of `open_tracker`.
        tables: the run's tables.
        console: where a failure is reported.
    """

    def __init__(self, integration: LoggerCallback, tables: RunTables, console: Console):
        super().__init__(tables)
        self._integration = integration
        self._console = console
        self._tracked: dict[str, TrackedTrial] = {}
        self._failed = False

    def began(self, trial: Any, row: dict[str, Any]) -> None:
        folder = self._tables.folder.absolute()
        tracked = self._tracked[row["trial_id"]] = TrackedTrial(
            name=row["trial_id"],
            trial_id=trial.trial_id,
            config=hyperparameters(row) | {"seed": row["seed"]},
            experiment_dir_name=folder.name,
            local_path=str(folder),
        )
        self._tell("log_trial_start", tracked)

    def reported(self, trial_id: str, report: dict[str, Any]) -> None:
        figures = {name: report[name] for name in HISTORY_COLUMNS if name in report}
        figures[TRAINING_ITERATION] = report["tokens_trained"]
        self._tell("log_trial_result", 0, self._tracked[trial_id], figures)

    def ended(self, row: dict[str, Any]) -> None:
        failed = row["status"] in ("failed", "diverged")
        self._tell("log_trial_end", self._tracked.pop(row["trial_id"]), failed=failed)

    def on_experiment_end(self, trials: list, **info) -> None:
        """Wait until everything has been sent."""
        self._tell("on_experiment_end", trials)

    def _tell(self, event: str, *args: Any, **kwargs: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._integration, event)(*args, **kwargs)
        except Exception as error:
            self._failed = True
            logging.getLogger("ray.raygpt").warning("the tracker failed", exc_info=True)
            self._console.print(
                f"The tracker failed, and the search continues without it: {one_line(error)}",
                soft_wrap=True,
            )


def open_tracker(name: str, run: str) -> LoggerCallback:
    """One of Ray's integrations, set up before the search, so that its errors come first.

    Args:
        name: "mlflow" or "wandb", the name of the package.
        run: the run's name: the experiment's in MLflow, the group's in Weights & Biases. Everything
            else comes from their environment variables (MLFLOW_TRACKING_URI, WANDB_PROJECT).

    Raises:
        UserError: its package is missing, or it does not answer.
    """
    if importlib.util.find_spec(name) is None:
        raise UserError(f"--tracker {name}: the package is not installed; run pip install {name}")
    try:
        if name == "mlflow":
            from ray.air.integrations.mlflow import MLflowLoggerCallback

            integration = MLflowLoggerCallback(experiment_name=run)
        else:
            from ray.air.integrations.wandb import WandbLoggerCallback

            class WeightsAndBiases(WandbLoggerCallback):
                def __del__(self) -> None:
                    """Does nothing: Ray's cleans up again at Python's exit, and fails there."""

            project = os.environ.get("WANDB_PROJECT", "raygpt")
            integration = WeightsAndBiases(project=project, group=run)
        integration.setup()
    except Exception as error:
        raise UserError(f"--tracker {name}: {one_line(error)}") from error
    return integration


def one_line(error: Exception) -> str:
    """An error's kind and message."""
    return " ".join(f"{type(error).__name__}: {error}".split())
