"""Jobs that run notebooks with real kernels: how they end, what they write, and what they leave: nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import JobState
from google.longrunning import operations_pb2
from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.server import Emulator
from tests.integration.emulator.processes import Family, living
from tests.support.emulator_jobs import (
    BUCKET,
    create,
    job_name,
    make_job,
    new_id,
    notebook,
    run_job,
    template,
    until_exists,
    wait_for_state,
)
from tests.support.files import below, notebooks_of_runs
from tests.support.patience import patient, wait_until

Read = Callable[[str], bytes]
PLAIN = {"notebook_runtime_template_resource_name": template("plain")}


def output_of(job: Any, name: str = "content.ipynb") -> str:
    """Where the executed notebook of a job is."""
    return f"{job.gcs_output_uri}/{job.name.rpartition('/')[2]}/{name}"


def executed(read_object: Read, job: Any) -> Any:
    """The executed notebook of a job, valid."""
    document = nbformat.reads(read_object(output_of(job)).decode(), as_version=4)
    nbformat.validate(document)
    return document


@pytest.fixture
def family(tmp_path: Path) -> Family:
    """A notebook's processes."""
    return Family(tmp_path / "pids.json")


# --- the ends of a run ---


def test_a_notebook_that_runs_is_written_executed(client: NotebookServiceClient, read_object: Read) -> None:
    job = run_job(client, "answer = 41", "answer + 1")
    assert job.job_state == JobState.JOB_STATE_SUCCEEDED
    assert (job.status.code, job.status.message) == (0, "")
    document = executed(read_object, job)
    assert document.cells[1].outputs[0].data["text/plain"] == "42"
    assert [cell.execution_count for cell in document.cells] == [1, 2]


def test_each_notebook_has_a_kernel_of_its_own_and_runs_as_this_user(
    client: NotebookServiceClient, read_object: Read
) -> None:
    cell = "import os; seen = 'left' in globals(); left = 1; [os.getpid(), os.getuid(), seen]"
    outputs = [executed(read_object, run_job(client, cell)).cells[0].outputs[0] for _ in range(2)]
    first, second = (ast.literal_eval(output.data["text/plain"]) for output in outputs)
    assert first[0] != second[0]
    assert first[1:] == second[1:] == [os.getuid(), False]


def test_a_job_shows_each_state_on_its_way(client: NotebookServiceClient, tmp_path: Path) -> None:
    go = tmp_path / "go"
    source = {"content": notebook(until_exists(go))}
    name = job_name(create(client, make_job(**PLAIN, direct_notebook_source=source), new_id("run")))
    seen = [JobState.JOB_STATE_QUEUED]
    while seen[-1] != JobState.JOB_STATE_SUCCEEDED:
        others = [state for state in JobState if state != seen[-1]]
        seen.append(wait_for_state(client, name, *others).job_state)
        if seen[-1] == JobState.JOB_STATE_RUNNING:
            go.touch()
    assert seen == sorted(seen)
    assert JobState.JOB_STATE_RUNNING in seen


def test_a_cell_that_raises_fails_the_job_and_the_notebook_is_written(
    client: NotebookServiceClient, read_object: Read
) -> None:
    job = run_job(client, "1", "secret = 'hunter2'; raise ValueError('too ' + 'small')", "print('never')")
    assert job.job_state == JobState.JOB_STATE_FAILED
    assert job.status.message == "Cell 2 raised ValueError: too small"
    assert job.status.code != 0
    document = executed(read_object, job)
    assert document.cells[1].outputs[0].ename == "ValueError"
    assert document.cells[2].execution_count is None


def test_an_exception_that_a_tag_allows_is_no_failure(client: NotebookServiceClient, read_object: Read) -> None:
    source = {"content": notebook("1 / 0", "'after'", tags=["raises-exception"])}
    job = run_job(client, direct_notebook_source=source)
    assert job.job_state == JobState.JOB_STATE_SUCCEEDED
    document = executed(read_object, job)
    assert document.cells[0].outputs[0].ename == "ZeroDivisionError"
    assert document.cells[1].outputs[0].data["text/plain"] == "'after'"


def test_a_failure_after_an_allowed_exception_names_its_own_cell(client: NotebookServiceClient) -> None:
    source = {"content": notebook("1 / 0", "{}['gone']", tags=["raises-exception"])}
    job = run_job(client, direct_notebook_source=source)
    assert job.status.message == "Cell 2 raised KeyError: 'gone'"


def test_a_kernel_that_dies_fails_the_job(client: NotebookServiceClient) -> None:
    job = run_job(client, "import os", "os._exit(3)")
    assert (job.job_state, job.status.message) == (
        JobState.JOB_STATE_FAILED,
        "The kernel died while the notebook ran.",
    )


@pytest.mark.parametrize("content", [b"not json", b'{"cells": 7}'])
def test_a_document_that_is_no_notebook_fails_the_job(client: NotebookServiceClient, content: bytes) -> None:
    job = run_job(client, direct_notebook_source={"content": content})
    assert job.job_state == JobState.JOB_STATE_FAILED
    assert job.status.message.startswith("The notebook cannot be read: ")


def test_a_kernel_that_is_not_installed_fails_the_job(client: NotebookServiceClient) -> None:
    job = run_job(client, "1", kernel_name="cobol", workbench_runtime={})
    assert job.job_state == JobState.JOB_STATE_FAILED
    assert job.status.message.startswith("Kernel 'cobol' is not installed; there are ")


