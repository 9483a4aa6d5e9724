"""Bad input, and sensors that wait for what never comes: what Airflow makes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_nbjob.operators.notebook_execution_job import (
    CreateNotebookExecutionJobOperator,
    DeleteNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor

RETRIED = {"retries": 1, "retry_delay": timedelta(seconds=1)}
BAD_NAME: dict[str, Any] = {"notebook_execution_job": "{{ 'My Job' }}", "location": "us-central1"}

with DAG("input", schedule=None, default_args=RETRIED):

    @task
    def regions() -> list[str]:
        """Return what a mapped task gets on the worker only."""
        return ["mars"]

    CreateNotebookExecutionJobOperator.partial(
        task_id="mapped",
        gcs_notebook_source="gs://faults/notebooks/quick.ipynb",
        notebook_runtime_template_resource_name="template",
        service_account="notebooks@example-project.iam.gserviceaccount.com",
        gcs_output_uri="gs://faults/runs",
    ).expand(location=regions())
    GetNotebookExecutionJobOperator(task_id="get", **BAD_NAME)
    DeleteNotebookExecutionJobOperator(task_id="delete", **BAD_NAME)
    ListNotebookExecutionJobsOperator(task_id="list", location="{{ 'mars' }}")
    NotebookExecutionJobSensor(task_id="sensor", deferrable=True, **BAD_NAME)

    waiting: dict[str, Any] = {"schedule": "no-such", "location": "us-central1", "deferrable": True, "poke_interval": 1}
    NotebookExecutionJobSensor(
        task_id="limited", created_after="2026-01-01", execution_timeout=timedelta(seconds=5), **waiting
    )
    NotebookExecutionJobSensor(task_id="past", created_before="2026-01-01", **waiting)
    NotebookExecutionJobSensor(
        task_id="soft", notebook_execution_job="no-such-job", location="us-central1", deferrable=True, soft_fail=True
    )
