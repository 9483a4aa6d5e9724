"""The queue, forced states, restarts and signals: what becomes of jobs when more than one thing happens."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import JobState
from google.longrunning import operations_pb2
from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.server import Emulator
from tests.integration.emulator.processes import Family, living
from tests.support.emulator_jobs import (
    BUCKET,
    PARENT,
    create,
    grpc_client,
    job_name,
    make_job,
    new_id,
    notebook,
    template,
    until_exists,
    wait_for_state,
)
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient, wait_until

pytestmark = [pytest.mark.usefixtures("lasting_provisioning"), pytest.mark.test_all]

PLAIN = {"notebook_runtime_template_resource_name": template("plain")}
SLOW = {"notebook_runtime_template_resource_name": template("slow-provisioning")}
INTERRUPTED = "The emulator was stopped before this job ended."


@pytest.fixture
def family(tmp_path: Path) -> Family:
    """A notebook's processes."""
    return Family(tmp_path / "pids.json")


def run_cells(client: NotebookServiceClient, *cells: str, job_id: str = "") -> str:
    """Submit a notebook of code cells; the job's name."""
    job = make_job(**PLAIN, direct_notebook_source={"content": notebook(*cells)})
    return job_name(create(client, job, job_id or new_id("run")))


# --- the queue ---


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookServiceClient]:
    """A client of an emulator that runs one job at a time."""
    data_dir = tmp_path_factory.mktemp("single") / "data"
    with Emulator(data_dir, cleanup_delay=0, max_concurrent=1, buckets=[BUCKET]) as emulator:
        yield grpc_client(emulator)


def test_jobs_wait_for_their_turn_in_the_order_that_they_came(single: NotebookServiceClient, tmp_path: Path) -> None:
    go, order = tmp_path / "go", tmp_path / "order"
    names = [
        run_cells(single, until_exists(go) if number == 0 else "", f"print({number}, file=open({str(order)!r}, 'a'))")
        for number in range(3)
    ]
    wait_for_state(single, names[0], JobState.JOB_STATE_RUNNING)
    states = [single.get_notebook_execution_job(name=name).job_state for name in names]
    assert states == [JobState.JOB_STATE_RUNNING, JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_QUEUED]
    go.touch()
    for name in names:
        wait_for_state(single, name, JobState.JOB_STATE_SUCCEEDED)
    assert order.read_text().split() == ["0", "1", "2"]


def test_a_queued_job_that_is_cancelled_or_deleted_never_runs(single: NotebookServiceClient, tmp_path: Path) -> None:
    blocking = job_name(create(single, make_job(**SLOW), new_id("slow")))
    trace = tmp_path / "trace"
    cell = f"open({str(trace)!r}, 'a').close()"
    job = make_job(**PLAIN, direct_notebook_source={"content": notebook(cell)})
    cancelled, deleted = create(single, job, new_id()), create(single, job, new_id())
    single.cancel_operation(operations_pb2.CancelOperationRequest(name=cancelled.operation.name))
    state = single.get_notebook_execution_job(name=job_name(cancelled)).job_state
    assert state == JobState.JOB_STATE_CANCELLED
    single.delete_notebook_execution_job(name=job_name(deleted))
    single.delete_notebook_execution_job(name=blocking)
    wait_for_state(single, run_cells(single, "1"), JobState.JOB_STATE_SUCCEEDED)
    assert not trace.exists()


def test_an_id_that_is_used_again_while_its_first_job_is_queued_runs_once(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with Emulator(tmp_path / "data", max_concurrent=2, buckets=[BUCKET]) as emulator:
        client = grpc_client(emulator)

        def occupy() -> list[str]:
            names = [job_name(create(client, make_job(**SLOW), new_id("slow"))) for _ in range(2)]
            for name in names:  # both workers take one
                wait_for_state(client, name, JobState.JOB_STATE_PENDING)
            return names

        blocking = occupy()
        first = run_cells(client, "1", job_id="again")
        client.delete_notebook_execution_job(name=first)
        second = run_cells(client, f"print('ran', file=open({str(trace)!r}, 'a'))", job_id="again")
        for name in blocking:
            client.delete_notebook_execution_job(name=name)
        wait_for_state(client, second, JobState.JOB_STATE_SUCCEEDED)
        for name in occupy():
            client.delete_notebook_execution_job(name=name)
    assert trace.read_text().split() == ["ran"]


# --- forced states ---


@pytest.mark.parametrize("state", [state.name for state in JobState])
def test_a_job_reports_the_state_that_is_forced(client: NotebookServiceClient, http: httpx.Client, state: str) -> None:
    job_id = new_id("forced")
    name = job_name(create(client, make_job(**SLOW), job_id))
    try:
        http.post(f"/emulator/jobs/{job_id}/state", json={"jobState": state}).raise_for_status()
        assert client.get_notebook_execution_job(name=name).job_state == JobState[state]
        assert http.get(f"/v1/{name}").json().get("jobState", "JOB_STATE_UNSPECIFIED") == state
    finally:
        client.delete_notebook_execution_job(name=name)


def test_a_forced_state_stays_whatever_the_run_does(
    client: NotebookServiceClient, http: httpx.Client, tmp_path: Path
) -> None:
    job_id, ended = new_id("forced"), tmp_path / "ended"
    name = run_cells(client, f"open({str(ended)!r}, 'w').close()", job_id=job_id)
    http.post(f"/emulator/jobs/{job_id}/state", json={"jobState": "JOB_STATE_PAUSED"}).raise_for_status()
    wait_until(ended.exists, timeout=30, what="the notebook run")
    wait_for_state(client, run_cells(client, "1"), JobState.JOB_STATE_SUCCEEDED)
    assert client.get_notebook_execution_job(name=name).job_state == JobState.JOB_STATE_PAUSED


def test_a_forced_end_stops_the_run_and_ends_its_operation(
    client: NotebookServiceClient, http: httpx.Client, family: Family
) -> None:
    job_id = new_id("forced")
    operation = create(client, make_job(**PLAIN, direct_notebook_source={"content": notebook(family.cell())}), job_id)
    processes = family.processes()
    http.post(f"/emulator/jobs/{job_id}/state", json={"jobState": "JOB_STATE_EXPIRED"}).raise_for_status()
    assert living(processes) == []
    assert operation.result(timeout=patient(20)).job_state == JobState.JOB_STATE_EXPIRED


def test_a_forced_state_is_gone_with_its_job(client: NotebookServiceClient, http: httpx.Client) -> None:
    job_id = new_id("forced")
    name = job_name(create(client, make_job(**SLOW), job_id))
    http.post(f"/emulator/jobs/{job_id}/state", json={"jobState": "JOB_STATE_PAUSED"}).raise_for_status()
    client.delete_notebook_execution_job(name=name)
    create(client, make_job(), job_id)
    assert wait_for_state(client, name, JobState.JOB_STATE_FAILED).status.code == code_pb2.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("job_id", "body", "code"),
    [
        ("never", {"jobState": "JOB_STATE_PAUSED"}, 404),
        ("never", {"jobState": "PAUSED"}, 400),
        ("never", {}, 400),
        ("never", [], 400),
    ],
)
def test_a_state_that_cannot_be_forced(http: httpx.Client, job_id: str, body: object, code: int) -> None:
    answer = http.post(f"/emulator/jobs/{job_id}/state", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)


