import gc
import json
import math
import random
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

from raygpt.errors import UserError
from raygpt.results.files import CHECKPOINT_FILE
from raygpt.training.evaluation import evaluate
from raygpt.training.loop import MicroBatchTooLarge, TrainingDiverged, TrainingRun

TIMINGS = ("seconds", "tokens_per_second")


def figures(reports):
    """The figures of the reports, without those that depend on the clock."""
    return [
        {
            name: value
            for name, value in asdict(report).items()
            if value is not None and name not in (*TIMINGS, "rung_metric")
        }
        for report in reports
    ]


def stop_after(run, step, do=lambda: None):
    """Train up to a step between reports, do something, and stop as Ctrl-C does."""

    def after_step():
        if run.step == step:
            do()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run.reports(after_step))


def assert_same_state(one, other):
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    ours, theirs = one.learner.optimizer.state_dict(), other.learner.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for number, state in ours["state"].items():
        for name, value in state.items():
            assert torch.equal(value, theirs["state"][number][name]), (number, name)


# --- learning -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_dataset(prepare_all, tmp_path_factory):
    """Few enough documents to be memorised."""
    folder = tmp_path_factory.mktemp("small")
    draw = random.Random(1)
    texts = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=40)) for _ in range(6)]
    texts.append("abc abc abc")
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return prepare_all(file, "bpe-258", 0.4)


def test_a_few_sequences_are_memorised(recipe_of, small_dataset):
    recipe = recipe_of(
        data={"context": 32, "validation_tokens": 32},
        model={"d_model": 32},
        training={
            "tokens": 120 * 128,
            "batch_tokens": 128,
            "learning_rate": 1e-2,
            "weight_decay": 0.0,
            "report_every": "1/20",
        },
    )
    run = TrainingRun(recipe, small_dataset)
    assert run.batches.n_windows < 8
    reports = list(run.reports())
    assert reports[0].train_bits_per_token > 3
    assert reports[-1].train_bits_per_token < 0.2


def test_training_on_text_beats_random_guessing_and_the_figures_improve(recipe_of, dataset):
    recipe = recipe_of(training={"tokens": 60 * 64, "learning_rate": 1e-2})
    first, *_, last = [r for r in TrainingRun(recipe, dataset).reports() if r.rung is not None]
    assert last.bits_per_token < first.bits_per_token < math.log2(300)
    assert last.bits_per_byte < first.bits_per_byte
    assert last.next_token_accuracy > first.next_token_accuracy


# --- budget and reports ---------------------------------------------------------------------


def test_the_budget_is_met_exactly_and_reports_come_at_the_planned_steps(recipe_of, dataset):
    run = TrainingRun(recipe_of(training={"checkpoint_every": "1/2"}), dataset)
    trained = []
    run.model.register_forward_pre_hook(
        lambda model, arguments: trained.append(arguments[0].numel() if model.training else 0)
    )
    reports = list(run.reports())
    # Rungs at 1/9, 1/3 and 1 of 18 steps; reports at each quarter, 4.5 and 13.5 rounding to even.
    assert [report.step for report in reports] == [2, 4, 6, 9, 14, 18]
    assert [report.tokens for report in reports] == [64 * n for n in (2, 4, 6, 9, 14, 18)]
    assert [report.tokens_trained for report in reports] == [report.tokens for report in reports]
    assert [report.rung for report in reports] == [0, None, 1, None, None, 2]
    assert [report.checkpoint_due for report in reports] == [True, False, True, True, False, True]
    assert sum(trained) == 1152 == run.recipe.training.tokens
    assert list(run.reports()) == []


