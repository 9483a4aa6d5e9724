"""The real gcloud, unchanged, against the emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud import storage
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient

from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_jobs import BUCKET, PROJECT, new_id, notebook, wait_for_state
from tests.support.patience import patient

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def gcloud(server: Emulator, tmp_path: Path) -> Run:
    """Run ``gcloud colab executions ...`` with a configuration of its own."""
    program = shutil.which("gcloud")
    if program is None:
        pytest.skip("gcloud is not installed")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CLOUDSDK_")},
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_COLAB_REGION": "us-central1",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": f"{server.rest_url}/",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [program, "colab", "executions", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patient(90))

    return run


def common(template: str = "plain") -> list[str]:
    return [
        f"--notebook-runtime-template={template}",
        f"--service-account=sa@{PROJECT}.iam.gserviceaccount.com",
        f"--gcs-output-uri=gs://{BUCKET}/gcloud",
    ]


def test_a_notebook_is_created_and_waited_for(gcloud: Run, gcs: storage.Client, tmp_path: Path) -> None:
    file = tmp_path / "notebook.ipynb"
    file.write_bytes(notebook("6 * 7"))
    job_id = new_id("gcloud")
    created = gcloud(
        "create",
        "--display-name=d1",
        f"--direct-content={file}",
        "--execution-timeout=1h30m",
        f"--execution-job-id={job_id}",
        "--format=json",
        *common(),
    )
    assert created.returncode == 0, created.stderr
    job = json.loads(created.stdout)
    assert job["name"].endswith(f"/notebookExecutionJobs/{job_id}")
    assert (job["jobState"], job["executionTimeout"]) == ("JOB_STATE_SUCCEEDED", "5400s")
    assert gcs.bucket(BUCKET).blob(f"gcloud/{job_id}/content.ipynb").exists()


def test_a_job_is_created_async_described_listed_and_deleted(gcloud: Run, client: NotebookServiceClient) -> None:
    job_id = new_id("gcloud")
    created = gcloud(
        "create",
        "--async",
        "--display-name=d2",
        f"--gcs-notebook-uri=gs://{BUCKET}/n.ipynb",
        "--generation=123",
        f"--execution-job-id={job_id}",
        "--format=json",
        *common("fail-provisioning"),
    )
    assert created.returncode == 0, created.stderr
    job = json.loads(created.stdout)["name"].partition("/operations/")[0]
    wait_for_state(client, job)
    described = gcloud("describe", job_id, "--format=json")
    assert described.returncode == 0, described.stderr
    shown = json.loads(described.stdout)
    assert (shown["name"], shown["jobState"]) == (job, "JOB_STATE_FAILED")
    assert shown["gcsNotebookSource"] == {"uri": f"gs://{BUCKET}/n.ipynb", "generation": "123"}
    listed = gcloud("list", "--format=value(name)")
    assert listed.returncode == 0, listed.stderr
    assert job_id in listed.stdout
    deleted = gcloud("delete", job_id)
    assert deleted.returncode == 0, deleted.stderr
    gone = gcloud("describe", job_id)
    assert gone.returncode == 1
    assert "NOT_FOUND" in gone.stderr


def test_a_refusal_is_shown(gcloud: Run) -> None:
    refused = gcloud("create", "--display-name=" + "x" * 129, f"--gcs-notebook-uri=gs://{BUCKET}/n.ipynb", *common())
    assert refused.returncode == 1
    assert "notebook_execution_job.display_name; Message: Must be at most 128 characters long" in refused.stderr
