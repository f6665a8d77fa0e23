import json
import pickle
import time
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from raygpt.recipe import budget
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.errors import RecipeError
from raygpt.recipe.fields import GPT_SCHEMA
from raygpt.recipe.ranges import Choice, LogUniform, Uniform
from raygpt.recipe.search_file import load_search_file

SHIPPED = sorted(Path(__file__).parents[2].glob("search_spaces/*.yaml"))

SEARCH = """\
data: {corpus: sample}
model:
  dropout: {uniform: [0.0, 0.2]}
training:
  tokens: 300M
  learning_rate: {loguniform: [2e-4, 4e-3]}
  batch_tokens: {choice: [128K, 256K]}
search: {trials: 8}
mini:
  model: {d_model: 64, n_heads: 4}
  training: {tokens: 1M, batch_tokens: 4K}
"""


@pytest.fixture
def search(written):
    return written(SEARCH, "my search.yaml")


def refused(path, *args):
    """The lines of the one error that a file gives."""
    with pytest.raises(RecipeError) as error:
        load_search_file(path, *args)
    return str(error.value).splitlines()


def test_ranges_and_fixed_settings(search):
    found = load_search_file(search)
    assert found.name == "my-search"
    assert found.ranges == {
        "model.dropout": Uniform(0.0, 0.2),
        "training.batch_tokens": Choice((128_000, 256_000)),
        "training.learning_rate": LogUniform(2e-4, 4e-3),
    }
    assert found.data.corpus == "sample"
    assert (found.search.trials, found.search.sampler) == (8, "tpe")
    assert set(found.ranges) | set(found.fixed) == set(GPT_SCHEMA.fields)
    assert not set(found.ranges) & set(found.fixed)


def test_the_order_of_ranges_does_not_depend_on_the_file(written):
    one = written(
        "training: {tokens: 3G, learning_rate: 1, warmup: {uniform: [0, 0.1]}, "
        "hold: {uniform: [0, 1]}}\nmodel: {dropout: {uniform: [0, 0.1]}}",
        "one.yaml",
    )
    assert list(load_search_file(one).ranges) == [
        "model.dropout",
        "training.warmup",
        "training.hold",
    ]


def test_mini_replaces_key_by_key(search):
    mini = load_search_file(search, "mini")
    assert list(mini.ranges) == ["model.dropout", "training.learning_rate"]
    assert mini.fixed["training.tokens"] == 1_000_000
    assert mini.fixed["training.batch_tokens"] == 4_000
    assert mini.fixed["model.d_model"] == 64
    assert mini.fixed["model.n_layers"] == 12
    assert mini.search.trials == 8


def test_a_range_of_mini_replaces_a_whole_range(written):
    path = written(SEARCH.replace("{d_model: 64, n_heads: 4}", "{dropout: {choice: [0, 0.1]}}"))
    assert load_search_file(path, "mini").ranges["model.dropout"] == Choice((0.0, 0.1))
    assert load_search_file(path).ranges["model.dropout"] == Uniform(0.0, 0.2)


def test_a_file_without_mini_is_the_same_at_both_scales(written):
    path = written("training: {tokens: 3G, learning_rate: 1}")
    assert load_search_file(path, "mini") == load_search_file(path, "full")


def test_overrides_come_last(search):
    found = load_search_file(
        search,
        "mini",
        ["training.tokens=2M", "training.hold={uniform: [0, 0.5]}", "model.dropout=0.1", "name=n"],
    )
    assert found.fixed["training.tokens"] == 2_000_000
    assert found.fixed["model.dropout"] == 0.1
    assert list(found.ranges) == ["training.learning_rate", "training.hold"]
    assert found.name == "n"


def test_an_override_can_give_what_the_file_lacks(written):
    path = written("training: {tokens: 3G}")
    assert refused(path) == [
        f"{path}: training.learning_rate: is missing; every recipe needs it: Peak learning rate."
    ]
    found = load_search_file(path, overrides=["training.learning_rate=1e-3"])
    assert found.single_recipe().training.tokens == 3 * 10**9


