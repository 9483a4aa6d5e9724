"""What a task that runs a notebook is made of: the arguments of its operator, and the context of one of its tries.

Those of `arguments` and `api_job` are valid on the emulator of `example_emulator`, those of `create_operator` for a
`FakeGoogle`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from scripts.processes import BUCKET
from tests.support.notebooks import unexecuted

LOCATION = "us-central1"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SLEEPING = {"gcs_notebook_source": None, "direct_notebook_source": unexecuted("import time; time.sleep(3600)")}


def arguments(**changes: Any) -> dict[str, Any]:
    """Arguments of a Create operator that are valid on the emulator."""
    return {
        "task_id": "run_notebook",
        "location": LOCATION,
        "gcs_notebook_source": f"gs://{BUCKET}/notebooks/data_quality.ipynb",
        "notebook_runtime_template_resource_name": "example-template",
        "service_account": "notebooks@example-project.iam.gserviceaccount.com",
        "gcs_output_uri": f"gs://{BUCKET}/runs",
        "poll_interval": 0.3,
        **changes,
    }


def api_job(**changes: Any) -> dict[str, Any]:
    """The same as the API takes it, in the proto's field names."""
    job = {
        "display_name": "a job",
        "gcs_notebook_source": {"uri": f"gs://{BUCKET}/notebooks/data_quality.ipynb"},
        "notebook_runtime_template_resource_name": (
            f"projects/emulator-project/locations/{LOCATION}/notebookRuntimeTemplates/t"
        ),
        "service_account": "notebooks@example-project.iam.gserviceaccount.com",
        "gcs_output_uri": f"gs://{BUCKET}/runs",
        **changes,
    }
    return {field: value for field, value in job.items() if value is not None}


class Pushed(dict[str, Any]):
    """The XCom that a task pushed."""

    def xcom_push(self, key: str, value: Any) -> None:
        self[key] = value


def make_context(run_id: str, *, retries: int = 0, **changes: Any) -> dict[str, Any]:
    """What an operator reads of Airflow's context; `ti.pushed` gathers the XCom."""
    start = datetime.now(timezone.utc)
    pushed = Pushed()
    values = {
        "dag_id": "d",
        "task_id": "run_notebook",
        "run_id": run_id,
        "map_index": -1,
        "try_number": 1,
        "max_tries": 0,
        "start_date": start,
    }
    ti = SimpleNamespace(**{**values, **changes}, xcom_push=pushed.xcom_push, pushed=pushed)
    return {
        "ti": ti,
        "task": SimpleNamespace(retries=retries),
        "dag_run": SimpleNamespace(start_date=start, data_interval_start=start),
    }


# The arguments that an operator needs.
REQUIRED = {
    "task_id": "t",
    "location": "us-central1",
    "gcs_notebook_source": "gs://bucket/n.ipynb",
    "notebook_runtime_template_resource_name": "template",
    "service_account": "a@p.iam.gserviceaccount.com",
    "gcs_output_uri": "gs://bucket/runs",
}


def create_operator(**changes: Any) -> CreateNotebookExecutionJobOperator:
    """Return an operator with valid arguments; those that are None are left out."""
    arguments = {**REQUIRED, "poll_interval": 0.01, "deferrable": False, **changes}
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
