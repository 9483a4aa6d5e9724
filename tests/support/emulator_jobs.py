"""Jobs for an emulator, made over gRPC as Google's client does, and the wait for what becomes of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nbformat
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.services.notebook_service.transports import NotebookServiceGrpcTransport
from google.cloud.aiplatform_v1.types import JobState

from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient, wait_until

PROJECT = "emulator-project"
PARENT = f"projects/{PROJECT}/locations/us-central1"
BUCKET = "nbjob-tests"
CLEANUP_DELAY = 1.0
TERMINAL = {
    *(JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED),
    *(JobState.JOB_STATE_EXPIRED, JobState.JOB_STATE_PARTIALLY_SUCCEEDED),
}

_numbers = itertools.count(1)


def new_id(prefix: str = "job") -> str:
    """A job id that no other test has."""
    return f"{prefix}-{next(_numbers)}"


def template(template_id: str = "fail-provisioning", location: str = "us-central1") -> str:
    """The name of a runtime template; a job of ``fail-provisioning`` ends at once, without a kernel."""
    return f"projects/{PROJECT}/locations/{location}/notebookRuntimeTemplates/{template_id}"


def notebook(*cells: str, tags: list[str] | None = None, **metadata: Any) -> bytes:
    """A notebook of code cells; `tags` are those of the first."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=metadata)
    if tags:
        made.cells[0].metadata["tags"] = tags
    return nbformat.writes(made).encode()


def until_exists(path: Path) -> str:
    """Return a cell that runs until a file exists, or two minutes at the longest."""
    return (
        "import os, time\n"
        f"end_time = time.monotonic() + {patient(120)}\n"
        f"while not os.path.exists({str(path)!r}) and time.monotonic() < end_time: time.sleep(0.05)"
    )


def make_job(**changes: Any) -> dict[str, Any]:
    """A job that the API takes, with fields changed; `None` removes one. It needs no kernel unless told."""
    job: dict[str, Any] = {
        "display_name": "a job",
        "direct_notebook_source": {"content": notebook("1 + 1")},
        "notebook_runtime_template_resource_name": template(),
        "gcs_output_uri": f"gs://{BUCKET}/results",
        "service_account": "runner@emulator-project.iam.gserviceaccount.com",
    }
    return {name: value for name, value in {**job, **changes}.items() if value is not None}


def grpc_client(emulator: Emulator | EmulatorProcess) -> NotebookServiceClient:
    """A client over gRPC."""
    channel = emulator_channel(emulator.grpc_address, emulator.token)
    return NotebookServiceClient(transport=NotebookServiceGrpcTransport(channel=channel))


def create(client: NotebookServiceClient, job: dict[str, Any], job_id: str = "", parent: str = PARENT) -> Any:
    """Create a job; its operation, as the client library has it."""
    request = {"parent": parent, "notebook_execution_job": job, "notebook_execution_job_id": job_id}
    return client.create_notebook_execution_job(request=request)


def job_name(operation: Any) -> str:
    """The name of the job that an operation is below."""
    return operation.operation.name.partition("/operations/")[0]


def wait_for_state(client: NotebookServiceClient, name: str, *states: JobState, timeout: float = 40) -> Any:
    """Wait until a job is in one of some states, or has ended; the job."""
    wanted = TERMINAL | set(states)

    def look() -> Any:
        job = client.get_notebook_execution_job(name=name)
        return job if job.job_state in wanted else None

    what = " or ".join(state.name for state in states) or "the end"
    job = wait_until(look, timeout=timeout, what=f"{what} of {name}", interval=0.05)
    assert not states or job.job_state in states, f"{job.job_state!r}: {job.status.message}"
    return job


def run_job(client: NotebookServiceClient, *cells: str, **changes: Any) -> Any:
    """Run a notebook of code cells with a real kernel; the ended job."""
    changes.setdefault("direct_notebook_source", {"content": notebook(*cells)} if cells else None)
    job = make_job(notebook_runtime_template_resource_name=template("plain"), **changes)
    return wait_for_state(client, job_name(create(client, job, new_id("run"))))
