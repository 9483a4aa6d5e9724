"""Run a notebook once for each of several days, and gather the result of each run."""

from __future__ import annotations

import os

from airflow.sdk import DAG, task

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

BUCKET = os.environ.get("NBJOB_EXAMPLE_BUCKET", "nbjob-examples")

with DAG(
    dag_id="example_mapped_notebooks",
    schedule=None,
    tags=["example", "notebook"],
    doc_md=__doc__,
):
    notebooks = CreateNotebookExecutionJobOperator.partial(
        task_id="notebooks",
        location="us-central1",
        gcs_notebook_source=f"gs://{BUCKET}/notebooks/daily_report.ipynb",
        notebook_runtime_template_resource_name="example-template",
        service_account="notebooks@example-project.iam.gserviceaccount.com",
        gcs_output_uri=f"gs://{BUCKET}/runs",
        deferrable=True,
        poll_interval=2,
        max_active_tis_per_dag=10,
    ).expand(
        # A cell after the one that is tagged `parameters` assigns these.
        parameters=[
            {"day": "{{ dag_run.run_after | ds }}", "orders": 300},
            {"day": "{{ macros.ds_add(dag_run.run_after | ds, -1) }}", "orders": 400},
        ]
    )

    @task
    def gather(returned: list[dict]) -> dict[str, float]:
        """Return the revenue of each day, from the notebook's cell that is tagged `result`."""
        revenue = {}
        for job in returned:
            result = job["results"]["result"]
            revenue[result["day"]] = result["revenue"]
            print(result["day"], result["orders"], "orders", result["revenue"], job["output_notebook_uri"])
        return revenue

    gather(notebooks.output)