def test_the_kernel_of_another_language_is_not_replaced(client: NotebookServiceClient) -> None:
    source = {"content": notebook("1", kernelspec={"name": "ir", "display_name": "R", "language": "R"})}
    job = run_job(client, direct_notebook_source=source)
    assert job.status.message.startswith("Kernel 'ir' is not installed; there are ")


def test_another_python_kernel_is_replaced(client: NotebookServiceClient) -> None:
    spec = {"name": "my-venv", "display_name": "mine", "language": "python"}
    job = run_job(client, direct_notebook_source={"content": notebook("1", kernelspec=spec)})
    assert job.job_state == JobState.JOB_STATE_SUCCEEDED


def test_a_bucket_that_is_not_there_fails_the_job(client: NotebookServiceClient) -> None:
    job = run_job(client, "1", gcs_output_uri="gs://no-such-bucket/results")
    assert (job.job_state, job.status.code) == (JobState.JOB_STATE_FAILED, code_pb2.NOT_FOUND)
    assert "gs://no-such-bucket" in job.status.message


# --- machines ---


def test_provisioning_may_fail(client: NotebookServiceClient, read_object: Read) -> None:
    job = wait_for_state(client, job_name(create(client, make_job(), new_id())))
    assert (job.job_state, job.status.code) == (JobState.JOB_STATE_FAILED, code_pb2.RESOURCE_EXHAUSTED)
    assert "<b>ZONE_RESOURCE_POOL_EXHAUSTED</b>" in job.status.message
    with pytest.raises(NotFound):
        read_object(output_of(job))


def test_provisioning_may_be_slow(client: NotebookServiceClient) -> None:
    job = make_job(
        notebook_runtime_template_resource_name=template("slow-provisioning"), gcs_output_uri="gs://no-such-bucket"
    )
    ended = wait_for_state(client, job_name(create(client, job, new_id("slow"))), JobState.JOB_STATE_FAILED)
    assert (ended.update_time - ended.create_time).total_seconds() >= 4.9
    assert "no-such-bucket" in ended.status.message


@pytest.mark.usefixtures("lasting_provisioning")
def test_a_job_whose_machine_starts_is_pending(client: NotebookServiceClient) -> None:
    job = make_job(notebook_runtime_template_resource_name=template("slow-provisioning"))
    name = job_name(create(client, job, new_id("slow")))
    wait_for_state(client, name, JobState.JOB_STATE_PENDING)
    client.delete_notebook_execution_job(name=name)


# --- runs that are stopped leave no process ---


def start(client: NotebookServiceClient, family: Family, **changes: Any) -> tuple[str, dict[str, Any]]:
    """Start a notebook that starts processes; its operation's name, and the processes, all living."""
    source = {"content": notebook("'first'", family.cell())}
    operation = create(client, make_job(**PLAIN, direct_notebook_source=source, **changes), new_id("run")).operation
    processes = family.processes()
    assert len(living(processes)) == 4
    return operation.name, processes


def test_the_execution_timeout_ends_all_processes(
    client: NotebookServiceClient, family: Family, read_object: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Event()
    wait = subprocess.Popen.wait

    def wait_once_started(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        """Wait, with a timeout that counts only from when the test has seen what the process started."""
        if timeout == 2:
            started.wait(patient(60))
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_once_started)
    name, processes = start(client, family, execution_timeout={"seconds": 2})
    started.set()
    job = wait_for_state(client, name.partition("/operations/")[0], JobState.JOB_STATE_EXPIRED)
    assert job.status.code == code_pb2.DEADLINE_EXCEEDED
    assert job.status.message == "The execution timeout of 2 s was exceeded."
    assert living(processes) == []
    assert executed(read_object, job).cells[0].outputs[0].data["text/plain"] == "'first'"


def test_cancelling_ends_all_processes(client: NotebookServiceClient, family: Family) -> None:
    name, processes = start(client, family)
    client.cancel_operation(operations_pb2.CancelOperationRequest(name=name))
    job_id = name.partition("/operations/")[0]
    state = client.get_notebook_execution_job(name=job_id).job_state
    assert state in (JobState.JOB_STATE_CANCELLING, JobState.JOB_STATE_CANCELLED)
    job = wait_for_state(client, job_id, JobState.JOB_STATE_CANCELLED)
    assert (job.status.code, job.status.message) == (code_pb2.CANCELLED, "The job was cancelled.")
    assert living(processes) == []


def test_deleting_a_running_job_ends_all_processes_before_it_answers(
    client: NotebookServiceClient, family: Family
) -> None:
    name, processes = start(client, family)
    client.delete_notebook_execution_job(name=name.partition("/operations/")[0])
    assert living(processes) == []


def test_a_job_that_has_ended_leaves_no_process(client: NotebookServiceClient, family: Family) -> None:
    job = run_job(client, family.cell(seconds=0))
    assert job.job_state == JobState.JOB_STATE_SUCCEEDED
    assert family.path.exists()
    assert living(family.processes()) == []


def test_no_run_leaves_a_folder(client: NotebookServiceClient, server: Emulator) -> None:
    run_job(client, "open('left.txt', 'w').close()")
    data_dir: Path = server.data_dir  # type: ignore[attr-defined]
    # The process that waits for the next notebook has a folder, without one.
    wait_until(lambda: not notebooks_of_runs(data_dir), timeout=60, what="the runs' folders removed")
    assert "left.txt" not in {path.name for path in below(data_dir)}
    assert (data_dir / "cloudstorage" / BUCKET).is_dir()
