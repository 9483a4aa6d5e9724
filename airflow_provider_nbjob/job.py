"""The `NotebookExecutionJob` resource: its states, its names, and its result.

Pure: knows neither Airflow nor Google. What is to be run, and the rules for it, are in `spec.py`.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import (
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotebookExecutionJobError,
)

if TYPE_CHECKING:
    from airflow_provider_nbjob.notebook.executed import ExecutedCell

CONSOLE = "https://console.cloud.google.com"
JOB_ID_FORM = "1 to 63 lowercase letters, digits, hyphens and underscores, beginning and ending with a letter or digit"


class JobState(str, Enum):
    """The state of a job, by its API name (the seed's `JobStateEnum`).

    A closed set of twelve. A name that the API adds later is kept as it is: ``JobState("JOB_STATE_NEW")`` is
    no member, has ``is_known`` false, and is neither terminal nor a success, so callers wait on it.
    """

    UNSPECIFIED = "JOB_STATE_UNSPECIFIED"
    QUEUED = "JOB_STATE_QUEUED"
    PENDING = "JOB_STATE_PENDING"
    RUNNING = "JOB_STATE_RUNNING"
    SUCCEEDED = "JOB_STATE_SUCCEEDED"
    FAILED = "JOB_STATE_FAILED"
    CANCELLING = "JOB_STATE_CANCELLING"
    CANCELLED = "JOB_STATE_CANCELLED"
    PAUSED = "JOB_STATE_PAUSED"
    EXPIRED = "JOB_STATE_EXPIRED"
    UPDATING = "JOB_STATE_UPDATING"
    PARTIALLY_SUCCEEDED = "JOB_STATE_PARTIALLY_SUCCEEDED"

    @classmethod
    def _missing_(cls, value: object) -> JobState | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        return unknown

    def __str__(self) -> str:
        return str(self.value)

    @property
    def description(self) -> str:
        """The name, for a person: one that is not known is said to be so."""
        return str(self) if self.is_known else f"{self}, a state that this version of the provider does not know"

    @property
    def is_known(self) -> bool:
        """Whether this is one of the twelve documented states."""
        return self.value in type(self)._value2member_map_

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended and its state will not change again."""
        return self in _TERMINAL

    @property
    def is_success(self) -> bool:
        """Whether the whole notebook ran. PARTIALLY_SUCCEEDED is success only where a caller opts in."""
        return self is JobState.SUCCEEDED

    @property
    def is_active(self) -> bool:
        """Whether the job holds a machine or waits for one, and is not on its way out.

        A state that is not known is taken for active: the job may cost.
        """
        return not self.is_terminal and self is not JobState.CANCELLING


_TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
        JobState.PARTIALLY_SUCCEEDED,
    }
)


@dataclass(frozen=True)
class JobName:
    """A job's resource name, ``projects/{project}/locations/{location}/notebookExecutionJobs/{job_id}``.

    Its parts go into hosts, URLs, filters and paths, so that there is none with parts that are not of their form.

    :param project: project id, or the project *number*, which is what the API returns
    :param location: region, such as ``us-central1``
    :param job_id: last part of the name
    :raises InvalidJob: if a part is not of its form; the message names it
    """

    project: str
    location: str
    job_id: str

    _PATTERN = re.compile(
        r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/notebookExecutionJobs/(?P<job_id>[^/]+)"
        r"(?:/operations/[-_A-Za-z0-9]{1,128})?"
    )

    def __post_init__(self) -> None:
        names.check_project(self.project)
        names.check_location(self.location)
        names.check("notebook_execution_job", self.job_id, names.JOB_ID, JOB_ID_FORM)

    @classmethod
    def parse(cls, name: str) -> JobName:
        """Read a resource name, or the name of an operation below it.

        :raises InvalidJob: if it is neither
        """
        match = cls._PATTERN.fullmatch(name) if isinstance(name, str) else None
        form = "projects/{project}/locations/{location}/notebookExecutionJobs/{job_id}"
        if match is None:
            raise InvalidJob(f"name: {names.shown(name)} is not of the form {form}")
        try:
            return cls(**match.groupdict())
        except InvalidJob as error:
            raise InvalidJob(f"name: {names.shown(name)} is not of the form {form}; {error}") from None

    def __str__(self) -> str:
        return f"{self.parent}/notebookExecutionJobs/{self.job_id}"

    @property
    def parent(self) -> str:
        """The location that holds the job: ``projects/{project}/locations/{location}``."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def console_url(self) -> str:
        """The list of executions in the console; the console has no documented page for a single one."""
        return f"{CONSOLE}/vertex-ai/colab/execution-jobs?project={quote(self.project)}"

    @property
    def logs_url(self) -> str:
        """Logs Explorer, searching for the job id: the API documents no resource type to filter by."""
        search = quote(f'SEARCH("{self.job_id}")', safe="")
        return f"{CONSOLE}/logs/query?query={search}&project={quote(self.project)}"

    def output_uri(self, gcs_output_uri: str) -> str:
        """The folder in which the API writes this job's output, with a closing slash."""
        return f"{gcs_output_uri.rstrip('/')}/{self.job_id}/"


def bucket_and_path(gs_uri: str, field: str = "uri") -> tuple[str, str]:
    """Return the two parts of ``gs://bucket/path``; the path is empty if there is none.

    :param field: how an error names the URI
    :raises InvalidJob: if it is no such URI, or no bucket and no object can have such a name
    """
    scheme, _, rest = gs_uri.partition("://") if isinstance(gs_uri, str) else ("", "", "")
    bucket, _, path = rest.partition("/")
    if scheme != "gs" or not re.fullmatch(names.BUCKET, bucket):
        raise InvalidJob(f"{field}: {names.shown(gs_uri)} is not of the form gs://bucket/path")
    return bucket, names.check_object(path, field)


