"""Run a notebook from a file beside the DAG, and one from a Dataform repository."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

BUCKET = os.environ.get("NBJOB_EXAMPLE_BUCKET", "nbjob-examples")
PROJECT = os.environ.get("NBJOB_EXAMPLE_PROJECT", "emulator-project")

with DAG(
    dag_id="example_notebook_sources",
    schedule=None,
    tags=["example", "notebook"],
    doc_md=__doc__,
    # Arguments that all notebooks of the DAG share.
    default_args={
        "location": "us-central1",
        "notebook_runtime_template_resource_name": "example-template",
        "service_account": "notebooks@example-project.iam.gserviceaccount.com",
        "gcs_output_uri": f"gs://{BUCKET}/runs",
        "poll_interval": 2,
    },
):
    direct = CreateNotebookExecutionJobOperator(
        task_id="direct",
        direct_notebook_source="notebooks/data_quality.ipynb",  # relative to this file
    )

    dataform = CreateNotebookExecutionJobOperator(
        task_id="dataform",
        dataform_repository_source=f"projects/{PROJECT}/locations/us-central1/repositories/data-quality",
        deferrable=True,
    )

    direct >> dataform
