import pytest

from raygpt.errors import UserError
from raygpt.recipe import scale
from raygpt.recipe.errors import RecipeError
from raygpt.recipe.search_file import load_search_file

SEARCH = """\
data: {corpus: sample, context: 64}
model: {d_model: {choice: [64, 128]}, n_layers: 3}
training: {tokens: 3M, batch_tokens: 2K, learning_rate: {loguniform: [2e-4, 4e-3]}}
"""
MINI = "mini:\n  training: {tokens: 1M, batch_tokens: 1K}\n"


TOO_SMALL = "training.tokens=2500"  # for two rungs of the full scale


@pytest.fixture
def scales_of(written):
    """The scales of a search file, by what is asked for."""

    def load(asked="auto", *overrides, text=SEARCH + MINI):
        return scale.Scales(written(text), overrides, asked)

    return load


@pytest.mark.parametrize(
    ("asked", "gpus", "cpu", "chosen"),
    [
        ("auto", 1, False, "full"),
        ("auto", 0.5, False, "full"),
        ("auto", 0, False, "mini"),
        ("auto", 0, True, "mini"),
        ("full", 1, False, "full"),
        ("full", 0, True, "full"),
        ("mini", 0, False, "mini"),
        ("mini", 1, False, "mini"),
        ("mini", 0, True, "mini"),
    ],
)
def test_the_scale_follows_from_the_hardware_and_the_option(scales_of, asked, gpus, cpu, chosen):
    assert scales_of(asked).choose(gpus, cpu).scale == chosen


def test_full_without_a_gpu_is_refused_with_the_reason(scales_of):
    with pytest.raises(UserError) as error:
        scales_of("full").choose(0, False)
    message = str(error.value)
    assert "needs a GPU" in message
    assert "2,999,808 tokens" in message
    assert "64 wide with 3 layers" in message
    assert "--scale mini" in message
    assert "--allow-cpu" in message


def test_a_file_without_mini_runs_as_it_is(scales_of, written):
    chosen = scales_of(text=SEARCH).choose(0, False)
    assert chosen == load_search_file(written(SEARCH))


def test_mini_without_a_mini_section_is_refused(scales_of):
    with pytest.raises(UserError, match=r"--scale mini: .*x\.yaml has no mini section"):
        scales_of("mini", text=SEARCH).choose(0, False)
    same = scales_of("mini", "training.tokens=1M", "training.batch_tokens=1K")
    with pytest.raises(UserError, match="or one that changes nothing"):
        same.choose(0, False)


def test_an_error_at_one_scale_is_raised_only_there(scales_of):
    scales = scales_of("auto", TOO_SMALL)
    assert scales.choose(0, False).fixed["training.tokens"] == 2500
    assert [found.scale for found in scales.possible] == ["mini"]
    assert "--scale full" not in scales.describe(scales.choose(0, False), 0, "one run of")
    with pytest.raises(RecipeError, match="two rungs"):
        scales.choose(1, False)
    assert scales_of("mini", TOO_SMALL).choose(1, False).scale == "mini"


@pytest.mark.parametrize(
    ("asked", "override"), [("full", TOO_SMALL), ("auto", "training.tokens=500"), ("mini", "x=1")]
)
def test_an_error_on_any_hardware_is_raised_at_once(scales_of, asked, override):
    with pytest.raises(RecipeError):
        scales_of(asked, override)


def test_an_error_at_both_scales_is_reported_once(scales_of):
    with pytest.raises(RecipeError) as error:
        scales_of("auto", "training.tokens=500", "model.d_modle=3")
    lines = str(error.value).splitlines()
    assert sum("d_modle" in line for line in lines) == 1
    (full,) = (line for line in lines if line.startswith("at the full scale: "))
    (mini,) = (line for line in lines if line.startswith("at the mini scale: "))
    assert "2000" in full
    assert "1000" in mini


def test_the_description_of_a_scale(scales_of):
    scales = scales_of()
    full, mini = scales.possible
    text = scales.describe(full, 1, "32 trials of up to")
    assert text.startswith("running ")
    assert text.endswith(
        "x.yaml in full (32 trials of up to 2,999,808 tokens; 64 to 128 wide, 3 layers, on sample)"
    )
    text = scales.describe(mini, 0, "one run of")
    assert text.startswith("running the mini scale instead (one run of 1,000,448 tokens; ")
    assert "--scale full --allow-cpu forces the full one" in text
    assert "--scale full forces the full one" in scales.describe(mini, 1, "one run of")
    shapes = scales_of("auto", "model.d_model={choice: [32, 64, 16]}")
    assert "; 16 to 64 wide" in shapes.describe(shapes.possible[1], 0, "one run of")
    same = scales_of(text=SEARCH)
    assert "in full" in same.describe(same.choose(0, False), 0, "one run of")


def test_rounding_and_epochs_are_described(scales_of):
    recipe = scales_of().choose(0, False).baseline()
    text = scale.describe_budget(recipe, 10_000_000)
    assert text == "The budget is 1,000,448 tokens: 977 steps of 1,024 (1,000,000 asked for)."
    text = scale.describe_budget(recipe, 400_000)
    assert text.endswith("The corpus holds 400,000 training tokens, so that is 2.5 epochs.")
    exact = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"tokens": 1024 * 10})}
    )
    assert "asked for" not in scale.describe_budget(exact, 10**9)