def storage_console_url(gs_uri: str) -> str:
    """Return the console's page of a ``gs://bucket/folder/`` or ``gs://bucket/object``.

    It is the bucket's own if the path has a part ``.`` or ``..``, by which a browser would go to another page.

    :raises InvalidJob: see `bucket_and_path`
    """
    bucket, path = bucket_and_path(gs_uri)
    if {".", ".."} & set(path.split("/")):
        path = ""
    page = "browser/_details" if path and not path.endswith("/") else "browser"
    return f"{CONSOLE}/storage/{page}/{bucket}/{quote(path.rstrip('/'))}".rstrip("/")


def job_id_for(
    *,
    dag_id: str,
    run_id: str,
    run_start: datetime | str | None,
    task_id: str,
    map_index: int,
    try_number: int,
) -> str:
    """The id of the job that one try of one task instance submits: computed, so that it can be sent again.

    The same try always gets the same id; two tries, two mapped instances, or the same run id started again
    never do. It has three parts, so that the ids of a task instance's other tries can be told: a hash of the task
    instance, a hash of the run's start, and the try number in clear.

    :param run_start: `dag_run.start_date`, which changes when a finished run is cleared or made again
    :param map_index: -1 where the task is not mapped
    :return: such as ``nbjob-3f9c0d5be1a2-4c77a0b1-1``; RFC 1035, at most 63 characters
    """
    start = run_start.isoformat() if isinstance(run_start, datetime) else run_start
    return f"nbjob-{_hash([dag_id, run_id, task_id, map_index], 12)}-{_hash(start, 8)}-{try_number}"


def _hash(value: Any, length: int) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:length]


def plain_text(message: str) -> str:
    """The API's `status.message` without its HTML: tags dropped, breaks as newlines, entities resolved."""
    text = re.sub(r"(?i)<\s*(?:br|/p|/div|/li)\s*/?\s*>", "\n", message)
    text = re.sub(r"</?[a-zA-Z][^<>]*>", "", text)
    return re.sub(r"[ \t]*\n\s*", "\n", html.unescape(text)).strip()


def _timestamp(value: Any) -> str | None:
    return None if value is None else value.isoformat()


@dataclass(frozen=True)
class JobResult:
    """What a job came to; `to_xcom` is the `return_value` of the operators and the sensor.

    :param name: the job's resource name, as the API returns it (with the project number)
    :param status: ``{"code": google.rpc.Code as int, "message": plain text}``; code 0 where nothing went wrong
    :param output_notebook_uri: the executed notebook, ``None`` where none was written
    :param create_time: ISO 8601, UTC; `update_time` likewise
    :param results: values that the notebook handed out
    """

    name: str
    job_id: str
    job_state: JobState
    status: Mapping[str, Any]
    display_name: str
    gcs_output_uri: str
    output_notebook_uri: str | None = None
    schedule_resource_name: str | None = None
    create_time: str | None = None
    update_time: str | None = None
    results: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_job(cls, job: Any, *, output_notebook_uri: str | None = None) -> JobResult:
        """Build it from the API's `NotebookExecutionJob` message (or anything with its attributes)."""
        return cls(
            name=job.name,
            job_id=JobName.parse(job.name).job_id,
            job_state=state_of(job),
            status={"code": job.status.code, "message": plain_text(job.status.message)},
            display_name=job.display_name,
            gcs_output_uri=job.gcs_output_uri,
            output_notebook_uri=output_notebook_uri,
            schedule_resource_name=job.schedule_resource_name or None,
            create_time=_timestamp(job.create_time),
            update_time=_timestamp(job.update_time),
        )

    def to_xcom(self) -> dict[str, Any]:
        """The result as plain JSON values, the state by its API name."""
        return {**asdict(self), "job_state": str(self.job_state)}

    def succeeded(self, *, accept_partial_success: bool = False) -> bool:
        """Whether the job is a success for a caller that does or does not accept part of one."""
        partial = self.job_state is JobState.PARTIALLY_SUCCEEDED
        return self.job_state.is_success or (partial and accept_partial_success)

    def error(self, cell: ExecutedCell | None = None) -> NotebookExecutionJobError:
        """The exception that says why this job is no success, with what a person needs to go on.

        :param cell: the one that failed, where that is known
        """
        lines = [f"Notebook job {self.job_id} ended as {self.job_state}."]
        failed = cell.error if cell else None
        if cell and failed:
            from airflow_provider_nbjob.notebook.text import one_line

            lines.append(f"Cell {cell.number} raised {failed.ename}: {one_line(failed.evalue)}")
        if self.status.get("message"):
            lines.append(f"Reason: {self.status['message']} (code {self.status['code']})")
        if self.output_notebook_uri:
            lines.append(f"The executed notebook shows where: {self.output_notebook_uri}")
        else:
            lines.append(
                f"No executed notebook in {self.gcs_output_uri}: the machine may never have started, or the task's log"
                " says why the bucket could not be read."
            )
        lines.append(f"Logs: {JobName.parse(self.name).logs_url}")
        message = "\n".join(lines)
        if self.job_state is JobState.CANCELLED:
            return JobCancelled(message)
        if self.job_state is JobState.EXPIRED:
            return JobExpired(message)
        if cell is None or failed is None:
            return JobFailed(message)
        return JobFailed(
            message, cell=cell.number, ename=failed.ename, evalue=failed.evalue, traceback=failed.traceback
        )


def state_of(job: Any) -> JobState:
    """A job message's state; a number that the client library has no name for is kept as ``JOB_STATE_<number>``."""
    state = job.job_state
    return JobState(getattr(state, "name", None) or f"JOB_STATE_{state}")
