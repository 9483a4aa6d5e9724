"""The provider's classes in this process, against an emulator in another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.conftest import BUCKET, EmulatorProcess

LOCATION = "us-central1"


@pytest.fixture
def service(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    """The emulator, with its variables set and without the faults of an earlier test."""
    lead_to(emulator, monkeypatch)
    emulator.reset()
    yield emulator
    emulator.reset()
    emulator.delete_active_jobs()


def lead_to(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that lead this process to an emulator."""
    for name, value in emulator.exports.items():
        monkeypatch.setenv(name, value)
    # There is no worker whose end a trigger must not overtake.
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")


@pytest.fixture
def hook(service: EmulatorProcess) -> NotebookExecutionJobHook:
    return NotebookExecutionJobHook()


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
