"""What Airflow's database knows of a task instance: its tries, the record of its job, and the way to the API."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_provider_nbjob import names
from airflow_provider_nbjob.connection import DEFAULT_CONN_ID, Connection
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, Record, read_record
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.tries import XCOM, record_text
from airflow_provider_nbjob.rendering import MASK

# What leads to a job's API. A record has it too, but people may edit XComs who may use no connection.
WAY = ("location", "project_id", "gcp_conn_id", "impersonation_chain", "api_endpoint")
# What says which job it is, and what is shown of it.
TOLD = (
    *("notebook_execution_job_id", "notebook_execution_job", "schedule"),
    *("display_name", "gcs_output_uri", "parameters"),
)
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


class Place(NamedTuple):
    """Where a task's job is asked for, and by whom: what it sees there, another place need not.

    :param project_id: None for the connection's
    """

    location: str | None
    project_id: str | None
    connection: Connection


@dataclass(frozen=True)
class TaskData:
    """A task instance.

    :param tries: all that began, the oldest first; at least one
    :param record: of the newest try that submitted a job; None if there is none, or it is not the reader's to see
    :param fields: the operator's arguments by name, as they were rendered for the newest try, or else as they stand in
        the newest version of the DAG
    :param are_rendered: whether they are the rendered ones, in which Airflow masks secrets
    """

    ref: TaskRef
    tries: tuple[TaskTry, ...]
    run_start: datetime | None
    record: Record | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    are_rendered: bool = False

    @property
    def picked(self) -> TaskTry:
        """The try that is asked for, else the newest."""
        return next((one for one in self.tries if one.number == self.ref.try_number), self.tries[-1])

    @property
    def picked_record(self) -> Record | None:
        """The record, if it is of the picked try."""
        is_picked = self.record and (self.record.try_number or self.tries[-1].number) == self.picked.number
        return self.record if is_picked else None

    @property
    def is_notebook_task(self) -> bool:
        """Whether it is, as far as can be told, a task of this provider."""
        return self.record is not None or set(WAY) < set(self.fields)

    @property
    def key(self) -> Hashable:
        """All that what is asked of Google Cloud, and what is shown of it, depends on."""
        return self.place, self.ref, self.tries, repr(self.record), repr(sorted(self.fields.items(), key=str))

    @property
    def ids(self) -> Tries:
        """The ids of its jobs."""
        ref, own_id = self.ref, self.rendered("notebook_execution_job_id")
        return Tries(
            *(ref.dag_id, ref.run_id, self.run_start, ref.task_id, ref.map_index, self.picked.number, 1),
            own_id=own_id if isinstance(own_id, str) and re.fullmatch(names.JOB_ID, own_id) else None,
        )

    @property
    def place(self) -> Place | None:
        """Where the job is asked for; None if that is not known, or Airflow masks a part of it."""
        known = [self.fields[name] for name in WAY if name in self.fields]
        if len(known) < len(WAY) or MASK in repr(known):
            return None
        chain = self.rendered("impersonation_chain")
        connection = Connection(
            self._text("gcp_conn_id") or DEFAULT_CONN_ID,
            names.accounts_of(map(str, chain) if isinstance(chain, list | tuple) else chain and str(chain)),
            self._text("api_endpoint"),
        )
        return Place(self._text("location"), self._text("project_id"), connection)

    def rendered(self, name: str) -> Any:
        """Return an argument of the operator; `None` if it was not given."""
        value = self.fields.get(name)
        return None if value in ("", "None") else value

    def _text(self, name: str) -> str | None:
        value = self.rendered(name)
        return None if value is None else str(value)


def load_task(session: Session, ref: TaskRef, *, with_record: bool = True) -> TaskData | None:
    """Return a task instance, by a constant number of queries; `None` if there is none, or not the try asked for.

    :param with_record: false: do not read what the task recorded of its job
    """

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
    record = None
    if with_record:
        record = session.scalar(select(record_text()).where(*of(XCOM.c), XCOM.c.key == JOB_XCOM_KEY))
    return TaskData(
        ref=ref,
        tries=tuple(tries[number] for number in sorted(tries) if number > 0) or (TaskTry(*newest[:4]),),
        run_start=newest[4],
        record=read_record(record),
        fields=newest[5] or _arguments(session, ref),
        are_rendered=bool(newest[5]),
    )


def _same(one: Any, other: Any) -> Any:
    names = ("dag_id", "run_id", "task_id", "map_index")
    first, *rest = (getattr(one, name) == getattr(other, name) for name in names)
    for condition in rest:
        first = first & condition
    return first


def _arguments(session: Session, ref: TaskRef) -> Mapping[str, Any]:
    """Return the operator's arguments in the newest version of the DAG: Airflow keeps rendered ones for few runs only.

    One that is a template, or that the task is mapped over, is not among them.
    """
    dag = SerializedDagModel.get_dag(ref.dag_id, session=session)
    if dag is None or not dag.has_task(ref.task_id):
        return {}
    given = _given(dag.get_task(ref.task_id))
    return {
        name: given[name]
        for name in (*WAY, *TOLD)
        if name in given and not any(mark in str(given[name]) for mark in ("{{", "{%"))
    }


def _given(task: Any) -> Mapping[str, Any]:
    """Return the arguments of a serialized operator; of a mapped one those that all its instances share."""
    if not task.is_mapped:
        return vars(task)
    mapped_over = task.expand_input.value
    if not isinstance(mapped_over, Mapping):  # `expand_kwargs` does not say which
        return task.partial_kwargs
    return {**dict.fromkeys(set(task.template_fields) - set(mapped_over)), **task.partial_kwargs}
