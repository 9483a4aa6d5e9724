"""Links from a task's page to its job.

The operator and the sensor push the URLs to XCom right after the submission. Airflow 3.3 computes the links of tasks
that do not defer when they end, and never computes them if the tasks are killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_provider_nbjob.job import JobName, storage_console_url
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, JobEnd, JobSteps, record_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _PushedLink(BaseOperatorLink):
    """A link whose URL was pushed to XCom, under the link's own key."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that was pushed for this task instance; empty if none was."""
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""


class NotebookExecutionLink(_PushedLink):
    """The executions of the project in the Google Cloud console."""

    name = "Notebook executions"


class NotebookOutputLink(_PushedLink):
    """The job's output folder in Cloud Storage."""

    name = "Notebook output"


class NotebookLogsLink(_PushedLink):
    """The job's logs in Cloud Logging."""

    name = "Notebook logs"


LINKS = (NotebookExecutionLink(), NotebookOutputLink(), NotebookLogsLink())


def push_job(
    ti: Any,
    *,
    job: JobName,
    project_id: str,
    gcs_output_uri: str,
    connection: Mapping[str, Any],
    steps: JobSteps | None = None,
    end: JobEnd | None = None,
) -> None:
    """Push the record and the links of a job, by which pages find it while it runs and after it failed.

    :param ti: the task instance; the other parameters are those of `record_of`
    """
    shown = JobName(project_id, job.location, job.job_id)
    urls = {
        NotebookExecutionLink: shown.console_url,
        NotebookOutputLink: storage_console_url(job.output_uri(gcs_output_uri)) if gcs_output_uri else "",
        NotebookLogsLink: shown.logs_url,
    }
    ti.xcom_push(
        key=JOB_XCOM_KEY,
        value=record_of(
            job=job,
            project_id=project_id,
            gcs_output_uri=gcs_output_uri,
            connection=connection,
            try_number=ti.try_number,
            steps=steps,
            end=end,
        ),
    )
    if end:  # the links were pushed before
        return
    for link in LINKS:
        ti.xcom_push(key=link.xcom_key, value=urls[type(link)])
