import numpy as np
import pytest

from raygpt.analysis.importance import describe_importance, importance, importance_bars
from raygpt.analysis.run import load_results
from raygpt.errors import UserError


def test_the_most_important_value_comes_first_and_is_called_real(hundred):
    found = importance(hundred, hundred.ranges)
    assert list(found["name"][:2]) == ["training.learning_rate", "model.dropout"]
    assert found["real"].iloc[0]
    # It hardly changes the objective.
    assert not found.set_index("name")["real"]["training.weight_decay"]
    assert found["importance"].sum() == pytest.approx(1)
    assert (found["low"] <= found["high"]).all()
    # Stopped trials are used, as trials that are not among the best; failed ones are not.
    ended = hundred.trials["status"].isin(["completed", "stopped", "diverged"]).sum()
    assert found.attrs == {"trials": ended, "best": 10}
    assert "learning rate" in describe_importance(found).partition(" stand")[0]


def test_noise_is_hardly_ever_called_real(made_search, monkeypatch):
    monkeypatch.setattr("raygpt.analysis.importance.REPEATS", 20)  # of which 95% are 19
    run = load_results(made_search(30).folder)
    random = np.random.default_rng(0)
    calls = 0
    for _ in range(8):
        trials = run.trials.copy()
        names = list(run.ranges)
        trials[names] = trials[names].to_numpy()[random.permutation(len(trials))]
        shuffled = type(run)(run.folder, trials, run.history)
        calls += importance(shuffled, run.ranges)["real"].any()
    # Of 8, each with a chance of 5%: that it is 3 or more has one of 0.6%.
    assert calls <= 2


def test_importance_is_reproducible(hundred):
    first, second = (importance(hundred, hundred.ranges) for _ in range(2))
    assert first.equals(second)


def test_bars_that_chance_explains_are_grey(hundred):
    found = importance(hundred, hundred.ranges)
    bars = importance_bars(found).data[0]
    grey = {name for name, colour in zip(bars.y, bars.marker.color, strict=True) if "8e" in colour}
    assert grey == {
        name.rpartition(".")[2].replace("_", " ") for name in found.loc[~found["real"], "name"]
    }


def test_too_few_trials_are_an_error(made_search):
    run = load_results(made_search(6).folder)
    with pytest.raises(UserError, match=r"too few trials.*6 have ended"):
        run.plot_importance()
