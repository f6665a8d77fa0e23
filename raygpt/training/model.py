"""The decoder-only transformer: GPT-2's architecture, parameter for parameter.

Shapes in names: B sequences, T tokens of each, C the width of the residual stream (`d_model`), H
heads, D the width of a head (C / H), V the vocabulary with its padding.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from raygpt.recipe.sections import Model as ModelRecipe

VOCABULARY_MULTIPLE = 64
"""The embedding's rows are padded to a multiple of this, because GPUs then multiply faster."""

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

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        """The attention layer's output, x_BTC -> x_BTC."""
        queries_BHTD, keys_BHTD, values_BHTD = self.heads(x_BTC)
        attended_BHTD = F.scaled_dot_product_attention(
            queries_BHTD,
            keys_BHTD,
            values_BHTD,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,
        )
        attended_BTC = attended_BHTD.transpose(1, 2).reshape(x_BTC.shape)
        return F.dropout(self.projection(attended_BTC), self.dropout, self.training)

    def heads(self, x_BTC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of every head, three tensors _BHTD.

        Attention multiplies them as they are: rotary positions would be applied here.
        """
        batch, time, d_model = x_BTC.shape
        queries_BHTD, keys_BHTD, values_BHTD = (
            part_BTC.view(batch, time, self.n_heads, d_model // self.n_heads).transpose(1, 2)
            for part_BTC in self.qkv(x_BTC).split(d_model, dim=-1)
        )
        return queries_BHTD, keys_BHTD, values_BHTD


class MLP(nn.Module):
    """The position-wise feed-forward layer, four times as wide inside."""

    def __init__(self, recipe: ModelRecipe):
        super().__init__()
        self.dropout = recipe.dropout
        self.expansion = nn.Linear(recipe.d_model, 4 * recipe.d_model)
        self.projection = nn.Linear(4 * recipe.d_model, recipe.d_model)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        """x_BTC -> another x_BTC."""
        hidden = F.gelu(self.expansion(x_BTC), approximate="tanh")
        return F.dropout(self.projection(hidden), self.dropout, self.training)


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, recipe: ModelRecipe):
        super().__init__()
        self.attention_norm = nn.LayerNorm(recipe.d_model, eps=LAYER_NORM_EPSILON)
        self.attention = Attention(recipe)
        self.mlp_norm = nn.LayerNorm(recipe.d_model, eps=LAYER_NORM_EPSILON)
        self.mlp = MLP(recipe)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        """x_BTC -> another x_BTC."""
        x_BTC = x_BTC + self.attention(self.attention_norm(x_BTC))
        return x_BTC + self.mlp(self.mlp_norm(x_BTC))


class GPT(nn.Module):
    """GPT-2 (Radford et al., 2019): learned positions, pre-norm blocks, output tied to input.

    Args:
        recipe: the shape of the model and its dropout probability.
        vocab_size: tokens in the vocabulary; the embedding is padded to a multiple of 64 rows.
        context: the longest sequence in tokens.
    """

    def __init__(self, recipe: ModelRecipe, vocab_size: int, context: int):
        super().__init__()
        self.vocab_size = vocab_size
        self.context = context
        padded_size = math.ceil(vocab_size / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
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
        """GPT-2's initialisation: smaller by depth for the matrices that add to the stream."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                residual = name.endswith("projection.weight")
                std = INITIAL_STD / math.sqrt(2 * n_layers) if residual else INITIAL_STD
                nn.init.normal_(parameter, std=std)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Logits of the next token at every position.

        Args:
            tokens_BT: ids; T is at most the context.

        Returns:
            logits_BTV; those of the padding are -inf.
        """
        x_BTC = self._embedded(tokens_BT)
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x_BTC = checkpoint(block, x_BTC, use_reentrant=False)
            else:
                x_BTC = block(x_BTC)
        return F.linear(self.final_norm(x_BTC), self.token_embedding.weight, self.logit_bias)

    def logits(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """logits_BTV of the next token at every position, as `forward` describes them."""
        return self(tokens_BT)

    def queries_and_keys(
        self, tokens_BT: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """queries_BHTD and keys_BHTD of one layer after the other, for analysis of attention.

        Attention weights are the softmax of queries · keys / √D under the causal mask.
        """
        x_BTC = self._embedded(tokens_BT)
        for block in self.blocks:
            queries_BHTD, keys_BHTD, _ = block.attention.heads(block.attention_norm(x_BTC))
            yield queries_BHTD, keys_BHTD
            x_BTC = block(x_BTC)

    def _embedded(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """The first block's input, x_BTC."""
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        x_BTC = self.token_embedding(tokens_BT) + self.position_embedding(positions_T)
        return F.dropout(x_BTC, self.dropout, self.training)


def summed_loss(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the targets in nats, summed, in float32."""
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="sum")
