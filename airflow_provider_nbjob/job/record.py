"""What a task tells of its job, in the XCom `notebook_execution_job`: for links and pages, while it runs and after.

It is written right after the submit, and again when the job has ended. Airflow deletes a task's XComs when its next
try starts, so there is one record per task instance: that of its newest job.
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
EVALUE_MAX = 500  # and of what the failing cell raised
NAME_MAX = 500  # characters of a name, a state or a URI; of a longer one nothing is read
STEPS_MAX = 1000  # states that are read
YEARS = range(1970, 9000)  # in which a time can be; beyond them lies what no clock and no drawing can handle


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
        """Read what `to_xcom` wrote; return no steps if it is anything else. Never raises."""
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
            "output_error": result.output_error,
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
    connection: Mapping[str, Any],
    try_number: int,
    steps: JobSteps | None = None,
    end: JobEnd | None = None,
) -> dict[str, Any]:
    """Return the record, as JSON values.

    :param name: the job's resource name
    :param project_id: the project's id; in `name` the API puts its number
    :param connection: the arguments of the task that lead to the API, by name
    :param try_number: of the task, which the job serves
    :param end: `None` until the job has ended; `job_state` is then null, and what else `JobEnd` has is absent
    """
    return {
        "name": name,
        "project_id": project_id,
        "location": JobName.parse(name).location,
        "gcs_output_uri": gcs_output_uri,
        **connection,
        "try_number": try_number,
        "states": (steps or JobSteps()).to_xcom(),
        **(end.to_xcom() if end else {"job_state": None}),
    }


@dataclass(frozen=True)
class Record:
    """A record as it is read back, with a default for each part that is missing or malformed.

    Whoever may edit XComs may have written it: it is shown as text, and decides about nobody's requests.

    :param name: the job that it names, with the project's id if it says that too
    :param try_number: of the task; None if it does not say
    :param state: of the job at its end; None while it goes on
    :param message: the job's `status.message`
    :param created: UTC
    :param output_error: why the executed notebook could not be read
    :param failed_cell: number of the cell that failed
    :param error: what that cell raised
    """

    name: JobName
    try_number: int | None = None
    state: JobState | None = None
    message: str = ""
    steps: JobSteps = field(default_factory=JobSteps)
    created: datetime | None = None
    output_notebook_uri: str = ""
    output_error: str = ""
    failed_cell: int | None = None
    error: str = ""


def read_record(text: str | None) -> Record | None:
    """Read a record from its JSON; see `parse_record`. Never raises."""
    try:
        return parse_record(json.loads(text)) if text else None
    except (ValueError, RecursionError):  # no JSON, or nested deeper than Python reads
        return None


def parse_record(value: Any) -> Record | None:
    """Read a record, whatever JSON stands in its place.

    :param value: the XCom's value
    :return: the record, or None if `value` is none: it is no object, or names no job. Never raises
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
    """Return a text of at most `limit` characters that UTF-8 can hold; an empty one in place of anything else."""
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
