import json
import pickle

from raygpt.recipe.schema import Recipe
from raygpt.search.cluster import Placement
from raygpt.search.preparation import PreparedTokens
from raygpt.search.trial import signs_of_life, trainable, trial_config

TOKENS = PreparedTokens("/cache/0123", "node", None, train_tokens=1000, validation_tokens=100)


def test_the_configuration_of_a_trial_is_plain_values(search_file):
    values = {"model.dropout": 0.125, "training.learning_rate": 3e-3}
    recipe = search_file.recipe(values)
    config = trial_config(
        "0007",
        recipe,
        Placement(2, 1.5, 0.25),
        "/runs/x/trials",
        "/runs/c",
        values,
        confirms="0001",
    )
    for copy in (json.loads(json.dumps(config)), pickle.loads(pickle.dumps(config))):
        assert copy == config
        assert Recipe.model_validate_json(copy["recipe"]) == recipe
    del config["recipe"]
    assert config == {
        "trial": "0007",
        "workers": 2,
        "cpus": 1.5,
        "gpus": 0.25,
        "storage": "/runs/x/trials",
        "checkpoint": "/runs/c",
        "values": values,
        "baseline": False,
        "confirms": "0001",
    }


def test_tune_reserves_the_resources_of_one_worker():
    resources = trainable(Placement(1, 2, 0.5), TOKENS)._resources
    assert resources.required_resources == {"CPU": 2, "GPU": 0.5}


def test_the_driver_of_a_worker_group_takes_no_cpu_from_it():
    resources = trainable(Placement(4, 2, 1), TOKENS)._resources
    assert resources.required_resources.keys().isdisjoint({"CPU", "GPU"})


def test_signs_of_life_become_rarer():
    signs = []
    after_step = signs_of_life(signs.append)
    assert signs == [{"alive": 0}]
    for _ in range(300):
        after_step()
    assert [sign["alive"] for sign in signs] == [0, 1, 4, 16, 64, 256]
