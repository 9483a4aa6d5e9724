"""A name may belong to one job after another: what is left of the first does not touch the second."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import JobState
from google.longrunning import operations_pb2

from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_jobs import (
    BUCKET,
    create,
    grpc_client,
    job_name,
    make_job,
    new_id,
    template,
    wait_for_state,
)
from tests.support.patience import wait_until

pytestmark = pytest.mark.usefixtures("lasting_provisioning")

SLOW = make_job(notebook_runtime_template_resource_name=template("slow-provisioning"))
ENDING = make_job()
PENDING = JobState.JOB_STATE_PENDING


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookServiceClient]:
    """A client of an emulator that runs many jobs at once, all of which wait for their machines."""
    data_dir = tmp_path_factory.mktemp("identity") / "data"
    with Emulator(data_dir, cleanup_delay=0, max_concurrent=16, buckets=[BUCKET]) as emulator:
        yield grpc_client(emulator)


def cancel(client: NotebookServiceClient, operation: Any) -> None:
    client.cancel_operation(operations_pb2.CancelOperationRequest(name=operation.operation.name))


def get(client: NotebookServiceClient, operation: Any) -> operations_pb2.Operation:
    return client.get_operation(operations_pb2.GetOperationRequest(name=operation.operation.name))


@pytest.mark.parametrize("first_ended", [False, True], ids=["running", "ended"])
def test_the_cancel_of_an_earlier_operation_leaves_a_later_job(own: NotebookServiceClient, first_ended: bool) -> None:
    job_id = new_id("again")
    first = create(own, ENDING if first_ended else SLOW, job_id)
    name = job_name(first)
    wait_for_state(own, name, *([] if first_ended else [PENDING]))
    own.delete_notebook_execution_job(name=name)
    second = create(own, SLOW, job_id)
    assert first.operation.name != second.operation.name
    wait_for_state(own, name, PENDING)
    for _ in range(3):
        cancel(own, first)
    assert own.get_notebook_execution_job(name=name).job_state == PENDING
    assert not get(own, second).done
    cancel(own, second)
    wait_for_state(own, name, JobState.JOB_STATE_CANCELLED)
    own.delete_notebook_execution_job(name=name)


def test_an_earlier_operation_does_not_answer_with_a_later_job(own: NotebookServiceClient) -> None:
    job_id = new_id("again")
    first = create(own, SLOW, job_id)
    own.delete_notebook_execution_job(name=job_name(first))
    second = create(own, ENDING, job_id)
    wait_until(lambda: get(own, second).done, timeout=20, what="the second operation done", interval=0.05)
    assert get(own, second).WhichOneof("result") == "response"
    stale = get(own, first)
    assert (stale.done, stale.error.code) == (True, grpc.StatusCode.CANCELLED.value[0])
    listed = own.list_operations(operations_pb2.ListOperationsRequest(name=job_name(second))).operations
    assert [operation.name for operation in listed] == [second.operation.name]


def test_a_cancel_that_is_under_way_leaves_a_later_job(own: NotebookServiceClient) -> None:
    job_id = new_id("again")
    for _ in range(5):
        first = create(own, SLOW, job_id)
        name = job_name(first)
        wait_for_state(own, name, PENDING)
        cancel(own, first)  # goes on in a thread
        own.delete_notebook_execution_job(name=name)
        create(own, SLOW, job_id)
        wait_for_state(own, name, PENDING)
        own.delete_notebook_execution_job(name=name)


def test_of_several_deletes_one_deletes_and_none_deletes_a_later_job(own: NotebookServiceClient) -> None:
    job_id = new_id("again")
    name = job_name(create(own, SLOW, job_id))
    barrier = threading.Barrier(8)

    def delete(_: int) -> bool:
        barrier.wait()
        try:
            own.delete_notebook_execution_job(name=name)
        except NotFound:
            return False
        return True

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(delete, range(8))) == 1
        create(own, SLOW, job_id)


def test_all_operations_have_names_of_their_own_over_restarts(tmp_path: Path) -> None:
    names: list[str] = []
    first: Any = None
    for restart in range(3):
        with Emulator(tmp_path / "data", cleanup_delay=0, max_concurrent=4, buckets=[BUCKET]) as emulator:
            client = grpc_client(emulator)
            for _ in itertools.repeat(None, 3):
                operation = create(client, SLOW, "same")
                names.append(operation.operation.name)
                first = first or operation
                names.append(client.delete_notebook_execution_job(name=job_name(operation)).operation.name)
            kept = create(client, SLOW, f"kept-{restart}")
            again = create(client, SLOW, "same")
            names += [kept.operation.name, again.operation.name]
            wait_for_state(client, job_name(again), PENDING)
            cancel(client, first)  # of the first start
            assert client.get_notebook_execution_job(name=job_name(again)).job_state == PENDING
            names.append(client.delete_notebook_execution_job(name=job_name(again)).operation.name)
    assert len(set(names)) == len(names)
