"""Checkpoints of older versions, and which recipe a checkpoint belongs to.

`data/older` holds a checkpoint that commit 7836aff wrote in the second cooldown of the recipe below
(whose beta1 and beta2 were one setting, betas), and all reports of the run that it belongs to.
"""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from raygpt.data.dataset import TokenStream
from raygpt.data.tokenizer import train_tokenizer
from raygpt.errors import UserError
from raygpt.recipe.schema import Recipe
from raygpt.results.files import CHECKPOINT_FILE
from raygpt.training import identity as identity_module
from raygpt.training.checkpoint import load_model, read_state, write_state
from raygpt.training.identity import differences, identity, read_recipe
from raygpt.training.loop import TrainingRun

OLDER = Path(__file__).with_name("data") / "older"
TIMINGS = ("seconds", "tokens_per_second")


def recipe(search=None, **training):
    """18 steps, rungs at 6 and 12 with cooldowns from 4 and 7."""
    return Recipe(
        name="seeds",
        data={"corpus": "sample", "tokenizer": "bpe-258", "context": 8, "validation_tokens": 160},
        model={"d_model": 4, "n_layers": 1, "n_heads": 1, "dropout": 0.1},
        training={
            "tokens": 18 * 32,
            "batch_tokens": 32,
            "micro_batch": 4,
            "learning_rate": 1e-2,
            "beta1": 0.85,
            "beta2": 0.96,
            "hold": 0.5,
            "warmup": 0.1,
            "report_every": "1/6",
            "precision": "fp32",
        }
        | training,
        search={"rungs": ["1/3", "2/3", 1]} | (search or {}),
    )


