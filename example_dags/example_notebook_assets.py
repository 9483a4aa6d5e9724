"""Run a notebook that updates an asset, and start another DAG with the notebook's result.

The event of the asset carries the result of the notebook's job, so the second DAG needs no XCom of the first one.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG, Asset, task

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

BUCKET = os.environ.get("NBJOB_EXAMPLE_BUCKET", "nbjob-examples")
DAILY_REPORT = Asset(name="daily_report", uri=f"gs://{BUCKET}/reports/daily")

with DAG(
    dag_id="example_notebook_assets",
    schedule=None,
    tags=["example", "notebook"],
    doc_md=__doc__,
):
    CreateNotebookExecutionJobOperator(
        task_id="update_report",
        location="us-central1",
        gcs_notebook_source=f"gs://{BUCKET}/notebooks/daily_report.ipynb",
        parameters={"day": "{{ dag_run.run_after | ds }}", "orders": 200},
        notebook_runtime_template_resource_name="example-template",
        service_account="notebooks@example-project.iam.gserviceaccount.com",
        gcs_output_uri=f"gs://{BUCKET}/runs",
        outlets=[DAILY_REPORT],
        deferrable=True,
        poll_interval=2,
    )

with DAG(
    dag_id="example_notebook_assets_consumer",
    schedule=[DAILY_REPORT],
    tags=["example", "notebook"],
    doc_md=__doc__,
):

    @task
    def publish(triggering_asset_events=None) -> list[dict]:
        """Return what each notebook that updated the asset has put into its event."""
        published = [event.extra for events in triggering_asset_events.values() for event in events]
        for report in published:
            print(report["output_notebook_uri"], report["job_state"], report["results"]["result"]["revenue"])
        return published

    publish()
