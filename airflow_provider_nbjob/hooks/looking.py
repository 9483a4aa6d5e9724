"""Looking until a job has ended, on a worker, or until a schedule has launched one, in the triggerer.

The looks are generators; whoever takes them sleeps in between, in its own way, so that there is one copy of this
for threads and for event loops.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_nbjob.exceptions import JobTimeout
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.weather import Weather

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


class Look(NamedTuple):
    """One look: the job, where the API answered, and the seconds until the next look, `None` after the last."""

    job: Any
    pause: float | None


def looks_at_job(
    hook: NotebookExecutionJobHook, name: str, *, poll_interval: float, end_time: float | None
) -> Iterator[Look]:
    """Look at a job until it ends.

    A transient error is weather: see `Weather`; looking goes on until `end_time`.

    :param name: the job's resource name
    :param poll_interval: seconds between looks
    :param end_time: deadline, in POSIX seconds; without one, looking goes on for as long as the job does
    :return: looks; the last one, and only that, has no pause and holds the ended job
    :raises JobTimeout: when `end_time` is reached
    :raises JobLost: where the job was deleted
    :raises ApiError: where the API refuses to answer
    """
    state = None
    weather = Weather(hook.log)
    while True:
        job = None
        with weather:
            job = hook.get_notebook_execution_job(name=name, retry=False, renew=True)
        if job:
            if state != (state := state_of(job)):
                hook.log.info("Notebook job %s is %s", JobName.parse(name).job_id, state.description)
            if state.is_terminal:
                yield Look(job, None)
                return
        yield Look(job, _pause(poll_interval, end_time, f"Notebook job {name} was {state or 'never seen'}"))


def looks_at_schedule(
    hook: NotebookExecutionJobHook,
    schedule: str,
    *,
    created_after: float,
    location: str,
    project_id: str | None,
    poll_interval: float,
    end_time: float | None,
) -> Iterator[Look]:
    """Look for the job that a schedule launches; as `looks_at_job`, but the last look holds the job that was found.

    :param schedule: resource name or bare id of the schedule
    :param created_after: POSIX seconds; jobs launched earlier do not count
    """
    weather = Weather(hook.log)
    while True:
        job = None
        with weather:
            job = hook.find_scheduled_job(
                schedule=schedule, created_after=created_after, location=location, project_id=project_id
            )
        if job:
            yield Look(job, None)
            return
        yield Look(None, _pause(poll_interval, end_time, f"Schedule {schedule} had launched no job"))


def _pause(poll_interval: float, end_time: float | None, so_far: str) -> float:
    """The seconds until the next look, which is never after the deadline.

    :raises JobTimeout: where the deadline is reached
    """
    if end_time is None:
        return poll_interval
    remaining = end_time - time.time()
    if remaining <= 0:
        raise JobTimeout(f"{so_far} at the deadline")
    return min(poll_interval, remaining)
