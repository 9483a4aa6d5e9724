"""What the fault matrix runs: DAGs of one notebook each, which differ in how the task is run."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

MAPPED = {"waiting": int(os.environ["FAULTS_WAITING"]), "many": int(os.environ["FAULTS_MANY"])}


def tell(context):
    """What a callback can tell of the failure that it is called for."""
    error = context["exception"]
    print(f"The callback saw cell {error.cell} raise {error.ename}: {error.evalue}")


def job_arguments(**changes):
    return {
        "task_id": "job",
        "location": "us-central1",
        "gcs_notebook_source": "gs://faults/notebooks/{{ dag_run.conf['notebook'] }}.ipynb",
        "notebook_runtime_template_resource_name": "template",
        "service_account": "notebooks@example-project.iam.gserviceaccount.com",
        "gcs_output_uri": "gs://faults/runs",
        "poll_interval": 1.0,
        "retry_delay": timedelta(seconds=1),
        **changes,
    }


DAGS = {
    "deferred": {"deferrable": True},
    "of_connection": {"deferrable": True, "gcp_conn_id": "faults"},
    "deferred_retried": {
        "deferrable": True,
        "retries": 1,
        "on_retry_callback": lambda context: tell(context) if hasattr(context["exception"], "cell") else None,
        "on_failure_callback": tell,
    },
    "deferred_checked": {"deferrable": True, "retries": 3, "fail_on_cell_error": True},
    "blocking_retried": {"retries": 1},
    "edited": {"retries": int(Path(os.environ["FAULTS_RETRIES"]).read_text())},
    "own_id": {"retries": 1, "notebook_execution_job_id": "own-{{ run_id | replace('_', '-') }}"},
    "going_on": {"deferrable": True, "cancel_on_kill": False},
    "deferred_limited": {"deferrable": True, "execution_timeout": timedelta(seconds=5)},
    "blocking_limited": {"execution_timeout": timedelta(seconds=5)},
}

for dag_id, settings in DAGS.items():
    with DAG(dag_id, schedule=None) as dag:
        CreateNotebookExecutionJobOperator(**job_arguments(**settings))

for dag_id, count in MAPPED.items():
    with DAG(dag_id, schedule=None):
        # Tries to spare: on a busy machine Airflow takes workers for dead that are late to tell of themselves.
        CreateNotebookExecutionJobOperator.partial(**job_arguments(deferrable=True, retries=4)).expand(
            labels=[{"n": str(n)} for n in range(count)]
        )

with DAG("two", schedule=None):
    CreateNotebookExecutionJobOperator(**job_arguments(deferrable=True, retries=1))
    CreateNotebookExecutionJobOperator(
        **job_arguments(task_id="other", deferrable=True, gcs_notebook_source="gs://faults/notebooks/waiting.ipynb")
    )
