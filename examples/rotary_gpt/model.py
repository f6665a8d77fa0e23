"""A GPT with rotary positions, RMSNorm and no biases, as in LLaMA (Touvron et al., 2023).

raygpt makes RotaryGPT(settings, vocab_size, context) and trains, searches, checkpoints and samples
it. Letters in names of tensors: B sequences, T tokens of each, H heads, D the width of a head,
C the width of the residual stream, V the vocabulary.
"""

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from raygpt.recipe import Model, Number


class Settings(Model):
    """The section `model` of a recipe: raygpt's own keys (d_model, n_layers, …) and these."""

    rotary_base: Number = Field(
        10_000, gt=1, description="Tokens in which the slowest pair turns by about one radian."
    )
    mlp_ratio: Number = Field(4.0, gt=0, description="Width of the MLP, as a multiple of d_model.")

    @model_validator(mode="after")
    def _heads_have_pairs(self):
        # The ranges of a search are checked with this before it starts.
        if self.d_model % (2 * self.n_heads):
            raise ValueError(
                f"d_model {self.d_model} is not divisible by twice n_heads {self.n_heads}: rotary "
                f"positions turn pairs of a head's features"
            )
        return self


def rotate(x_BHTD: torch.Tensor, base: float) -> torch.Tensor:
    """Turn pairs of features by angles that grow with the position (Su et al., 2021).

    The product of a query and a key then depends on how far apart they are, not on where: no
    position is learned. Pair i turns by position / base^(2i/D), from one radian a token down to
    almost none.
    """
    time, width = x_BHTD.shape[-2:]
    positions = torch.arange(time, device=x_BHTD.device, dtype=torch.float32)
    pairs = torch.arange(0, width, 2, device=x_BHTD.device, dtype=torch.float32)
    angles = torch.outer(positions, base ** (-pairs / width))
    # In float32, because bf16 has too few digits for the angles of late positions.
    cos, sin = angles.cos(), angles.sin()
    first, second = x_BHTD.float().chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.to(x_BHTD.dtype)


class Block(nn.Module):
    """Attention and MLP, each after a norm and added to the residual stream."""

    def __init__(self, settings: Settings):
        super().__init__()
        width, hidden = settings.d_model, round(settings.mlp_ratio * settings.d_model)
        self.n_heads, self.base = settings.n_heads, settings.rotary_base
        self.dropout = settings.dropout
        # RMSNorm divides by the root mean square and subtracts no mean (Zhang and Sennrich, 2019).
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        x_BTC = x_BTC + self._dropped(self.attention_out(self._attend(self.attention_norm(x_BTC))))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x_BTC)))
        return x_BTC + self._dropped(self.mlp_out(hidden))

    def _attend(self, x_BTC: torch.Tensor) -> torch.Tensor:
        queries, keys, values = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # BTC to BHTD
            for part in self.qkv(x_BTC).chunk(3, dim=-1)
        )
        attended_BHTD = F.scaled_dot_product_attention(
            rotate(queries, self.base),
            rotate(keys, self.base),
            values,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,  # no position sees a later one
        )
        return attended_BHTD.transpose(1, 2).flatten(2)

    def _dropped(self, x_BTC: torch.Tensor) -> torch.Tensor:
        return F.dropout(x_BTC, self.dropout, self.training)


class RotaryGPT(nn.Module):
    """Maps ids of shape (batch, time) to logits of shape (batch, time, vocabulary)."""

    Settings = Settings  # raygpt checks the recipe's section `model` with it

    def __init__(self, settings: Settings, vocab_size: int, context: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, settings.d_model)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.n_layers))
        self.norm = nn.RMSNorm(settings.d_model)
        # Weights are drawn from torch's generator, which raygpt has seeded with training.seed.
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # The more layers add to the residual stream, the smaller they start.
                depth = 2 * settings.n_layers if name.endswith("_out.weight") else 1
                nn.init.normal_(parameter, std=0.02 / depth**0.5)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        x_BTC = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return F.linear(self.norm(x_BTC), self.embedding.weight)  # output tied to input
