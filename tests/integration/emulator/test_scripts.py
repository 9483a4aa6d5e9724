"""Scripts, as clients give them: jobs end as they say, in an emulator with kernels and in one without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from google.cloud import storage
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import JobState

from scripts.processes import emulator_command
from tests.support.emulator_jobs import (
    BUCKET,
    create,
    job_name,
    make_job,
    new_id,
    notebook,
    run_job,
    template,
    wait_for_state,
)
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient, wait_until

Add = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_scripts_left(http: httpx.Client) -> Iterator[None]:
    """No script outlives its test."""
    yield
    http.delete("/emulator/scripts").raise_for_status()


@pytest.fixture
def add(http: httpx.Client) -> Add:
    """Put a script into effect."""
    return lambda **script: http.post("/emulator/scripts", json=script).raise_for_status()


def submit(client: NotebookServiceClient, display_name: str, **changes: Any) -> Any:
    """Create a job of three cells that would run for real; its operation."""
    cells = notebook("a = 1", "a['west']", "raise SystemExit")
    job = make_job(
        display_name=display_name,
        direct_notebook_source={"content": cells},
        notebook_runtime_template_resource_name=template("plain"),
        **changes,
    )
    return create(client, job, new_id("scripted"))


def ended(client: NotebookServiceClient, display_name: str, **changes: Any) -> Any:
    return wait_for_state(client, job_name(submit(client, display_name, **changes)))


def executed(read_object: Callable[[str], bytes], job: Any) -> Any:
    return json.loads(read_object(f"gs://{BUCKET}/results/{job.name.rpartition('/')[2]}/content.ipynb"))


def test_a_cell_fails(client: NotebookServiceClient, add: Add, read_object: Callable[[str], bytes]) -> None:
    add(job="fails*", cell=2, error="KeyError: 'west'")
    job = ended(client, "fails here")
    assert (job.job_state, job.status.message) == (JobState.JOB_STATE_FAILED, "Cell 2 raised KeyError: 'west'")
    cells = executed(read_object, job)["cells"]
    assert [cell["execution_count"] for cell in cells] == [1, 2, None]
    assert [output["ename"] for output in cells[1]["outputs"]] == ["KeyError"]


@pytest.mark.parametrize("state", ["SUCCEEDED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"])
def test_a_job_ends_in_each_terminal_state(
    client: NotebookServiceClient, add: Add, read_object: Callable[[str], bytes], state: str
) -> None:
    add(job="ends", state=state, results={"auc": 0.5})
    job = ended(client, "ends")
    assert job.job_state == JobState[f"JOB_STATE_{state}"]
    assert '"auc"' in json.dumps(executed(read_object, job))


def test_a_job_without_an_executed_notebook(client: NotebookServiceClient, add: Add, gcs: storage.Client) -> None:
    add(job="unlucky", message="There is no machine.")
    job = ended(client, "unlucky")
    assert (job.job_state, job.status.message) == (JobState.JOB_STATE_FAILED, "There is no machine.")
    assert not list(gcs.bucket(BUCKET).list_blobs(prefix=f"results/{job.name.rpartition('/')[2]}/"))


def test_a_job_that_no_script_matches_runs_for_real(client: NotebookServiceClient, add: Add) -> None:
    add(job="another", state="FAILED")
    assert run_job(client, "1 + 1", display_name="for real").job_state == JobState.JOB_STATE_SUCCEEDED


def test_a_job_that_takes_too_long_expires(client: NotebookServiceClient, add: Add) -> None:
    add(job="slow", seconds=3600)
    job = ended(client, "slow", execution_timeout={"seconds": 1})
    assert (job.job_state, job.status.message) == (
        JobState.JOB_STATE_EXPIRED,
        "The execution timeout of 1 s was exceeded.",
    )


def test_a_running_job_can_be_cancelled(client: NotebookServiceClient, add: Add) -> None:
    add(job="slow", seconds=3600)
    operation = submit(client, "slow")
    wait_for_state(client, job_name(operation), JobState.JOB_STATE_RUNNING)
    operation.cancel()
    wait_for_state(client, job_name(operation), JobState.JOB_STATE_CANCELLED)


def test_scripts_are_shown_with_their_use_and_their_problems(
    client: NotebookServiceClient, http: httpx.Client, add: Add
) -> None:
    add(job="odd", cell=9)
    job = ended(client, "odd")
    assert job.job_state == JobState.JOB_STATE_FAILED
    assert "cell: 9 is no code cell" in job.status.message
    (shown,) = http.get("/emulator/scripts").json()
    assert (shown["job"], shown["used"], len(shown["problems"])) == ("odd", 1, 1)


@pytest.mark.parametrize("body", [{"job": "", "cell": 0}, {"unknown": 1}, [], "x", None, 3])
def test_a_script_that_is_none_is_refused(http: httpx.Client, body: object) -> None:
    answer = http.post("/emulator/scripts", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert http.get("/emulator/scripts").json() == []


def test_the_jobs_of_all_locations_are_shown_in_their_order(
    client: NotebookServiceClient, http: httpx.Client, add: Add
) -> None:
    add(job="*")
    names = []
    for location in ("us-central1", "europe-west4"):
        job = make_job(notebook_runtime_template_resource_name=template("plain", location))
        operation = create(client, job, new_id("anywhere"), f"projects/emulator-project/locations/{location}")
        names.append(job_name(operation))
    shown = http.get("/emulator/jobs").json()
    assert [job["name"] for job in shown][-2:] == names
    assert not shown[-1]["directNotebookSource"]


def test_without_kernels_a_job_without_a_script_fails_and_says_why(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules.update(ipykernel=None, nbclient=None, jupyter_client=None); "
    main = "from airflow_provider_nbjob.emulator.__main__ import main; main(sys.argv[1:])"
    command = emulator_command(tmp_path / "data", "--no-kernels", "--make-buckets")
    command[1:3] = ["-c", hidden + main]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            rest_url = next(line for line in process.stdout if line.startswith("rest ")).split()[1]
            with httpx.Client(base_url=rest_url, timeout=patient(30)) as http:
                http.post("/emulator/scripts", json={"job": "scripted"}).raise_for_status()
                found = {}
                for name in ("scripted", "not scripted"):
                    job = {
                        "displayName": name,
                        "directNotebookSource": {"content": "eyJjZWxscyI6IFtdfQ=="},
                        "notebookRuntimeTemplateResourceName": template("plain"),
                        "gcsOutputUri": "gs://never-made-before/runs",
                        "serviceAccount": "a@p.iam.gserviceaccount.com",
                    }
                    parent = "/v1/projects/emulator-project/locations/us-central1/notebookExecutionJobs"
                    http.post(parent, json=job).raise_for_status()
                    found[name] = wait_until(
                        lambda name=name: next(
                            (
                                job
                                for job in http.get("/emulator/jobs").json()
                                if job["displayName"] == name and "status" in job
                            ),
                            None,
                        ),
                        timeout=40,
                        what=f"the end of {name}",
                    )
        finally:
            process.terminate()
    assert found["scripted"]["jobState"] == "JOB_STATE_SUCCEEDED"
    assert found["not scripted"]["jobState"] == "JOB_STATE_FAILED"
    assert "was started with --no-kernels" in found["not scripted"]["status"]["message"]
    assert (tmp_path / "data" / "cloudstorage" / "never-made-before").is_dir()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [*emulator_command(tmp_path / "data"), "--parent"]
    starter = (
        "import os, subprocess, sys\n"
        f"process = subprocess.Popen([*{command!r}, str(os.getpid())], stdout=subprocess.PIPE, text=True)\n"
        "list(iter(process.stdout.readline, 'ready\\n'))\n"
        "print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    run = subprocess.run([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True, env={**os.environ})
    pid = int(run.stdout)
    try:
        wait_until(lambda: not is_running(pid), timeout=20, what="the end of the emulator")
    finally:
        if is_running(pid):
            psutil.Process(pid).kill()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_each_client_can_write_into_a_bucket_that_nobody_made(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path / "data", "--make-buckets") as emulator, httpx.Client() as http:
        url = emulator.exports["STORAGE_EMULATOR_HOST"]
        written = http.post(
            f"{url}/upload/storage/v1/b/on-demand/o", params={"uploadType": "media", "name": "a"}, content=b"x"
        )
        assert written.status_code == 200
        assert http.get(f"{url}/storage/v1/b/on-demand/o/a", params={"alt": "media"}).content == b"x"
        assert http.get(f"{url}/storage/v1/b/another/o").json().get("items", []) == []
        assert http.get(f"{url}/storage/v1/b/Not%20valid/o").status_code == 404
