"""Wikipedia from a stand-in for the Hub that fails now and then, by the command."""

import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raygpt.data.dataset import Dataset
from tests.data.corpora.hub_stand_in import COMMIT, Fault, Hub

ROOT = Path(__file__).parents[1]
CARD = b"---\nconfigs:\n- config_name: 20231101.en\n  data_files: 20231101.en/*.parquet\n---\n"
RECIPE = f"""\
data: {{corpus: "wikipedia@{COMMIT}", tokenizer: gpt2, validation_tokens: 2000,
  validation_fraction: 0.1}}
training: {{tokens: 40K, batch_tokens: 2K, learning_rate: 1e-3}}
"""


def articles(name):
    words = random.Random(name)
    pool = "the of and river city model wide small long night tree stone house".split()  # noqa: SIM905
    return [" ".join([name, str(n), *words.choices(pool, k=90)]) for n in range(100)]


FILES = {name: articles(name) for name in "abcdefgh"}


def parquet(texts):
    file = io.BytesIO()
    pq.write_table(pa.table({"title": texts, "text": texts}), file, row_group_size=30)
    return file.getvalue()


@pytest.fixture
def hub():
    with Hub() as hub:
        files = {f"20231101.en/{name}.parquet": parquet(texts) for name, texts in FILES.items()}
        hub.add("wikimedia/wikipedia", {"README.md": CARD, **files})
        yield hub


@pytest.fixture
def prepare(hub, tmp_path):
    """Runs the command with a number of tasks; returns what it printed and made."""

    def prepare(tasks):
        recipe = tmp_path / "wiki.yaml"
        recipe.write_text(RECIPE)
        cache = tmp_path / f"cache{tasks}"
        names = [name for name in os.environ if not name.startswith("HF_")]
        environment = {name: os.environ[name] for name in names} | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DOWNLOAD_TIMEOUT": "2",
            "RAYGPT_CACHE": str(cache),
            "CUDA_VISIBLE_DEVICES": "",
        }
        run = subprocess.run(
            [sys.executable, "-m", "raygpt.prepare", str(recipe), "--tasks", str(tasks)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        files = (path for path in cache.rglob("*") if path.is_file() and path.name != "lock")
        return run.stdout, {str(path.relative_to(cache)): path.read_bytes() for path in files}

    return prepare


@pytest.mark.slow
def test_the_tokens_do_not_depend_on_tasks_or_network_errors(hub, prepare, tmp_path):
    printed, steady = prepare(1)
    assert f"wikimedia/wikipedia 20231101.en@{COMMIT}" in printed
    assert "CC BY-SA" in printed
    # It stops where the budget has been reached.
    assert 3 < sum(name.endswith(".tokens") for name in steady) < len(FILES)
    assert not any("h.parquet" in request for request in hub.requests if "resolve" in request)
    hub.faults = [
        Fault("20231101.en/a", 503, times=1),
        Fault("20231101.en/b", cut=20, times=1),
        Fault("20231101.en/c", wait=1, times=2),
    ]
    _, troubled = prepare(5)
    assert all(fault.times == 0 for fault in hub.faults)
    assert troubled == steady
    (manifest,) = (tmp_path / "cache5").glob("*/manifest.json")
    dataset = Dataset.open(manifest.parent)
    texts = [
        [dataset.tokenizer.decode(tokens) for tokens in dataset.documents(split)]
        for split in ("train", "validation")
    ]
    assert sorted(texts[0] + texts[1]) == sorted(
        text for name in "abcdefgh"[: len(dataset.shards)] for text in FILES[name]
    )