def test_reports_at_rungs_have_the_models_validation_figures_and_others_have_none(
    recipe_of, dataset
):
    run = TrainingRun(recipe_of(model={"dropout": 0.3}), dataset)
    names = {"bits_per_byte", "bits_per_token", "next_token_accuracy"}
    for report in run.reports():
        if report.rung is None:
            assert not names & set(report.metrics())
        else:
            found = evaluate(run.model, run.validation, run.token_bytes, 7, run.learner.autocast)
            for name in names:
                expected = getattr(found, name)
                assert report.metrics()[name] == pytest.approx(expected, rel=1e-6)


def test_metrics_are_the_figures_by_name(recipe_of, dataset):
    report = next(TrainingRun(recipe_of(), dataset).reports())
    metrics = report.metrics()
    assert metrics["tokens"] == 128
    assert metrics["rung"] == 0
    assert "checkpoint_due" not in metrics
    json.dumps(metrics)


def test_the_train_loss_is_the_mean_since_the_last_report(recipe_of, dataset):
    run = TrainingRun(recipe_of(), dataset)
    losses = []

    def measure(step):
        """The loss that a step is about to have, from its batch and the weights before it."""
        inputs, targets = run.batches.sequences(step * 4, step * 4 + 4)
        with torch.no_grad():
            logs = run.model(inputs).double().log_softmax(-1)
        losses.append(-logs.gather(-1, targets[..., None]).mean().item() / math.log(2))

    measure(0)
    reports = list(run.reports(lambda: measure(run.step)))
    bounds = [0, *(report.step for report in reports)]
    for first, report in zip(bounds, reports, strict=False):
        mean = sum(losses[first : report.step]) / (report.step - first)
        assert report.train_bits_per_token == pytest.approx(mean, rel=1e-5)


def test_the_rate_of_a_step_is_the_schedules_at_its_middle(recipe_of, dataset):
    recipe = recipe_of(
        training={"warmup": 1 / 9, "hold": 0.5, "final_learning_rate": 0.1, "learning_rate": 1.0}
    )
    run = TrainingRun(recipe, dataset)
    # Warmup is steps 0 and 1, the decay goes from 10 to 18.
    assert [run.learning_rate(n) for n in (0, 1, 2, 9)] == pytest.approx([0.25, 0.75, 1, 1])
    middle = (run.learning_rate(13) + run.learning_rate(14)) / 2
    assert middle == pytest.approx(0.55)
    assert 0.1 < run.learning_rate(17) < 0.12
    used = []
    run = TrainingRun(recipe_of(), dataset)
    reports = list(run.reports(lambda: used.append(run.learner.optimizer.param_groups[0]["lr"])))
    assert used == [run.learning_rate(step) for step in range(18)]
    assert [report.learning_rate for report in reports] == [used[r.step - 1] for r in reports]


def test_gradients_are_clipped_and_reported_before_it(recipe_of, dataset):
    def first_step(clipping):
        run = TrainingRun(recipe_of(training={"gradient_clipping": clipping}), dataset)
        stop_after(run, 1)
        means = [state["exp_avg"] / (1 - 0.9) for state in run.learner.optimizer.state.values()]
        return run._meter.gradient_norm.item(), torch.cat([mean.flatten() for mean in means])

    norm, gradient = first_step(1e9)
    assert gradient.norm().item() == pytest.approx(norm, rel=1e-4)
    clipped_norm, clipped = first_step(0.01)
    assert clipped_norm == norm > 0.01
    torch.testing.assert_close(clipped, gradient * (0.01 / norm), rtol=1e-3, atol=1e-8)


def test_times_count_training_and_evaluation_but_not_the_caller(recipe_of, dataset):
    run = TrainingRun(recipe_of(), dataset)
    started = time.perf_counter()
    held = 0.0
    speeds = []
    for report in run.reports(lambda: time.sleep(0.02)):
        held -= time.perf_counter()
        assert report.seconds == run.seconds
        speeds.append(report.tokens_per_second)
        time.sleep(0.05)
        held += time.perf_counter()
    wall = time.perf_counter() - started
    assert 0 < run.seconds < wall - held - 18 * 0.02
    # The steps between two reports took no longer than all of training and evaluation.
    steps = (2, 2, 2, 3, 5, 4)
    assert sum(n * 64 / speed for n, speed in zip(steps, speeds, strict=True)) < run.seconds


