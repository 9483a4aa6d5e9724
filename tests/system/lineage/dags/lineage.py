"""Notebooks from every kind of source, which succeed and fail, and whose lineage is reported."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Asset, task

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

BUCKET = os.environ["LINEAGE_BUCKET"]
SECRET = os.environ["LINEAGE_SECRET"]
WHERE = {
    "location": "us-central1",
    "notebook_runtime_template_resource_name": "template",
    "service_account": "notebooks@example-project.iam.gserviceaccount.com",
    "gcs_output_uri": f"gs://{BUCKET}/runs",
    "poll_interval": 1.0,
}
STORED = {**WHERE, "gcs_notebook_source": f"gs://{BUCKET}/notebooks/daily_report.ipynb"}
PARAMETERS = {"day": "{{ dag_run.run_after | ds }}", "orders": 200}
REPORTS = Asset(name="reports", uri=f"gs://{BUCKET}/reports")

with DAG("lineage", schedule=None):
    blocking = CreateNotebookExecutionJobOperator(
        task_id="blocking",
        deferrable=False,
        parameters={**PARAMETERS, "api_token": SECRET},
        inlets=[Asset(name="orders", uri=f"gs://{BUCKET}/orders")],
        outlets=[REPORTS],
        **STORED,
    )
    deferred = CreateNotebookExecutionJobOperator(task_id="deferred", deferrable=True, outlets=[REPORTS], **STORED)
    failing = CreateNotebookExecutionJobOperator(
        task_id="failing", deferrable=False, direct_notebook_source=Path("failing.ipynb"), **WHERE
    )
    deferred_failing = CreateNotebookExecutionJobOperator(
        task_id="deferred_failing",
        deferrable=True,
        gcs_notebook_source=f"gs://{BUCKET}/notebooks/failing.ipynb",
        trigger_rule="all_done",
        **WHERE,
    )
    mapped = CreateNotebookExecutionJobOperator.partial(
        task_id="mapped",
        deferrable=True,
        outlets=[REPORTS],
        trigger_rule="all_done",
        dataform_repository_source="projects/emulator-project/locations/us-central1/repositories/data-quality",
        **WHERE,
    ).expand(labels=[{"n": "one"}, {"n": "two"}])

    @task(trigger_rule="all_done")
    def call_the_hook(uri: str) -> None:
        """Submit a notebook by the hook, and print what Airflow's collector has of it."""
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
        from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec

        hook = NotebookExecutionJobHook()
        arguments = {name: value for name, value in WHERE.items() if name != "poll_interval"}
        spec = NotebookExecutionJobSpec(display_name="by hand", gcs_notebook_source=uri, **arguments)
        name = hook.create_notebook_execution_job(job=spec, location="us-central1")
        hook.get_result(hook.wait_for_notebook_execution_job(name=name, poll_interval=1))
        lineage = get_hook_lineage_collector().collected_assets
        collected = {part: [info.asset.uri for info in getattr(lineage, part)] for part in ("inputs", "outputs")}
        print("the collector has", collected)

    called = call_the_hook(STORED["gcs_notebook_source"])

    @task(trigger_rule="all_done")
    def end():
        """Have the run succeed."""

    blocking >> deferred >> failing >> deferred_failing >> mapped >> called >> end()

with DAG("lineage_from_trigger", schedule=None):
    CreateNotebookExecutionJobOperator(task_id="from_trigger", deferrable=True, start_from_trigger=True, **STORED)
