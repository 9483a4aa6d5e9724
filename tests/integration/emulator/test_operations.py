"""Long-running operations: those of create and of delete, and the methods of google.longrunning.Operations."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import InvalidArgument, NotFound
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import (
    CreateNotebookExecutionJobOperationMetadata,
    DeleteOperationMetadata,
    JobState,
    NotebookExecutionJob,
)
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, empty_pb2

from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.support.emulator_jobs import (
    CLEANUP_DELAY,
    PARENT,
    create,
    grpc_client,
    job_name,
    make_job,
    new_id,
    template,
    wait_for_state,
)
from tests.support.patience import patient, wait_until


@pytest.fixture
def slow(client: NotebookServiceClient, lasting_provisioning: None) -> Any:
    """The operation of a job that waits for its machine, and is deleted after the test."""
    operation = create(
        client, make_job(notebook_runtime_template_resource_name=template("slow-provisioning")), new_id("slow")
    )
    yield operation.operation
    with suppress(NotFound):
        client.delete_notebook_execution_job(name=operation.operation.name.partition("/operations/")[0])


def get(client: NotebookServiceClient, name: str) -> operations_pb2.Operation:
    return client.get_operation(operations_pb2.GetOperationRequest(name=name))


@pytest.fixture
def wait(server: Emulator) -> Callable[..., operations_pb2.Operation]:
    """WaitOperation; the client library's own gives bytes."""
    rpc = emulator_channel(server.grpc_address, server.token).unary_unary(
        "/google.longrunning.Operations/WaitOperation",
        request_serializer=operations_pb2.WaitOperationRequest.SerializeToString,
        response_deserializer=operations_pb2.Operation.FromString,
    )
    return lambda **request: rpc(operations_pb2.WaitOperationRequest(**request), timeout=patient(20))


def unpack(any_message: Any, kind: Any) -> Any:
    """The message of a type that is packed; fails where it is of another."""
    message = kind.meta.pb() if hasattr(kind, "meta") else kind()
    assert any_message.Unpack(message), f"{any_message.type_url} is no {kind.__name__}"
    return message


def test_the_operation_is_named_under_its_job(client: NotebookServiceClient) -> None:
    operation = create(client, make_job(), new_id()).operation
    name, _, number = operation.name.partition("/operations/")
    assert client.get_notebook_execution_job(name=name).name == name
    assert (len(number), number.isdigit()) == (19, True)


def test_it_is_not_done_while_the_job_has_not_ended(client: NotebookServiceClient, slow: Any) -> None:
    wait_for_state(client, slow.name.partition("/operations/")[0], JobState.JOB_STATE_PENDING)
    operation = get(client, slow.name)
    assert not operation.done
    assert operation.WhichOneof("result") is None
    metadata = unpack(operation.metadata, CreateNotebookExecutionJobOperationMetadata)
    assert metadata.progress_message == "The job is JOB_STATE_PENDING."
    assert metadata.generic_metadata.create_time.ToSeconds() == pytest.approx(time.time(), abs=patient(60))


def test_it_is_done_only_a_cleanup_after_the_job_has_ended(client: NotebookServiceClient) -> None:
    name = create(client, make_job(), new_id()).operation.name
    job = wait_for_state(client, name.partition("/operations/")[0], JobState.JOB_STATE_FAILED)
    operation = wait_until(lambda: (o := get(client, name)).done and o, timeout=5, what="done", interval=0.05)
    assert time.time() - job.update_time.timestamp() >= CLEANUP_DELAY
    metadata = unpack(operation.metadata, CreateNotebookExecutionJobOperationMetadata).generic_metadata
    delay = metadata.update_time.ToNanoseconds() / 1e9 - job.update_time.timestamp()
    assert CLEANUP_DELAY - 0.01 <= delay < CLEANUP_DELAY + patient(0.3)


