import pytest

from raygpt.results.overfitting import describe_overfitting
from raygpt.results.tables import RunTables, load_results


@pytest.fixture
def run_of(tmp_path):
    """A run whose trials had these bits per byte at their rungs; all but the shortest completed."""

    def make(*figures):
        tables = RunTables(tmp_path, searched=())
        for number, at_rungs in enumerate(figures):
            name = f"{number:04d}"
            tables.begin_trial(name, 0, {})
            for rung, bits in enumerate(at_rungs):
                report = {"tokens": 100 * (rung + 1), "tokens_trained": 120 * (rung + 1)}
                scores = {"bits_per_byte": bits, "bits_per_token": 4.0, "next_token_accuracy": 0.5}
                tables.add_report(name, report | scores | {"rung": rung, "seconds": 1.0 + rung})
            whole = max(map(len, figures))
            tables.end_trial(name, "completed" if len(at_rungs) == whole else "stopped")
        tables.flush()
        return load_results(tmp_path)

    return make


def test_most_completed_trials_got_worse(run_of):
    found = describe_overfitting(run_of([3.0, 3.5], [3.0, 2.9], [2.5, 2.6], [3.1]))
    assert found.startswith("In 2 of 3 completed trials the held-out text was predicted better at")
    assert "Lower training.tokens" in found


@pytest.mark.parametrize(
    "figures",
    [([3.0, 2.9], [3.0, 3.5]), ([3.0, 2.9], [3.0]), ([3.0], [2.0]), ()],
    ids=["half", "better", "one rung", "no trial"],
)
def test_otherwise_nothing_is_said(run_of, figures):
    assert describe_overfitting(run_of(*figures)) is None
