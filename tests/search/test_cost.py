import pytest

from raygpt.search.cost import TokenCosts
from raygpt.training.flops import flops_per_token


def test_the_cost_of_a_token_is_relative_to_the_baseline(make_search):
    search_file = make_search("model.n_layers={int: [1, 9], start: 3}", "data.tokenizer=bpe-300")
    costs = TokenCosts(search_file)
    assert costs.vary
    assert costs(search_file.baseline()) == 1
    values = search_file.start_values() | {"model.n_layers": 9}
    larger = search_file.recipe(values)
    expected = flops_per_token(larger, 300) / flops_per_token(search_file.baseline(), 300)
    assert costs(larger) == expected > 1


@pytest.mark.parametrize(
    "override",
    [
        "model.dropout={uniform: [0, 0.5]}",
        "model.compile={choice: [true, false]}",
        "training.batch_tokens={choice: [256, 512]}",
    ],
)
def test_other_ranges_do_not_change_the_cost(make_search, override):
    search_file = make_search(override)
    costs = TokenCosts(search_file)
    assert not costs.vary
    assert {costs(recipe) for recipe in search_file.recipes_at_extremes()} == {1}


def test_a_fixed_share_of_the_time_does_not_grow_with_the_operations(make_search):
    search_file = make_search("model.n_layers={int: [1, 9], start: 3}")
    larger = search_file.recipe(search_file.start_values() | {"model.n_layers": 9})
    costs = TokenCosts(search_file, fixed_share=0.75)
    assert costs(search_file.baseline()) == 1
    assert costs(larger) == 0.75 + 0.25 * costs.operations(larger)
