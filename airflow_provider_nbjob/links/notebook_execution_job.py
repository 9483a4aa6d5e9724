"""Links from a task's page to its job, made of the job's record: they work while the job runs, and after it failed.

The API server makes those of `LINKED` operators, through the plugin `notebook_jobs`: their tasks push the record only.
It knows an operator by its name, so the tasks of a derived operator push each link to XCom, as Airflow's own links are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import storage_console_url
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, JobEnd, JobSteps, Record, parse_record, record_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_nbjob.job import JobName

log = logging.getLogger(__name__)

# Module and name of the operators whose links the plugin makes.
LINKED = (
    ("airflow_provider_nbjob.operators.notebook_execution_job", "CreateNotebookExecutionJobOperator"),
    ("airflow_provider_nbjob.sensors.notebook_execution_job", "NotebookExecutionJobSensor"),
)


class JobLink(BaseOperatorLink):
    """A link that is made of a job's record."""

    def url_of(self, record: Record) -> str:
        """Return the URL; empty if there is no such page.

        :raises InvalidJob: if the record, which anybody may have written, names no bucket
        """
        raise NotImplementedError

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL for this task instance; empty if it has no record. Airflow calls it in the task's process."""
        from airflow.providers.common.compat.sdk import XCom

        return self.shown(parse_record(XCom.get_value(key=JOB_XCOM_KEY, ti_key=ti_key)))

    def shown(self, record: Record | None) -> str:
        """Return the URL; empty if there is no record, or none that is valid. Never raise."""
        try:
            return self.url_of(record) if record else ""
        except InvalidJob:
            return ""


class NotebookExecutionLink(JobLink):
    """The executions of the project in the Google Cloud console."""

    name = "Notebook executions"

    def url_of(self, record: Record) -> str:
        """Return the URL."""
        return record.name.console_url


class NotebookOutputLink(JobLink):
    """The job's output folder in Cloud Storage."""

    name = "Notebook output"

    def url_of(self, record: Record) -> str:
        """Return the URL; empty if the job writes no output."""
        return storage_console_url(record.name.output_uri(record.gcs_output_uri)) if record.gcs_output_uri else ""


class NotebookLogsLink(JobLink):
    """The job's logs in Cloud Logging."""

    name = "Notebook logs"

    def url_of(self, record: Record) -> str:
        """Return the URL."""
        return record.name.logs_url


LINKS = (NotebookExecutionLink(), NotebookOutputLink(), NotebookLogsLink())


def has_linked_record(task: Any) -> bool:
    """Return whether the API server makes the links of a task's record."""
    return (type(task).__module__, type(task).__qualname__) in LINKED


def push_job(
    task: Any,
    ti: Any,
    *,
    job: JobName,
    project_id: str,
    gcs_output_uri: str,
    connection: Mapping[str, Any],
    steps: JobSteps | None = None,
    end: JobEnd | None = None,
) -> None:
    """Push the record of a job, by which pages and links find it while it runs and after it failed.

    If Airflow does not take it, as while its API server is restarted, log that: the job of the task goes on.

    :param task: the operator or the sensor
    :param ti: the task instance; the other parameters are those of `record_of`
    """
    record = record_of(
        job=job,
        project_id=project_id,
        gcs_output_uri=gcs_output_uri,
        connection=connection,
        try_number=ti.try_number,
        steps=steps,
        end=end,
    )
    try:
        ti.xcom_push(key=JOB_XCOM_KEY, value=record)
        if end is None and not has_linked_record(task):  # at the end Airflow pushes them
            parsed = parse_record(record)
            for link in LINKS:
                ti.xcom_push(key=link.xcom_key, value=link.shown(parsed))
    except Exception as error:
        log.warning("Airflow did not take the record of notebook job %s, which its pages show: %s", job.job_id, error)
