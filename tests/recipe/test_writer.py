from fractions import Fraction

import pytest

from raygpt.recipe.ranges import Int
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import load_search_file
from raygpt.recipe.writer import recipe_to_yaml, settings_to_yaml


def test_values_are_written_in_their_usual_form():
    text = settings_to_yaml(
        {
            "name": "x",
            "model.n_layers": Int(2, 8, step=2),
            "training.beta2": 0.95,
            "search.rungs": (Fraction(1, 9), Fraction(1)),
            "search.concurrent": None,
        }
    )
    assert text == (
        "name: x\n"
        "model:\n"
        "  n_layers: {int: [2, 8], step: 2}\n"
        "training:\n"
        "  beta2: 0.95\n"
        "search:\n"
        "  rungs: [1/9, 1]\n"
        "  concurrent: null\n"
    )


@pytest.mark.parametrize("rate", [1e-5, 6e-4, 0.1 + 0.2, 5e-324, 1e22, 0.0009999999999999998])
def test_a_recipe_reads_back_equal(written, rate):
    recipe = Recipe(
        name="2024",
        data={"corpus": "jsonl:/a b/#1: *.jsonl", "cache": "null"},
        model={"compile": True},
        training={"tokens": "300M", "learning_rate": rate, "report_every": "1/7"},
        search={"rungs": ["1/9", "1/3", 1], "gpus_per_worker": "1/3", "scheduler": "fifo"},
    )
    assert load_search_file(written(recipe_to_yaml(recipe))).single_recipe() == recipe