# --- micro-batches --------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 100])
def test_the_micro_batch_does_not_change_the_step(recipe_of, dataset, micro_batch):
    def train(micro_batch):
        training = {"batch_tokens": 5 * 16, "tokens": 18 * 80, "micro_batch": micro_batch}
        run = TrainingRun(recipe_of(training=training), dataset)
        sizes: list[int] = []
        run.model.register_forward_pre_hook(
            lambda model, arguments: sizes.append(len(arguments[0])) if model.training else None
        )
        stop_after(run, 1)
        gradients = [state["exp_avg"].clone() for state in run.learner.optimizer.state.values()]
        return sizes.copy(), gradients, figures(run.reports())

    sizes, gradients, reports = train(micro_batch)
    full = min(micro_batch, 5)
    assert sizes == [full] * (5 // full) + [5 % full] * (5 % full > 0)
    _, whole_gradients, whole_reports = train(5)
    for gradient, whole in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(gradient, whole, rtol=1e-4, atol=1e-7)
    for report, whole in zip(reports, whole_reports, strict=True):
        assert report == pytest.approx(whole, rel=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_a_micro_batch_that_does_not_fit_is_an_error_that_names_a_smaller_one(recipe_of, dataset):
    import resource

    training = {"batch_tokens": 4096 * 16, "micro_batch": 4096, "tokens": 4096 * 16}
    run = TrainingRun(recipe_of(training=training, search={"rungs": [1]}), dataset)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        # Logits alone take 4096 * 16 * 320 * 4 bytes, 84 MB.
        limit = pages * resource.getpagesize() + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        with pytest.raises(MicroBatchTooLarge) as caught:
            next(run.reports())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert message.startswith("training.micro_batch: 4096 sequences of 16 tokens do not fit")
    assert "--set training.micro_batch=2048" in message


def test_other_errors_of_a_step_are_not_reported_as_lack_of_memory(recipe_of, dataset):
    run = TrainingRun(recipe_of(), dataset)
    run.model.position_embedding = torch.nn.Embedding(16, 8)  # of another width
    with pytest.raises(RuntimeError, match="size of tensor"):
        next(run.reports())


# --- seeds ----------------------------------------------------------------------------------


def test_the_seed_decides_all_numbers(recipe_of, dataset):
    def train(seed):
        recipe = recipe_of(model={"dropout": 0.2}, training={"seed": seed})
        run = TrainingRun(recipe, dataset)
        initial = run.model.token_embedding.weight.clone()
        torch.manual_seed(random.getrandbits(32))  # other draws must not matter
        return run, initial, figures(run.reports())

    one, initial, reports = train(1)
    again, _, same_reports = train(1)
    assert same_reports == reports
    assert_same_state(one, again)
    other, other_initial, other_reports = train(2)
    batch, other_batch = (run.batches.sequences(0, 4)[0] for run in (one, other))
    assert not torch.equal(batch, other_batch)
    assert not torch.equal(other_initial, initial)
    for ours, theirs in zip(reports, other_reports, strict=True):
        assert ours["train_bits_per_token"] != theirs["train_bits_per_token"]


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (2, 2), (0.5, 1)])
def test_the_recipe_decides_the_number_of_threads(recipe_of, dataset, cpus, threads):
    torch.set_num_threads(3)
    try:
        TrainingRun(recipe_of(search={"cpus_per_worker": cpus}), dataset)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)


