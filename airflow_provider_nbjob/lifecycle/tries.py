"""Identify the tries of a task instance, and compute the ids of their jobs.

Airflow distinguishes retries, clears and starts of a run by these values, read in the source of Airflow 3.1.8, 3.2.2
and 3.3.2:

- `ti.try_number` grows with every retry and every clear, and never shrinks.
- `dag_run.start_date` stays the same over retries. It changes when a finished run is cleared, or is deleted and made
  again. It does not change when a task of a running run is cleared (`clear_task_instances`).
- `ti.max_tries` stays the same over retries. A clear sets it to the try number plus the task's `retries`, so
  ``max_tries - retries`` tries lie before the newest clear. Airflow's `get_first_reschedule_date` counts in the same
  way. The clear of a *running* task is an exception: Airflow ends the task, and then tries it again like a retry.
- `retries` is the value in the present DAG, which may have been edited meanwhile. So each job's mark records the
  `max_tries` at its submit: the same number means that there was no clear in between, even if `retries` was edited.
- `dag_run.clear_number` grows with every clear of any task in the run; before Airflow 3.3, only with clears of a
  finished run.
- `ti.id` is new for each try. `airflow tasks test` on a date that has a run gets the id and the try number of the run's
  own task instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_nbjob.job import job_id_for, short_hash
from airflow_provider_nbjob.job.mark import Mark, new_nonce
from airflow_provider_nbjob.job.spec import DISPLAY_NAME_MAX

JOB_ID_MAX = 63


@dataclass(frozen=True)
class Tries:
    """The tries of one task instance in one start of its dag run. `job_id_for` describes the other fields.

    :param current: number of the current try
    :param first: number of the first try since the last clear of the task, if `retries` was not edited since then
    :param max_tries: `max_tries` of Airflow's task instance
    :param clears: number of clears in the run, or None if Airflow does not provide it
    :param run_after: `run_after` of the dag run; `airflow dags test` makes a run again with the same start
    :param attempt: text that distinguishes the current try from tries with the same number in other starts of the run
    :param own_id: the job id in the task's arguments, or None
    :param test: text that only the ids of `airflow tasks test` contain; empty in any other run
    """

    dag_id: str
    run_id: str
    run_start: datetime | str | None
    task_id: str
    map_index: int
    current: int
    first: int
    max_tries: int = 0
    clears: int | None = None
    run_after: datetime | str | None = None
    attempt: str = ""
    own_id: str | None = None
    test: str = ""

    @classmethod
    def from_context(cls, context: Mapping[str, Any], *, own_id: str | None = None, test: str = "") -> Tries:
        """Build the tries from Airflow's task context."""
        ti, task, run = context["ti"], context["task"], context["dag_run"]
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            run_start=run.start_date,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            current=ti.try_number,
            first=max(1, ti.max_tries - (task.retries or 0) + 1),
            max_tries=ti.max_tries,
            clears=getattr(run, "clear_number", None),
            run_after=getattr(run, "run_after", None),
            attempt=str(getattr(ti, "id", None) or ti.start_date),
            own_id=own_id,
            test=test,
        )

    @property
    def default_display_name(self) -> str:
        """Return the default display name of this task instance's jobs, cut to 128 characters."""
        mapped = "" if self.map_index == -1 else f" [{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{mapped} {self.run_id}"[:DISPLAY_NAME_MAX]

    def job_id(self, try_number: int | None = None) -> str:
        """Return the id of a try's job.

        Compute the id, unless the task has an id of its own: then the first try gets that id, and a later one gets
        ``{own_id}-{try_number}``.

        :param try_number: number of the try; default the current one
        """
        number = self.current if try_number is None else try_number
        if self.own_id:
            job_id = self.own_id if number == 1 else with_suffix(self.own_id, str(number))
        else:
            job_id = self._computed_id(number)
        return with_suffix(job_id, f"test-{self.test}") if self.test else job_id

    def _computed_id(self, try_number: int) -> str:
        return job_id_for(
            dag_id=self.dag_id,
            run_id=self.run_id,
            run_start=self.run_start,
            task_id=self.task_id,
            map_index=self.map_index,
            try_number=try_number,
        )

    def other_job_id(self, mark: Mark) -> str:
        """Return the id for the current try if a job that is not its own already has its first id.

        :param mark: mark of the create
        """
        return with_suffix(self.job_id(), f"x{mark.nonce[:6]}")

    def new_mark(self) -> Mark:
        """Return a new mark for one create of the current try."""
        return Mark(
            nonce=new_nonce(),
            task=self._task,
            run=self._run,
            attempt=short_hash(self.attempt, 8),
            max_tries=self.max_tries,
            clears=self.clears,
        )

    def is_of_this_task(self, mark: Mark) -> bool:
        """Return whether a create belongs to this task instance, in any start of its run."""
        return mark.task == self._task

    def is_of_this_run(self, mark: Mark) -> bool:
        """Return whether a create belongs to this task instance in this start of its run."""
        return (mark.task, mark.run) == (self._task, self._run)

    def is_of_this_try(self, mark: Mark) -> bool:
        """Return whether a create belongs to the current try, even if another process that runs this try sent it."""
        return self.is_of_this_run(mark) and mark.attempt == short_hash(self.attempt, 8)

    def is_same_work(self, try_number: int, mark: Mark | None) -> bool:
        """Return whether the task was not cleared since an earlier try.

        :param try_number: number of the earlier try
        :param mark: mark of that try's job, or None
        """
        if mark is None or mark.max_tries is None:
            return try_number >= self.first
        if (mark.run, mark.max_tries) != (self._run, self.max_tries):
            return False
        # If `retries` was lowered by the number of tries, a clear leads to the same `max_tries`.
        return mark.clears == self.clears or try_number >= self.first

    @property
    def _task(self) -> str:
        return self._computed_id(1).split("-")[1]

    @property
    def _run(self) -> str:
        return short_hash(f"{self.run_start} {self.run_after}", 8)

    def try_of(self, job_id: str) -> int | None:
        """Return the number of the try that a job id belongs to, in any start of the run; None if to no try."""
        usual = re.sub(r"-x[0-9a-f]{6}$", "", job_id)
        for number in range(1, self.current + 1) if self.own_id else ():
            if self.job_id(number) in (job_id, usual):
                return number
        match = re.fullmatch(rf"nbjob-{self._task}-[0-9a-f]+-([0-9]+)(?:-x[0-9a-f]{{6}})?", job_id)
        return int(match[1]) if match else None

    def is_earlier(self, job_id: str) -> bool:
        """Return whether a job id belongs to an earlier try of this task instance, in any start of its run."""
        try_number = self.try_of(job_id)
        return try_number is not None and try_number < self.current

    @property
    def earlier(self) -> range:
        """Return the numbers of the tries before the current one, newest first."""
        return range(self.current - 1, 0, -1)


def with_suffix(job_id: str, suffix: str) -> str:
    """Return ``{job_id}-{suffix}`` with at most 63 characters; cut an id that is too long, and append its hash."""
    room = JOB_ID_MAX - len(suffix) - 1
    if len(job_id) > room:
        job_id = f"{job_id[: room - 7]}-{short_hash(job_id, 6)}"
    return f"{job_id}-{suffix}"


def end_time_of_try(ti: Any, execution_timeout: timedelta | None) -> float | None:
    """Return when Airflow's `execution_timeout` ends a try, in POSIX seconds, or None if it has none.

    Airflow 3.3 ignores `execution_timeout` while a task is deferred.

    :param ti: the task instance; Airflow 3.1 has forgotten the start of a try that was deferred
    """
    if execution_timeout is None or ti.start_date is None:
        return None
    return float(ti.start_date.timestamp() + execution_timeout.total_seconds())
