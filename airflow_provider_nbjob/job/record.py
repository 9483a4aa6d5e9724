"""The record of a job in the XCom `notebook_execution_job`, which links and pages read while the job runs and after.

The task writes the record right after the submit, and again when the job has ended. Airflow deletes a task's XComs when
the next try starts, so each task instance has one record: that of its newest job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import OUTPUT_ERROR_MAX, JobName, JobResult, JobState, state_of
from airflow_provider_nbjob.notebook.text import one_line

if TYPE_CHECKING:
    from airflow_provider_nbjob.notebook.executed import ExecutedCell

JOB_XCOM_KEY = "notebook_execution_job"
MESSAGE_MAX = 2 * 1024  # characters of `status.message` that are kept
EVALUE_MAX = 500  # characters of the failing cell's `evalue` that are kept
NAME_MAX = 500  # characters of a name or a state; a longer one is ignored, like a URI of more than four times as many
STEPS_MAX = 1000  # states in a record; a longer list is ignored
YEARS = range(1970, 9000)  # accepted years of a time; clocks and charts cannot handle times far beyond them


@dataclass
class JobSteps:
    """The observed states of a job in order, each with the time of its change.

    A state that began and ended between two polls is missing.

    :param seen: pairs of a state and the time in POSIX seconds, by the API's clock
    """

    seen: list[tuple[JobState, float]] = field(default_factory=list)

    def add(self, state: JobState, since: float) -> None:
        """Append a state if it differs from the last one.

        :param since: time of the change in POSIX seconds
        """
        if not self.seen or self.seen[-1][0] != state:
            self.seen.append((state, since))

    def look(self, job: Any) -> None:
        """Append the state of a `NotebookExecutionJob` message, at its `update_time`; at the present if it has none."""
        self.add(state_of(job), job.update_time.timestamp() if job.update_time else time.time())

    def to_xcom(self) -> list[list[str]]:
        """Return pairs of the state's API name and the time in UTC, in ISO 8601."""
        return [[str(state), datetime.fromtimestamp(since, timezone.utc).isoformat()] for state, since in self.seen]

    @classmethod
    def from_xcom(cls, pairs: Any) -> JobSteps:
        """Parse the result of `to_xcom`. Return no steps if the value is malformed; never raise."""
        if not isinstance(pairs, list | tuple) or len(pairs) > STEPS_MAX:
            return cls()
        steps = cls()
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                return cls()
            state, since = _state(pair[0]), _moment(pair[1])
            if state is None or since is None:
                return cls()
            steps.seen.append((state, since.timestamp()))
        return steps


@dataclass(frozen=True)
class JobEnd:
    """The end of a job, as observed by its task.

    :param failed_cell: the first cell that raised, or None if no cell did or the cell is not known
    """

    result: JobResult
    failed_cell: ExecutedCell | None = None

    def to_xcom(self) -> dict[str, Any]:
        """Return the end's part of the record, with long texts cut."""
        result, cell = self.result, self.failed_cell
        return {
            "job_state": str(result.job_state),
            "status": {**result.status, "message": str(result.status["message"])[:MESSAGE_MAX]},
            "create_time": result.create_time,
            "update_time": result.update_time,
            "output_notebook_uri": result.output_notebook_uri,
            "output_error": result.output_error,
            "failed_cell": cell and _cell_to_xcom(cell),
        }


def _cell_to_xcom(cell: ExecutedCell) -> dict[str, Any]:
    ename, evalue = (cell.error.ename, cell.error.evalue) if cell.error else ("", "")
    return {"number": cell.number, "ename": one_line(ename), "evalue": one_line(evalue, EVALUE_MAX)}


