"""The decoder-only transformer: GPT-2's architecture, parameter for parameter."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from raygpt.recipe.sections import Model as ModelRecipe

VOCABULARY_MULTIPLE = 64
"""The embedding's rows are padded to a multiple of this, for the matrix units' sake."""

INITIAL_STD = 0.02
LAYER_NORM_EPSILON = 1e-5


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, recipe: ModelRecipe):
        super().__init__()
        self.n_heads = recipe.n_heads
        self.dropout = recipe.dropout
        self.qkv = nn.Linear(recipe.d_model, 3 * recipe.d_model)
        self.projection = nn.Linear(recipe.d_model, recipe.d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, d_model) -> the same shape."""
        query, key, value = self.heads(x)
        attended = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        attended = attended.transpose(1, 2).reshape(x.shape)
        return F.dropout(self.projection(attended), self.dropout, self.training)

    def heads(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of every head.

        (batch, time, d_model) -> three times (batch, n_heads, time, d_model / n_heads).
        """
        batch, time, d_model = x.shape
        query, key, value = (
            part.view(batch, time, self.n_heads, d_model // self.n_heads).transpose(1, 2)
            for part in self.qkv(x).split(d_model, dim=-1)
        )
        return query, key, value


class MLP(nn.Module):
    """The position-wise feed-forward layer, four times as wide inside."""

    def __init__(self, recipe: ModelRecipe):
        super().__init__()
        self.dropout = recipe.dropout
        self.expansion = nn.Linear(recipe.d_model, 4 * recipe.d_model)
        self.projection = nn.Linear(4 * recipe.d_model, recipe.d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, d_model) -> the same shape."""
        hidden = F.gelu(self.expansion(x), approximate="tanh")
        return F.dropout(self.projection(hidden), self.dropout, self.training)


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, recipe: ModelRecipe):
        super().__init__()
        self.attention_norm = nn.LayerNorm(recipe.d_model, eps=LAYER_NORM_EPSILON)
        self.attention = Attention(recipe)
        self.mlp_norm = nn.LayerNorm(recipe.d_model, eps=LAYER_NORM_EPSILON)
        self.mlp = MLP(recipe)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, d_model) -> the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """GPT-2 (Radford et al., 2019): learned positions, pre-norm blocks, output tied to input.

    Args:
        recipe: the shape of the model and its dropout probability.
        vocab_size: tokens in the vocabulary; the embedding is padded to a multiple of 64 rows.
        context: the longest sequence in tokens.
    """

    def __init__(self, recipe: ModelRecipe, vocab_size: int, context: int):
        super().__init__()
        padded_size = math.ceil(vocab_size / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        self.context = context
        self.dropout = recipe.dropout
        self.activation_checkpointing = recipe.activation_checkpointing
        self.token_embedding = nn.Embedding(padded_size, recipe.d_model)
        self.position_embedding = nn.Embedding(context, recipe.d_model)
        self.blocks = nn.ModuleList(Block(recipe) for _ in range(recipe.n_layers))
        self.final_norm = nn.LayerNorm(recipe.d_model, eps=LAYER_NORM_EPSILON)
        # Added to the logits inside the output product: -inf keeps the padding rows from ever
        # being predicted and gives them no gradient.
        padding = torch.zeros(padded_size)
        padding[vocab_size:] = -torch.inf
        self.register_buffer("logit_bias", padding, persistent=False)
        self._initialise(recipe.n_layers)

    def _initialise(self, n_layers: int) -> None:
        """GPT-2's initialisation: what feeds the residual stream is scaled by its depth."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                residual = name.endswith("projection.weight")
                std = INITIAL_STD / math.sqrt(2 * n_layers) if residual else INITIAL_STD
                nn.init.normal_(parameter, std=std)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the next token at every position.

        Args:
            tokens: ids, (batch, time), time at most the context.

        Returns:
            (batch, time, padded vocabulary); the padding's logits are -inf.
        """
        x = self.embed(tokens)
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return F.linear(self.final_norm(x), self.token_embedding.weight, self.logit_bias)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """What the first block gets: ids (batch, time) -> (batch, time, d_model)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        return F.dropout(x, self.dropout, self.training)


def summed_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the targets in nats, summed, in float32.

    Args:
        logits: (batch, time, padded vocabulary).
        targets: ids, (batch, time).
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")
