"""One trial on Ray: the training loop in a Ray Train TorchTrainer in a Ray Tune function."""

import gc
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.train import Checkpoint, RunConfig, ScalingConfig
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE
from ray.tune.integration.ray_train import TuneReportCallback

from raygpt.recipe.json_text import read_recipe_json, recipe_to_json
from raygpt.recipe.own_model import OwnModel
from raygpt.recipe.schema import Recipe
from raygpt.search.cluster import Placement
from raygpt.search.preparation import PreparedTokens
from raygpt.training.hardware import return_freed_memory
from raygpt.training.loop import TrainingDiverged, TrainingRun
from raygpt.training.parallel import worker_rank

ALIVE = "alive"
"""The key of a report that only says that a trial is alive: the number of steps it has made."""


def trial_config(
    trial_id: str,
    recipe: Recipe,
    needed: Placement,
    storage: str,
    checkpoint: str | None = None,
    values: Mapping[str, Any] | None = None,
    baseline: bool = False,
    confirms: str | None = None,
) -> dict[str, Any]:
    """The Tune configuration of a trial: what it needs to run, and what the tables say about it.

    Args:
        trial_id: its name in the tables.
        recipe: without ranges.
        needed: resources of the trial.
        storage: folder of the trials' folders, which every node reaches.
        checkpoint: folder to resume from; None to start from the beginning.
        values: the searched values by dotted name.
        baseline: whether these are the recipe's own starting values.
        confirms: trial_id of the trial whose values it trains with another seed.
    """
    return {
        "trial": trial_id,
        "recipe": recipe_to_json(recipe),
        "workers": needed.workers,
        "cpus": needed.cpus,
        "gpus": needed.gpus,
        "storage": storage,
        "checkpoint": checkpoint,
        "values": dict(values or {}),
        "baseline": baseline,
        "confirms": confirms,
    }


def trainable(needed: Placement, tokens: PreparedTokens, own: OwnModel | None = None) -> Any:
    """The Tune trainable of a search, with the resources that Tune reserves for each trial.

    Args:
        needed: resources of a trial.
        tokens: the search's tokens.
        own: the user's own model, whose file trials on other machines may not have.
    """
    function = tune.with_parameters(train_trial, tokens=tokens, own=own)
    if needed.workers == 1:
        return tune.with_resources(function, {"CPU": needed.cpus, "GPU": needed.gpus})
    # Ray Train reserves the workers' resources. The driver only waits for the workers: with a byte
    # of memory it is placed without taking a share of the CPUs that they need.
    driver = tune.PlacementGroupFactory([{"memory": 1}])
    return tune.with_resources(function, driver)


def train_trial(config: dict[str, Any], tokens: PreparedTokens, own: OwnModel | None) -> None:
    """The Tune function. One worker trains in this process, several train in a worker group."""
    group = config["workers"] > 1
    # Workers wait at each report until Train's controller polls, by default every 2 seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    # The next trial in this process waits until this one has freed its memory. If that takes longer
    # than the default of 2 seconds, Tune drops the next trial without a message.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "1000000")
    if group:
        # The process that frees the workers of a stopped trial looks for a Ray cluster to connect
        # to. If several run on a machine it gives up, and the next trial would wait for ever.
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config=config | {"tokens": tokens, "own": own},
        scaling_config=ScalingConfig(
            # Zero is Ray Train's local mode, which starts no process for each trial.
            num_workers=config["workers"] if group else 0,
            use_gpu=config["gpus"] > 0,
            resources_per_worker={"CPU": config["cpus"], "GPU": config["gpus"]} if group else None,
        ),
        run_config=RunConfig(
            name=config["trial"],
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],
        )
        if group
        else None,
    )
    trainer.fit()


def train_worker(config: dict[str, Any]) -> None:
    """The training loop of one worker of a trial."""
    # In local mode the trial's session is Tune's, in a worker group it is Train's.
    send = ray.train.report if config["workers"] > 1 else tune.report
    recipe = read_recipe_json(config["recipe"], config["own"])
    run = TrainingRun(recipe, config["tokens"].open(), ray.train.torch.get_device())
    try:
        if config["checkpoint"]:
            with Checkpoint(config["checkpoint"]).as_directory() as folder:
                run.load(Path(folder))
        for report in run.reports(signs_of_life(send)):
            metrics = report.metrics()
            if report.rung is not None:
                metrics["rung_time"] = rung_time(report.rung, recipe.search.reduction_factor)
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = None
                if report.checkpoint_due:
                    run.save(Path(folder))
                    if worker_rank() == 0:
                        checkpoint = Checkpoint.from_directory(folder)
                send(metrics, checkpoint=checkpoint)
    except TrainingDiverged as error:
        send({"diverged": str(error)})
    finally:
        # Tune ends a stopped trial by raising SystemExit from its report. The process then trains
        # the next trial and must not keep this one's memory.
        del run
        gc.collect()
        return_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def signs_of_life(send: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Report that the trial is ready; returns what reports, after each step, that it is alive.

    Reports of figures may be hours apart. Signs of life are sent after 1, 4, 16, 64 … steps, so
    that the wait for the next one is known from those before it. All workers of a trial send them
    together.
    """
    send({ALIVE: 0})
    steps, due = 0, 1

    def after_step() -> None:
        nonlocal steps, due
        steps += 1
        if steps == due:
            due *= 4
            send({ALIVE: steps})

    return after_step


def rung_time(rung: int, reduction_factor: float) -> float:
    """The time of a rung for ASHA, whose milestones are powers of the reduction factor."""
    return reduction_factor**rung
