import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.event_files import EventFiles
from raygpt.results.tables import load_results, rows


@pytest.fixture
def event_files(tables):
    return EventFiles(tables.folder)


@pytest.fixture
def run_trial(tables, begin, event_files):
    """Begins a trial and adds its reports."""

    def run_trial(trial_id, *reports, **values):
        begin(trial_id, **values)
        made = [row for row in tables.history if row["trial_id"] == trial_id]
        event_files.begin_trial(tables.trial(trial_id), made)
        for each in reports:
            tables.add_report(trial_id, each)
            event_files.add_report(trial_id, each)

    return run_trial


@pytest.fixture
def curves(tables):
    """The curves as TensorBoard reads them: steps and values by run and tag."""

    def read():
        # From the run folder, as the documentation says.
        found = EventMultiplexer().AddRunsFromDirectory(str(tables.folder)).Reload()
        return {
            run.removeprefix(f"{files.EVENT_FILES}/"): {
                tag: [(event.step, event.value) for event in found.Scalars(run, tag)]
                for tag in tags["scalars"]
            }
            for run, tags in found.Runs().items()
        }

    return read


def hparams(folder, tag):
    data = EventAccumulator(str(folder)).Reload().SummaryMetadata(f"_hparams_/{tag}").plugin_data
    assert data.plugin_name == "hparams"
    return getattr(HParamsPluginData.FromString(data.content), tag)


def test_every_report_is_there_at_once_over_tokens(run_trial, curves, report):
    run_trial("0000", report(100), report(200, learning_rate=0.5))
    assert curves() == {
        "0000": {
            "training/train_bits_per_token": [(100, 5.25), (200, 5.25)],
            "training/learning_rate": [(100, pytest.approx(1e-3)), (200, 0.5)],
            "training/gradient_norm": [(100, 0.5), (200, 0.5)],
            "training/tokens_per_second": [(100, 1000), (200, 1000)],
        }
    }


def with_cooldowns(report):
    """Reports of a trial with two rungs below the full budget; cooldowns overlap with the trunk."""
    off_trunk = {"cooldown": True, "learning_rate": 0.25}
    return [
        report(100, learning_rate=1.0),
        report(200, **off_trunk),
        report(300, 2.5, 0, **off_trunk),
        report(200, learning_rate=1.0),
        report(300, learning_rate=1.0),
        report(400, **off_trunk),
        report(600, 2.25, 1, **off_trunk),
        report(600, learning_rate=1.0),
        report(900, 2.0, 2, learning_rate=0.0),
    ]


def test_cooldowns_are_separate_curves_and_every_curve_moves_forward(run_trial, curves, report):
    run_trial("0000", *with_cooldowns(report))
    found = curves()
    assert {run: tags["training/learning_rate"] for run, tags in found.items()} == {
        "0000": [(100, 1), (200, 1), (300, 1), (600, 1), (900, 0)],
        "0000/cooldown_0": [(200, 0.25), (300, 0.25)],
        "0000/cooldown_1": [(400, 0.25), (600, 0.25)],
    }
    # The figures of all rungs are one curve.
    assert found["0000"]["validation/bits_per_byte"] == [(300, 2.5), (600, 2.25), (900, 2)]
    assert found["0000"]["validation/rung"] == [(300, 0), (600, 1), (900, 2)]
    assert set(found["0000/cooldown_1"]) == {tag for tag in found["0000"] if "training" in tag}


@pytest.mark.parametrize("kept", range(9))
def test_a_resumed_trial_has_every_point_once(run_trial, tables, curves, report, kept):
    reports = with_cooldowns(report)
    for number, each in enumerate(reports):
        each["tokens_trained"] = 100 * (number + 1)
    run_trial("0000", *reports)
    whole = curves()
    tables.drop_reports_after("0000", 100 * kept)
    assert len(tables.history) == kept
    # As in another process.
    again = EventFiles(tables.folder)
    again.begin_trial(tables.trial("0000"), rows(load_results(tables.folder).history))
    dropped = curves()
    points = sum(len(tags.get("training/learning_rate", ())) for tags in dropped.values())
    assert points == kept
    for each in reports[kept:]:
        again.add_report("0000", each)
    assert curves() == whole


def test_hparams_show_values_with_their_results(run_trial, tables, event_files, report):
    run_trial("0000", report(300, 2.0, 0), learning_rate=0.5, n_layers=3)
    folder = tables.folder / files.EVENT_FILES / "0000"
    values = hparams(folder, "session_start_info").hparams
    assert {name: value.number_value for name, value in values.items()} == {
        "training.learning_rate": 0.5,
        "training.weight_decay": 0.1,
        "model.n_layers": 3,
    }
    experiment = hparams(folder, "experiment")
    assert {info.name for info in experiment.hparam_infos} == set(values)
    compared = {info.name.tag for info in experiment.metric_infos}
    assert compared <= set(EventAccumulator(str(folder)).Reload().Tags()["scalars"])
    assert "validation/bits_per_byte" in compared


def test_without_searched_values_the_seed_tells_trials_apart(event_files, tables):
    event_files.begin_trial({"trial_id": "0000", "seed": 7, "status": "running"}, [])
    folder = tables.folder / files.EVENT_FILES / "0000"
    values = hparams(folder, "session_start_info").hparams
    assert {name: value.number_value for name, value in values.items()} == {"seed": 7}


@pytest.mark.parametrize(
    ("status", "how"), [("completed", 1), ("stopped", 1), ("diverged", 2), ("failed", 2)]
)
def test_how_a_trial_ended(run_trial, tables, event_files, status, how):
    run_trial("0000")
    tables.end_trial("0000", status)
    event_files.end_trial(tables.trial("0000"))
    folder = tables.folder / files.EVENT_FILES / "0000"
    assert hparams(folder, "session_end_info").status == how


def test_a_folder_that_cannot_be_written(event_files, tables):
    (tables.folder / files.EVENT_FILES).write_text("in the way")
    with pytest.raises(UserError, match=r"tensorboard/0000 cannot be written: "):
        event_files.begin_trial({"trial_id": "0000", "seed": 7, "status": "running"}, [])
