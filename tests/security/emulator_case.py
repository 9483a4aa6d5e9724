"""An emulator in this process for the tests of its security, and what they send to it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.cloud.aiplatform_v1.types import NotebookExecutionJob

from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.emulator.store import Operation, Store
from tests.support.patience import patient

PARENT = "projects/emulator-project/locations/us-central1"
JOBS = f"v1/{PARENT}/notebookExecutionJobs"
BUCKET = "nbjob-tests"


def rest_job(**changes: Any) -> dict[str, Any]:
    """A job in JSON that the API takes; it ends at once, without a kernel."""
    return {
        "displayName": "d",
        "directNotebookSource": {"content": base64.b64encode(b"{}").decode()},
        "notebookRuntimeTemplateResourceName": f"{PARENT}/notebookRuntimeTemplates/fail-provisioning",
        "gcsOutputUri": f"gs://{BUCKET}/results",
        "serviceAccount": "sa@emulator-project.iam.gserviceaccount.com",
        **changes,
    }


def keep(store: Store, name: str, **fields: Any) -> None:
    """Put a job into a store."""
    job = NotebookExecutionJob.pb(NotebookExecutionJob(name=name, **fields))
    operation = Operation(f"{name}/operations/1", name, "create", 0.0, None, uid=name, version="v1")
    assert store.insert(job, operation)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Start one emulator for a module."""
    with Emulator(tmp_path_factory.mktemp("secured") / "data", cleanup_delay=3600, buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    """A client of its REST API; no fault outlives a test."""
    with httpx.Client(base_url=f"{emulator.rest_url}/", timeout=patient(30), trust_env=False) as client:
        yield client
        client.delete("emulator/faults").raise_for_status()


def create_job(http: httpx.Client, job_id: str, **changes: Any) -> str:
    """Create a job; the name of its operation."""
    answer = http.post(JOBS, params={"notebookExecutionJobId": job_id}, json=rest_job(**changes)).raise_for_status()
    return str(answer.json()["name"])
