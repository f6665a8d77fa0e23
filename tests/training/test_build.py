import functools
import re
import sys
from pathlib import Path

import pytest
import torch

from raygpt.errors import UserError
from raygpt.training.build import build_model
from raygpt.training.checkpoint import load_model
from raygpt.training.generation import generate
from raygpt.training.loop import TrainingRun
from raygpt.training.model import GPT
from tests.recipe.own_models import GOOD

ROOT = Path(__file__).parents[2]
DOCUMENTATION = ROOT / "docs" / "own_model.md"
EXAMPLE = ROOT / "examples" / "rotary_gpt" / "model.py"


@pytest.fixture
def own_recipe(recipe_of, tmp_path):
    """Makes a tiny recipe with a model of a file of this text."""

    def make(text=GOOD, name="MyGPT", **model):
        path = tmp_path / "my_model.py"
        path.write_text(text)
        return recipe_of(model={"module": f"{path}:{name}", **model})

    return make


def test_a_recipe_without_a_model_of_its_own_gets_a_gpt(recipe_of):
    model = build_model(recipe_of(data={"context": 32}, model={"n_layers": 3}), 300)
    assert isinstance(model, GPT)
    assert (model.context, model.vocab_size, len(model.blocks)) == (32, 300, 3)
    tokens_BT = torch.zeros(2, 32, dtype=torch.int64)
    logits_BTV = model.logits(tokens_BT)
    assert logits_BTV.shape == (2, 32, 320)
    assert torch.equal(logits_BTV.isfinite().sum(-1), torch.full((2, 32), 300))


def test_the_weights_are_drawn_from_torchs_generator(recipe_of):
    def weights(seed):
        torch.manual_seed(seed)
        return build_model(recipe_of(), 300).token_embedding.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_an_own_model_has_context_and_logits_despite_own_attributes(own_recipe):
    model = build_model(own_recipe(), 300)
    assert type(model).__name__ == "MyGPT"
    assert model.context == 16
    tokens_BT = torch.arange(20).view(2, 10)
    assert model.logits(tokens_BT).shape == (2, 10, 300)
    assert model.logits(tokens_BT).equal(model(tokens_BT))
    assert model.training
    assert model.model.context == "its own"


def test_it_is_made_with_its_settings_vocabulary_and_context(own_recipe):
    text = GOOD.replace(
        "self.context = ", "self.made_with = settings.base, vocab_size, context; self.context = "
    )
    assert build_model(own_recipe(text, base=500), 300).model.made_with == (500.0, 300, 16)


def test_the_file_in_the_documentation_is_complete(own_recipe, dataset):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    assert len(blocks) == 1
    run = TrainingRun(own_recipe(blocks[0], window=3), dataset)
    bits = [report.bits_per_byte for report in run.reports() if report.rung is not None]
    assert bits[-1] < bits[0]


def test_the_example_has_rotary_positions_and_no_biases(own_recipe):
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) < 120
    model = build_model(own_recipe(text, "RotaryGPT", rotary_base=500), 300)
    assert {type(part) for part in model.modules()} >= {torch.nn.RMSNorm}
    assert not any("bias" in name for name, _ in model.named_parameters())

    rotate = sys.modules[type(model.model).__module__].rotate
    query, key = torch.randn(2, 8)
    queries, keys = (rotate(x.expand(1, 1, 16, 8), 500.0)[0, 0] for x in (query, key))
    assert torch.allclose(queries.norm(dim=-1), query.norm())
    products = queries @ keys.T
    # They depend on the distance alone, and do depend on it.
    assert torch.allclose(products[1:, 1:], products[:-1, :-1], atol=1e-4)
    assert not torch.allclose(products[0], products[0, 0].expand(16), atol=0.1)


def test_its_shape_is_known_without_memory(own_recipe):
    with torch.device("meta"):
        model = build_model(own_recipe(), 300)
    assert sum(parameter.numel() for parameter in model.parameters()) == 300 * 16 * 2 + 300


FORWARD = "return self.logits(self.embedding(tokens))"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("super().__init__()", "super().__init__(); 1 / 0"),
            "cannot be made: .*line 43 raised Zero",
        ),
        (("vocab_size: int, ", ""), "cannot be made: .*raised TypeError: .*positional"),
        (
            (FORWARD, "raise KeyError('x')"),
            r"fails on ids of shape \(2, 16\): .*line 50 raised Key",
        ),
        ((FORWARD, "return tokens"), r"maps ids of shape \(2, 16\) to a tensor of shape \(2, 16\)"),
        ((FORWARD, "return None"), "to a NoneType"),
        ((FORWARD, FORWARD + "[..., 1:]"), r"shape \(2, 16, 299\).*\(batch, time, 300 or more\)"),
        ((FORWARD, FORWARD + ".flip(1)"), "is not causal"),
    ],
)
def test_a_class_that_is_not_a_language_model_is_one_message(own_recipe, change, message):
    assert change[0] in GOOD
    with pytest.raises(UserError, match=f"model.module: MyGPT of .*my_model.py .*{message}"):
        build_model(own_recipe(GOOD.replace(*change)), 300)


def test_a_model_without_parameters_is_refused(own_recipe):
    text = "import torch\nclass MyGPT(torch.nn.Module):\n    def __init__(self, *_):\n"
    text += "        super().__init__()\n"
    with pytest.raises(UserError, match="has no parameters to train"):
        build_model(own_recipe(text), 300)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_with_an_own_model_is_saved_resumed_and_sampled(
    own_recipe, dataset, tmp_path, compiled, monkeypatch
):
    # The graph is taken from the user's code as by any backend; a CPU's takes minutes.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    recipe = own_recipe(compile=compiled)
    whole = TrainingRun(recipe, dataset)
    figures = [report.metrics() for report in whole.reports()]
    assert figures[-1]["bits_per_byte"] < figures[0]["bits_per_byte"]

    run = TrainingRun(recipe, dataset)
    reports = run.reports()
    for _ in range(3):
        next(reports)
    run.save(tmp_path / "checkpoint")
    (tmp_path / "my_model.py").unlink()
    resumed = TrainingRun(recipe, dataset)
    resumed.load(tmp_path / "checkpoint")
    last = list(resumed.reports())[-1].metrics()
    same = ("tokens", "bits_per_byte", "train_bits_per_token", "gradient_norm")
    assert [last[name] for name in same] == [figures[-1][name] for name in same]

    resumed.save(tmp_path / "checkpoint")
    trained = load_model(tmp_path / "checkpoint")
    assert trained.recipe == recipe
    assert list(generate(trained.model, [1, 2, 3], 20, dataset.tokenizer.end_of_document, seed=1))


def test_a_checkpoint_of_another_text_of_the_file_is_another_recipe(own_recipe, dataset, tmp_path):
    run = TrainingRun(own_recipe(), dataset)
    run.save(tmp_path / "checkpoint")
    edited = TrainingRun(own_recipe(GOOD.replace("A number.", "Another.")), dataset)
    with pytest.raises(UserError, match=r"another recipe; it differs in model\.module"):
        edited.load(tmp_path / "checkpoint")
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "other_name.py"
    moved.write_text(GOOD)
    recipe = own_recipe()
    there = type(recipe)(
        **{**dict(recipe), "model": {**recipe.model.model_dump(), "module": f"{moved}:MyGPT"}}
    )
    TrainingRun(there, dataset).load(tmp_path / "checkpoint")
