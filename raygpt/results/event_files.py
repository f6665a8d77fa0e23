"""A run's curves for TensorBoard: `tensorboard --logdir runs/NAME`.

What TensorBoard calls a run is a folder of event files. Each trial has a folder named after it,
with the training curve up to its full budget and its figures at the rungs, and inside it a folder
for the cooldown to each lower rung. So the tokens, TensorBoard's “steps”, only increase in each.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.summary import hparams

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.tables import TRIAL_COLUMNS

TRAINING = ("train_bits_per_token", "learning_rate", "gradient_norm", "tokens_per_second")
VALIDATION = ("bits_per_byte", "bits_per_token", "next_token_accuracy", "rung")
COMPARED = ("validation/bits_per_byte", "validation/rung")
"""Compared with the hyperparameters in TensorBoard, by their last values in each trial."""


class EventFiles:
    """The event files of a run; every report is on disk when the method returns.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path):
        self._folder = folder / files.EVENT_FILES
        self._trials: dict[str, _TrialFiles] = {}

    def begin_trial(self, row: Mapping[str, Any], reports: Iterable[Mapping[str, Any]]) -> None:
        """A trial starts or is resumed.

        Args:
            row: its row of the trials' table.
            reports: its reports in the history table. They are written again, and TensorBoard is
                told to drop the older files, because a resumed trial repeats the reports that it
                made after its checkpoint.

        Raises:
            UserError: the files cannot be written; the other methods raise it as well.
        """
        trial_id = row["trial_id"]
        self._trials[trial_id] = trial = _TrialFiles(self._folder / trial_id)
        trial.begin(hyperparameters(row))
        for report in reports:
            trial.add(report)

    def add_report(self, trial_id: str, report: Mapping[str, Any]) -> None:
        """A trial reports: the figures of a `training.loop.Report`."""
        self._trials[trial_id].add(report)

    def end_trial(self, row: Mapping[str, Any]) -> None:
        """A trial ended; its row has the status."""
        self._trials.pop(row["trial_id"]).end(row["status"])


def hyperparameters(row: Mapping[str, Any]) -> dict[str, Any]:
    """The searched values in a trial's row; the seed if nothing is searched."""
    return {name: row[name] for name in row if name not in TRIAL_COLUMNS} or {"seed": row["seed"]}


class _TrialFiles:
    """The event files of one trial, in its folder and the folders of its cooldowns."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._writers: dict[Path, EventsWriter] = {}
        self._next_rung = 0

    def begin(self, values: Mapping[str, Any]) -> None:
        for earlier in self._folder.glob("*/"):
            self._write(earlier, 0, [])
        experiment, start, _ = hparams(values, dict.fromkeys(COMPARED))
        self._write(self._folder, 0, [*experiment.value, *start.value])

    def add(self, report: Mapping[str, Any]) -> None:
        folder = self._folder
        if report.get("cooldown"):
            folder = folder / f"cooldown_{self._next_rung}"
        when = report["time"].timestamp() if "time" in report else None
        tokens = report["tokens"]
        self._write(folder, tokens, scalars("training", TRAINING, report), when)
        if "rung" in report:
            self._write(self._folder, tokens, scalars("validation", VALIDATION, report), when)
            self._next_rung = report["rung"] + 1

    def end(self, status: str) -> None:
        good = status in ("completed", "stopped")
        how = Status.STATUS_SUCCESS if good else Status.STATUS_FAILURE
        end = SessionEndInfo(status=how, end_time_secs=time.time())
        content = HParamsPluginData(version=0, session_end_info=end).SerializeToString()
        plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
        metadata = SummaryMetadata(plugin_data=plugin)
        tag = "_hparams_/session_end_info"
        self._write(self._folder, 0, [Summary.Value(tag=tag, metadata=metadata)])
        for writer in self._writers.values():
            writer.close()

    def _write(
        self,
        folder: Path,
        tokens: int,
        values: Iterable[Summary.Value],
        when: float | None = None,
    ) -> None:
        """Append values at a position; `when` is in seconds since 1970, by default now."""
        event = Event(step=tokens, wall_time=when or time.time(), summary=Summary(value=values))
        try:
            writer = self._writers.get(folder) or self._open(folder)
            writer.write_event(event)
            writer.flush()
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error

    def _open(self, folder: Path) -> EventsWriter:
        """A new event file, which replaces the ones that the folder has."""
        folder.mkdir(parents=True, exist_ok=True)
        earlier = len(list(folder.glob("events.*")))
        # Two files may be made in the same second, so their names need a number as well.
        writer = self._writers[folder] = EventsWriter(str(folder / "events"), f".{earlier}")
        if earlier:
            log = SessionLog(status=SessionLog.START)
            writer.write_event(Event(step=0, wall_time=time.time(), session_log=log))
        return writer


def scalars(group: str, names: Iterable[str], report: Mapping[str, Any]) -> list[Summary.Value]:
    """The named figures of a report as far as it has them, as charts of a group."""
    return [
        Summary.Value(tag=f"{group}/{name}", simple_value=report[name])
        for name in names
        if name in report
    ]
