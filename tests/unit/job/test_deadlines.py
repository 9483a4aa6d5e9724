"""Deadlines in wall time, while the wall clock is set."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta

import pytest

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import deadlines
from airflow_provider_nbjob.job.deadlines import STEP_SECONDS, Deadline, SteadyClock, check_end_time

STEPS = [600.0, -600.0, 86_400.0, -86_400.0, 2.0]


class Clocks:
    """The clocks of a process; `step` sets the wall clock, as NTP or a person does."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 5000.0, 1.7e9

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds

    def step(self, seconds: float) -> None:
        self.wall += seconds


@pytest.fixture
def clocks(monkeypatch):
    made = Clocks()
    monkeypatch.setattr(time, "monotonic", lambda: made.monotonic)
    monkeypatch.setattr(time, "time", lambda: made.wall)
    monkeypatch.setattr(deadlines, "_clock", SteadyClock())
    return made


@pytest.mark.parametrize("step", STEPS)
def test_a_step_during_the_wait_does_not_move_the_deadline(clocks, step):
    deadline = Deadline(clocks.wall + 100)
    clocks.pass_by(40)
    clocks.step(step)
    assert deadline.remaining == pytest.approx(60)
    clocks.pass_by(60)
    assert deadline.remaining == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_step_before_the_wait_began_does_not_move_it_either(clocks, step):
    """A trigger that is given to this process soon after the step."""
    end_time = clocks.wall + 100
    clocks.step(step)
    clocks.pass_by(40)
    assert Deadline(end_time).remaining == pytest.approx(60)
    clocks.step(-step)
    assert Deadline(end_time).remaining == pytest.approx(60)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_lasts_is_believed(clocks, step):
    """The clock was wrong when the process began."""
    clocks.step(step)
    Deadline(0.0)
    clocks.pass_by(STEP_SECONDS + 1)
    assert Deadline(clocks.wall + 100).remaining == pytest.approx(100)


def test_a_clock_that_is_adjusted_little_by_little_is_followed(clocks):
    for _ in range(1000):
        clocks.pass_by(10)
        clocks.step(0.5)
        assert Deadline(clocks.wall + 100).remaining == pytest.approx(100)


def test_without_a_deadline_there_is_none():
    deadline = Deadline(None)
    assert not deadline.is_finite
    assert deadline.remaining == math.inf


@pytest.mark.parametrize("end_time", [0.0, -5.0, 1.0])
def test_a_deadline_long_ago_is_over(end_time):
    assert Deadline(end_time).is_finite
    assert Deadline(end_time).remaining == 0


@pytest.mark.parametrize("value", [0, 1.5, -1, 1.7e9])
def test_a_finite_number_is_a_deadline(value):
    assert check_end_time(value) == value
    assert check_end_time(None) is None


@pytest.mark.parametrize(
    "value",
    [
        *("1700000000", "", True, [], {}, datetime(2026, 1, 1), timedelta(1), 10**400, 1j),
        *(float("nan"), float("inf"), float("-inf")),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:10]}",
)
def test_anything_else_is_refused_with_field_value_and_rule(value):
    with pytest.raises(InvalidJob, match=r"end_time: .* is not a finite number of POSIX seconds"):
        check_end_time(value)
