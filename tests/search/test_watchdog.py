from types import SimpleNamespace

import pytest

from raygpt.search.watchdog import Watchdog

HOUR = 3600


class Steps:
    """Tune's loop, with a step every half second, and trials with or without a process."""

    def __init__(self, limit, monkeypatch):
        self.time = 100.0
        self.trials, self.reasons, self.killed = [], [], []
        monkeypatch.setattr("raygpt.search.watchdog.ray.kill", self.killed.append)
        self.watchdog = Watchdog(
            limit,
            lambda name, reason: self.reasons.append((name, reason)),
            clock=lambda: self.time,
        )

    def start(self, name):
        trial = SimpleNamespace(
            trial_id=f"tune-{name}",
            config={"trial": name},
            temporary_state=SimpleNamespace(ray_actor=f"actor of {name}"),
        )
        self.trials.append(trial)
        self.turn()
        return trial

    def turn(self, seconds=0.5):
        self.time += seconds
        self.watchdog.on_step_end(iteration=1, trials=self.trials)

    def wait(self, seconds):
        for _ in range(round(seconds / 0.5)):
            self.turn()

    def hear(self, trial, result, after=0):
        self.wait(after)
        self.watchdog.on_trial_result(1, self.trials, trial, result)

    def run_to_rung(self, trial, pause=1):
        """Send everything that a trial sends up to a rung, with pauses of `pause` seconds."""
        self.hear(trial, {"alive": 0})
        self.hear(trial, {"alive": 1}, after=pause)
        self.hear(trial, {"tokens": 256}, after=pause)
        self.hear(trial, {"tokens": 512, "bits_per_byte": 2.0}, after=pause)

    def end(self, trial):
        trial.temporary_state.ray_actor = None
        self.turn()

    def seconds_until_killed(self, most=2 * HOUR):
        began, killed = self.time, len(self.killed)
        while len(self.killed) == killed and self.time < began + most:
            self.turn()
        assert len(self.killed) == killed + 1
        return self.time - began


@pytest.fixture
def make(monkeypatch):
    return lambda limit=None: Steps(limit, monkeypatch)


def test_a_trial_silent_beyond_the_limit_is_killed(make):
    steps = make(60)
    silent, alive = steps.start("0000"), steps.start("0001")
    for trial in (silent, alive):
        steps.hear(trial, {"alive": 0})
    for _ in range(3):
        steps.hear(alive, {"alive": 4}, after=19)
    assert steps.killed == []
    steps.wait(4)
    assert steps.killed == ["actor of 0000"]
    assert steps.reasons == [
        ("0000", "no sign of life for 60 s; given up (search.hang_timeout)"),
    ]


def test_a_trial_that_survives_is_killed_again(make):
    steps = make(60)
    steps.hear(steps.start("0000"), {"alive": 0})
    steps.wait(130)
    assert steps.killed == ["actor of 0000"] * 2


def test_trials_that_ended_are_not_watched(make):
    steps = make(60)
    trial = steps.start("0000")
    steps.run_to_rung(trial)
    steps.end(trial)
    steps.wait(HOUR)
    assert steps.killed == []


@pytest.mark.parametrize("limit", [5, None])
def test_before_the_training_a_trial_may_take_an_hour(make, limit):
    steps = make(limit)
    steps.run_to_rung(steps.start("0000"))
    steps.end(steps.trials[0])
    steps.start("0001")
    assert steps.seconds_until_killed() == pytest.approx(HOUR, abs=2)


def test_before_the_training_a_larger_limit_applies_too(make):
    steps = make(5000)
    steps.start("0000")
    assert steps.seconds_until_killed() == pytest.approx(5000, abs=2)


def test_the_limit_is_an_hour_until_a_rung_was_reached(make):
    steps = make()
    trial = steps.start("0000")
    steps.hear(trial, {"alive": 0}, after=1000)
    steps.hear(trial, {"alive": 1}, after=1)
    steps.hear(trial, {"tokens": 256}, after=1)
    assert steps.seconds_until_killed() == pytest.approx(HOUR, abs=2)


def test_the_limit_is_an_hour_until_the_trial_made_a_step(make):
    steps = make()
    steps.run_to_rung(steps.start("0000"))
    steps.hear(steps.start("0001"), {"alive": 0})
    steps.end(steps.trials[0])
    assert steps.seconds_until_killed() == pytest.approx(HOUR, abs=2)


@pytest.mark.parametrize(("pause", "limit"), [(1, 120), (11, 120), (30, 300), (1000, 10_000)])
def test_later_the_limit_is_ten_times_the_longest_pause(make, pause, limit):
    steps = make()
    slow, quick = steps.start("0000"), steps.start("0001")
    steps.run_to_rung(slow, pause)
    steps.end(slow)
    steps.run_to_rung(quick, pause=1)
    assert steps.seconds_until_killed(2 * limit) == pytest.approx(limit, rel=0.02)


def test_preparation_time_does_not_count_as_a_pause(make):
    steps = make()
    trial = steps.start("0000")
    steps.wait(2000)
    steps.run_to_rung(trial)
    assert steps.seconds_until_killed() == pytest.approx(120, abs=2)


def test_the_longest_pause_of_an_unfinished_trial_counts(make):
    """Its signs of life come at growing intervals."""
    steps = make()
    trial = steps.start("0000")
    steps.run_to_rung(trial)
    for pause in (20, 80, 320, 1280):
        steps.hear(trial, {"alive": 4}, after=pause)
    assert steps.killed == []


def test_time_in_which_the_driver_was_stalled_does_not_count(make):
    steps = make(60)
    steps.hear(steps.start("0000"), {"alive": 0})
    for _ in range(10):
        steps.turn(seconds=600)  # such as a file system that does not respond
    assert steps.killed == []
    assert steps.seconds_until_killed() == pytest.approx(50, abs=2)


def test_a_process_still_busy_with_the_trial_before_is_killed(make):
    """Tune gives it to the next trial before that one starts."""
    steps = make()
    trial = steps.start("0000")
    trial.temporary_state.ray_actor = "actor of the trial before"
    assert steps.seconds_until_killed() == pytest.approx(HOUR, abs=2)
    assert steps.killed == ["actor of the trial before"]