def test_recipe_takes_a_value_for_every_range(search):
    found = load_search_file(search)
    values = {
        "model.dropout": 0.1,
        "training.learning_rate": 1e-3,
        "training.batch_tokens": 128_000.0,
    }
    recipe = found.recipe(values)
    assert recipe.model.dropout == 0.1
    assert recipe.training.learning_rate == 1e-3
    assert recipe.training.batch_tokens == 128_000
    assert recipe.search == found.search
    with pytest.raises(RecipeError, match=r"training\.learning_rate: is a range and needs a value"):
        found.recipe({"model.dropout": 0.1, "training.batch_tokens": "128K"})
    with pytest.raises(RecipeError, match=r'model\.dropuot.*did you mean "model\.dropout"'):
        found.recipe({**values, "model.dropuot": 0.1})
    with pytest.raises(RecipeError, match=r"model.dropout: must be .* below 1 \(given 3\)"):
        found.recipe({**values, "model.dropout": 3})
    with pytest.raises(RecipeError, match="less than one sequence"):
        found.recipe({**values, "training.batch_tokens": 100})


def test_the_first_values_of_a_search(search):
    assert load_search_file(search).start_values() == {
        "model.dropout": 0.1,
        "training.batch_tokens": 256_000,
        "training.learning_rate": 0.0008944,
    }
    rate = "training.learning_rate={loguniform: [2e-4, 4e-3], start: 6e-4}"
    found = load_search_file(search, "mini", [rate])
    assert found.start_values() == {"model.dropout": 0.1, "training.learning_rate": 6e-4}
    assert found.baseline().training.learning_rate == 6e-4


def test_a_search_must_be_able_to_start(written):
    # All combinations of the ends are valid, only the start is not.
    path = written(
        "training: {tokens: 300M, learning_rate: 1}\n"
        "model: {d_model: {int: [300, 600], start: 301}, n_heads: {choice: [1, 2]}}\n"
    )
    assert load_search_file(path).start_values() == {"model.d_model": 301, "model.n_heads": 1}
    (line,) = refused(path, "full", ["model.n_heads={choice: [1, 2], start: 2}"])
    assert "d_model 301 is not divisible by n_heads 2" in line


def test_recipe_takes_numpy_scalars(search):
    numpy = pytest.importorskip("numpy")
    recipe = load_search_file(search, overrides=["model.compile={choice: [true, false]}"]).recipe(
        {
            "model.dropout": numpy.float64(0.1),
            "model.compile": numpy.bool_(True),
            "training.learning_rate": numpy.float32(0.5),
            "training.batch_tokens": numpy.int64(128_000),
        }
    )
    assert recipe.model.compile is True
    assert type(recipe.training.learning_rate) is float
    assert type(recipe.training.batch_tokens) is int


@pytest.mark.parametrize("scale", ["full", "mini"])
def test_a_written_search_loads_equal(search, written, scale):
    found = load_search_file(search, scale, ["training.warmup=0.003", "search.rungs=[1/3, 1]"])
    resolved = written(found.to_yaml(), "resolved.yaml")
    assert load_search_file(resolved) == found
    assert load_search_file(resolved, "mini") == found
    assert load_search_file(resolved).to_yaml() == found.to_yaml()
    assert load_search_file(search, scale) != found


def test_a_search_travels_between_processes(search):
    found = load_search_file(search)
    assert pickle.loads(pickle.dumps(found)) == found


def test_seeds_of_one_recipe_are_never_stopped(search, written):
    assert load_search_file(search).search.stops_trials
    fixed = ["model.dropout=0", "training.learning_rate=1e-3", "search.scheduler=asha"]
    found = load_search_file(search, "mini", fixed)
    assert found.fixed["search.scheduler"] == "fifo"
    assert not found.search.stops_trials
    assert not found.single_recipe().search.stops_trials
    kept = found.to_yaml().replace("scheduler: fifo", "scheduler: asha")
    assert load_search_file(written(kept)) == found


def test_one_recipe_has_no_ranges(search):
    with pytest.raises(RecipeError, match="--set") as error:
        load_search_file(search, "mini").single_recipe()
    assert str(error.value).splitlines()[1:] == [
        "  --set model.dropout=VALUE for {uniform: [0.0, 0.2]}",
        "  --set training.learning_rate=VALUE for {loguniform: [0.0002, 0.004]}",
    ]
    found = load_search_file(search, "mini", ["model.dropout=0", "training.learning_rate=1e-3"])
    assert found.single_recipe().model.dropout == 0.0


