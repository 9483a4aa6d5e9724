"""Run a notebook from Cloud Storage without occupying a worker, and use its result.

Trigger it with ``{"notebook": "failing.ipynb"}`` to see a notebook fail.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

BUCKET = os.environ.get("NBJOB_EXAMPLE_BUCKET", "nbjob-examples")

with DAG(
    dag_id="example_notebook_job",
    schedule=None,
    params={"notebook": Param("daily_report.ipynb", type="string", description="a notebook in the bucket")},
    tags=["example", "notebook"],
    doc_md=__doc__,
):
    run_notebook = CreateNotebookExecutionJobOperator(
        task_id="run_notebook",
        location="us-central1",
        gcs_notebook_source=f"gs://{BUCKET}/notebooks/{{{{ params.notebook }}}}",
        notebook_runtime_template_resource_name="example-template",
        service_account="notebooks@example-project.iam.gserviceaccount.com",
        gcs_output_uri=f"gs://{BUCKET}/runs",
        labels={"team": "examples"},
        job_timeout=timedelta(minutes=30),
        deferrable=True,
        poll_interval=2,
    )

    @task
    def report(result: dict) -> str:
        """Print the result of the notebook's task, and return the URI of the executed notebook."""
        print("XCom of run_notebook:", json.dumps(result, indent=2))
        return result["output_notebook_uri"]

    report(run_notebook.output)
