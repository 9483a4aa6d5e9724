"""What a task tells of its job, in the XCom `notebook_execution_job`: for links and pages, while it runs and after.

It is written right after the submit, and again when the job has ended. Airflow deletes a task's XComs when its next
try starts, so there is one record per task instance: that of its newest job.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.job import JobName, JobResult, JobState, state_of
from airflow_provider_nbjob.notebook.text import one_line

if TYPE_CHECKING:
    from airflow_provider_nbjob.notebook.executed import ExecutedCell

JOB_XCOM_KEY = "notebook_execution_job"
MESSAGE_MAX = 2 * 1024  # characters of `status.message` that are kept
EVALUE_MAX = 500  # and of what the failing cell raised


@dataclass
class JobSteps:
    """The states that a job was seen in, in order, each with the time of its change.

    A state that came and went between two looks is not among them.

    :param seen: pairs of a state and POSIX seconds, by the API's clock
    """

    seen: list[tuple[JobState, float]] = field(default_factory=list)

    def add(self, state: JobState, since: float) -> None:
        """Take a look: it counts where the state is another one than at the look before."""
        if not self.seen or self.seen[-1][0] != state:
            self.seen.append((state, since))

    def look(self, job: Any) -> None:
        """Take a look at a job message; where that has no time, it is now."""
        self.add(state_of(job), job.update_time.timestamp() if job.update_time else time.time())

    def to_xcom(self) -> list[list[str]]:
        """Pairs of the state's API name and the time as ISO 8601, UTC."""
        return [[str(state), datetime.fromtimestamp(since, timezone.utc).isoformat()] for state, since in self.seen]

    @classmethod
    def from_xcom(cls, pairs: Any) -> JobSteps:
        """What `to_xcom` wrote; nothing where it was something else."""
        try:
            return cls([(JobState(state), datetime.fromisoformat(since).timestamp()) for state, since in pairs or ()])
        except (TypeError, ValueError):
            return cls()


@dataclass(frozen=True)
class JobEnd:
    """The end of a job, as its task saw it.

    :param failed_cell: the first that raised, where one did and that is known
    """

    result: JobResult
    failed_cell: ExecutedCell | None = None

    def to_xcom(self) -> dict[str, Any]:
        """Its part of the record; texts are cut."""
        result, cell = self.result, self.failed_cell
        return {
            "job_state": str(result.job_state),
            "status": {**result.status, "message": str(result.status["message"])[:MESSAGE_MAX]},
            "create_time": result.create_time,
            "update_time": result.update_time,
            "output_notebook_uri": result.output_notebook_uri,
            "failed_cell": cell and _told(cell),
        }


def _told(cell: ExecutedCell) -> dict[str, Any]:
    ename, evalue = (cell.error.ename, cell.error.evalue) if cell.error else ("", "")
    return {"number": cell.number, "ename": one_line(ename), "evalue": one_line(evalue, EVALUE_MAX)}


def record_of(
    *,
    name: str,
    project_id: str,
    gcs_output_uri: str,
    gcp_conn_id: str,
    impersonation_chain: Any,
    api_endpoint: str | None,
    try_number: int,
    steps: JobSteps | None = None,
    end: JobEnd | None = None,
) -> dict[str, Any]:
    """The record, as JSON values.

    :param name: the job's resource name
    :param project_id: the project's id; in `name` the API puts its number
    :param api_endpoint: the endpoint that was configured, if any
    :param try_number: of the task, which the job serves
    :param end: `None` until the job has ended; `job_state` is then null, and what else `JobEnd` has is absent
    """
    return {
        "name": name,
        "project_id": project_id,
        "location": JobName.parse(name).location,
        "gcs_output_uri": gcs_output_uri,
        "gcp_conn_id": gcp_conn_id,
        "impersonation_chain": impersonation_chain,
        "api_endpoint": api_endpoint,
        "try_number": try_number,
        "states": (steps or JobSteps()).to_xcom(),
        **(end.to_xcom() if end else {"job_state": None}),
    }
