"""The tries of notebook tasks, as one select over Airflow's tables.

A try whose job is still on record is one row of XCom with the task instance; its times and its task's state are in the
history of task instances once it is over. Airflow deletes a task's XComs when its next try starts: of earlier tries
there is the history only, which is taken for those tasks that have a record anywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.models.xcom import XComModel
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
from sqlalchemy.sql.expression import CTE, ColumnElement, FunctionElement, Select

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, NAME_MAX
from airflow_provider_nbjob.plugins.notebook_jobs.filters import ACTIVE, UNKNOWN

XCOM: Any = XComModel.__table__
TI: Any = TaskInstance.__table__
HISTORY: Any = TaskInstanceHistory.__table__
FAILED = "JOB_STATE_FAILED"
RECORD_MAX = 256 * 1024  # characters of a record that is read; a task writes some thousand
# Of a task whose try goes on; a deferred one is queued again under the same try number.
UNFINISHED = ("running", "deferred", "scheduled", "queued", "restarting", "up_for_reschedule")
NEVER_RAN = ("skipped", "upstream_failed", "removed")

Pairs = Collection[tuple[str, str]]


def same_task_instance(one: Any, other: Any) -> ColumnElement[bool]:
    """Return the condition that two rows are of the same task instance, whatever the try."""
    return and_(*(one.c[name] == other.c[name] for name in ("dag_id", "task_id", "run_id", "map_index")))


def known_tasks(dag_ids: Collection[str]) -> Select[Any]:
    """Return the ids of DAG and task of all that have a record, in these DAGs."""
    return (
        select(XCOM.c.dag_id, XCOM.c.task_id)
        .where(XCOM.c.key == JOB_XCOM_KEY, XCOM.c.dag_id.in_(dag_ids))
        .distinct()
        .order_by(XCOM.c.dag_id, XCOM.c.task_id)
    )


def tries(tasks: Pairs, *, named: bool) -> CTE:
    """One row per try of these tasks, named by the ids of DAG and task.

    Columns: the four of a task instance's identity, `try_number`, `rendered_map_index`, `started`, `ended` (null while
    the task goes on), `task_state`, `state`, `job_name`, and `on_record`, whether the XCom is this try's.

    :param named: whether `job_name` is needed; else it is null, as long texts make the tries slow to sort
    """
    return union_all(_on_record(tasks, named), _in_history(tasks)).cte("tries")


def _on_record(tasks: Pairs, named: bool) -> Select[Any]:
    is_current = or_(HISTORY.c.try_number.is_(None), HISTORY.c.try_number == TI.c.try_number)
    goes_on = and_(is_current, TI.c.state.in_(UNFINISHED))
    # Any state that a later API may add counts; what is not the name of one was not written by this provider.
    job_state = _told("job_state")
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
            (_told("name") if named else cast(null(), String)).label("job_name"),
            true().label("on_record"),
        )
        .select_from(XCOM)
        .join(TI, same_task_instance(TI, XCOM))
        .outerjoin(HISTORY, and_(same_task_instance(HISTORY, XCOM), _is_told_try()))
        .where(XCOM.c.key == JOB_XCOM_KEY, _of(XCOM, tasks))
    )


def _in_history(tasks: Pairs) -> Select[Any]:
    on_record = exists().where(
        XCOM.c.key == JOB_XCOM_KEY,
        same_task_instance(XCOM, HISTORY),
        or_(_is_told_try(), HISTORY.c.try_number == TI.c.try_number),
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
            _of(HISTORY, tasks),
            HISTORY.c.start_date.is_not(None),
            HISTORY.c.state.not_in(NEVER_RAN),
            ~on_record.correlate(HISTORY, TI),
        )
    )


def record_text() -> ColumnElement[str | None]:
    """Return the record as text, null if it is larger than any that a task writes.

    As JSON it would be read by the database's driver, which breaks on what is nested too deep for Python.
    """
    text = cast(XCOM.c.value, Text)
    return case((func.length(text) <= RECORD_MAX, text))


class _Readable(FunctionElement[str]):
    """A part of JSON as text, null if the database cannot read it.

    SQLite keeps any text as JSON, such as one with NaN, and ends a query at what it cannot read or its driver cannot
    decode. Other databases take only what they can read.
    """

    type = String()
    inherit_cache = True


@compiles(_Readable)
def _as_it_is(element: _Readable, compiler: Any, **options: Any) -> str:
    part, _ = element.clauses
    return str(compiler.process(part, **options))


@compiles(_Readable, "sqlite")
def _if_valid(element: _Readable, compiler: Any, **options: Any) -> str:
    part, whole = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CASE WHEN json_valid({whole}) AND {part} NOT GLOB '*[^ -~]*' THEN {part} END"


def _told(name: str) -> ColumnElement[str]:
    """Return a part of the record as text, cut if nothing true is so long; null if the XCom is no object."""
    part = _Readable(XCOM.c.value[name].as_string(), cast(XCOM.c.value, Text))
    return func.substr(part, 1, NAME_MAX, type_=String)


def _is_told_try() -> ColumnElement[bool]:
    # As text: a cast of what somebody else wrote there to a number would be an error of the database's.
    return _told("try_number") == cast(HISTORY.c.try_number, String)


def _of(table: Any, tasks: Pairs) -> ColumnElement[bool]:
    # The pairs alone would have SQLite read the whole table.
    dag_ids, task_ids = {dag_id for dag_id, _ in tasks}, {task_id for _, task_id in tasks}
    pair = tuple_(table.c.dag_id, table.c.task_id)
    return and_(table.c.dag_id.in_(dag_ids), table.c.task_id.in_(task_ids), pair.in_(tasks))
