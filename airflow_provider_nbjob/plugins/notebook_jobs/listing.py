"""The jobs of this Airflow: read from its metadata database, in a number of queries that does not grow with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, literal, null, or_, select, tuple_, union_all
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, Record, read_record
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook.text import one_line
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import ReadableDags, TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.filters import JobFilter
from airflow_provider_nbjob.plugins.notebook_jobs.tries import (
    UNFINISHED,
    XCOM,
    known_tasks,
    record_text,
    same_task_instance,
    tries,
)

PAGE_SIZE = 50
CHART_RUNS = 20
SEARCHED = ("dag_id", "task_id", "run_id", "job_name", "rendered_map_index")


@dataclass(frozen=True)
class JobRow:
    """One try of a task, and the job that it submitted.

    :param started: the task's start, UTC
    :param ended: the task's end, UTC; `None` while it goes on
    :param task_state: the task's, by Airflow's name
    :param state: the job's by the API's name where it is known; else ``ACTIVE``, ``JOB_STATE_FAILED`` where the task
        failed, or ``UNKNOWN``
    :param record: what the task told of its job; None if that is not known any more
    :param error: what went wrong, as one line: of the failing cell, else of the job's status; empty if that is not
        known, or not the reader's to see
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
        """How long the task took, or has taken so far; `None` if it has an end that nobody wrote down."""
        end = now if self.goes_on else self.ended
        return max(0.0, (end - self.started).total_seconds()) if end else None

    @property
    def goes_on(self) -> bool:
        """Whether the task has not ended."""
        return self.ended is None and self.task_state in UNFINISHED

    @property
    def has_failed(self) -> bool:
        """Whether the job failed, or its task."""
        return self.state == "JOB_STATE_FAILED" or self.task_state in ("failed", "up_for_retry")

    @property
    def job_id(self) -> str:
        """The last part of the job's name; empty if that is not known."""
        return self.record.name.job_id if self.record else ""


@dataclass(frozen=True)
class Listing:
    """A page of jobs, newest first, and what stands around it.

    :param total: of all pages
    :param counts: of jobs by state, most first, whatever state is asked for
    :param page: that is shown; from 1
    :param tasks: ids of DAG and task, of all that the person may ask for
    :param runs: the last tries of the tasks of the page, each oldest first, by the ids of DAG and task
    :param notes: what is left out as it is not the reader's to see
    """

    rows: list[JobRow] = field(default_factory=list)
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    page: int = 1
    tasks: list[tuple[str, str]] = field(default_factory=list)
    runs: dict[tuple[str, str], list[JobRow]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def pages(self) -> int:
        """How many there are; one where there are no jobs."""
        return max(1, -(-self.total // PAGE_SIZE))

    @property
    def first(self) -> int:
        """The number of the page's first row among all, from 1; 0 if there is none."""
        return (self.page - 1) * PAGE_SIZE + 1 if self.rows else 0


def list_jobs(
    session: Session,
    readable_dag_ids: Collection[str],
    wanted: JobFilter,
    *,
    narrow: Callable[[set[str]], ReadableDags] | None = None,
) -> Listing:
    """Return jobs of the DAGs that may be read, by two queries, or three if the page is out of range.

    :param readable_dag_ids: nothing of another DAG is looked at
    :param narrow: which of the DAGs that have jobs may be listed, and with errors; default: all
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


def _read(session: Session, asked: list[tuple[str, str]], wanted: JobFilter, readable: ReadableDags) -> Listing:
    counts, rows, runs = {}, [], defaultdict(list)
    for row in session.execute(_statement(asked, wanted)):
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


def _statement(asked: list[tuple[str, str]], wanted: JobFilter) -> Any:
    """All that a page shows, in one statement: the tries are looked up once, which is what takes the time."""
    every = tries(asked, named=wanted.text is not None)
    conditions = _conditions(every, wanted)
    found = select(every).where(*conditions).cte("found") if conditions else every
    page = (
        select(found)
        .where(*[found.c.state == wanted.state] if wanted.state else [])
        .order_by(*_newest_first(found))
        .limit(PAGE_SIZE)
        .offset((wanted.page - 1) * PAGE_SIZE)
        .cte("page")
    )
    names = every.c.keys()
    its_record = and_(page.c.on_record, XCOM.c.key == JOB_XCOM_KEY, same_task_instance(XCOM, page))
    position = func.row_number().over(order_by=_newest_first(page))
    shown = select(literal("page").label("part"), position.label("position"), page, record_text().label("record"))
    runs = _last_runs(every, page)
    counts = select(found.c.state, func.count().label("number")).group_by(found.c.state).subquery("counts")
    return union_all(
        shown.select_from(page).outerjoin(XCOM, its_record),
        select(literal("run"), runs.c.position, *(runs.c[name] for name in names), null()),
        select(literal("count"), counts.c.number, *(counts.c[n] if n == "state" else null() for n in names), null()),
    )


def _last_runs(every: Any, page: Any) -> Any:
    """Return the newest tries of the tasks of a page, whatever else is asked for."""
    rank = func.row_number().over(partition_by=(every.c.dag_id, every.c.task_id), order_by=_newest_first(every)[:1])
    shown = select(page.c.dag_id, page.c.task_id)
    of_page = select(every, rank.label("position")).where(tuple_(every.c.dag_id, every.c.task_id).in_(shown))
    ranked = of_page.subquery("ranked")
    return select(ranked).where(ranked.c.position <= CHART_RUNS).subquery("runs")


def _position(item: tuple[Any, Any]) -> Any:
    return item[0]


def _conditions(found: Any, wanted: JobFilter) -> list[ColumnElement[bool]]:
    conditions = []
    if wanted.since:
        conditions.append(found.c.started >= wanted.since)
    if wanted.until:
        conditions.append(found.c.started < wanted.until)
    if wanted.text:
        conditions.append(or_(*(found.c[name].icontains(wanted.text, autoescape=True) for name in SEARCHED)))
    return conditions


def _newest_first(found: Any) -> tuple[ColumnElement[Any], ...]:
    # Many tasks may start at the same time; the rest of the key keeps the order from one page to the next.
    columns = found.c
    return (
        columns.started.desc(),
        columns.dag_id,
        columns.run_id,
        columns.task_id,
        columns.map_index,
        columns.try_number.desc(),
    )


def _row(row: Any, *, with_error: bool = False) -> JobRow:
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
