import pytest
import torch
from torch import nn

from raygpt.training.average import averaged


def test_the_average_is_over_about_the_last_tenth_of_the_steps():
    model = nn.Linear(1, 1, bias=False)
    average = averaged(model)
    for step in range(1, 1001):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update_parameters(model)
    # Step n weighs as (n / 1000) ** 9, and the mean of that lies an eleventh from the end.
    assert average.module.weight.item() == pytest.approx(1000 * 10 / 11, rel=2e-3)
    assert model.weight.item() == 1000


def test_the_first_ten_steps_are_the_last_weights():
    model = nn.Linear(1, 1, bias=False)
    average = averaged(model)
    for step in range(1, 11):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update_parameters(model)
        assert average.module.weight.item() == step
