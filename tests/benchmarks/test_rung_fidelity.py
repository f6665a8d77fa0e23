import math

import pandas as pd
import pytest

from benchmarks.rung_fidelity import agreement, as_markdown, fidelity


def rows(*rung_values, metric="raw"):
    """Configurations with final values 0, 1, 2, … and the given values at a rung of 1/3."""
    found = []
    for number, value in enumerate(rung_values):
        found.append((number, "1", "final", float(number)))
        found.append((number, "1/3", metric, value))
    return pd.DataFrame(found, columns=["configuration", "rung", "metric", "bits_per_byte"])


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("benchmarks.rung_fidelity.RESAMPLES", 50)


def test_a_rung_that_ranks_like_the_end():
    (row,) = fidelity(rows(1, 2, 3, 4, 5, 6)).to_dict("records")
    assert (row["spearman"], row["kendall"], row["regret"]) == pytest.approx((1, 1, 0))
    assert row["configurations"] == 6
    assert "| 1/3 | raw | 1.00 (1.00 to 1.00)" in as_markdown(fidelity(rows(1, 2, 3, 4, 5, 6)))


def test_a_rung_that_ranks_in_reverse():
    (row,) = fidelity(rows(6, 5, 4, 3, 2, 1)).to_dict("records")
    # The best third at the rung are the two with the worst final values, 4 and 5.
    assert (row["spearman"], row["kendall"], row["regret"]) == pytest.approx((-1, -1, 4))


def test_configurations_without_a_final_value_are_left_out():
    found = rows(1, 2, 3, 4)
    found.loc[(found["configuration"] == 3) & (found["metric"] == "final"), "bits_per_byte"] = None
    assert fidelity(found)["configurations"].tolist() == [3]


def test_equal_values_have_no_correlation():
    pairs = pd.DataFrame({"rung": [1.0, 1.0], "final": [1.0, 2.0]})
    assert all(math.isnan(figure) for figure in agreement(pairs))


def test_rungs_and_metrics_are_sorted():
    both = pd.concat([rows(1, 2, 3, metric="cooldown"), rows(1, 2, 3)])
    both = both.drop_duplicates()
    ninth = rows(1, 2, 3).query("rung == '1/3'").assign(rung="1/9")
    table = fidelity(pd.concat([both, ninth]))
    assert list(zip(table["rung"], table["metric"], strict=True)) == [
        ("1/9", "raw"),
        ("1/3", "raw"),
        ("1/3", "cooldown"),
    ]
