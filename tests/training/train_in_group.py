"""One worker of a group that trains recipes: `train_in_group.py RANK JOB`, a JSON file."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from raygpt.data.dataset import Dataset
from raygpt.recipe.schema import Recipe
from raygpt.training.loop import TrainingRun
from raygpt.training.parallel import sum_over_workers, worker_count, worker_rank


def train(recipe: Recipe, dataset: Dataset, checkpoint: Path) -> dict:
    """Train once without a break, and once resumed by all workers from one checkpoint."""
    run = TrainingRun(recipe, dataset)
    sequences = []
    run.model.register_forward_pre_hook(
        lambda model, arguments: sequences.append(len(arguments[0])) if model.training else None
    )
    embedded = []
    run.model.blocks[0].register_forward_pre_hook(
        lambda block, arguments: embedded.append(arguments[0].detach())
    )
    reports = [report.metrics() for report in run.reports()]

    broken = TrainingRun(recipe, dataset)
    next(broken.reports())
    broken.save(checkpoint)
    dist.barrier()
    resumed = TrainingRun(recipe, dataset)
    resumed.load(checkpoint)
    return {
        "sequences": sequences,
        "dropped": embedded[0] == 0,
        "reports": reports,
        "weights": run.model.state_dict(),
        "resumed_reports": [report.metrics() for report in resumed.reports()],
        "resumed_weights": resumed.model.state_dict(),
    }


def main(rank: int, job: dict) -> None:
    """Join the group, train every recipe of the job and write the results."""
    folder = Path(job["folder"])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=job["workers"]
    )
    dataset = Dataset.open(job["dataset"])
    results = {
        name: train(Recipe.model_validate_json(recipe), dataset, folder / name)
        for name, recipe in job["recipes"].items()
    }
    results["group"] = {
        "rank": worker_rank(),
        "count": worker_count(),
        "sum": sum_over_workers(torch.tensor([1.0, 10.0 * rank])).tolist(),
    }
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