# Each mistake is alone on line 4; the first three lines are correct.
MISTAKES = [
    ("training: {weight_dcay: 0.1}", "training.weight_dcay", "0.1", 'did you mean "weight_decay"'),
    ("trainin: {hold: 0}", "trainin", "{hold: 0}", 'did you mean "training"'),
    ("model: {learning_rate: 1e-3}", "model.learning_rate", "1e-3", '"training.learning_rate"'),
    ("data: {tokens: 5M}", "data.tokens", "5M", '"training.tokens"'),
    ("dropout: 0.1", "dropout", "0.1", '"model.dropout"'),
    ("model: 768", "model", "768", "a mapping of keys"),
    ("model: {d_modle: 64}", "model.d_modle", "64", 'did you mean "d_model"'),
    ("model: {d_model: 770}", "model.d_model", "770", "not divisible by n_heads 8"),
    ("model: {d_model: wide}", "model.d_model", "wide", "whole number"),
    ("model: {d_model: true}", "model.d_model", "true", "whole number"),
    ("model: {dropout: 1.5}", "model.dropout", "1.5", "at least 0 and below 1"),
    ("model: {dropout: }", "model.dropout", "nothing", "must be a number"),
    ("model: {compile: yes}", "model.compile", "yes", "true or false"),
    ("model: {dropout: {unifrm: [0, 1]}}", "model.dropout", "{unifrm: [0, 1]}", '"uniform"'),
    ("model: {dropout: {uniform: [0, 2]}}", "model.dropout", "{uniform: [0, 2]}", "2.0 is not"),
    ("model: {n_heads: {int: [4, 6]}}", "model.n_heads", "{int: [4, 6]}", "n_heads 5"),
    ("search: {sampler: tpee}", "search.sampler", "tpee", 'did you mean "tpe"'),
    ("search: {scheduler: ahsa}", "search.scheduler", "ahsa", 'did you mean "asha"'),
    ("search: {trials: {int: [1, 2]}}", "search.trials", "{int: [1, 2]}", "not be comparable"),
    ("search: {trials: 0}", "search.trials", "0", "at least 1"),
    ("search: {rungs: [1/9, 1/3]}", "search.rungs", "[1/9, 1/3]", "exactly 1"),
    ("search: {rungs: [1/200, 1]}", "search.rungs", "[1/200, 1]", "warmup 0.01 lasts longer"),
    ("search: {rungs: [0.5, 0.5001, 1]}", "search.rungs", "[0.5, 0.5001, 1]", "same optimizer"),
    ("search: {gpus_per_worker: 1.5}", "search.gpus_per_worker", "1.5", "whole number of GPUs"),
    ("data: {context: {choice: [8, 16]}}", "data.context", "{choice: [8, 16]}", "comparable"),
    ("data: {context: 1M}", "data.context", "1M", "batch_tokens 256000 is less than one"),
    ("data: {corpus: wikipdia}", "data.corpus", "wikipdia", 'did you mean "wikipedia"'),
    ("data: {tokenizer: gpt-2}", "data.tokenizer", "gpt-2", 'did you mean "gpt2"'),
    ("data: {tokenizer: bpe-100}", "data.tokenizer", "bpe-100", "258 to 65536"),
    ("name: a/b", "name", "a/b", "letters, digits"),
    ("mini: {training: {tokns: 1M}}", "mini.training.tokns", "1M", 'did you mean "tokens"'),
    ("mini: {model: {n_heads: 7}}", "mini.model.n_heads", "7", "not divisible"),
    ("mini: {model: {dropout: 2}}", "mini.model.dropout", "2", "below 1"),
    ("mini: {mini: {}}", "mini.mini", "{}", "allowed here: name, data, model"),
    ("mini: 3", "mini", "3", "a mapping of keys"),
    ("x: !!python/object:os.system y", "x", "", "tag !!python/object:os.system is refused"),
]


@pytest.mark.parametrize(("mistake", "key", "given", "hint"), MISTAKES, ids=lambda part: None)
def test_every_mistake_says_where_and_what(written, mistake, key, given, hint):
    good = "training: {tokens: 300M, learning_rate: 6e-4}\n"
    if mistake.startswith("training: {"):
        good = good.replace("{", "{" + mistake.removeprefix("training: {").rstrip("}") + ", ")
        path = written(f"\n\n\n{good}")
    else:
        path = written(f"\n{good}\n{mistake}\n")
    (line,) = refused(path)
    assert line.startswith(f"{path}, line 4: {key}: ")
    if given:
        assert f"(given {given})" in line
    assert hint in line
    assert refused(path, "mini") == [line]


def test_all_problems_are_found_in_one_go(written):
    path = written(
        "training:\n  tokens: 3X\n  learning_rate: -1\n  hodl: 0.5\nmodel: {dropout: 2}\n"
        "mini:\n  search: {trials: 0}\n"
    )
    lines = refused(path, "full", ["search.seed=-1", "training.wramup=0"])
    places = [line.split(": ")[0] for line in lines]
    assert sorted(places) == sorted(
        [f"{path}, line {n}" for n in (2, 3, 4, 5, 7)]
        + ["--set search.seed=-1", "--set training.wramup=0"]
    )


