"""`python -m raygpt.prepare FILE`: tokenise a recipe's corpus ahead of its runs."""

import argparse
import time
from typing import TYPE_CHECKING

from raygpt.command import (
    add_recipe_arguments,
    command_parser,
    plain_console,
    prepare_search,
    read_scales,
    run_command,
)

if TYPE_CHECKING:
    from raygpt.data.dataset import Dataset


def main(arguments: list[str] | None = None) -> None:
    """Prepare the tokens that the largest trial of the recipe needs, and describe them."""
    options = parse_arguments(arguments)
    scales = read_scales(options, options.set)

    # Ray and torch take seconds, for which an error in the recipe should not wait.
    from raygpt.data.inspection import describe_lengths, sample_documents
    from raygpt.search import cluster

    joined = options.tasks is None and cluster.join_running_cluster()
    search_file = scales.choose(cluster.available_gpus(), allow_cpu=True)
    console = plain_console()
    started = time.monotonic()
    dataset = prepare_search(search_file, joined, console, options.tasks)
    console.print(describe(dataset, time.monotonic() - started), soft_wrap=True)
    if options.inspect:
        console.print(f"\n{describe_lengths(dataset)}", soft_wrap=True)
        for text in sample_documents(dataset, options.inspect):
            console.print(f"\n{text}", soft_wrap=True)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The values of the command line."""
    parser = command_parser("prepare", __doc__)
    add_recipe_arguments(parser)
    parser.add_argument(
        "--tasks",
        type=positive_integer,
        metavar="N",
        help="number of processes that tokenise on this machine (default: one a core, on all nodes "
        "of the Ray cluster that this machine belongs to)",
    )
    parser.add_argument(
        "--inspect",
        type=positive_integer,
        nargs="?",
        const=3,
        metavar="N",
        help="also show the lengths of the documents and N documents of each split (default: 3), "
        "decoded from their tokens",
    )
    return parser.parse_args(arguments)


def positive_integer(text: str) -> int:
    """A whole number above 0, of up to nine digits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) > 0):
        raise argparse.ArgumentTypeError(
            f"{text[:20]!r} is not a whole number from 1 to 999,999,999"
        )
    return int(text)


def describe(dataset: "Dataset", seconds: float) -> str:
    """A dataset's corpus, sizes and folder as a table for a person."""
    provenance = dataset.provenance()
    train, validation = provenance["train"], provenance["validation"]
    documents, tokens, size = (train[count] + validation[count] for count in train)
    short, duplicates = (
        sum(entry[count] for entry in dataset.shards) for count in ("short", "duplicates")
    )
    whole = " (the whole corpus)" if dataset.is_whole_corpus else ""
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
            f"{validation['tokens'] / tokens:.2%} of all tokens",
        ),
        ("seconds", f"{seconds:.1f}"),
        ("folder", f"{dataset.folder}"),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


if __name__ == "__main__":
    run_command(main)
