"""A task instance as the metadata database has it: its tries, the record of its job, and its arguments."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from airflow_provider_nbjob import names
from airflow_provider_nbjob.connection import DEFAULT_CONN_ID, Connection
from airflow_provider_nbjob.job.record import Record
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
from airflow_provider_nbjob.rendering import MASK

# The arguments that say how the API is reached. A record has them too, but people who may use no connection may edit
# XComs.
WAY = ("location", "project_id", "gcp_conn_id", "impersonation_chain", "api_endpoint")
# The arguments that name the job, and those that are shown.
TOLD = (
    *("notebook_execution_job_id", "notebook_execution_job", "schedule"),
    *("display_name", "gcs_output_uri", "parameters"),
)
# Of a task instance whose current try has not ended. Airflow queues a deferred one again with the same try number.
STATES_OF_ACTIVE_TRY = ("running", "deferred", "scheduled", "queued", "restarting", "up_for_reschedule")
UNFINISHED = frozenset({None, "up_for_retry", *STATES_OF_ACTIVE_TRY})


class TaskTry(NamedTuple):
    """One try of a task instance, with the state that Airflow gives it: None if it was not scheduled yet."""

    number: int
    state: str | None
    started: datetime | None
    ended: datetime | None

    @property
    def is_unfinished(self) -> bool:
        """Return whether the try has not ended, or another one follows."""
        return self.state in UNFINISHED


class Place(NamedTuple):
    """A location, a project and a connection by which a task's job is requested.

    Answers that are got by one place are not valid for another one.

    :param project_id: None for the project of the connection
    """

    location: str | None
    project_id: str | None
    connection: Connection


@dataclass(frozen=True)
class TaskData:
    """A task instance.

    :param tries: the tries that have begun, oldest first; at least one
    :param record: of the newest try that submitted a job; None if no try did, or if the reader may not read XComs
    :param fields: the operator's arguments by name: those that were rendered for the newest try, or, if Airflow no
        longer has them, those in the newest version of the DAG
    :param are_rendered: whether `fields` are the rendered arguments, in which Airflow masks secrets
    """

    ref: TaskRef
    tries: tuple[TaskTry, ...]
    run_start: datetime | None
    record: Record | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    are_rendered: bool = False

    @property
    def picked(self) -> TaskTry:
        """Return the try that `ref` names, or the newest one."""
        return next((one for one in self.tries if one.number == self.ref.try_number), self.tries[-1])

    @property
    def picked_record(self) -> Record | None:
        """Return the record if it is of the picked try, otherwise None."""
        is_picked = self.record and (self.record.try_number or self.tries[-1].number) == self.picked.number
        return self.record if is_picked else None

    @property
    def is_notebook_task(self) -> bool:
        """Return whether the record or the arguments show that this is a task of this provider."""
        return self.record is not None or set(WAY) < set(self.fields)

    @property
    def key(self) -> Hashable:
        """Return all that the requests to Google Cloud, and the page that is made of them, depend on."""
        return self.place, self.ref, self.tries, repr(self.record), repr(sorted(self.fields.items(), key=str))

    @property
    def ids(self) -> Tries:
        """Return the tries that compute the ids of the task's jobs."""
        ref, own_id = self.ref, self.rendered("notebook_execution_job_id")
        return Tries(
            *(ref.dag_id, ref.run_id, self.run_start, ref.task_id, ref.map_index, self.picked.number, 1),
            own_id=own_id if isinstance(own_id, str) and re.fullmatch(names.JOB_ID, own_id) else None,
        )

    @property
    def place(self) -> Place | None:
        """Return the place of the job, or None if it is not known or Airflow masks a part of it."""
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
        """Return an argument of the operator, or None if it was not given."""
        value = self.fields.get(name)
        return None if value in ("", "None") else value

    def _text(self, name: str) -> str | None:
        value = self.rendered(name)
        return None if value is None else str(value)
