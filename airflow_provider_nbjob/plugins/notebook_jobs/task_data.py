"""What Airflow's database knows of a task instance: its tries, the record of its job, and the way to the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_provider_nbjob.plugins.notebook_jobs.access import TaskRef
from airflow_provider_nbjob.record import JOB_XCOM_KEY
from airflow_provider_nbjob.tries import Tries

# What leads to a job's API. A record has it too, but people may edit XComs who may use no connection.
WAY = ("location", "project_id", "gcp_conn_id", "impersonation_chain", "api_endpoint")
UNFINISHED = frozenset(
    {None, "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule"}
)


class TaskTry(NamedTuple):
    """One try of a task instance, with Airflow's state of it; `None` before it was scheduled."""

    number: int
    state: str | None
    started: datetime | None
    ended: datetime | None

    @property
    def is_unfinished(self) -> bool:
        """Whether it goes on, or another try of it comes."""
        return self.state in UNFINISHED


@dataclass(frozen=True)
class TaskData:
    """A task instance.

    :param tries: all that began, the oldest first; at least one
    :param record: see `record_of`; of the newest try that submitted a job, `None` where there is none
    :param fields: the operator's arguments by name, as they were rendered for the newest try, or else as they stand in
        the newest version of the DAG
    """

    ref: TaskRef
    tries: tuple[TaskTry, ...]
    run_start: datetime | None
    record: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def picked(self) -> TaskTry:
        """The try that is asked for, else the newest."""
        return next((one for one in self.tries if one.number == self.ref.try_number), self.tries[-1])

    @property
    def picked_record(self) -> Mapping[str, Any] | None:
        """The record, where it is of the picked try."""
        is_picked = self.record and self.record.get("try_number", self.tries[-1].number) == self.picked.number
        return self.record if is_picked else None

    @property
    def is_notebook_task(self) -> bool:
        """Whether it is, as far as can be told, a task of this provider."""
        return self.record is not None or set(WAY) < set(self.fields)

    @property
    def ids(self) -> Tries:
        """The ids of its jobs."""
        ref = self.ref
        return Tries(ref.dag_id, ref.run_id, self.run_start, ref.task_id, ref.map_index, self.picked.number, 1)

    def rendered(self, name: str) -> Any:
        """An argument of the operator; `None` where it was not given."""
        value = self.fields.get(name)
        return None if value in ("", "None") else value


def load_task(session: Session, ref: TaskRef) -> TaskData | None:
    """A task instance, by a constant number of queries; `None` where there is none, or not the try asked for."""

    def of(model: Any) -> Any:
        return (
            model.dag_id == ref.dag_id,
            model.run_id == ref.run_id,
            model.task_id == ref.task_id,
            model.map_index == ref.map_index,
        )

    newest = session.execute(
        select(
            TaskInstance.try_number,
            TaskInstance.state,
            TaskInstance.start_date,
            TaskInstance.end_date,
            DagRun.start_date,
            RenderedTaskInstanceFields.rendered_fields,
        )
        .select_from(TaskInstance)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .outerjoin(RenderedTaskInstanceFields, _same(RenderedTaskInstanceFields, TaskInstance))
        .where(*of(TaskInstance))
    ).one_or_none()
    if newest is None:
        return None
    history = TaskInstanceHistory
    earlier = session.execute(
        select(history.try_number, history.state, history.start_date, history.end_date).where(*of(history))
    )
    # Airflow may hold the newest try in both places.
    tries = {one.number: one for one in (*(TaskTry(*row) for row in earlier), TaskTry(*newest[:4]))}
    if ref.try_number not in (None, *tries):
        return None
    record = session.scalar(select(XComModel.value).where(*of(XComModel), XComModel.key == JOB_XCOM_KEY))
    return TaskData(
        ref=ref,
        tries=tuple(tries[number] for number in sorted(tries) if number > 0) or (TaskTry(*newest[:4]),),
        run_start=newest[4],
        record=record if isinstance(record, Mapping) else None,
        fields=newest[5] or _arguments(session, ref),
    )


def _same(one: Any, other: Any) -> Any:
    names = ("dag_id", "run_id", "task_id", "map_index")
    first, *rest = (getattr(one, name) == getattr(other, name) for name in names)
    for condition in rest:
        first = first & condition
    return first


def _arguments(session: Session, ref: TaskRef) -> Mapping[str, Any]:
    """The operator's arguments in the newest version of the DAG: Airflow keeps rendered ones for few runs only.

    One that is a template, or that the task is mapped over, is not among them.
    """
    dag = SerializedDagModel.get_dag(ref.dag_id, session=session)
    if dag is None or not dag.has_task(ref.task_id):
        return {}
    given = _given(dag.get_task(ref.task_id))
    return {
        name: given[name]
        for name in (*WAY, "display_name", "parameters")
        if name in given and "{{" not in str(given[name])
    }


def _given(task: Any) -> Mapping[str, Any]:
    """The arguments of a serialized operator; of a mapped one those that all its instances share."""
    if not task.is_mapped:
        return vars(task)
    mapped_over = task.expand_input.value
    if not isinstance(mapped_over, Mapping):  # `expand_kwargs` does not say which
        return task.partial_kwargs
    return {**dict.fromkeys(set(task.template_fields) - set(mapped_over)), **task.partial_kwargs}
