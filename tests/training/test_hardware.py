import platform
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from raygpt.training.hardware import autocast, default_device, seed_generators, supports_bf16

CPU = torch.device("cpu")


def product_dtype(precision):
    matrix = torch.ones(4, 4)
    with autocast(CPU, precision):
        return (matrix @ matrix).dtype


def test_the_default_device_is_a_gpu_where_there_is_one():
    assert default_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="reads Linux's x86 flags"
)
def test_bf16_support_matches_the_cpus_flags():
    flags = Path("/proc/cpuinfo").read_text().split()
    assert supports_bf16(CPU) == bool({"avx512_bf16", "amx_bf16"} & set(flags))


def test_the_precision_decides_what_products_are_computed_in():
    assert product_dtype("bf16") == torch.bfloat16
    assert product_dtype("fp32") == torch.float32
    assert product_dtype("auto") == (torch.bfloat16 if supports_bf16(CPU) else torch.float32)


def test_an_autocast_context_can_be_entered_again():
    context = autocast(CPU, "bf16")
    matrix = torch.ones(4, 4)
    for _ in range(2):
        with context:
            assert (matrix @ matrix).dtype == torch.bfloat16
        assert (matrix @ matrix).dtype == torch.float32


@pytest.mark.parametrize("kind", ["weights", "dropout", "attention dropout"])
def test_the_seed_decides_every_draw_of_the_cpu(kind):
    x = torch.ones(1, 1, 8, 8)

    def draw(seed):
        seed_generators(CPU, seed)
        if kind == "weights":
            return torch.nn.init.normal_(torch.empty(8, 8))
        if kind == "dropout":
            return torch.stack([F.dropout(x, 0.5) for _ in range(2)])
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    assert torch.equal(draw(2**62 + 1), draw(2**62 + 1))
    assert not torch.equal(draw(1), draw(2))


def test_draws_after_one_seed_differ_from_each_other():
    seed_generators(CPU, 1)
    x = torch.ones(100)
    assert not torch.equal(F.dropout(x, 0.5), F.dropout(x, 0.5))
