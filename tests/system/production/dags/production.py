"""Mapped notebooks, as many as a run asks for, on an API that needs no kernel; and a notebook beside its DAG."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task
from faults import job_arguments

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

API = {"api_endpoint": "http://{{ dag_run.conf['api'] }}", "project_id": "emulator-project"}
# To spare: a try that a worker begins while the API server restarts, minutes on a busy machine, fails within 10 s.
RETRIES = 60
HOW: dict[str, dict[str, Any]] = {
    "mapped_deferred": {"deferrable": True, "retries": RETRIES, "poll_interval": 10.0},
    "mapped_blocking": {"retries": RETRIES},
}


@task
def labels(dag_run: Any = None) -> list[dict[str, str]]:
    """Return what the mapped tasks differ by."""
    return [{"n": str(number)} for number in range(dag_run.conf["count"])]


for dag_id, arguments in HOW.items():
    with DAG(dag_id, schedule=None, max_active_tasks=1000):
        CreateNotebookExecutionJobOperator.partial(**job_arguments(**API, **arguments)).expand(labels=labels())

with DAG("beside", schedule=None):
    for worker in ("worker-1", "worker-2"):
        for how in ("deferred", "blocking"):
            CreateNotebookExecutionJobOperator(
                **job_arguments(
                    task_id=f"{how}_on_{worker}",
                    gcs_notebook_source=None,
                    direct_notebook_source="notebooks/beside.ipynb",
                    parameters={"where": worker},
                    deferrable=how == "deferred",
                    queue=worker,
                )
            )