def record_of(
    *,
    job: JobName,
    project_id: str,
    gcs_output_uri: str,
    connection: Mapping[str, Any],
    try_number: int,
    steps: JobSteps | None = None,
    end: JobEnd | None = None,
) -> dict[str, Any]:
    """Build the record as JSON values.

    :param job: name of the job
    :param project_id: the project's id; `job` has the project's number, as the API returns it
    :param connection: the task's arguments of the connection, by name
    :param try_number: number of the task's try that the job belongs to
    :param end: None until the job has ended; the record then has the `job_state` null and no other field of `JobEnd`
    """
    return {
        "name": str(job),
        "project_id": project_id,
        "location": job.location,
        "gcs_output_uri": gcs_output_uri,
        **connection,
        "try_number": try_number,
        "states": (steps or JobSteps()).to_xcom(),
        **(end.to_xcom() if end else {"job_state": None}),
    }


@dataclass(frozen=True)
class Record:
    """A parsed record, with a default for each part that is missing or malformed.

    Any user who may edit XComs may have written it. So it is shown as text, and no request depends on it.

    :param name: the job's name, with the project's id if the record has one
    :param try_number: number of the task's try, or None if unknown
    :param state: the job's state at its end, or None while the job goes on
    :param message: the job's `status.message`
    :param created: time of creation in UTC, or None if unknown
    :param gcs_output_uri: the bucket or folder in which the API writes the job's output
    :param output_error: the reason why the executed notebook could not be read
    :param failed_cell: number of the cell that failed, or None if unknown
    :param error: name and text of the exception that this cell raised
    """

    name: JobName
    try_number: int | None = None
    state: JobState | None = None
    message: str = ""
    steps: JobSteps = field(default_factory=JobSteps)
    created: datetime | None = None
    gcs_output_uri: str = ""
    output_notebook_uri: str = ""
    output_error: str = ""
    failed_cell: int | None = None
    error: str = ""


def read_record(text: str | None) -> Record | None:
    """Parse a record from its JSON; see `parse_record`. Never raise."""
    try:
        return parse_record(json.loads(text)) if text else None
    except (ValueError, RecursionError):  # no JSON, or nested deeper than Python reads
        return None


def parse_record(value: Any) -> Record | None:
    """Parse a record from any JSON value. Never raise.

    :param value: the value of the XCom
    :return: the record, or None if `value` is no object or names no job
    """
    if not isinstance(value, Mapping):
        return None
    name = _name(value)
    if name is None:
        return None
    cell, status = value.get("failed_cell"), value.get("status")
    number = _number(cell.get("number")) if isinstance(cell, Mapping) else None
    raised = (
        [_text(cell.get("ename"), EVALUE_MAX), _cut(cell.get("evalue"), EVALUE_MAX + len("..."))]
        if isinstance(cell, Mapping)
        else []
    )
    return Record(
        name=name,
        try_number=_number(value.get("try_number")),
        state=_state(value.get("job_state")),
        message=_cut(status.get("message"), MESSAGE_MAX) if isinstance(status, Mapping) else "",
        steps=JobSteps.from_xcom(value.get("states")),
        created=_moment(value.get("create_time")),
        gcs_output_uri=_text(value.get("gcs_output_uri"), 4 * NAME_MAX),
        output_notebook_uri=_text(value.get("output_notebook_uri"), 4 * NAME_MAX),
        output_error=_cut(value.get("output_error"), OUTPUT_ERROR_MAX),
        failed_cell=number,
        error=": ".join(filter(None, raised)),
    )


def _name(value: Mapping[str, Any]) -> JobName | None:
    try:
        name = JobName.parse(_text(value.get("name"), NAME_MAX))
    except InvalidJob:
        return None
    try:
        return JobName(_text(value.get("project_id"), NAME_MAX) or name.project, name.location, name.job_id)
    except InvalidJob:
        return name


def _text(value: Any, limit: int) -> str:
    """Return a text of at most `limit` characters as valid UTF-8; the empty text if the value is anything else."""
    return _cut(value, limit) if isinstance(value, str) and len(value) <= limit else ""


def _cut(value: Any, limit: int) -> str:
    return value[:limit].encode(errors="replace").decode() if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 10**9 else None


def _state(value: Any) -> JobState | None:
    text = _text(value, NAME_MAX)
    return JobState(text) if text.startswith("JOB_STATE_") else None


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_text(value, NAME_MAX)).astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.year in YEARS else None
