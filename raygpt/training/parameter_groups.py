"""How a model's parameters are grouped, and how each group trains.

This is the one place that decides weight decay and the learning rate of each kind of parameter,
whatever the optimizer.
"""

from collections import Counter
from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The groups of a torch optimizer, which hold every trainable parameter once.

    | key | meaning |
    |---|---|
    | name | "matrices" (the weights of linear layers), or "others": embeddings, norms and biases |
    | params | the parameters, in the order of the model |
    | weight_decay | of the group |
    | rate_multiple | what the learning rate of the schedule is multiplied by for the group |

    Only matrices decay. Decay pulls weights to zero, which is not a sensible prior for a norm's
    gain or for the embedding of a rare token.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices, others = [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            is_matrix = parameter.dim() >= 2 and id(parameter) not in embeddings
            (matrices if is_matrix else others).append(parameter)
    groups = [
        {"name": "matrices", "params": matrices, "weight_decay": weight_decay},
        {"name": "others", "params": others, "weight_decay": 0.0},
    ]
    groups = [group | {"rate_multiple": 1.0} for group in groups]
    assert_complete(groups, model)
    return groups


def assert_complete(groups: list[dict[str, Any]], model: nn.Module) -> None:
    """AssertionError unless every trainable parameter of a model is in exactly one group."""
    counts = Counter(id(parameter) for group in groups for parameter in group["params"])
    trainable = {
        id(parameter): name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    missing = [name for key, name in trainable.items() if not counts[key]]
    assert not missing, f"in no parameter group: {', '.join(missing)}"
    repeated = [name for key, name in trainable.items() if counts[key] > 1]
    assert not repeated, f"in several parameter groups: {', '.join(repeated)}"
    assert counts.keys() <= trainable.keys(), (
        "a parameter group holds what the model does not train"
    )


def set_learning_rate(groups: list[dict[str, Any]], rate: float) -> None:
    """Set the rate of every group of an optimizer, given the schedule's."""
    for group in groups:
        group["lr"] = rate * group["rate_multiple"]
