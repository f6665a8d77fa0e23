import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raygpt.recipe.search_file import load_search_file
from raygpt.training.flops import flops_per_token, multiplied_parameters
from raygpt.training.model import GPT


def test_gpt2_small(recipe_of):
    """The count has its 124,439,808 parameters without the 1,024 positions, and its attention."""
    shape = {"d_model": 768, "n_layers": 12, "n_heads": 12}
    training = {"batch_tokens": 1024, "tokens": "1M"}
    recipe = recipe_of(model=shape, data={"context": 1024}, training=training)
    padding = 50304 - 50257
    weights = 124_439_808 - 1024 * 768 + padding * 768
    assert flops_per_token(recipe, 50257) == 6 * weights + 12 * 12 * 768 * 1024


@pytest.mark.parametrize("settings", [{"d_model": 32}, {"n_layers": 5}, {"d_model": 64}])
def test_the_count_equals_torchs_count_of_a_step(recipe_of, settings):
    recipe = recipe_of(model=settings)
    model = GPT(recipe.model, 300, recipe.data.context)
    tokens = torch.zeros(2, recipe.data.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        model(tokens).sum().backward()
    # Norms and biases are parameters, but no multiplications that torch counts.
    weights = [p.numel() for name, p in model.named_parameters() if p.dim() == 1]
    expected = flops_per_token(recipe, 300) - 6 * sum(weights)
    assert counted.get_total_flops() / tokens.numel() == pytest.approx(expected, rel=1e-3)


def test_positions_do_not_count_even_if_there_are_more_of_them_than_tokens(recipe_of):
    def weights(context):
        sizes = {"batch_tokens": 1024, "tokens": "1M"}
        recipe = recipe_of(data={"context": context}, training=sizes)
        return multiplied_parameters(GPT(recipe.model, 258, context), 258)

    assert weights(16) == weights(512)


def test_dropout_changes_nothing_and_context_only_attention(recipe_of):
    recipe = recipe_of()
    assert flops_per_token(recipe_of(model={"dropout": 0.5}), 300) == flops_per_token(recipe, 300)
    longer = recipe_of(data={"context": 32})
    difference = flops_per_token(longer, 300) - flops_per_token(recipe, 300)
    assert difference == 12 * 2 * 16 * (32 - 16)


class OwnModel(nn.Module):
    """A user's model: 300 tokens, 8 wide, positions in a table, and some kind of output head."""

    def __init__(self, head):
        super().__init__()
        self.tokens = nn.Embedding(300, 8)
        self.positions = nn.Embedding(16, 8)
        self.layer = nn.Linear(8, 8, bias=False)
        if head != "functional":
            self.head = nn.Linear(8, 300, bias=False)
        if head == "tied":
            self.head.weight = self.tokens.weight

    def forward(self, tokens_BT):
        hidden_BTD = self.layer(self.tokens(tokens_BT))
        return F.linear(hidden_BTD, self.tokens.weight)


@pytest.mark.parametrize("head", ["functional", "tied", "own"])
def test_tables_are_looked_up_and_the_head_counts_once(head):
    assert multiplied_parameters(OwnModel(head), 300) == 8 * 8 + 8 * 300


def test_a_large_model_takes_no_memory(recipe_of):
    huge = recipe_of(model={"d_model": 65536, "n_layers": 100, "n_heads": 2})
    assert flops_per_token(huge, 50257) > 6 * 12 * 100 * 65536**2


OWN = """\
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, settings, vocab_size, context):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, settings.d_model)
        self.layer = nn.Linear(settings.d_model, settings.d_model, bias=False)
        self.scale = torch.ones(3).sum().{}
        self.head = nn.Linear(settings.d_model, vocab_size, bias=False)

    def forward(self, tokens):
        return self.head(self.layer(self.embedding(tokens))) * self.scale
"""


@pytest.mark.parametrize("computed", ["item()", "float()"])
def test_a_users_own_model_is_counted_the_same_way(tmp_path, computed):
    """This includes a model that reads a number from a tensor while it is made."""
    (tmp_path / "own.py").write_text(OWN.format(computed))
    (tmp_path / "own.yaml").write_text(
        f"model: {{module: '{tmp_path / 'own.py'}:Own', d_model: 8, n_layers: 3, n_heads: 2}}\n"
        "training: {tokens: 1M, learning_rate: 1e-3}\n"
        "data: {context: 16}\n"
    )
    recipe = load_search_file(tmp_path / "own.yaml").single_recipe()
    assert flops_per_token(recipe, 300) == 6 * (8 * 8 + 8 * 300) + 12 * 3 * 8 * 16