def test_dropout_masks_differ_between_steps_micro_batches_and_seeds(recipe_of, dataset):
    masks = []
    for seed in (0, 1):
        training = {"micro_batch": 2, "seed": seed}
        run = TrainingRun(recipe_of(model={"dropout": 0.5}, training=training), dataset)
        run.model.eval()  # the run sets the mode itself
        run.model.blocks[0].register_forward_pre_hook(
            lambda block, arguments: masks.append(arguments[0] == 0) if block.training else None
        )
        stop_after(run, 3)
    assert len(masks) == 2 * 6
    for number, mask in enumerate(masks):
        assert 0.4 < mask.float().mean() < 0.6
        for other in masks[:number]:
            assert 0.4 < (mask == other).float().mean() < 0.6


# --- checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize("at_report", [True, False], ids=["at a report", "between reports"])
def test_a_resumed_run_is_identical_to_one_without_interruption(
    recipe_of, dataset, tmp_path, at_report
):
    recipe = recipe_of(model={"dropout": 0.2}, training={"micro_batch": 3})
    whole = TrainingRun(recipe, dataset)
    expected = figures(whole.reports())

    broken = TrainingRun(recipe, dataset)
    if at_report:
        for report in broken.reports():
            if report.step == 6:
                broken.save(tmp_path)
                break
    else:
        stop_after(broken, 7, lambda: broken.save(tmp_path))

    resumed = TrainingRun(recipe, dataset)
    resumed.load(tmp_path)
    assert resumed.step == (6 if at_report else 7)
    assert_same_state(resumed, broken)
    torch.manual_seed(12345)  # no state of a generator is needed
    assert figures(resumed.reports()) == expected[3:]
    assert_same_state(resumed, whole)


def test_a_run_resumed_at_every_report_gives_the_same_reports(recipe_of, dataset, tmp_path):
    recipe = recipe_of(model={"dropout": 0.2})
    expected = figures(TrainingRun(recipe, dataset).reports())
    found = []
    for _ in expected:
        run = TrainingRun(recipe, dataset)
        if found:
            run.load(tmp_path)
        report = next(run.reports())
        run.save(tmp_path)
        found += figures([report])
    assert found == expected


