"""One trial on Ray: the training loop in a Ray Train TorchTrainer in a Ray Tune function."""

import gc
import os
import tempfile
from collections.abc import Callable
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
"""Says nothing but that a trial lives: steps made since it began, in a report of its own."""


def trial_config(
    trial_id: str, recipe: Recipe, needed: Placement, storage: str, checkpoint: str | None
) -> dict[str, Any]:
    """What a trial is told; a Tune configuration.

    Args:
        trial_id: the trial's number in the search.
        recipe: without ranges.
        needed: the trial's resources.
        storage: folder of the trials' folders, which every node reaches.
        checkpoint: where to go on from; None to start at the beginning.
    """
    return {
        "trial": trial_id,
        "recipe": recipe_to_json(recipe),
        "workers": needed.workers,
        "cpus": needed.cpus,
        "gpus": needed.gpus,
        "storage": storage,
        "checkpoint": checkpoint,
    }


def trainable(needed: Placement, tokens: PreparedTokens, own: OwnModel | None = None) -> Any:
    """The Tune trainable of a search, with the resources that Tune is to hold for each trial.

    Args:
        needed: resources of a trial.
        tokens: of the search.
        own: the user's own model, whose file trials on other machines may not have.
    """
    function = tune.with_parameters(train_trial, tokens=tokens, own=own)
    if needed.workers == 1:
        return tune.with_resources(function, {"CPU": needed.cpus, "GPU": needed.gpus})
    # The workers get a placement group of their own from Ray Train. The driver only waits for
    # them: a byte of memory places it without taking a share of the CPUs that they need.
    driver = tune.PlacementGroupFactory([{"memory": 1}])
    return tune.with_resources(function, driver)


def train_trial(config: dict[str, Any], tokens: PreparedTokens, own: OwnModel | None) -> None:
    """The Tune function. One worker trains in this very process, several in a worker group."""
    group = config["workers"] > 1
    # Workers wait at each report until Train's controller has looked: by default every 2 seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    # The next trial in this process waits until this one has let go of its memory. If that takes
    # longer than the 2 seconds of the default, Tune drops the next one without telling anybody.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "1000000")
    if group:
        # What frees the workers of a trial that was stopped looks for its Ray by itself; where
        # several run on a machine it gives up, and the next trial would wait for ever.
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config=config | {"tokens": tokens, "own": own},
        scaling_config=ScalingConfig(
            # Zero is Ray Train's local mode: no process to start for each trial.
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
        # Tune ends a stopped trial by raising SystemExit from its report; the process goes on to
        # train the next one and must not hold on to this one's memory.
        del run
        gc.collect()
        return_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def signs_of_life(send: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Tell that the trial is ready; and get what tells that it is on its way, after each step.

    Reports may be hours apart. Signs are sent after 1, 4, 16, 64 … steps, so that none is awaited
    for much longer than those before it took; all workers of a trial send them together.
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
    """The rung's place on ASHA's clock, which knows geometric milestones only."""
    return reduction_factor**rung
