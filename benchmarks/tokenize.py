"""The speed of tokenisation: `python -m benchmarks.tokenize FILE…`

JSON-lines files are read, tokenised with GPT-2's tokenizer, split and written by raygpt, and by
`datasets.map` with transformers' `GPT2TokenizerFast`, the usual way: in processes, and in the
tokenizer's own threads. tiktoken on text that is already in memory is the upper bound. All ways are
measured in one run, each in its own processes, on the same cores; the ids of each document are
compared.

To reach the requested sizes, the text is repeated, with a number before each document.
"""

import argparse
import contextlib
import glob
import hashlib
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil

from raygpt.command import run_command
from raygpt.data.corpora.jsonl import jsonl_corpus

WAYS = {
    "raygpt": "raygpt.prepare",
    "datasets_processes": "datasets.map, processes",
    "datasets_threads": "datasets.map, threads",
    "tiktoken": "tiktoken, text in memory",
}


def write_text(patterns: list[str], size: int, file: Path) -> None:
    """Write a JSON-lines file of about `size` bytes of text, from the documents of other files."""
    written = 0
    with file.open("w") as lines:
        for number, text in enumerate(cycle(patterns)):
            lines.write(json.dumps({"text": f"{number}. {text}"}, ensure_ascii=False) + "\n")
            written += len(text.encode())
            if written >= size:
                return


def cycle(patterns: list[str]) -> Iterator[str]:
    """The documents of files, repeated without end."""
    while True:
        for pattern in patterns:
            yield from jsonl_corpus(pattern, pattern, "text").documents()


def measure(way: str, file: Path, tasks: int, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own.

    Returns:
        seconds: duration of the work, without imports.
        peak_mb: peak memory of the process and its children; shared memory is counted once.
    """
    call = f"print(tokenize.{way}(Path({str(file)!r}), Path({str(folder)!r}), {tasks}))"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from benchmarks import tokenize; {call}",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"},
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of(psutil.Process(process.pid)))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{way} failed")
    return {"seconds": float(process.stdout.read().split()[-1]), "peak_mb": peak / 1e6}


def memory_of(process: psutil.Process) -> int:
    """The memory of a process and its children, in bytes."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended
            total += each.memory_full_info().pss
    return total


# --- the ways -----------------------------------------------------------------------------------


def raygpt(file: Path, folder: Path, tasks: int) -> float:
    """Prepare everything into a cache."""
    from raygpt.data.prepare import prepare
    from raygpt.data.spread import in_processes
    from raygpt.recipe.sections import Data

    data = Data(corpus=f"jsonl:{file}", cache=str(folder), min_document_bytes=0)
    started = time.perf_counter()
    prepare(data, 10**12, spread=in_processes(tasks))
    return time.perf_counter() - started


def datasets_processes(file: Path, folder: Path, tasks: int) -> float:
    """Map over the text in several processes."""
    return with_datasets(file, folder, tasks)


def datasets_threads(file: Path, folder: Path, tasks: int) -> float:
    """Map over the text in one process whose tokenizer uses threads."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(tasks)}
    return with_datasets(file, folder, None)


def with_datasets(file: Path, folder: Path, processes: int | None) -> float:
    """Load, map in batches, split, and write both splits."""
    import datasets
    from transformers import GPT2TokenizerFast

    from raygpt.data.tokenizer import gpt2_tokenizer

    gpt2_tokenizer().save(folder / "tokenizer")
    tokenizer = GPT2TokenizerFast.from_pretrained(folder / "tokenizer")
    tokenizer.model_max_length = 10**9
    datasets.disable_progress_bars()
    started = time.perf_counter()
    texts = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(folder / "cache")
    )
    tokens = texts.map(
        lambda batch: {"ids": tokenizer(batch["text"], return_attention_mask=False)["input_ids"]},
        batched=True,
        num_proc=processes,
        remove_columns=["text"],
    )
    tokens.train_test_split(test_size=0.01, seed=0).save_to_disk(folder / "datasets")
    return time.perf_counter() - started


def tiktoken(file: Path, folder: Path, tasks: int) -> float:
    """Encode documents that the processes have in memory, and discard the ids."""
    from raygpt.data.tokenizer import gpt2_tokenizer

    tokenizer = gpt2_tokenizer()
    texts = [json.loads(line)["text"] for line in file.read_text().split("\n") if line]

    def encode(begin: int) -> None:
        for text in texts[begin::tasks]:
            tokenizer.encode(text)

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=encode, args=(begin,)) for begin in range(tasks)]
    started = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return time.perf_counter() - started


# --- comparison of the ids ----------------------------------------------------------------------


def count_equal_documents(folder: Path) -> tuple[int, int]:
    """The number of documents with the same ids from raygpt and from datasets, and of all."""
    import datasets
    import numpy as np

    from raygpt.data.dataset import Dataset

    (prepared,) = (folder / "raygpt").glob("*/manifest.json")
    ours = Dataset.open(prepared.parent)
    ids = itertools.chain(*(ours.documents(split) for split in ("train", "validation")))
    digests = {hashlib.sha256(tokens.tobytes()).digest() for tokens in ids}
    theirs = datasets.load_from_disk(str(folder / "datasets_processes" / "datasets"))
    equal = documents = 0
    for split in theirs.values():
        for row in split.with_format("numpy"):
            documents += 1
            tokens = row["ids"].astype(np.uint16)
            equal += hashlib.sha256(tokens.tobytes()).digest() in digests
    return equal, documents


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table for each size."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tokenize", description=__doc__.splitlines()[0]
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSON Lines, or a glob")
    parser.add_argument("--tasks", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100], help="of text")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args(arguments)
    for pattern in options.files:
        if not glob.glob(pattern):  # noqa: PTH207
            parser.error(f"no file matches {pattern}")
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            print(compare(options, megabytes * 1_000_000, Path(folder)), flush=True)


def compare(options: argparse.Namespace, size: int, folder: Path) -> str:
    """The table of one size."""
    file = folder / "texts.jsonl"
    write_text(options.files, size, file)
    rows = {}
    for way in options.ways:
        own = folder / way
        own.mkdir()
        rows[WAYS[way]] = measure(way, file, options.tasks, own)
    table = pd.DataFrame(rows).T
    table.insert(0, "MB/s", size / 1e6 / table["seconds"])
    peers = [WAYS[way] for way in options.ways if way.startswith("datasets")]
    if peers:
        table.insert(1, "times the faster datasets.map", table["MB/s"] / table["MB/s"][peers].max())
    lines = [f"{size / 1e6:,.0f} MB of text, {options.tasks} at once", table.round(2).to_string()]
    if {"raygpt", "datasets_processes"} <= set(options.ways):
        equal, documents = count_equal_documents(folder)
        lines.append(f"the same ids in {equal:,} of {documents:,} documents")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
