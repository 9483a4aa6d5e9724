"""What the tests of the emulator's security send to it, and put into its store."""

from __future__ import annotations

import base64
from typing import Any

import httpx
from google.cloud.aiplatform_v1.types import NotebookExecutionJob

from airflow_provider_nbjob.emulator.store import Operation, Store

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


def create_job(http: httpx.Client, job_id: str, **changes: Any) -> str:
    """Create a job; the name of its operation."""
    answer = http.post(JOBS, params={"notebookExecutionJobId": job_id}, json=rest_job(**changes)).raise_for_status()
    return str(answer.json()["name"])