def test_an_override_is_named_where_it_is_the_cause(search):
    (line,) = refused(search, "full", ["training.warmup=0.4"])
    assert line.startswith("--set training.warmup=0.4: training.warmup: warmup 0.4 lasts longer")
    (line,) = refused(search, "full", ["model.n_heads=7"])
    assert line.startswith("--set model.n_heads=7: model.n_heads: d_model 768 is not divisible")


def test_ranges_that_can_meet_in_an_impossible_recipe_are_refused(written):
    path = written(
        "training: {tokens: 300M, learning_rate: 1}\nmodel:\n"
        "  d_model: {choice: [64, 96, 128]}\n  n_heads: {choice: [2, 4, 32, 64]}\n"
    )
    (line,) = refused(path)
    assert line.startswith(f"{path}, line 3: model.d_model: d_model 96 is not divisible by n_heads")
    path = written("training: {tokens: 300M, learning_rate: 1, warmup: {uniform: [0, 0.4]}}\n")
    (line,) = refused(path)
    assert "warmup 0.4 lasts longer than the lowest rung 1/3" in line


def test_checking_combinations_is_bounded(written):
    layers = "{int: [1, 100]}"
    path = written(
        "training: {tokens: 300M, learning_rate: 1, batch_tokens: {int: [1000, 1099]}, "
        f"seed: {layers}, micro_batch: {layers}}}\nmodel: {{n_layers: {layers}}}\n"
    )
    began = time.perf_counter()
    load_search_file(path)
    assert time.perf_counter() - began < 30


def test_an_unknown_scale(search):
    assert refused(search, "mni") == [
        '--scale: there is no scale "mni"; did you mean "mini"? Allowed here: full, mini'
    ]


@pytest.mark.parametrize("scale", ["full", "mini"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files(path, scale, written):
    found = load_search_file(path, scale)
    assert found.name == path.stem
    assert path.read_text().startswith("# ")
    assert load_search_file(written(found.to_yaml()), scale) == found
    recipe = found.recipe({key: r.extremes()[0] for key, r in found.ranges.items()})
    assert budget.steps(recipe) == {"full": 1172, "mini": 2344}[scale]


@pytest.mark.parametrize("scale", ["full", "mini"])
def test_shipped_searches_start_from_the_baseline(scale):
    baseline = load_search_file(SHIPPED[0], scale).single_recipe()
    assert baseline.name == "baseline"
    for path in SHIPPED[1:]:
        found = load_search_file(path, scale)
        recipe = found.baseline()
        assert (recipe.data, recipe.model) == (baseline.data, baseline.model)
        assert recipe.training == baseline.training
        for value in found.ranges.values():
            assert value.start is not None


def test_each_shipped_file_searches_more_values():
    searched = {path.stem: list(load_search_file(path).ranges) for path in SHIPPED}
    assert searched == {
        "baseline": [],
        "dropout_weight_decay": ["model.dropout", "training.weight_decay"],
        "lr_sched": [
            "model.dropout",
            "training.learning_rate",
            "training.weight_decay",
            "training.warmup",
            "training.hold",
        ],
        "weight_decay_warmup": ["training.weight_decay", "training.warmup"],
    }


def test_the_largest_budget_is_an_upper_bound(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "data: {context: 100}\n"
        "training: {tokens: 400K, learning_rate: 1e-3, batch_tokens: {int: [1K, 300K]}}\n"
        "search: {rungs: [1]}\n"
    )
    found = load_search_file(path)
    budgets = [
        budget_tokens(found.recipe({"training.batch_tokens": tokens}))
        for tokens in range(1000, 300_001, 997)
    ]
    assert 400_000 < max(budgets) <= found.largest_budget() <= 700_000


BETAS = "training: {tokens: 300M, learning_rate: 1e-3, betas: [0.8, 0.99]}\n"


def betas_of(found):
    training = found.single_recipe().training
    return training.beta1, training.beta2


def test_older_files_have_betas(written):
    path = written(BETAS + "mini: {training: {beta2: 0.9}}\n")
    assert betas_of(load_search_file(path)) == (0.8, 0.99)
    assert betas_of(load_search_file(path, "mini")) == (0.8, 0.9)
    assert betas_of(load_search_file(path, "mini", ["training.betas=[0.5, 0.6]"])) == (0.5, 0.6)
    path = written(BETAS.replace("betas: [0.8, 0.99]", "beta1: 0.7") + "mini:\n  " + BETAS)
    assert betas_of(load_search_file(path)) == (0.7, 0.95)
    assert betas_of(load_search_file(path, "mini")) == (0.8, 0.99)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ("betas: 0.9", "must be two numbers (given 0.9); write them apart, as beta1: 0.9"),
        ("betas: {choice: [[0.9, 0.95]]}", "must be two numbers"),
        ("betas: [0.9, 1]", "must be at least 0 and below 1 (given 1)"),
        (
            "betas: [0.9, 0.95], beta1: 0.9",
            "is the old form of beta1 and beta2 (given [0.9, 0.95])",
        ),
    ],
)
def test_betas_refused(written, betas, message):
    path = written(BETAS.replace("betas: [0.8, 0.99]", betas))
    (line,) = refused(path)
    assert line.startswith(f"{path}, line 1: training.betas: {message}")
    good = written(BETAS.replace(", betas: [0.8, 0.99]", ""), "good.yaml")
    overrides = ["training." + betas.replace(": ", "=", 1)]
    if "beta1" not in betas:
        (line,) = refused(good, "full", overrides)
        assert line.startswith(
            f"--set {overrides[0]}: training.betas: {message.partition(' (')[0]}"
        )


