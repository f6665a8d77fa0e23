"""`python -m raygpt.tune FILE --plan`."""

import subprocess
import sys

import pytest

RECIPE = """\
data: {corpus: "jsonl:/nowhere/*.jsonl", tokenizer: bpe-300, context: 32}
model: {d_model: 16, n_layers: 1, n_heads: 2, dropout: {uniform: [0, 0.1]}}
training: {tokens: 9216, batch_tokens: 256, learning_rate: 1e-2, micro_batch: 4}
search: {trials: 6, concurrent: 1}
"""


@pytest.fixture
def folder(place, tmp_path, monkeypatch):
    """The folder in which the commands run, instead of `place`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


def test_a_plan_measures_and_leaves_nothing_behind(run_here, folder):
    """A plan does not need the corpus, which does not exist here."""
    status, printed = run_here("tiny.yaml", "--plan")
    assert status == 0, printed
    assert "trials        6, 1 at once" in printed
    # Without hold, and with less than a step of warmup, the cooldowns share no trunk.
    assert f"{6 * (9216 + 3072):,} if no trial is stopped" in printed
    assert "tokens/s in a trial of the baseline" in printed
    assert {path.name for path in folder.iterdir()} <= {"tiny.yaml", "runs"}
    assert not list((folder / "runs").glob("*"))


def test_a_speed_that_is_no_number_is_refused(folder):
    command = [sys.executable, "-m", "raygpt.tune", "tiny.yaml", "--plan"]
    done = subprocess.run(
        [*command, "--tokens-per-second", "fast"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "'fast' is not a number above 0" in done.stderr
    assert "Traceback" not in done.stderr
