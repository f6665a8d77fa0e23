"""Commands that are refused."""

import pytest

REFUSED_BEFORE_IMPORTS = {
    "taken exists and is not overwritten; resume its run with --resume, or start "
    "another run with --name NAME": ["--name=taken"],
    "training.tokns: unknown key": ["--set=training.tokns=1"],
    "there is no run in": ["--resume"],
}
REFUSED_ON_A_RAY_OF_ITS_OWN = {
    "a trial needs 1 worker with 64 CPU": ["--set=search.cpus_per_worker=64"],
}
REFUSED_ON_ANY_RAY = {
    "--scale full needs a GPU": ["--scale=full"],
    "--scale mini: ": ["--scale=mini"],
    "search.warm_start: {place}/nowhere: no such folder": [
        "--set=search.warm_start=[nowhere]",
        "--set=training.learning_rate={loguniform: [1e-3, 1e-2]}",
    ],
}


@pytest.fixture
def refused(place, tmp_path):
    """A folder of runs, whose one run is empty and must stay so."""
    (tmp_path / "taken").mkdir()
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert list((tmp_path / "taken").iterdir()) == []


def assert_one_message(ended, message):
    status, printed = ended
    assert status == 2, printed
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_a_refused_search_is_one_message_and_leaves_nothing(start, refused):
    attempts = REFUSED_BEFORE_IMPORTS | REFUSED_ON_A_RAY_OF_ITS_OWN
    started = {
        message: start("tiny.yaml", "--runs-dir", refused, *arguments)
        for message, arguments in attempts.items()
    }
    for message, command in started.items():
        assert_one_message(command.ended(), message)
        assert command.wait_until_alone()


@pytest.mark.parametrize("message", REFUSED_ON_ANY_RAY)
def test_a_search_that_does_not_fit_a_running_cluster_is_refused(run_here, refused, place, message):
    ended = run_here("tiny.yaml", "--runs-dir", refused, *REFUSED_ON_ANY_RAY[message])
    assert_one_message(ended, message.format(place=place))
