"""Submit a job without waiting for it, and wait for it with a sensor in each of its three modes."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor

BUCKET = os.environ.get("NBJOB_EXAMPLE_BUCKET", "nbjob-examples")

with DAG(
    dag_id="example_notebook_sensor",
    schedule=None,
    tags=["example", "notebook"],
    doc_md=__doc__,
):
    submit = CreateNotebookExecutionJobOperator(
        task_id="submit",
        location="us-central1",
        gcs_notebook_source=f"gs://{BUCKET}/notebooks/daily_report.ipynb",
        notebook_runtime_template_resource_name="example-template",
        service_account="notebooks@example-project.iam.gserviceaccount.com",
        gcs_output_uri=f"gs://{BUCKET}/runs",
        wait_for_completion=False,
    )
    job = submit.output["name"]

    # Occupies its worker: for short waits.
    NotebookExecutionJobSensor(task_id="poke", notebook_execution_job=job, poke_interval=2)

    # Releases its worker between two polls.
    NotebookExecutionJobSensor(task_id="reschedule", notebook_execution_job=job, poke_interval=2, mode="reschedule")

    # Waits in the triggerer: for many waits, and for long ones.
    NotebookExecutionJobSensor(task_id="deferrable", notebook_execution_job=job, poke_interval=2, deferrable=True)