def test_the_time_spent_is_kept_over_a_resumption(recipe_of, dataset, tmp_path):
    run = TrainingRun(recipe_of(), dataset)
    stop_after(run, 1, lambda: run.save(tmp_path))  # before the first report
    resumed = TrainingRun(recipe_of(), dataset)
    resumed.load(tmp_path)
    assert resumed.seconds == run.seconds > 0
    (first, *_, last) = resumed.reports()
    assert run.seconds < first.seconds < last.seconds


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "learning_rate", 0.001),
        ("training", "seed", 1),
        ("training", "tokens", 36 * 64),
        ("model", "dropout", 0.25),
        ("data", "validation_tokens", 500),
        ("search", "rung_metric", "cooldown"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(
    recipe_of, dataset, tmp_path, section, key, value
):
    TrainingRun(recipe_of(), dataset).save(tmp_path)
    run = TrainingRun(recipe_of(**{section: {key: value}}), dataset)
    old = getattr(getattr(recipe_of(), section), key)
    with pytest.raises(UserError) as caught:
        run.load(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / CHECKPOINT_FILE) in message
    assert message.endswith(f"differs in {section}.{key} (checkpoint: {old}, now: {value})")


def test_a_checkpoint_of_another_dataset_is_refused(recipe_of, dataset, small_dataset, tmp_path):
    recipe = recipe_of(data={"validation_tokens": 20})
    TrainingRun(recipe, dataset).save(tmp_path)
    with pytest.raises(UserError, match=r"differs in dataset \(checkpoint: \w+, now: \w+\)$"):
        TrainingRun(recipe, small_dataset).load(tmp_path)


def test_settings_that_decide_no_number_may_differ(recipe_of, dataset, tmp_path):
    TrainingRun(recipe_of(), dataset).save(tmp_path)
    recipe = recipe_of(search={"trials": 7, "seed": 3}, data={"cache": "/elsewhere"})
    TrainingRun(recipe, dataset).load(tmp_path)


def test_a_truncated_checkpoint_is_an_error_that_says_what_to_do(recipe_of, dataset, tmp_path):
    run = TrainingRun(recipe_of(), dataset)
    run.save(tmp_path)
    file = tmp_path / CHECKPOINT_FILE
    content = file.read_bytes()
    for kept in (len(content) // 2, 100, 0):
        file.write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"not a readable checkpoint.*delete it") as caught:
            run.load(tmp_path)
        assert str(file) in str(caught.value)


def test_a_missing_checkpoint_is_an_error_that_says_so(recipe_of, dataset, tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        TrainingRun(recipe_of(), dataset).load(tmp_path)


def test_a_save_that_fails_leaves_the_old_checkpoint(recipe_of, dataset, tmp_path):
    run = TrainingRun(recipe_of(), dataset)
    run.save(tmp_path)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    next(run.reports())
    run.learner.optimizer.state[run.model.final_norm.bias]["unpicklable"] = lambda: None
    with pytest.raises(Exception, match="pickle"):
        run.save(tmp_path)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


# --- rungs ----------------------------------------------------------------------------------

COOLED = {"rungs": ["1/3", "2/3", 1], "rung_metric": "cooldown"}
HELD = {"hold": 0.5, "warmup": 0.1, "report_every": "1/6"}


@pytest.fixture(scope="module")
def cooled(recipe_of):
    """18 steps, rungs at 6 and 12 with cooldowns from 4 and 7."""
    return recipe_of(model={"dropout": 0.2}, training=HELD, search=COOLED)


def test_the_trunk_is_identical_to_a_run_without_cooldowns(recipe_of, dataset, cooled):
    plain = TrainingRun(
        recipe_of(model={"dropout": 0.2}, training=HELD, search=COOLED | {"rung_metric": "raw"}),
        dataset,
    )
    run = TrainingRun(cooled, dataset)
    expected = {report.step: report for report in plain.reports()}
    seen = 0
    for report in run.reports():
        if report.cooldown:
            continue
        seen += 1
        same = expected[report.step]
        for name in ("train_bits_per_token", "gradient_norm", "learning_rate", "tokens"):
            assert getattr(report, name) == getattr(same, name), (report.step, name)
    assert seen >= 6
    assert report.bits_per_byte == same.bits_per_byte
    assert_same_state(run, plain)


def test_a_cooldown_ends_with_the_figures_of_a_run_over_the_rungs_budget(
    recipe_of, dataset, cooled
):
    """The run over 12 steps has a warmup of as many steps as the full budget's."""
    run = TrainingRun(cooled, dataset)
    rung = next(report for report in run.reports() if report.rung == 1)
    short = {"tokens": 12 * 64, "warmup": 0.15}
    alone = TrainingRun(
        recipe_of(model={"dropout": 0.2}, training=HELD | short, search={"rungs": [1]}), dataset
    )
    # The same order of the data: a function of the seed and the budget's windows.
    alone.batches = run.batches
    *_, last = alone.reports()
    assert rung.bits_per_byte == last.bits_per_byte
    assert (rung.tokens, rung.learning_rate) == (last.tokens, last.learning_rate)


def test_reports_give_their_position_and_all_tokens_trained(dataset, cooled):
    run = TrainingRun(cooled, dataset)
    trained = 0

    def count():
        nonlocal trained
        trained += 64

    rows = []
    for report in run.reports(count):
        assert report.tokens_trained == trained
        rows.append((report.tokens // 64, report.cooldown, report.rung, run.step))
    assert [(segment.start, segment.stop) for segment in run.plan] == [
        (0, 4),
        (4, 6),
        (4, 7),
        (7, 12),
        (7, 18),
    ]
    # The last column: when the report at the end of a cooldown comes, the run is back on its trunk.
    assert rows == [
        (3, False, None, 3),
        (6, True, 0, 4),
        (6, False, None, 6),
        (9, True, None, 9),
        (12, True, 1, 7),
        (9, False, None, 9),
        (12, False, None, 12),
        (15, False, None, 15),
        (18, False, 2, 18),
    ]
    assert trained == 64 * (18 + 2 + 5)


@pytest.mark.parametrize("metric", ["cooldown", "average"])
def test_a_run_with_rungs_resumed_at_every_report_gives_the_same_reports(
    recipe_of, dataset, tmp_path, metric
):
    search = COOLED | {"rung_metric": metric}
    recipe = recipe_of(model={"dropout": 0.2}, training=HELD, search=search)
    expected = figures(TrainingRun(recipe, dataset).reports())
    found = []
    for _ in expected:
        run = TrainingRun(recipe, dataset)
        if found:
            run.load(tmp_path)
        report = next(run.reports())
        run.save(tmp_path)
        found += figures([report])
    assert found == expected


@pytest.mark.parametrize("step", [4, 5, 6, 7, 8])
def test_a_run_saved_within_a_segment_resumes_with_identical_figures(
    dataset, tmp_path, cooled, step
):
    whole = TrainingRun(cooled, dataset)
    expected = figures(whole.reports())
    broken = TrainingRun(cooled, dataset)
    stop_after(broken, step, lambda: broken.save(tmp_path))
    resumed = TrainingRun(cooled, dataset)
    resumed.load(tmp_path)
    found = figures(resumed.reports())
    assert found == expected[-len(found) :]
    assert_same_state(resumed, whole)


def test_a_snapshot_in_the_hosts_memory_gives_the_same_figures(dataset, cooled, monkeypatch):
    """A device without free memory is imitated on a CPU."""
    expected = figures(TrainingRun(cooled, dataset).reports())
    asked = []
    monkeypatch.setattr(
        "raygpt.training.snapshot._has_room", lambda device, size: asked.append(size)
    )
    run = TrainingRun(cooled, dataset)
    assert figures(run.reports()) == expected
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    # Weights and AdamW's two moments in float32, its step counts, and the sum of the loss.
    assert 12 * parameters < asked[0] < 12.1 * parameters


def test_averaged_weights_are_judged_at_rungs_and_do_not_change_training(recipe_of, dataset):
    search = COOLED | {"rung_metric": "average"}
    run = TrainingRun(recipe_of(training=HELD, search=search), dataset)
    weights = []
    rungs = []
    for report in run.reports(lambda: weights.append(run.model.final_norm.weight.clone())):
        if report.rung is not None:
            rungs.append(report)
            assert report.tokens == report.tokens_trained
    plain = TrainingRun(recipe_of(training=HELD, search=COOLED | {"rung_metric": "raw"}), dataset)
    raw = [report for report in plain.reports() if report.rung is not None]
    assert_same_state(run, plain)
    assert rungs[-1].bits_per_byte == raw[-1].bits_per_byte
    # Of 12 steps the last 10/12 weighs 10/12, 11/12 of the rest 10/11, and so on.
    average = weights[0].clone()
    for number, weight in enumerate(weights[1:], start=1):
        average.lerp_(weight, min(1, 10 / (number + 1)))
    torch.testing.assert_close(run.averaged.module.final_norm.weight, average)
    assert not torch.equal(average, weights[-1])
    assert rungs[1].bits_per_byte != raw[1].bits_per_byte


def test_all_metrics_can_be_measured_in_one_run(recipe_of, dataset, cooled):
    metrics = ("raw", "average", "cooldown")
    together = [
        (report.rung, report.rung_metric, report.bits_per_byte)
        for report in TrainingRun(cooled, dataset, rung_metrics=metrics).reports()
        if report.rung is not None
    ]
    assert len(together) == 7
    for metric in metrics:
        apart = TrainingRun(cooled, dataset, rung_metrics=[metric]).reports()
        for report in apart:
            if report.rung is not None:
                assert (report.rung, report.rung_metric, report.bits_per_byte) in together


# --- divergence -----------------------------------------------------------------------------


def test_a_loss_that_is_nan_ends_the_run_within_two_steps(recipe_of, dataset):
    recipe = recipe_of(training={"learning_rate": 1e30, "warmup": 0.0})
    run = TrainingRun(recipe, dataset)
    with pytest.raises(TrainingDiverged, match=r"training loss is nan at \d+ tokens"):
        list(run.reports())
    # The first step ruins the weights, the second has the loss, and the third checks it.
    assert run.step <= 2


def test_weights_ruined_by_the_last_step_alone_are_noticed(recipe_of, dataset):
    # The only step has a finite loss; the weights after it do not.
    training = {"learning_rate": 1e30, "warmup": 0.0, "tokens": 64}
    run = TrainingRun(recipe_of(training=training, search={"rungs": [1]}), dataset)
    with pytest.raises(TrainingDiverged, match=r"validation loss is nan at 64 tokens"):
        list(run.reports())


def test_weights_that_are_nan_are_noticed_after_a_step(recipe_of, dataset):
    run = TrainingRun(recipe_of(training={"report_every": 1}, search={"rungs": [1]}), dataset)

    def ruin():
        if run.step == 5:
            with torch.no_grad():
                run.model.final_norm.weight[3] = math.nan

    with pytest.raises(TrainingDiverged, match="training loss is nan at"):
        next(run.reports(ruin))
    assert run.step <= 7


def test_a_finite_loss_far_above_random_guessing_diverges(recipe_of, dataset):
    training = {"learning_rate": 10.0, "warmup": 0.0, "report_every": 1}
    run = TrainingRun(recipe_of(training=training, search={"rungs": [1]}), dataset)
    with pytest.raises(
        TrainingDiverged, match=r"loss is [\d.]+ bits per token \(random guessing: 8"
    ):
        next(run.reports())
    assert 10 <= run.step < 13


def test_a_short_spike_is_no_divergence(recipe_of, dataset):
    run = TrainingRun(recipe_of(search={"rungs": [1]}), dataset)
    weights = run.model.token_embedding.weight

    def spike():
        with torch.no_grad():
            if run.step == 3:
                weights.mul_(100)
            if run.step == 8:
                weights.div_(100)

    reports = list(run.reports(spike))
    assert max(report.train_bits_per_token for report in reports) > 3 * math.log2(300)
    assert reports[-1].rung == 0


def test_an_untrained_model_has_not_diverged(recipe_of, dataset):
    recipe = recipe_of(training={"learning_rate": 1e-9, "tokens": 30 * 64})
    *_, last = TrainingRun(recipe, dataset).reports()
    assert last.rung == 2


# --- compiled -------------------------------------------------------------------------------


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)
# One process compiles, and without vector code, only to be quicker.
@torch._inductor.config.patch({"compile_threads": 1, "cpp.simdlen": 0})
@pytest.mark.slow
def test_a_compiled_run_gives_the_same_numbers(recipe_of, dataset):
    def train(compiled):
        recipe = recipe_of(
            data={"validation_tokens": 64},
            model={"n_layers": 1, "d_model": 8, "n_heads": 1, "compile": compiled},
            training={"tokens": 3 * 64, "report_every": 1},
            search={"rungs": [1]},
        )
        run = TrainingRun(recipe, dataset)
        (report,) = run.reports()
        assert run.learner.forward.training
        return run, figures([report])[0]

    counters.clear()
    _, expected = train(False)
    assert counters["stats"]["unique_graphs"] == 0
    run, found = train(True)
    assert counters["stats"]["unique_graphs"] == 2  # training and evaluation
    assert found == pytest.approx(expected, rel=1e-4)
    assert not any("_orig_mod" in name for name in run.model.state_dict())
