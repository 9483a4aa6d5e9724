"""What the fault matrix runs: DAGs of one notebook each, which differ in how the task is run."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import product
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor

LIMIT = timedelta(seconds=30)  # long enough for a busy machine to submit a job meanwhile
# These are there as well as tasks that start in the triggerer.
FROM_TRIGGER = ("deferred", "of_connection", "deferred_checked")
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
    "from_trigger_retried": {
        "deferrable": True,
        "start_from_trigger": True,
        "retries": 1,
        "on_failure_callback": tell,
        "on_success_callback": lambda context: print(f"The callback saw {context['ti'].task_id} succeed"),
    },
    "from_trigger_limited": {
        "deferrable": True,
        "start_from_trigger": True,
        "execution_timeout": LIMIT,
    },
    "deferred_limited": {"deferrable": True, "execution_timeout": LIMIT},
    "blocking_limited": {"execution_timeout": LIMIT},
}

DAGS |= {f"{dag_id}_from_trigger": {**DAGS[dag_id], "start_from_trigger": True} for dag_id in FROM_TRIGGER}

for dag_id, settings in DAGS.items():
    with DAG(dag_id, schedule=None) as dag:
        CreateNotebookExecutionJobOperator(**job_arguments(**settings))

for (dag_id, count), starts in product(MAPPED.items(), ({}, {"start_from_trigger": True})):
    with DAG(f"{dag_id}_from_trigger" if starts else dag_id, schedule=None):
        # Tries to spare: on a busy machine Airflow takes workers for dead that are late to tell of themselves.
        CreateNotebookExecutionJobOperator.partial(**job_arguments(deferrable=True, retries=4, **starts)).expand(
            labels=[{"n": str(n)} for n in range(count)]
        )

with DAG("from_trigger_mapped", schedule=None):
    CreateNotebookExecutionJobOperator.partial(**job_arguments(deferrable=True, start_from_trigger=True)).expand(
        labels=[{"n": "first"}, {"n": "second"}], display_name=["of {{ run_id | length }}", "b", "c"]
    )

with DAG("two", schedule=None):
    CreateNotebookExecutionJobOperator(**job_arguments(deferrable=True, retries=1))
    CreateNotebookExecutionJobOperator(
        **job_arguments(task_id="other", deferrable=True, gcs_notebook_source="gs://faults/notebooks/waiting.ipynb")
    )

with DAG("keyed", schedule=None):
    CreateNotebookExecutionJobOperator(**job_arguments(multiple_outputs=False, xcom_keys=["display_name"]))

with DAG("sensed", schedule=None):
    submit = CreateNotebookExecutionJobOperator(
        **job_arguments(task_id="submit", wait_for_completion=False, multiple_outputs=False, xcom_keys=["name"])
    )
    NotebookExecutionJobSensor(
        task_id="job", notebook_execution_job=submit.output["name"], deferrable=True, poke_interval=1.0
    )


class Derived(CreateNotebookExecutionJobOperator):
    """An operator of a user's."""


with DAG("derived", schedule=None):
    CreateNotebookExecutionJobOperator(**job_arguments())
    Derived(**job_arguments(task_id="derived", deferrable=True))
