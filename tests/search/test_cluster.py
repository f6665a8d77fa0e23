import json
import logging
import math
import subprocess
import warnings

import psutil
import pytest

from raygpt.errors import UserError
from raygpt.recipe.sections import Search
from raygpt.search import cluster
from raygpt.search.cluster import Placement, nodes_that_may_start, placement, trials_at_once

CPUS = {"CPU": 2.0}
ONE_GPU = {"CPU": 8.0, "GPU": 1.0}
FOUR_GPUS = {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("needed", "nodes", "trials"),
    [
        (Placement(1, 1, 0), [CPUS], 2),
        (Placement(2, 1, 0), [CPUS], 1),
        (Placement(1, 0.5, 0), [CPUS], 4),
        (Placement(1, 0.1, 0), [{"CPU": 1.0}], 10),
        (Placement(1, 3, 0), [ONE_GPU], 2),
        (Placement(1, 1, 1), [ONE_GPU], 1),
        (Placement(1, 1, 0.25), [ONE_GPU], 4),
        (Placement(1, 0.1, 0.1), [ONE_GPU], 10),
        (Placement(1, 4, 0.25), [ONE_GPU], 2),  # the CPUs are fewer
        (Placement(1, 1, 1), [CPUS, ONE_GPU, FOUR_GPUS], 5),
        (Placement(2, 1, 1), [ONE_GPU, FOUR_GPUS], 2),
        (Placement(4, 1, 1), [ONE_GPU] * 9, 2),  # a trial over several nodes
        (Placement(1, 1, 2), [ONE_GPU, ONE_GPU, FOUR_GPUS], 2),  # a worker is on one node
        (Placement(1, 1, 0.6), [FOUR_GPUS], 6),
    ],
)
def test_number_of_trials_that_fit(needed, nodes, trials):
    assert trials_at_once(needed, nodes) == trials


@pytest.mark.parametrize(
    ("needed", "nodes", "said"),
    [
        (Placement(1, 64, 0), [CPUS], "1 worker with 64 CPU and 0 GPU"),
        (Placement(1, 1, 1), [CPUS], "a node with 2 CPU and 0 GPU"),
        (Placement(3, 1, 0), [CPUS], "3 workers, each with 1 CPU and 0 GPU"),
        (Placement(3, 1, 0), [CPUS], "has room for only 2 such workers"),
        (Placement(1, 1, 2), [ONE_GPU, ONE_GPU], "a node with 8 CPU and 1 GPU, a node with 8 CPU"),
        (Placement(1, 1, 0), [], "has room for only 0"),
    ],
)
def test_a_trial_that_does_not_fit_is_refused_with_the_settings_to_change(needed, nodes, said):
    with pytest.raises(UserError) as error:
        trials_at_once(needed, nodes)
    assert said in str(error.value)
    for setting in ("workers_per_trial", "cpus_per_worker", "gpus_per_worker"):
        assert f"search.{setting}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "gpus", "expected"),
    [
        ({}, 0, Placement(1, 1, 0)),
        ({}, 8, Placement(1, 1, 1)),
        ({}, 0.5, Placement(1, 1, 0.5)),
        ({"workers_per_trial": 4, "cpus_per_worker": 6}, 8, Placement(4, 6, 1)),
        ({"gpus_per_worker": 0.25}, 1, Placement(1, 1, 0.25)),
        ({"gpus_per_worker": 0}, 8, Placement(1, 1, 0)),
        ({"gpus_per_worker": 2}, 0, Placement(1, 1, 2)),
    ],
)
def test_a_placement_follows_recipe_and_hardware(settings, gpus, expected):
    assert placement(Search(**settings), gpus) == expected