def test_the_search_of_a_run_of_the_last_release_is_read():
    """It has `betas`, and was written before some settings existed."""
    path = Path(__file__).parent / "last_release.yaml"
    assert "betas: [0.9, 0.95]" in path.read_text()
    found = load_search_file(path)
    assert (found.fixed["training.beta1"], found.fixed["training.beta2"]) == (0.9, 0.95)
    assert load_search_file(path) == found
    assert found.recipe(found.start_values()).training.hold == 0.0


def two_values(field):
    """Two values that a setting can have."""
    if field.annotation is bool:
        return [True, False]
    if get_origin(field.annotation) is Literal:
        return list(get_args(field.annotation)[-2:])
    return [8, 16] if field.annotation is int else [0.25, 0.5]


def ranges_over(field):
    """One range of each kind over them."""
    values = two_values(field)
    kinds = [{"choice": values}]
    if field.annotation is int:
        kinds += [{"int": values}, {"int": values, "step": 8}, {"int": values, "log": True}]
    if field.annotation is float:
        kinds += [{"uniform": values}, {"uniform": values, "step": 0.25}, {"loguniform": values}]
    return kinds


# The budget, which all trials share, and settings that do not affect training.
NEVER_RANGES = {"tokens", "report_every", "checkpoint_every", "module"}


@pytest.mark.parametrize(
    "key",
    [
        key
        for key in GPT_SCHEMA.fields
        if key.startswith(("model.", "training.")) and key.split(".")[1] not in NEVER_RANGES
    ],
)
def test_every_value_that_decides_training_can_be_searched(written, key):
    optuna = pytest.importorskip("optuna")
    section, name = key.split(".")
    path = written(
        "data: {context: 8}\nmodel: {d_model: 720720, n_heads: 1}\nsearch: {rungs: [1]}\n"
        "training: {tokens: 300M, learning_rate: 1e-3, batch_tokens: 8}\n"
    )
    for given in ranges_over(GPT_SCHEMA.fields[key]):
        found = load_search_file(path, overrides=[f"{key}={json.dumps(given)}"])
        assert list(found.ranges) == [key]
        for value in two_values(GPT_SCHEMA.fields[key]):
            trial = optuna.trial.FixedTrial({key: value})
            recipe = found.recipe({key: found.ranges[key].suggest(trial, key)})
            assert getattr(getattr(recipe, section), name) == value


def test_a_proposed_value_pasted_into_a_recipe_gives_the_same_run(search):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = load_search_file(
        search,
        "mini",
        [
            "training.hold={uniform: [0, 0.9], step: 0.1}",
            "training.weight_decay={loguniform: [1e-3, 1]}",
            "training.beta2={uniform: [0.9, 0.999]}",
            "model.n_layers={int: [1, 4]}",
        ],
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        values = {key: spec.suggest(trial, key) for key, spec in found.ranges.items()}
        pasted = [f"{key}={value:.6g}" for key, value in values.items()]
        again = load_search_file(search, "mini", pasted).single_recipe()
        proposed = found.recipe(values)
        assert (again.model, again.training) == (proposed.model, proposed.training)
