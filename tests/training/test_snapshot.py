import torch

from raygpt.training.snapshot import snapshot


def test_a_snapshot_keeps_what_training_changes():
    weight = torch.arange(4.0, requires_grad=True)
    state = {"step": 3, "model": {"weight": weight}, "optimizer": {"groups": [{"lr": 0.1}]}}
    state["optimizer"]["moments"] = [torch.ones(2), None]
    kept = snapshot(state, torch.device("cpu"))
    with torch.no_grad():
        weight.zero_()
    state["optimizer"]["moments"][0].zero_()
    state["optimizer"]["groups"][0]["lr"] = 0.2
    assert kept["step"] == 3
    assert kept["model"]["weight"].tolist() == [0, 1, 2, 3]
    assert not kept["model"]["weight"].requires_grad
    assert kept["optimizer"]["moments"][0].tolist() == [1, 1]
    assert kept["optimizer"]["moments"][1] is None
    assert kept["optimizer"]["groups"] == [{"lr": 0.1}]