def test_it_is_not_done_before_its_cleanup(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data", cleanup_delay=3600) as emulator:
        client = grpc_client(emulator)
        name = create(client, make_job(), new_id()).operation.name
        wait_for_state(client, name.partition("/operations/")[0], JobState.JOB_STATE_FAILED)
        assert not get(client, name).done


def test_a_failed_job_is_an_answer_and_no_error(client: NotebookServiceClient) -> None:
    operation = create(client, make_job(), new_id())
    job = operation.result(timeout=patient(20))
    assert operation.exception() is None
    assert isinstance(job, NotebookExecutionJob)
    assert job.name == job_name(operation)
    assert job.job_state == JobState.JOB_STATE_FAILED
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in job.status.message
    assert job.direct_notebook_source.content == b""


def test_deleting_a_job_is_done_at_once(client: NotebookServiceClient) -> None:
    name = job_name(create(client, make_job(), new_id()))
    operation = client.delete_notebook_execution_job(name=name).operation
    assert operation.done
    unpack(operation.response, empty_pb2.Empty)
    assert unpack(operation.metadata, DeleteOperationMetadata).generic_metadata.update_time.seconds > 0
    assert get(client, operation.name) == operation


def test_the_operation_of_a_deleted_job_ends_with_an_error(client: NotebookServiceClient, slow: Any) -> None:
    client.delete_notebook_execution_job(name=slow.name.partition("/operations/")[0])
    operation = get(client, slow.name)
    assert operation.done
    assert (operation.error.code, operation.error.message) == (
        grpc.StatusCode.CANCELLED.value[0],
        "The job was deleted.",
    )


def test_the_operations_of_a_job_are_listed(client: NotebookServiceClient, slow: Any) -> None:
    job = slow.name.partition("/operations/")[0]
    for name in (job, f"{job}/operations"):
        listed = client.list_operations(operations_pb2.ListOperationsRequest(name=name))
        assert [operation.name for operation in listed.operations] == [slow.name]


def test_waiting_ends_with_its_timeout(wait: Callable[..., operations_pb2.Operation], slow: Any) -> None:
    start = time.monotonic()
    operation = wait(name=slow.name, timeout=duration_pb2.Duration(nanos=500_000_000))
    assert not operation.done
    assert 0.5 <= time.monotonic() - start < patient(3)  # at most a minute otherwise, and then an answer too


def test_waiting_ends_with_the_operation(
    wait: Callable[..., operations_pb2.Operation], client: NotebookServiceClient
) -> None:
    name = create(client, make_job(), new_id()).operation.name
    operation = wait(name=name)
    assert operation.done
    assert unpack(operation.response, NotebookExecutionJob).name == name.partition("/operations/")[0]


def test_cancelling_ends_a_job_that_waits_for_its_machine(client: NotebookServiceClient, slow: Any) -> None:
    job = slow.name.partition("/operations/")[0]
    wait_for_state(client, job, JobState.JOB_STATE_PENDING)
    assert client.cancel_operation(operations_pb2.CancelOperationRequest(name=slow.name)) is None
    ended = wait_for_state(client, job, JobState.JOB_STATE_CANCELLED)
    assert ended.status.code == grpc.StatusCode.CANCELLED.value[0]
    assert wait_until(lambda: get(client, slow.name).done, timeout=5, what="its operation done")


def test_cancelling_leaves_a_job_that_has_ended(client: NotebookServiceClient) -> None:
    name = create(client, make_job(), new_id()).operation.name
    before = wait_for_state(client, name.partition("/operations/")[0], JobState.JOB_STATE_FAILED)
    client.cancel_operation(operations_pb2.CancelOperationRequest(name=name))
    assert client.get_notebook_execution_job(name=before.name) == before


def test_cancelling_a_delete_does_nothing(client: NotebookServiceClient) -> None:
    name = job_name(create(client, make_job(), new_id()))
    deletion = client.delete_notebook_execution_job(name=name).operation
    client.cancel_operation(operations_pb2.CancelOperationRequest(name=deletion.name))
    assert get(client, deletion.name) == deletion


def test_deleting_an_operation_forgets_it_and_stops_nothing(client: NotebookServiceClient, slow: Any) -> None:
    job = slow.name.partition("/operations/")[0]
    client.delete_operation(operations_pb2.DeleteOperationRequest(name=slow.name))
    with pytest.raises(NotFound):
        get(client, slow.name)
    state = client.get_notebook_execution_job(name=job).job_state
    assert state in (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_PENDING)


@pytest.mark.parametrize("method", ["get", "wait", "cancel", "delete"])
@pytest.mark.parametrize(
    ("name", "error"),
    [
        (f"{PARENT}/operations/1", NotFound),
        (f"{PARENT}/notebookExecutionJobs/x/operations/1", NotFound),
        ("operations/1", InvalidArgument),
        ("", InvalidArgument),
    ],
)
def test_an_operation_that_is_not_there(
    client: NotebookServiceClient, method: str, name: str, error: type[Exception]
) -> None:
    request = getattr(operations_pb2, f"{method.title()}OperationRequest")(name=name)
    with pytest.raises(error):
        getattr(client, f"{method}_operation")(request)


def test_operations_answer_to_the_id_of_the_project_too(client: NotebookServiceClient, server: Emulator) -> None:
    job_id = new_id()
    name = create(client, make_job(), job_id).operation.name
    by_id = f"{PARENT}/notebookExecutionJobs/{job_id}/operations/{name.rpartition('/')[2]}"
    assert get(client, by_id).name == name
