"""Which tries a task instance has had, from what Airflow tells."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_nbjob.lifecycle.tries import Tries

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def tries(try_number: int, *, max_tries: int, retries: int | None, start=START, task_id: str = "t") -> Tries:
    ti = SimpleNamespace(
        dag_id="d",
        task_id=task_id,
        run_id="r",
        map_index=None,
        try_number=try_number,
        max_tries=max_tries,
        start_date=START,
    )
    run = SimpleNamespace(start_date=start)
    return Tries.from_context({"ti": ti, "dag_run": run, "task": SimpleNamespace(retries=retries)})


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retries", "since_the_clear"),
    [
        (1, 0, 0, []),
        (1, 0, None, []),
        (3, 2, 2, [2, 1]),  # retried twice
        (2, 1, 0, []),  # cleared after the first try
        (4, 4, 2, [3]),  # cleared after the second try, retried once
        (5, 2, 3, [4, 3, 2, 1]),  # cleared while it ran, which leaves max_tries as it is
        (2, 1, 3, [1]),  # the DAG's retries were raised meanwhile
    ],
)
def test_the_tries_since_the_clear(try_number, max_tries, retries, since_the_clear):
    found = tries(try_number, max_tries=max_tries, retries=retries)
    assert [number for number in found.earlier if found.is_same_work(number, None)] == since_the_clear
    assert list(found.earlier) == list(range(try_number - 1, 0, -1))


def test_earlier_tries_are_told_from_later_ones_and_from_other_tasks():
    second = tries(2, max_tries=1, retries=1)
    assert second.is_earlier(second.job_id(1))
    assert not second.is_earlier(second.job_id())
    assert not second.is_earlier(second.job_id(3))  # of a worker that lives though Airflow gave it up: us
    before_a_clear = tries(1, max_tries=1, retries=1, start=START - timedelta(hours=1))
    assert second.is_earlier(before_a_clear.job_id())
    assert not second.is_earlier(tries(1, max_tries=1, retries=1, task_id="u").job_id())
    assert not second.is_earlier("1234567890123456789")
    assert not second.is_earlier("someone-elses-x")