# --- restarts and signals ---


def test_jobs_and_operations_survive_a_restart(tmp_path: Path, family: Family) -> None:
    data_dir, trace = tmp_path / "data", tmp_path / "trace"
    with Emulator(data_dir, cleanup_delay=0, max_concurrent=1, buckets=[BUCKET]) as emulator:
        client = grpc_client(emulator)
        ended = create(client, make_job(), "ended")
        before = wait_for_state(client, job_name(ended), JobState.JOB_STATE_FAILED)
        source = {"content": notebook(family.cell())}
        running = create(client, make_job(**PLAIN, direct_notebook_source=source), "running")
        processes = family.processes()
        queued = run_cells(client, f"open({str(trace)!r}, 'a').write('ran')", job_id="queued")
    assert living(processes) == []
    assert not trace.exists()
    with Emulator(data_dir, cleanup_delay=0) as emulator:
        client = grpc_client(emulator)
        assert client.get_notebook_execution_job(name=before.name) == before
        assert client.get_operation(operations_pb2.GetOperationRequest(name=ended.operation.name)).done
        job = client.get_notebook_execution_job(name=job_name(running))
        assert (job.job_state, job.status.message) == (JobState.JOB_STATE_FAILED, INTERRUPTED)
        wait_for_state(client, queued, JobState.JOB_STATE_SUCCEEDED)
        assert trace.read_text() == "ran"
        assert client.get_operation(operations_pb2.GetOperationRequest(name=running.operation.name)).done
        listed = client.list_notebook_execution_jobs(request={"parent": PARENT, "order_by": "create_time"})
        assert [job.name.rpartition("/")[2] for job in listed] == ["ended", "running", "queued"]
        bucket = data_dir / "cloudstorage" / BUCKET
        assert bucket.is_dir()


def test_a_stop_starts_no_job_that_is_queued(tmp_path: Path) -> None:
    trace, before = tmp_path / "trace", set(threading.enumerate())
    with Emulator(tmp_path / "data", max_concurrent=1, buckets=[BUCKET]) as emulator:
        client = grpc_client(emulator)
        blocking = job_name(create(client, make_job(**SLOW), "blocking"))
        wait_for_state(client, blocking, JobState.JOB_STATE_PENDING)
        run_cells(client, f"open({str(trace)!r}, 'w').close()", "import time; time.sleep(600)")
    # The thread that runs jobs has ended: it waits neither for the first job's machine nor for the second job.
    assert [thread for thread in threading.enumerate() if thread not in before and "(_work)" in thread.name] == []
    assert not trace.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_emulator_clean_with_all_its_processes(
    tmp_path: Path, family: Family, number: signal.Signals
) -> None:
    with EmulatorProcess(tmp_path / "data", "--bucket", BUCKET) as emulator:
        run_cells(grpc_client(emulator), family.cell())
        processes = family.processes()
        emulator._process.send_signal(number)
        assert emulator._process.wait(patient(15)) == 0
        assert living(processes) == []


def test_no_process_outlives_an_emulator_that_was_killed(tmp_path: Path, family: Family) -> None:
    with EmulatorProcess(tmp_path / "data", "--bucket", BUCKET) as emulator:
        run_cells(grpc_client(emulator), family.cell())
        processes = family.processes()
        assert len(processes) == 4
        emulator._process.kill()
        emulator._process.wait()
        wait_until(lambda: not living(processes), timeout=8, what="the notebook's processes gone")
