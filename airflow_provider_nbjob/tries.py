"""Which try of a task instance this is, and which job ids its tries have.

What Airflow gives to tell the cases apart, read in 3.1.8, 3.2.2 and 3.3.2:

- `ti.try_number` only grows, over retries and clears alike.
- `dag_run.start_date` stays the same over retries; it changes when a finished run is cleared, or is deleted and made
  again, but not when a task of a running run is cleared (`clear_task_instances`).
- `ti.max_tries` stays the same over retries, and a clear sets it to the try number plus the task's `retries`: so
  ``max_tries - retries`` tries lie before the newest clear. Airflow's own `get_first_reschedule_date` counts so too.
  The clear of a task that is *running* is the exception: Airflow ends it, then tries it again like a retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_nbjob.job import job_id_for
from airflow_provider_nbjob.spec import DISPLAY_NAME_MAX


@dataclass(frozen=True)
class Tries:
    """The tries of one task instance in one start of its dag run; see `job_id_for` for the fields not described here.

    :param current: number of the try that asks
    :param first: number of the first try since the task was last cleared
    """

    dag_id: str
    run_id: str
    run_start: datetime | str | None
    task_id: str
    map_index: int
    current: int
    first: int

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Tries:
        """Read them from Airflow's task context."""
        ti, task = context["ti"], context["task"]
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            run_start=context["dag_run"].start_date,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            current=ti.try_number,
            first=max(1, ti.max_tries - (task.retries or 0) + 1),
        )

    @property
    def default_display_name(self) -> str:
        """The display name of this task instance's jobs, where it is given no other."""
        mapped = "" if self.map_index == -1 else f" [{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{mapped} {self.run_id}"[:DISPLAY_NAME_MAX]

    def job_id(self, try_number: int | None = None) -> str:
        """The id of a try's job; default: of the current one."""
        return job_id_for(
            dag_id=self.dag_id,
            run_id=self.run_id,
            run_start=self.run_start,
            task_id=self.task_id,
            map_index=self.map_index,
            try_number=self.current if try_number is None else try_number,
        )

    def try_of(self, job_id: str) -> int | None:
        """The number of this task instance's try that an id belongs to, in whatever start of its run; None: of none."""
        task, _, try_number = job_id.rpartition("-")
        is_ours = task.rpartition("-")[0] == self.job_id().rsplit("-", 2)[0]
        return int(try_number) if is_ours and try_number.isdigit() else None

    def is_earlier(self, job_id: str) -> bool:
        """Whether an id belongs to an earlier try of this task instance, in whatever start of its run."""
        try_number = self.try_of(job_id)
        return try_number is not None and try_number < self.current

    @property
    def earlier(self) -> range:
        """The numbers of the tries before the current one, the newest first."""
        return range(self.current - 1, 0, -1)

    @property
    def earlier_since_the_clear(self) -> range:
        """Those of them that are tries at the same work: without a clear in between."""
        return range(self.current - 1, self.first - 1, -1)
