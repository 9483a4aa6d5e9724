"""Read the metadata database of Airflow, in a number of queries that does not grow with the number of jobs.

A try whose job is still on record is one row of XCom with its task instance. Its times and its task's state are in the
history of task instances when it is over. Airflow deletes the XComs of a task instance when its next try starts, so of
earlier tries there is only the history, which is read for the tasks that have a record in any run.

The statements are written in what SQLAlchemy 1.4 and 2 have in common: Airflow's constraints for 3.1 pin 1.4.54.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    String,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import (
    CTE,
    ColumnElement,
    CompoundSelect,
    FromClause,
    FunctionElement,
    Select,
    Subquery,
)

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, NAME_MAX, Record, read_record
from airflow_provider_nbjob.plugins.notebook_jobs.airflow_compat import (
    HISTORY,
    RENDERED,
    RUN,
    TI,
    XCOM,
    operator_arguments,
)
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.filters import ACTIVE, UNKNOWN, JobFilter
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import STATES_OF_ACTIVE_TRY, TOLD, WAY, TaskData, TaskTry

PAGE_SIZE = 50  # jobs
CHART_RUNS = 20  # tries of a task
FAILED = "JOB_STATE_FAILED"
RECORD_MAX = 256 * 1024  # characters of a record that is read; a task writes a few thousand
STATES_OF_SKIPPED_TRY = ("skipped", "upstream_failed", "removed")  # the operator never ran
IDENTITY = ("dag_id", "task_id", "run_id", "map_index")  # columns that name a task instance, in each of the tables
SEARCHED = ("dag_id", "task_id", "run_id", "job_name", "rendered_map_index")

TaskIds = tuple[str, str]  # the ids of a DAG and of one of its tasks

if TYPE_CHECKING:
    _TextFunction = FunctionElement[str]
else:
    _TextFunction = FunctionElement  # which is not generic in SQLAlchemy 1.4


def same_task_instance(one: FromClause, other: FromClause) -> ColumnElement[bool]:
    """Return the condition that two rows are of the same task instance; their tries may differ."""
    return and_(*(one.c[name] == other.c[name] for name in IDENTITY))


def _is_of_task_instance(table: FromClause, ref: TaskRef) -> ColumnElement[bool]:
    """Return the condition that a row is of this task instance."""
    return and_(*(table.c[name] == getattr(ref, name) for name in IDENTITY))


def known_tasks(dag_ids: Collection[str]) -> Select[Any]:
    """Select the ids of DAG and task of each task of these DAGs that has a record."""
    return (
        select(XCOM.c.dag_id, XCOM.c.task_id)
        .where(XCOM.c.key == JOB_XCOM_KEY, XCOM.c.dag_id.in_(dag_ids))
        .distinct()
        .order_by(XCOM.c.dag_id, XCOM.c.task_id)
    )


# --- the page of all jobs ---


def page_of_jobs(tasks: Collection[TaskIds], wanted: JobFilter) -> CompoundSelect[Any]:
    """Select all that a page of jobs shows, in one statement: finding the tries takes most of the time.

    The column `part` is ``page`` for a row of the page, ``run`` for one of a chart, and ``count`` for the number of
    jobs in a state. `position` has the order, newest first, or that number.

    :param tasks: the tasks whose jobs are listed
    """
    every = _tries(tasks, named=wanted.text is not None)
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
    shown = select(literal("page").label("part"), position.label("position"), page, _record_text().label("record"))
    runs = _last_runs(every, page)
    counts = select(found.c.state, func.count().label("number")).group_by(found.c.state).subquery("counts")
    return union_all(
        shown.select_from(page).outerjoin(XCOM, its_record),
        select(literal("run"), runs.c.position, *(runs.c[name] for name in names), null()),
        select(literal("count"), counts.c.number, *(counts.c[n] if n == "state" else null() for n in names), null()),
    )


def _last_runs(every: CTE, page: CTE) -> Subquery:
    """Select the newest tries of the tasks of a page, with the filters left out."""
    rank = func.row_number().over(partition_by=(every.c.dag_id, every.c.task_id), order_by=_newest_first(every)[:1])
    shown = select(page.c.dag_id, page.c.task_id)
    of_page = select(every, rank.label("position")).where(tuple_(every.c.dag_id, every.c.task_id).in_(shown))
    ranked = of_page.subquery("ranked")
    return select(ranked).where(ranked.c.position <= CHART_RUNS).subquery("runs")


def _conditions(found: FromClause, wanted: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since:
        conditions.append(found.c.started >= wanted.since)
    if wanted.until:
        conditions.append(found.c.started < wanted.until)
    if wanted.text:
        escaped = re.sub("([%_/])", r"/\1", wanted.text)
        conditions.append(or_(*(found.c[name].ilike(f"%{escaped}%", escape="/") for name in SEARCHED)))
    return conditions


def _newest_first(found: FromClause) -> tuple[ColumnElement[Any], ...]:
    # Many tasks may start at the same time: the other columns keep the order from one page to the next.
    columns = found.c
    return (
        columns.started.desc(),
        columns.dag_id,
        columns.run_id,
        columns.task_id,
        columns.map_index,
        columns.try_number.desc(),
    )


# --- tries ---


def _tries(tasks: Collection[TaskIds], *, named: bool) -> CTE:
    """Select one row for each try of these tasks.

    The columns are `IDENTITY`, `try_number`, `rendered_map_index`, `started`, `ended` (null while the task has not
    ended), `task_state`, `state`, `job_name`, and `on_record`, which is true if the XCom is of this try.

    :param named: fill `job_name`; otherwise it is null, because long texts make the tries slow to sort
    """
    return union_all(_on_record(tasks, named), _in_history(tasks)).cte("tries")


def _on_record(tasks: Collection[TaskIds], named: bool) -> Select[Any]:
    is_current = or_(HISTORY.c.try_number.is_(None), HISTORY.c.try_number == TI.c.try_number)
    goes_on = and_(is_current, TI.c.state.in_(STATES_OF_ACTIVE_TRY))
    # A later API may add states. A text that is not the name of a state was not written by this provider.
    job_state = _part_of_record("job_state")
    failed = or_(func.coalesce(HISTORY.c.state, TI.c.state) == "failed", and_(is_current, TI.c.state == "up_for_retry"))
    return (
        select(
            TI.c.dag_id,
            TI.c.task_id,
            TI.c.run_id,
            TI.c.map_index,
            func.coalesce(HISTORY.c.try_number, TI.c.try_number).label("try_number"),
            TI.c.rendered_map_index,
            func.coalesce(HISTORY.c.start_date, TI.c.start_date, XCOM.c.timestamp).label("started"),
            case((~goes_on, func.coalesce(HISTORY.c.end_date, TI.c.end_date))).label("ended"),
            case((is_current, func.coalesce(TI.c.state, HISTORY.c.state)), else_=HISTORY.c.state).label("task_state"),
            case(
                (job_state.startswith("JOB_STATE_", autoescape=True), job_state),
                (goes_on, literal(ACTIVE)),
                (failed, literal(FAILED)),
                else_=literal(UNKNOWN),
            ).label("state"),
            (_part_of_record("name") if named else cast(null(), String)).label("job_name"),
            true().label("on_record"),
        )
        .select_from(XCOM)
        .join(TI, same_task_instance(TI, XCOM))
        .outerjoin(HISTORY, and_(same_task_instance(HISTORY, XCOM), _is_recorded_try()))
        .where(XCOM.c.key == JOB_XCOM_KEY, _is_of_tasks(XCOM, tasks))
    )


def _in_history(tasks: Collection[TaskIds]) -> Select[Any]:
    on_record = exists().where(
        XCOM.c.key == JOB_XCOM_KEY,
        same_task_instance(XCOM, HISTORY),
        or_(_is_recorded_try(), HISTORY.c.try_number == TI.c.try_number),
    )
    return (
        select(
            HISTORY.c.dag_id,
            HISTORY.c.task_id,
            HISTORY.c.run_id,
            HISTORY.c.map_index,
            HISTORY.c.try_number,
            HISTORY.c.rendered_map_index,
            HISTORY.c.start_date,
            HISTORY.c.end_date,
            HISTORY.c.state.label("task_state"),
            case((HISTORY.c.state == "failed", literal(FAILED)), else_=literal(UNKNOWN)),
            null(),
            false(),
        )
        .select_from(HISTORY)
        .join(TI, same_task_instance(TI, HISTORY))
        .where(
            _is_of_tasks(HISTORY, tasks),
            HISTORY.c.start_date.is_not(None),
            HISTORY.c.state.not_in(STATES_OF_SKIPPED_TRY),
            ~on_record.correlate(HISTORY, TI),
        )
    )


def _record_text() -> ColumnElement[str | None]:
    """Return the record as text, null if it is larger than a record that a task writes.

    If it were selected as JSON, the database's driver would parse it, and fail at a value that is nested too deep for
    Python.
    """
    text = cast(XCOM.c.value, Text)
    return case((func.length(text) <= RECORD_MAX, text))


class _Readable(_TextFunction):
    """A part of a JSON value as text, null if the database cannot read the value.

    SQLite stores any text as JSON, such as one with NaN. A query fails if SQLite cannot parse the text or its driver
    cannot decode the part. Other databases accept only JSON that they can parse.
    """

    type = String()
    inherit_cache = True


@compiles(_Readable)
def _as_it_is(element: _Readable, compiler: SQLCompiler, **options: Any) -> str:
    part, _ = element.clauses
    return str(compiler.process(part, **options))


@compiles(_Readable, "sqlite")
def _if_valid(element: _Readable, compiler: SQLCompiler, **options: Any) -> str:
    part, whole = element.clauses
    # Each is compiled where it stands: SQLAlchemy 1.4 notes the parameters of SQLite in the order of compilation.
    is_valid, matched, returned = (str(compiler.process(clause, **options)) for clause in (whole, part, part))
    return f"CASE WHEN json_valid({is_valid}) AND {matched} NOT GLOB '*[^ -~]*' THEN {returned} END"


def _part_of_record(name: str) -> ColumnElement[str]:
    """Return a part of the record as text, cut at the longest valid length; null if the XCom is not an object."""
    part = _Readable(XCOM.c.value[name].as_string(), cast(XCOM.c.value, Text))
    return func.substr(part, 1, NAME_MAX, type_=String)


def _is_recorded_try() -> ColumnElement[bool]:
    # Compared as text: anybody who may edit XComs may have written the record, and a database raises an error if it
    # casts a text to a number that is none.
    return _part_of_record("try_number") == cast(HISTORY.c.try_number, String)


def _is_of_tasks(table: FromClause, tasks: Collection[TaskIds]) -> ColumnElement[bool]:
    # With the pairs alone, SQLite would read the whole table.
    dag_ids, task_ids = {dag_id for dag_id, _ in tasks}, {task_id for _, task_id in tasks}
    pair = tuple_(table.c.dag_id, table.c.task_id)
    return and_(table.c.dag_id.in_(dag_ids), table.c.task_id.in_(task_ids), pair.in_(tasks))


# --- one task instance ---


def load_task(session: Session, ref: TaskRef, *, with_record: bool = True) -> TaskData | None:
    """Return a task instance, by a constant number of queries; None if it, or the try that `ref` names, does not exist.

    :param with_record: if false, do not read the record of the job
    """
    newest = session.execute(
        select(
            TI.c.try_number,
            TI.c.state,
            TI.c.start_date,
            TI.c.end_date,
            RUN.c.start_date.label("run_start"),
            RENDERED.c.rendered_fields,
        )
        .select_from(TI)
        .join(RUN, and_(RUN.c.dag_id == TI.c.dag_id, RUN.c.run_id == TI.c.run_id))
        .outerjoin(RENDERED, same_task_instance(RENDERED, TI))
        .where(_is_of_task_instance(TI, ref))
    ).one_or_none()
    if newest is None:
        return None
    earlier = session.execute(
        select(HISTORY.c.try_number, HISTORY.c.state, HISTORY.c.start_date, HISTORY.c.end_date).where(
            _is_of_task_instance(HISTORY, ref)
        )
    )
    # Airflow may have the newest try in both tables.
    tries = {one.number: one for one in (*(TaskTry(*row) for row in earlier), TaskTry(*newest[:4]))}
    if ref.try_number not in (None, *tries):
        return None
    return TaskData(
        ref=ref,
        tries=tuple(tries[number] for number in sorted(tries) if number > 0) or (TaskTry(*newest[:4]),),
        run_start=newest.run_start,
        record=load_record(session, ref) if with_record else None,
        fields=newest.rendered_fields or given_arguments(session, ref),
        are_rendered=bool(newest.rendered_fields),
    )


def load_record(session: Session, ref: TaskRef) -> Record | None:
    """Return the record of a task instance's newest job, or None if there is none that can be read."""
    of_task = select(_record_text()).where(_is_of_task_instance(XCOM, ref), XCOM.c.key == JOB_XCOM_KEY)
    return read_record(session.scalar(of_task))


def given_arguments(session: Session, ref: TaskRef) -> Mapping[str, Any]:
    """Return the arguments in the newest version of the DAG: Airflow keeps rendered ones for the last runs only.

    Arguments that are templates, and those that the task is mapped over, are left out.
    """
    given = operator_arguments(session, ref.dag_id, ref.task_id)
    return {
        name: given[name]
        for name in (*WAY, *TOLD)
        if name in given and not any(mark in str(given[name]) for mark in ("{{", "{%"))
    }