@pytest.fixture(scope="module")
def tokens():
    """The dataset of the older run."""

    def stream(count, divisor):
        return TokenStream([(np.arange(count) ** 2 // divisor % 258).astype(np.uint16)])

    return SimpleNamespace(
        vocab_size=258,
        token_bytes=np.array([1] * 257 + [0]),
        train=stream(600, 5),
        validation=stream(200, 3),
        folder=Path("/cache/0123456789abcdef"),
        tokenizer=train_tokenizer("bpe-258", ["the cat sat on the mat"]),
        provenance=lambda: {"corpus": "sample", "fingerprint": "0123456789abcdef"},
    )


@pytest.fixture(params=["with origin", "without origin"])
def older(request, tmp_path):
    """The folder of the older checkpoint."""
    content = gzip.decompress((OLDER / "checkpoint.pt.gz").read_bytes())
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    if request.param == "without origin":
        state = read_state(tmp_path)
        del state["origin"]
        write_state(tmp_path, state)
    return tmp_path


def figures(report):
    return {name: value for name, value in report.metrics().items() if name not in TIMINGS}


def test_an_older_checkpoint_is_resumed_where_it_was_with_the_same_figures(older, tokens):
    expected = json.loads((OLDER / "reports.json").read_text())
    run = TrainingRun(recipe(), tokens)
    run.load(older)
    assert (run.step, run.segment, run.steps_trained) == (8, 3, 10)
    reports = [figures(report) for report in run.reports()]
    assert [report["tokens"] // 32 for report in reports] == [9, 12, 9, 12, 15, 18]
    for report, before in zip(reports, expected[3:], strict=True):
        assert report == pytest.approx(before, rel=1e-5)


def test_a_run_in_a_cooldown_that_is_no_longer_planned_resumes_from_the_state_before_it(
    older, tokens
):
    """Seeds of one recipe are never stopped, so they are judged in the middle of their run."""
    expected = json.loads((OLDER / "reports.json").read_text())
    unstopped = recipe({"scheduler": "fifo"})
    run = TrainingRun(unstopped, tokens)
    run.load(older)
    # The cooldown began at step 7; its one step counts as trained nevertheless.
    assert (run.step, run.segment, run.steps_trained) == (7, 1, 10)
    reports = [figures(report) for report in run.reports()]
    assert [(r["tokens"] // 32, r.get("rung"), r["cooldown"]) for r in reports] == [
        (9, None, False),
        (12, 1, False),
        (15, None, False),
        (18, 2, False),
    ]
    assert [report["tokens_trained"] // 32 for report in reports] == [12, 15, 18, 21]
    # The trunk continues exactly as it did with the cooldown.
    at = {r["tokens"]: r for r in expected if not r["cooldown"]}
    for report in reports:
        for name in ("train_bits_per_token", "gradient_norm", "learning_rate"):
            assert report[name] == pytest.approx(at[report["tokens"]][name], rel=1e-5), name
    assert reports[-1]["bits_per_byte"] == pytest.approx(expected[-1]["bits_per_byte"], rel=1e-5)


def test_a_run_on_its_trunk_is_found_by_its_step_in_another_plan(tokens, tmp_path):
    """Saved at every report of a plan with cooldowns, and resumed by one without."""
    with_cooldowns, unstopped = recipe(), recipe({"scheduler": "fifo"})
    (*_, last) = TrainingRun(unstopped, tokens).reports()
    run = TrainingRun(with_cooldowns, tokens)
    for number, report in enumerate(run.reports()):
        folder = tmp_path / str(number)
        run.save(folder)
        resumed = TrainingRun(unstopped, tokens)
        resumed.load(folder)
        assert resumed._trunk is None
        ends = list(resumed.reports())
        assert [r.tokens for r in ends] == sorted(r.tokens for r in ends)
        if report.step < 18:
            assert ends[-1].bits_per_byte == last.bits_per_byte
            assert all(not r.cooldown for r in ends)
        else:
            assert ends == []
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name])


def test_a_run_without_averaged_weights_starts_their_average_when_the_plan_wants_them(
    tokens, tmp_path
):
    averaging = recipe({"rung_metric": "average"})
    search = averaging.search.model_copy(update={"scheduler": "fifo"})
    run = TrainingRun(averaging.model_copy(update={"search": search}), tokens)
    next(run.reports())
    run.save(tmp_path)
    resumed = TrainingRun(averaging, tokens)
    resumed.load(tmp_path)
    for name, value in run.model.state_dict().items():
        assert torch.equal(resumed.averaged.module.state_dict()[name], value)
    assert [report.rung for report in resumed.reports() if report.rung is not None] == [0, 1, 2]


def test_another_value_of_a_renamed_setting_is_another_recipe(older, tokens):
    with pytest.raises(UserError) as caught:
        TrainingRun(recipe(beta2=0.95), tokens).load(older)
    expected = "differs in training.beta2 (checkpoint: 0.96, now: 0.95)"
    assert str(caught.value).endswith(expected)


@pytest.mark.parametrize("older", ["with origin"], indirect=True)
def test_the_model_of_an_older_checkpoint(older):
    trained = load_model(older)
    assert (trained.recipe.training.beta1, trained.recipe.training.beta2) == (0.85, 0.96)
    assert (trained.tokens, trained.tokens_trained) == (8 * 32, 10 * 32)
    assert trained.tokenizer.vocab_size == 258
    assert trained.model.logits(torch.arange(8)[None]).isfinite().any()


# --- settings that came later -------------------------------------------------------------------


def test_a_setting_at_its_default_is_no_difference_to_a_checkpoint_before_it(tokens):
    """For every setting that has a default, as if it were the newest one."""
    made = Recipe(name="x", training={"tokens": 10**6, "learning_rate": 1e-3})
    saved = identity(made, tokens)
    assert differences(saved, made, tokens) == []
    without_default = set()
    for key in saved:
        older = {name: value for name, value in saved.items() if name != key}
        if differences(older, made, tokens):
            without_default.add(key)
    # The rung metric was "raw" before it existed, as below.
    required = {"dataset", "training.tokens", "training.learning_rate"}
    assert without_default == required | {"search.rung_metric"}


def test_a_setting_at_another_value_is_a_difference_to_a_checkpoint_before_it(tokens):
    made = recipe(final_learning_rate=0.1)
    older = identity(made, tokens)
    del older["training.final_learning_rate"]
    assert differences(older, made, tokens) == [
        "training.final_learning_rate (checkpoint: 0.0, now: 0.1)"
    ]


def test_older_checkpoints_count_as_judged_in_mid_run(tokens):
    older = identity(recipe({"rung_metric": "raw"}), tokens)
    del older["search.rung_metric"]
    assert differences(older, recipe({"rung_metric": "raw"}), tokens) == []
    assert differences(older, recipe(), tokens) == [
        "search.rung_metric (checkpoint: raw, now: cooldown)"
    ]


def test_settings_that_changed_no_number_may_be_in_an_older_checkpoint(tokens):
    older = identity(recipe(), tokens) | {"training.micro_batch": "77", "data.corpus": "sample"}
    assert differences(older, recipe(), tokens) == []


def test_a_setting_that_is_gone_is_a_difference(tokens):
    older = identity(recipe(), tokens) | {"training.noise": "0.3", "own.key": "1"}
    found = differences(older, recipe(), tokens)
    assert sorted(found) == [
        "own.key (checkpoint: 1, now: no such setting)",
        "training.noise (checkpoint: 0.3, now: no such setting)",
    ]


def test_a_recipe_in_a_checkpoint_gets_the_values_from_before_its_missing_settings(monkeypatch):
    sections = json.loads(recipe({"rung_metric": "average"}).model_dump_json())
    assert read_recipe(json.dumps(sections)).search.rung_metric == "average"
    del sections["search"]["rung_metric"]
    assert read_recipe(json.dumps(sections)).search.rung_metric == "raw"
    monkeypatch.setitem(identity_module.VALUES_BEFORE, "training.hold", 0.25)
    assert read_recipe(json.dumps(sections)).training.hold == 0.5
    del sections["training"]["hold"]
    assert read_recipe(json.dumps(sections)).training.hold == 0.25


def test_settings_that_change_no_figure_are_no_difference(tokens):
    """What the message about a micro-batch that is too large advises can be resumed with."""
    saved = identity(recipe(), tokens)
    model = recipe().model.model_copy(update={"activation_checkpointing": True})
    smaller = recipe(micro_batch=2, report_every="1/3").model_copy(update={"model": model})
    assert differences(saved, smaller, tokens) == []
    assert differences(saved, recipe(beta1=0.8), tokens) != []
