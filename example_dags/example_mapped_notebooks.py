"""Run one notebook task for each of several notebooks, and gather what came out."""

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
        notebook_runtime_template_resource_name="example-template",
        service_account="notebooks@example-project.iam.gserviceaccount.com",
        gcs_output_uri=f"gs://{BUCKET}/runs",
        deferrable=True,
        poll_interval=2,
        max_active_tis_per_dag=10,
    ).expand(
        gcs_notebook_source=[
            f"gs://{BUCKET}/notebooks/daily_report.ipynb",
            f"gs://{BUCKET}/notebooks/data_quality.ipynb",
        ]
    )

    @task
    def gather(results: list[dict]) -> dict[str, str]:
        """Map each job to its executed notebook."""
        outputs = {result["job_id"]: result["output_notebook_uri"] for result in results}
        print("Executed notebooks:", *outputs.values(), sep="\n  ")
        return outputs

    gather(notebooks.output)
