"""List the jobs of this Airflow, as far as their reader may see them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row
from sqlalchemy.orm import Session

from airflow_provider_nbjob.job.record import Record, read_record
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook.text import one_line
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import ReadableDags, TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.filters import JobFilter
from airflow_provider_nbjob.plugins.notebook_jobs.queries import PAGE_SIZE, TaskIds, known_tasks, page_of_jobs
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import STATES_OF_ACTIVE_TRY


@dataclass(frozen=True)
class JobRow:
    """One try of a task, and the job that it submitted.

    :param started: start of the task, UTC
    :param ended: end of the task, UTC; None while it has not ended
    :param task_state: state of the task, by Airflow's name
    :param state: state of the job, by the API's name; if it is not known, ``ACTIVE``, ``JOB_STATE_FAILED`` if the task
        failed, or ``UNKNOWN``
    :param record: the record that the task made of its job; None if Airflow no longer has it
    :param error: one line: the error of the failing cell, or the message of the job's status; empty if it is not
        known, or if the reader may not see it
    """

    task: TaskRef
    rendered_map_index: str | None
    started: datetime
    ended: datetime | None
    task_state: str | None
    state: str
    record: Record | None = None
    error: str = ""

    def seconds(self, now: datetime) -> float | None:
        """Return the duration of the task until its end or until now; None if it has ended and its end is not known."""
        end = now if self.goes_on else self.ended
        return max(0.0, (end - self.started).total_seconds()) if end else None

    @property
    def goes_on(self) -> bool:
        """Return whether the task has not ended."""
        return self.ended is None and self.task_state in STATES_OF_ACTIVE_TRY

    @property
    def has_failed(self) -> bool:
        """Return whether the job or its task failed."""
        return self.state == "JOB_STATE_FAILED" or self.task_state in ("failed", "up_for_retry")

    @property
    def job_id(self) -> str:
        """Return the last part of the job's name; empty if the name is not known."""
        return self.record.name.job_id if self.record else ""


@dataclass(frozen=True)
class Listing:
    """A page of jobs, newest first, with the counts, charts and filters around it.

    :param total: number of jobs on all pages
    :param counts: number of jobs by state, largest first; the filter of states does not apply
    :param page: number of this page, from 1
    :param tasks: ids of DAG and task that the reader may filter by
    :param runs: the last tries of each task of the page, oldest first, by the ids of DAG and task
    :param notes: sentences that say what the reader may not see
    """

    rows: list[JobRow] = field(default_factory=list)
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    page: int = 1
    tasks: list[TaskIds] = field(default_factory=list)
    runs: dict[TaskIds, list[JobRow]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def pages(self) -> int:
        """Return the number of pages; 1 if there are no jobs."""
        return max(1, -(-self.total // PAGE_SIZE))

    @property
    def first(self) -> int:
        """Return the position of the page's first row among all jobs, from 1; 0 if the page has no rows."""
        return (self.page - 1) * PAGE_SIZE + 1 if self.rows else 0


def list_jobs(
    session: Session,
    readable_dag_ids: Collection[str],
    wanted: JobFilter,
    *,
    narrow: Callable[[set[str]], ReadableDags] | None = None,
) -> Listing:
    """Return jobs of the DAGs that may be read, by two queries, or by three if the page is out of range.

    :param readable_dag_ids: nothing of other DAGs is read
    :param narrow: returns which of the DAGs that have jobs may be listed, and which with errors; default: all
    """
    tasks = [(dag_id, task_id) for dag_id, task_id in session.execute(known_tasks(readable_dag_ids))]
    known = {dag_id for dag_id, _ in tasks}
    readable = narrow(known) if narrow else ReadableDags(known, known)
    tasks = [task for task in tasks if task[0] in readable.listed]
    around = Listing(tasks=tasks, notes=_notes(known, readable))
    asked = [
        (dag_id, task_id)
        for dag_id, task_id in tasks
        if wanted.dag_id in (None, dag_id) and wanted.task_id in (None, task_id)
    ]
    if not asked:
        return around
    listing = _read(session, asked, wanted, readable)
    if listing.total and not listing.rows:
        listing = _read(session, asked, replace(wanted, page=listing.pages), readable)
    return replace(listing, tasks=around.tasks, notes=around.notes)


def _notes(known: set[str], readable: ReadableDags) -> list[str]:
    notes = []
    if readable.listed != known:
        notes.append("The jobs of DAGs whose task instances or XComs you may not read are left out.")
    if readable.with_errors != readable.listed:
        notes.append("The errors of DAGs whose logs you may not read are left out.")
    return notes


def _read(session: Session, asked: list[TaskIds], wanted: JobFilter, readable: ReadableDags) -> Listing:
    counts: dict[str, int] = {}
    rows: list[tuple[int, JobRow]] = []
    runs: defaultdict[TaskIds, list[tuple[int, JobRow]]] = defaultdict(list)
    for row in session.execute(page_of_jobs(asked, wanted)):
        if row.part == "count":
            counts[str(row.state)] = row.position
        elif row.part == "page":
            rows.append((row.position, _row(row, with_error=row.dag_id in readable.with_errors)))
        else:
            runs[row.dag_id, row.task_id].append((row.position, _row(row)))
    total = counts.get(wanted.state, 0) if wanted.state else sum(counts.values())
    return Listing(
        rows=[row for _, row in sorted(rows, key=_position)],
        total=total,
        counts=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        page=wanted.page,
        runs={task: [run for _, run in sorted(last, key=_position, reverse=True)] for task, last in runs.items()},
    )


def _position(item: tuple[int, JobRow]) -> int:
    return item[0]


def _row(row: Row[Any], *, with_error: bool = False) -> JobRow:
    record = read_record(getattr(row, "record", None))
    state = str(row.state)
    return JobRow(
        task=TaskRef(row.dag_id, row.run_id, row.task_id, row.map_index, row.try_number),
        rendered_map_index=row.rendered_map_index,
        started=row.started,
        ended=row.ended,
        task_state=row.task_state,
        state=state,
        record=record,
        error=_error(record, state) if record and with_error else "",
    )


def _error(record: Record, state: str) -> str:
    if record.failed_cell or record.error:
        return one_line(f"cell {record.failed_cell or '?'}: {redact(record.error)}")
    return one_line(redact(record.message)) if state != "JOB_STATE_SUCCEEDED" else ""