# --- nodes that the autoscaler may start --------------------------------------------------------


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """Writes what `ray up` leaves in the head's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def write(cluster):
        text = cluster if isinstance(cluster, str) else json.dumps(cluster)
        (tmp_path / "ray_bootstrap_config.yaml").write_text(text)

    return write


CLUSTER = {
    "head_node_type": "head",
    "max_workers": 5,
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 7},
        "small": {"resources": ONE_GPU, "max_workers": 2},
        "large": {"resources": FOUR_GPUS, "max_workers": 2, "min_workers": 1},
        "unlimited": {"resources": CPUS},
    },
}


def test_nodes_that_the_autoscaler_may_start_are_counted(bootstrap):
    bootstrap(CLUSTER)
    assert nodes_that_may_start(1) == [ONE_GPU, ONE_GPU, FOUR_GPUS, FOUR_GPUS]
    assert nodes_that_may_start(2) == [ONE_GPU, FOUR_GPUS, FOUR_GPUS]
    assert nodes_that_may_start(5) == []
    assert nodes_that_may_start(9) == []
    bootstrap(CLUSTER | {"max_workers": 3})
    assert nodes_that_may_start(1) == [ONE_GPU, ONE_GPU, FOUR_GPUS]


def test_nodes_whose_resources_are_unknown_count_for_nothing(bootstrap):
    bootstrap({"head_node_type": "h", "available_node_types": {"w": {"max_workers": 1}}})
    assert nodes_that_may_start(1) == [{}]
    with pytest.raises(UserError):
        trials_at_once(Placement(1, 1, 0), nodes_that_may_start(1))


def test_without_a_cluster_file_no_nodes_are_expected(bootstrap):
    assert nodes_that_may_start(1) == []
    bootstrap("not JSON {")
    assert nodes_that_may_start(1) == []
    bootstrap({})
    assert nodes_that_may_start(1) == []


def test_without_ray_this_machines_gpus_are_counted(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert cluster.available_gpus() == 3


# --- logs ---------------------------------------------------------------------------------------


@pytest.fixture
def loggers():
    """The loggers as they are, put back afterwards."""
    names = cluster.LOGGERS
    kept = {name: logging.getLogger(name) for name in names}
    state = {name: (list(log.handlers), log.propagate, log.level) for name, log in kept.items()}
    yield kept
    logging.captureWarnings(False)
    for name, (handlers, propagate, level) in state.items():
        for handler in kept[name].handlers:
            if handler not in handlers:
                handler.close()
        kept[name].handlers, kept[name].propagate = handlers, propagate
        kept[name].setLevel(level)


def test_logs_go_to_the_file_and_not_to_the_terminal(loggers, tmp_path, capfd):
    held = cluster.hold_logs()
    logging.getLogger("ray.tune").warning("before")
    loggers["ray"].addHandler(logging.StreamHandler())  # as Ray does when it is imported
    path = tmp_path / "run.log"
    cluster.send_logs_to(path, held)
    logging.getLogger("ray.train").warning("after")
    logging.getLogger("optuna").error("of the study")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("deprecated", stacklevel=1)
    assert capfd.readouterr() == ("", "")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines[:3]] == [
        "WARNING ray.tune: before",
        "WARNING ray.train: after",
        "ERROR optuna: of the study",
    ]
    assert any("deprecated" in line for line in lines)


# --- a Ray that does not start ------------------------------------------------------------------


@pytest.fixture
def sleep():
    """Starts processes that have to be ended."""
    started = []

    def sleep():
        started.append(subprocess.Popen(["sleep", "1000"]))
        return started[-1]

    yield sleep
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def starts(monkeypatch, sleep):
    """The processes of each start of Ray; a test sets the first attempt that succeeds."""

    def start(**_):
        started.append(sleep())
        if len(started) < first_success.get("at", math.inf):
            raise Exception("The current node timed out during startup.")

    started, first_success = [], {}
    monkeypatch.setattr("ray.init", start)
    return started, first_success


def test_ray_is_started_again_after_a_timeout(starts, sleep):
    started, first_success = starts
    first_success["at"] = 2
    other = sleep()
    cluster.start_on_this_machine(dashboard=False)
    first, second = started
    assert not psutil.pid_exists(first.pid)
    assert second.poll() is other.poll() is None


def test_a_failure_to_start_ray_is_one_message(starts):
    with pytest.raises(UserError, match="in 3 attempts: The current node timed out"):
        cluster.start_on_this_machine(dashboard=False)
    assert len(starts[0]) == 3
    assert not any(psutil.pid_exists(process.pid) for process in starts[0])
