from fractions import Fraction

import pytest

from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe


def recipe(tokens, batch_tokens, context, rungs=(1,), **training):
    return Recipe(
        name="x",
        data={"context": context},
        training={"tokens": tokens, "batch_tokens": batch_tokens, "learning_rate": 1, **training},
        search={"rungs": rungs},
    )


@pytest.mark.parametrize(
    ("tokens", "batch_tokens", "context", "sequences", "steps", "budget_tokens"),
    [
        ("300M", "256K", 512, 500, 1172, 300_032_000),
        ("1M", "4K", 256, 16, 244, 999_424),
        ("1Mi", "4Ki", 256, 16, 256, 2**20),
        (512, 512, 512, 1, 1, 512),
        # 767/512 is nearer to one sequence than to two; 769/512 to two.
        ("1M", 767, 512, 1, 1953, 999_936),
        ("1M", 769, 512, 2, 977, 1_000_448),
    ],
)
def test_tokens_in_whole_steps(tokens, batch_tokens, context, sequences, steps, budget_tokens):
    made = recipe(tokens, batch_tokens, context)
    assert budget.sequences_per_step(made) == sequences
    assert budget.tokens_per_step(made) == sequences * context
    assert budget.steps(made) == steps
    assert budget.budget_tokens(made) == budget_tokens


def test_rungs_lie_on_the_nearest_step():
    made = recipe("300M", "256K", 512, rungs=["1/9", "1/3", 1])
    assert budget.rung_steps(made) == (130, 391, 1172)
    assert budget.rung_steps(recipe("1M", "4K", 256, rungs=[0.0001, 1], warmup=0)) == (1, 244)


def test_reports_and_checkpoints_fall_on_multiples():
    made = recipe(900, 9, 9, report_every="1/4", checkpoint_every="2/5")
    assert budget.steps(made) == 100
    assert budget.report_steps(made) == (25, 50, 75, 100)
    assert budget.checkpoint_steps(made) == (40, 80)


def test_intervals_shorter_than_a_step_come_to_every_step():
    made = recipe(90, 9, 9, report_every="1/1000", checkpoint_every=1)
    assert budget.report_steps(made) == tuple(range(1, 11))
    assert budget.checkpoint_steps(made) == (10,)


def test_thirds_are_exact():
    made = recipe(2700, 9, 9, rungs=["1/3", "2/3", 1], report_every="1/3")
    assert made.training.report_every == Fraction(1, 3)
    assert budget.report_steps(made) == (100, 200, 300) == budget.rung_steps(made)
