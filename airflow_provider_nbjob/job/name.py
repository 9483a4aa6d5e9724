"""The names of a job: its resource name, its id, its objects in Cloud Storage, and the pages that show them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob

CONSOLE = "https://console.cloud.google.com"
DIRECT_NAME = "content.ipynb"  # the API's name of a notebook from a direct or a Dataform source
JOB_ID_FORM = "1 to 63 lowercase letters, digits, hyphens and underscores, beginning and ending with a letter or digit"


@dataclass(frozen=True)
class JobName:
    """A job's resource name, ``projects/{project}/locations/{location}/notebookExecutionJobs/{job_id}``.

    The parts are validated, because they become parts of hosts, URLs, filters and paths.

    :param project: project id, or the project *number*, which the API returns
    :param location: region, such as ``us-central1``
    :param job_id: last part of the name, see `JOB_ID_FORM`
    :raises InvalidJob: if a part is malformed; the message names the part
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
        """Parse the resource name of a job, or the name of an operation of a job.

        :raises InvalidJob: if `name` is neither
        """
        match = cls._PATTERN.fullmatch(name) if isinstance(name, str) else None
        form = "projects/{project}/locations/{location}/notebookExecutionJobs/{job_id}"
        if match is None:
            raise InvalidJob(f"name: {names.shown(name)} is not of the form {form}")
        try:
            return cls(**match.groupdict())
        except InvalidJob as error:
            raise InvalidJob(f"name: {names.shown(name)} is not of the form {form}; {error}") from None

    @classmethod
    def is_one(cls, name: Any) -> bool:
        """Return whether `parse` accepts a value."""
        try:
            cls.parse(name)
        except InvalidJob:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.parent}/notebookExecutionJobs/{self.job_id}"

    @property
    def parent(self) -> str:
        """Return the location that holds the job: ``projects/{project}/locations/{location}``."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def console_url(self) -> str:
        """Return the URL of the list of executions in the console, which documents no page for a single execution."""
        return f"{CONSOLE}/vertex-ai/colab/execution-jobs?project={quote(self.project)}"

    @property
    def logs_url(self) -> str:
        """Return the URL of a search for the job id in Logs Explorer: the API documents no resource type to filter."""
        search = quote(f'SEARCH("{self.job_id}")', safe="")
        return f"{CONSOLE}/logs/query?query={search}&project={quote(self.project)}"

    def output_uri(self, gcs_output_uri: str) -> str:
        """Return the URI of the folder in which the API writes this job's output, with a trailing slash."""
        return f"{gcs_output_uri.rstrip('/')}/{self.job_id}/"


def bucket_and_path(gs_uri: str, field: str = "uri") -> tuple[str, str]:
    """Split ``gs://bucket/path`` into bucket and path; the path may be empty.

    :param field: name of the URI in the error
    :raises InvalidJob: if the URI is malformed, or if no bucket or no object can have such a name
    """
    scheme, _, rest = gs_uri.partition("://") if isinstance(gs_uri, str) else ("", "", "")
    bucket, _, path = rest.partition("/")
    if scheme != "gs" or not re.fullmatch(names.BUCKET, bucket):
        raise InvalidJob(f"{field}: {names.shown(gs_uri)} is not of the form gs://bucket/path")
    return bucket, names.check_object(path, field)


def storage_console_url(gs_uri: str) -> str:
    """Return the URL of the console's page of a ``gs://bucket/folder/`` or ``gs://bucket/object``.

    If the path has a part ``.`` or ``..``, return the page of the bucket: a browser would resolve such a part.

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
    """Compute the id of the job that one try of one task instance submits.

    The same try always gets the same id, so a create whose answer was lost can be sent again. Two tries, two mapped
    instances, and two starts of the same run id never share an id. The id has three parts, so that the ids of other
    tries can be recognized: a hash of the task instance, a hash of the run's start, and the try number in clear.

    :param run_start: `dag_run.start_date`, which changes when a finished run is cleared or made again
    :param map_index: -1 if the task is not mapped
    :return: a label of RFC 1035 of at most 63 characters, such as ``nbjob-3f9c0d5be1a2-4c77a0b1-1``
    """
    start = run_start.isoformat() if isinstance(run_start, datetime) else run_start
    return f"nbjob-{short_hash([dag_id, run_id, task_id, map_index], 12)}-{short_hash(start, 8)}-{try_number}"


def short_hash(value: Any, length: int) -> str:
    """Return the first digits of the SHA-256 of a JSON value, in hexadecimal.

    :param length: number of digits
    """
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:length]
