"""`python -m raygpt.prepare FILE`: make the tokens of a recipe ahead of its runs."""

import argparse
import time
from typing import TYPE_CHECKING

from raygpt.command import prepare_with_progress, recipe_options, run_command

if TYPE_CHECKING:
    from raygpt.data.dataset import Dataset


def main(arguments: list[str] | None = None) -> None:
    """Prepare, and say what there is."""
    options = parse_arguments(arguments)

    from rich.console import Console

    from raygpt.data.inspection import describe_lengths, sample_documents
    from raygpt.data.spread import in_processes
    from raygpt.recipe.scale import Scales
    from raygpt.search import cluster
    from raygpt.search.preparation import in_ray_tasks

    scales = Scales(options.file, options.set, options.scale)
    joined = options.tasks is None and cluster.join_running_cluster()
    search_file = scales.choose(cluster.gpus_at_hand(), allow_cpu=True)
    recipe = search_file.baseline()
    console = Console(highlight=False, markup=False, emoji=False)
    started = time.monotonic()
    spread = in_ray_tasks if joined else in_processes(options.tasks)
    dataset = prepare_with_progress(recipe.data, search_file.largest_budget(), console, spread)
    console.print(describe(dataset, time.monotonic() - started), soft_wrap=True)
    if options.inspect:
        console.print(f"\n{describe_lengths(dataset)}", soft_wrap=True)
        for text in sample_documents(dataset, options.inspect):
            console.print(f"\n{text}", soft_wrap=True)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = recipe_options("prepare", __doc__)
    parser.add_argument(
        "--tasks",
        type=positive_integer,
        metavar="N",
        help="processes that tokenise on this machine; if left out, all cores, of all nodes of the "
        "Ray cluster that this machine is part of",
    )
    parser.add_argument(
        "--inspect",
        type=positive_integer,
        nargs="?",
        const=3,
        metavar="N",
        help="also show the lengths of the documents, and so many of each split as they decode",
    )
    return parser.parse_args(arguments)


def positive_integer(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def describe(dataset: "Dataset", seconds: float) -> str:
    """What there is, as a table for a person."""
    provenance = dataset.provenance()
    train, validation = provenance["train"], provenance["validation"]
    documents, tokens, size = (train[what] + validation[what] for what in train)
    short, duplicates = (
        sum(entry[what] for entry in dataset.shards) for what in ("short", "duplicates")
    )
    manifest = dataset.manifest
    everything = manifest["exhausted"] and len(dataset.shards) == len(manifest["shards"])
    whole = " (the whole corpus)" if everything else ""
    lines = [
        ("corpus", f"{provenance['corpus']}, {provenance['revision']}"),
        ("licence", provenance["licence"] or "not known"),
        (
            "documents",
            f"{documents:,}{whole}; left out: {short:,} short, {duplicates:,} duplicates",
        ),
        (
            "tokens",
            f"{tokens:,} by {provenance['tokenizer']}, {size / tokens:.3f} bytes a token "
            f"({size:,} bytes)",
        ),
        (
            "validation",
            f"{validation['tokens']:,} tokens of {validation['documents']:,} documents, "
            f"{validation['tokens'] / tokens:.2%} of all",
        ),
        ("seconds", f"{seconds:.1f}"),
        ("folder", f"{dataset.folder}"),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


if __name__ == "__main__":
    run_command(main)
