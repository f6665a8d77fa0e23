"""Files with models of a user's own."""

GOOD = """\
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from raygpt.recipe import Count, Model, Number, Switch


@dataclass
class Shape:
    width: int


class Settings(Model):
    base: Number = Field(10_000, gt=0, description="A number.")
    groups: Count = Field("1K", ge=1)
    kind: Literal["relu", "gelu"] = "gelu"
    gated: Switch = False
    ratio: float = 0.5

    @field_validator("ratio")
    @classmethod
    def _ratio(cls, value):
        if value == 0.75:
            raise ValueError("cannot be three quarters")
        return value

    @model_validator(mode="after")
    def _check(self):
        if self.gated and self.kind == "relu":
            raise ValueError("relu cannot be gated")
        return self


class MyGPT(nn.Module):
    Settings = Settings

    def __init__(self, settings: Settings, vocab_size: int, context: int):
        super().__init__()
        self.shape = Shape(settings.d_model)
        self.embedding = nn.Embedding(vocab_size, self.shape.width)
        self.logits = nn.Linear(self.shape.width, vocab_size)
        self.context = "its own"

    def forward(self, tokens):
        return self.logits(self.embedding(tokens))


class Bare(nn.Module):
    def __init__(self, settings, vocab_size, context):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(vocab_size, vocab_size))

    def forward(self, tokens):
        return self.table[tokens]
"""

RECIPE = """\
data: {corpus: sample, tokenizer: bpe-300, context: 16}
model: {module: my_model.py:MyGPT, d_model: 10, base: {loguniform: [10, 1e6]}, gated: true}
training: {tokens: 3K, batch_tokens: 64, learning_rate: 1e-3}
mini:
  model: {d_model: 6, kind: {choice: [relu, gelu]}, gated: false}
"""
