"""`python -m raygpt.tune FILE --plan`, as a user runs it."""

import os
import subprocess
import sys

RECIPE = """\
data: {corpus: "jsonl:/nowhere/*.jsonl", tokenizer: bpe-300, context: 32}
model: {d_model: 16, n_layers: 1, n_heads: 2, dropout: {uniform: [0, 0.1]}}
training: {tokens: 9216, batch_tokens: 256, learning_rate: 1e-2, micro_batch: 4}
search: {trials: 6, concurrent: 1}
"""


def plan(folder, *arguments):
    (folder / "tiny.yaml").write_text(RECIPE)
    # Not a cluster that runs here for other reasons.
    environment = os.environ | {"RAY_ADDRESS": "local"}
    return subprocess.run(
        [sys.executable, "-m", "raygpt.tune", "tiny.yaml", "--plan", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_plan_measures_and_leaves_nothing_behind(tmp_path):
    """It asks for no text either: the corpus is not there."""
    done = plan(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trials        6, 1 at once" in done.stdout
    # Without hold, and with less than a step of warmup, the cooldowns share no trunk.
    assert f"{6 * (9216 + 3072):,} at most, if no trial is stopped" in done.stdout
    assert "tokens/s a trial" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"tiny.yaml", "runs"}
    assert not list((tmp_path / "runs").glob("*"))


def test_a_speed_that_is_no_number_is_refused(tmp_path):
    done = plan(tmp_path, "--tokens-per-second", "fast")
    assert done.returncode == 2
    assert "'fast' is not a number above 0" in done.stderr
    assert "Traceback" not in done.stderr
