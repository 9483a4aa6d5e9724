"""Which try of a task instance this is, and which job ids its tries have.

What Airflow gives to tell the cases apart, read in 3.1.8, 3.2.2 and 3.3.2:

- `ti.try_number` only grows, over retries and clears alike.
- `dag_run.start_date` stays the same over retries; it changes when a finished run is cleared, or is deleted and made
  again, but not when a task of a running run is cleared (`clear_task_instances`).
- `ti.max_tries` stays the same over retries, and a clear sets it to the try number plus the task's `retries`: so
  ``max_tries - retries`` tries lie before the newest clear. Airflow's own `get_first_reschedule_date` counts so too.
  The clear of a task that is *running* is the exception: Airflow ends it, then tries it again like a retry.
- `retries` is that of the DAG as it is now, which may have been edited since. So each job's mark says what `max_tries`
  was when it was submitted: the same number means no clear in between, whatever `retries` has become.
- `dag_run.clear_number` grows with clears in the run, of whichever task (before Airflow 3.3, only of a finished run).
- `ti.id` is new for each try. `airflow tasks test` on a date that has a run is given the id and the try number of the
  run's own task instance.
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
    """The tries of one task instance in one start of its dag run; see `job_id_for` for the fields not described here.

    :param current: number of the try that asks
    :param first: number of the first try since the task was last cleared, if `retries` was not edited since
    :param max_tries: Airflow's
    :param clears: number of clears in the run; None if Airflow does not say
    :param run_after: of the dag run: `airflow dags test` makes a run again with the same start
    :param attempt: what tells the current try from those of other starts of the run that have its number
    :param own_id: the job id that the task's arguments name, if any
    :param test: text that the ids of `airflow tasks test` have, and no others; empty if this is none
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
        """Read them from Airflow's task context."""
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
        """The display name of this task instance's jobs, where it is given no other."""
        mapped = "" if self.map_index == -1 else f" [{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{mapped} {self.run_id}"[:DISPLAY_NAME_MAX]

    def job_id(self, try_number: int | None = None) -> str:
        """Return the id of a try's job; default: of the current one.

        It is computed, or made of the task's own one: that for the first try, and ``{own_id}-{try}`` for later ones.
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
        """Return the id to use if the current try's own one is taken by a job that is not its own."""
        return with_suffix(self.job_id(), f"x{mark.nonce[:6]}")

    def new_mark(self) -> Mark:
        """Return a mark for one create of the current try."""
        return Mark(
            nonce=new_nonce(),
            task=self._task,
            run=self._run,
            attempt=short_hash(self.attempt, 8),
            max_tries=self.max_tries,
            clears=self.clears,
        )

    def is_of_this_task(self, mark: Mark) -> bool:
        """Return whether a create was of this task instance, in whatever start of its run."""
        return mark.task == self._task

    def is_of_this_run(self, mark: Mark) -> bool:
        """Return whether a create was of this task instance in this start of its run."""
        return (mark.task, mark.run) == (self._task, self._run)

    def is_of_this_try(self, mark: Mark) -> bool:
        """Return whether a create was of the current try, perhaps by another process that ran it too."""
        return self.is_of_this_run(mark) and mark.attempt == short_hash(self.attempt, 8)

    def is_same_work(self, try_number: int, mark: Mark | None) -> bool:
        """Return whether the task was not cleared since an earlier try.

        :param mark: of that try's job, if it has one
        """
        if mark is None or mark.max_tries is None:
            return try_number >= self.first
        if (mark.run, mark.max_tries) != (self._run, self.max_tries):
            return False
        # A clear after `retries` was lowered by the number of tries would lead to the same `max_tries`.
        return mark.clears == self.clears or try_number >= self.first

    @property
    def _task(self) -> str:
        return self._computed_id(1).split("-")[1]

    @property
    def _run(self) -> str:
        return short_hash(f"{self.run_start} {self.run_after}", 8)

    def try_of(self, job_id: str) -> int | None:
        """Return the number of this task's try that an id belongs to, in whatever start of its run, or None."""
        usual = re.sub(r"-x[0-9a-f]{6}$", "", job_id)
        for number in range(1, self.current + 1) if self.own_id else ():
            if self.job_id(number) in (job_id, usual):
                return number
        match = re.fullmatch(rf"nbjob-{self._task}-[0-9a-f]+-([0-9]+)(?:-x[0-9a-f]{{6}})?", job_id)
        return int(match[1]) if match else None

    def is_earlier(self, job_id: str) -> bool:
        """Whether an id belongs to an earlier try of this task instance, in whatever start of its run."""
        try_number = self.try_of(job_id)
        return try_number is not None and try_number < self.current

    @property
    def earlier(self) -> range:
        """The numbers of the tries before the current one, the newest first."""
        return range(self.current - 1, 0, -1)


def with_suffix(job_id: str, suffix: str) -> str:
    """Return ``{job_id}-{suffix}``; an id that is too long for that ends in a hash in place of what is cut."""
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
