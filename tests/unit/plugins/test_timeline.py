from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.plugins.notebook_jobs.job_view import JobView
from airflow_provider_nbjob.plugins.notebook_jobs.timeline import MIN_WIDTH, WIDTH, steps_of

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def view(*steps: tuple[str, float], created: datetime | None = START) -> JobView:
    seen = [(JobState[state], START.timestamp() + after) for state, after in steps]
    return JobView(state=seen[-1][0] if seen else None, steps=JobSteps(seen), created=created)


def test_the_steps_of_an_ended_job():
    steps = steps_of(view(("PENDING", 1), ("RUNNING", 61), ("SUCCEEDED", 361)), START + timedelta(days=1))
    assert [(step.state, step.seconds) for step in steps] == [
        ("SUBMITTED", 1),
        ("JOB_STATE_PENDING", 60),
        ("JOB_STATE_RUNNING", 300),
        ("JOB_STATE_SUCCEEDED", None),
    ]
    assert steps[0].x == 0
    assert sum(step.width for step in steps) == pytest.approx(WIDTH, abs=0.5)
    assert min(step.width for step in steps) >= MIN_WIDTH
    assert steps[2].width > 4 * steps[1].width


def test_a_job_under_way_goes_on_until_now():
    steps = steps_of(view(("RUNNING", 10)), START + timedelta(seconds=70))
    assert [step.seconds for step in steps] == [10, 60]


def test_nothing_known_is_no_steps():
    assert steps_of(JobView(), START) == []


def test_clocks_that_disagree_draw_nothing_backwards():
    steps = steps_of(view(("RUNNING", -5), ("FAILED", 10)), START)
    assert all(step.width >= MIN_WIDTH for step in steps)
