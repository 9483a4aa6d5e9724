"""Notebooks that get secrets: one that succeeds, and one that raises an error with a secret; blocking and deferred."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.system.notebook_tasks import arguments, cell

LOOK_AROUND = "import os\nfor name, value in sorted(os.environ.items()):\n    print(name, value)"
USE = "print(len(token), len(password))"
RESULT = '{"lengths": [len(token), len(password)]}'
RAISE = 'raise PermissionError(f"cannot sign in with {token}")'

HANDED = {
    "gcp_conn_id": "canary",
    "parameters": {"token": "{{ var.value.canary_token }}"},
    "secret_parameters": {"password": "projects/emulator-project/secrets/canary/versions/latest"},
    "gcs_output_uri": "gs://ui-tests/canary",  # not among the jobs that the tests of the UI compare
    "log_output": True,
    "retries": 0,
}

with DAG("canary", schedule=None):
    for deferrable in (False, True):
        how = "deferred" if deferrable else "blocking"
        given = {**HANDED, "deferrable": deferrable}
        CreateNotebookExecutionJobOperator(
            **arguments(cell(LOOK_AROUND), cell(USE), cell(RESULT, "result"), **given, task_id=f"{how}_success")
        )
        CreateNotebookExecutionJobOperator(
            **arguments(cell(LOOK_AROUND), cell(RAISE), **given, task_id=f"{how}_failure")
        )
