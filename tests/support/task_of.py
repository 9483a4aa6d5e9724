"""A Create operator and the context of one of its tries, as Airflow gives them to a worker."""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def create_operator(**changes: Any) -> CreateNotebookExecutionJobOperator:
    """Return an operator with valid arguments; those that are None are left out."""
    arguments = {
        "task_id": "t",
        "location": "us-central1",
        "gcs_notebook_source": "gs://bucket/n.ipynb",
        "notebook_runtime_template_resource_name": "template",
        "service_account": "a@p.iam.gserviceaccount.com",
        "gcs_output_uri": "gs://bucket/runs",
        "poll_interval": 0.01,
        "deferrable": False,
        **changes,
    }
    return CreateNotebookExecutionJobOperator(**{name: value for name, value in arguments.items() if value is not None})


def context_of(try_number: int = 1, *, retries: int | None = 0, run: Any = None, **changes: Any) -> dict[str, Any]:
    """Return the context of a try; `ti.pushed` gathers its XComs.

    :param retries: of the task as the DAG is now; `max_tries` is the same, unless it is among the changes
    :param run: changed fields of the dag run
    :param changes: changed fields of the task instance
    """
    pushed: dict[str, Any] = {}
    ti = {
        "id": uuid4(),
        "dag_id": "d",
        "task_id": "t",
        "run_id": "r",
        "map_index": -1,
        "try_number": try_number,
        "max_tries": retries or 0,
        "start_date": datetime.now(timezone.utc),
        "pushed": pushed,
        "xcom_push": lambda key, value: pushed.update({key: value}),
        **changes,
    }
    dag_run = {"start_date": START, "run_after": START, "clear_number": 0, **(run or {})}
    return {
        "ti": SimpleNamespace(**ti),
        "task": SimpleNamespace(retries=retries),
        "dag_run": SimpleNamespace(**dag_run),
    }
