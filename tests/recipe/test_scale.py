import pytest

from raygpt.errors import UserError
from raygpt.recipe import scale
from raygpt.recipe.search_file import load_search_file

SEARCH = """\
data: {corpus: sample, context: 64}
model: {d_model: {choice: [64, 128]}, n_layers: 3}
training: {tokens: 3M, batch_tokens: 2K, learning_rate: {loguniform: [2e-4, 4e-3]}}
"""
MINI = "mini:\n  training: {tokens: 1M, batch_tokens: 1K}\n"


@pytest.fixture
def both(written):
    """The search at either scale."""

    def load(text=SEARCH + MINI, *overrides):
        path = written(text)
        return [load_search_file(path, name, overrides) for name in ("full", "mini")]

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
def test_the_scale_follows_from_hardware_and_wish(both, asked, gpus, cpu, chosen):
    assert scale.choose_scale(asked, *both(), gpus, cpu).scale == chosen


def test_full_without_a_gpu_is_refused_with_the_reason(both):
    with pytest.raises(UserError) as error:
        scale.choose_scale("full", *both(), 0, False)
    message = str(error.value)
    assert "needs a GPU" in message
    assert "2,999,808 tokens" in message
    assert "64 wide with 3 layers" in message
    assert "--scale mini" in message
    assert "--allow-cpu" in message


def test_a_file_without_mini_runs_as_it_is(both):
    full, mini = both(SEARCH)
    assert scale.choose_scale("auto", full, mini, 0, False) == full


def test_mini_without_a_mini_section_is_refused(both):
    with pytest.raises(UserError, match=r"--scale mini: .*x\.yaml has no mini section"):
        scale.choose_scale("mini", *both(SEARCH), 0, False)
    same = both(SEARCH + MINI, "training.tokens=1M", "training.batch_tokens=1K")
    with pytest.raises(UserError, match="or one that changes nothing"):
        scale.choose_scale("mini", *same, 0, False)


def test_what_runs_is_described(both):
    full, mini = both()
    text = scale.describe_scale(full, full, 1, "32 trials of up to")
    assert text.startswith("running ")
    assert text.endswith(
        "x.yaml in full (32 trials of up to 2,999,808 tokens; 64 wide, 3 layers, on sample)"
    )
    text = scale.describe_scale(mini, full, 0, "one run of")
    assert text.startswith("running the mini scale instead (one run of 1,000,448 tokens; 64 wide")
    assert "--scale full --allow-cpu forces the full one" in text
    assert "--scale full forces the full one" in scale.describe_scale(mini, full, 1, "one run of")


def test_rounding_and_epochs_are_described(both):
    recipe = both()[1].baseline()
    text = scale.describe_budget(recipe, 10_000_000)
    assert text == "The budget is 1,000,448 tokens: 977 steps of 1,024 (1,000,000 asked for)."
    text = scale.describe_budget(recipe, 400_000)
    assert text.endswith("The corpus holds 400,000 training tokens, so that is 2.5 epochs.")
    exact = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"tokens": 1024 * 10})}
    )
    assert "asked for" not in scale.describe_budget(exact, 10**9)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.3, "about 10 seconds"),
        (44, "about 40 seconds"),
        (89, "about 90 seconds"),
        (90, "about 2 minutes"),
        (3600, "about 60 minutes"),
        (5400, "about 2 hours"),
        (10**6, "about 278 hours"),
    ],
)
def test_durations_are_as_rough_as_they_are_known(seconds, words):
    assert scale.describe_seconds(seconds) == words
