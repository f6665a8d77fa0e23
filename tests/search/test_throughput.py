import pytest

from raygpt.search import throughput
from raygpt.search.cost import TokenCosts
from raygpt.search.throughput import fixed_share, search_pace
from raygpt.training.probe import Pace


def test_the_largest_model_is_measured_too(make_search, needed, monkeypatch):
    speeds = {16: 1000.0, 64: 400.0}

    def pace(recipe, needed, at_once):
        return Pace(speeds[recipe.model.d_model], 1.0, blocks=(1.0,))

    monkeypatch.setattr(throughput, "cluster_pace", pace)
    search_file = make_search("model.d_model={choice: [16, 64]}")
    found = search_pace(search_file, needed, 2)
    assert (found.tokens_per_second, found.blocks) == (1000.0, (1.0,))
    larger = search_file.recipe(search_file.start_values() | {"model.d_model": 64})
    # So the cost of the largest model is what was measured.
    assert TokenCosts(search_file, found.fixed_share)(larger) == pytest.approx(2.5)
    assert search_pace(make_search("model.d_model=16"), needed, 2).fixed_share == 0


def test_no_more_workers_are_measured_than_the_search_has_side_by_side(
    make_search, needed, monkeypatch
):
    measured = []
    monkeypatch.setattr(
        throughput, "cluster_pace", lambda recipe, needed, at_once: measured.append(at_once)
    )
    search_pace(make_search("search.concurrent=2"), needed, 8)
    search_pace(make_search("search.trials=3"), needed, 8)
    assert measured == [2, 3]


@pytest.mark.parametrize(
    ("operations", "times_as_long", "share"),
    [(5, 5, 0), (5, 3, 0.5), (5, 6, 0), (5, 0.9, 0.95), (0.5, 0.75, 0.5)],
)
def test_the_fixed_share_is_within_its_bounds(operations, times_as_long, share):
    assert fixed_share(operations, times_as_long) == share
