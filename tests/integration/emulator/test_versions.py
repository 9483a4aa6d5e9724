"""Operations are answered in the version of the API that was asked, for both of Google's Python clients."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from google.api_core.operation import Operation
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.cloud.aiplatform_v1.services.notebook_service import transports as v1_transports
from google.cloud.aiplatform_v1beta1.services.notebook_service import transports as v1beta1_transports
from google.longrunning import operations_pb2
from google.protobuf.descriptor import Descriptor

from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.support.emulator_jobs import BUCKET, PARENT, job_name, make_job, new_id
from tests.support.patience import patient, wait_until

VERSIONS: dict[str, tuple[ModuleType, ModuleType]] = {
    "v1": (aiplatform_v1, v1_transports),
    "v1beta1": (aiplatform_v1beta1, v1beta1_transports),
}
both = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator whose operations end with their jobs."""
    with Emulator(tmp_path_factory.mktemp("versions") / "data", cleanup_delay=0, buckets=[BUCKET]) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def rest(own: Emulator) -> Iterator[httpx.Client]:
    """A plain HTTP client."""
    with httpx.Client(base_url=own.rest_url, timeout=patient(30)) as client:
        yield client


def client_of(emulator: Emulator, version: str, transport: str) -> Any:
    """Google's client of a version of the API."""
    library, transports = VERSIONS[version]
    made: Any
    if transport == "grpc":
        made = transports.NotebookServiceGrpcTransport(channel=emulator_channel(emulator.grpc_address, emulator.token))
    else:
        host = emulator.rest_url.removeprefix("http://")
        made = transports.NotebookServiceRestTransport(host=host, url_scheme="http", credentials=AnonymousCredentials())
    return library.NotebookServiceClient(transport=made)


def create(client: Any, **changes: Any) -> Operation:
    request = {"parent": PARENT, "notebook_execution_job": make_job(**changes), "notebook_execution_job_id": new_id()}
    return client.create_notebook_execution_job(request=request)


def types_of(operation: operations_pb2.Operation | dict[str, Any]) -> set[str]:
    """The packages of the types that are packed into an operation, but for `Empty`."""
    if isinstance(operation, dict):
        urls = [operation[part]["@type"] for part in ("metadata", "response") if part in operation]
    else:
        urls = [getattr(operation, part).type_url for part in ("metadata", "response") if operation.HasField(part)]
    assert urls
    packages = {url.rpartition("/")[2].rpartition(".")[0] for url in urls}
    return {package.rpartition(".")[2] for package in packages} - {"protobuf"}


@both
@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_the_client_reads_the_result_and_the_metadata_of_its_operations(
    own: Emulator, version: str, transport: str
) -> None:
    client = client_of(own, version, transport)
    library = VERSIONS[version][0]
    operation = create(client)
    job = operation.result(timeout=patient(20))
    assert isinstance(job, library.NotebookExecutionJob)
    assert job.name == job_name(operation)
    assert isinstance(operation.metadata, library.CreateNotebookExecutionJobOperationMetadata)
    listed = client.list_operations(operations_pb2.ListOperationsRequest(name=job.name))
    operations = listed.operations if hasattr(listed, "operations") else listed
    assert [each.name for each in operations] == [operation.operation.name]
    deletion = client.delete_notebook_execution_job(name=job.name)
    assert isinstance(deletion.metadata, library.DeleteOperationMetadata)
    deletion.result(timeout=patient(20))


@both
@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_the_client_reads_the_error_of_its_operation(own: Emulator, version: str, transport: str) -> None:
    client = client_of(own, version, transport)
    operation = create(client)
    client.delete_notebook_execution_job(name=job_name(operation))
    error = operation.exception(timeout=patient(20))
    assert "The job was deleted." in str(error)
    assert isinstance(operation.metadata, VERSIONS[version][0].CreateNotebookExecutionJobOperationMetadata)


@both
@pytest.mark.parametrize("made_by", VERSIONS)
def test_over_rest_the_path_tells_the_version(own: Emulator, rest: httpx.Client, version: str, made_by: str) -> None:
    client = client_of(own, made_by, "grpc")
    operation = create(client)
    operation.result(timeout=patient(20))
    name, job = operation.operation.name, job_name(operation)
    assert types_of(rest.get(f"/{version}/{name}").json()) == {version}
    assert types_of(rest.post(f"/{version}/{name}:wait", json={}).json()) == {version}
    for path in (f"{job}/operations", f"{PARENT}/operations"):
        listed = rest.get(f"/{version}/{path}").json()["operations"]
        assert set().union(*(types_of(each) for each in listed)) == {version}
    deletion = rest.delete(f"/{version}/{job}").json()
    assert types_of(deletion) == {version}
    other = next(each for each in VERSIONS if each != version)
    assert types_of(rest.get(f"/{other}/{deletion['name']}").json()) == {other}


@both
def test_where_no_version_is_told_it_is_that_of_the_create(own: Emulator, rest: httpx.Client, version: str) -> None:
    operation = create(client_of(own, version, "grpc"))
    operation.result(timeout=patient(20))
    assert types_of(rest.get(f"/ui/{operation.operation.name}").json()) == {version}
    for asking in VERSIONS:  # google.longrunning.Operations is one service for both
        client = client_of(own, asking, "grpc")
        got = client.get_operation(operations_pb2.GetOperationRequest(name=operation.operation.name))
        assert types_of(got) == {version}


@both
def test_it_stays_so_over_a_restart(tmp_path: Any, version: str) -> None:
    with Emulator(tmp_path / "data", cleanup_delay=0, buckets=[BUCKET]) as emulator:
        client = client_of(emulator, version, "grpc")
        operation = create(client)
        wait_until(operation.done, timeout=20, what="the operation done", interval=0.05)
    with Emulator(tmp_path / "data", cleanup_delay=0) as emulator:
        client = client_of(emulator, version, "grpc")
        got = client.get_operation(operations_pb2.GetOperationRequest(name=operation.operation.name))
        assert types_of(got) == {version}


def test_enums_are_numbers_in_operations_too_if_that_is_asked(own: Emulator, rest: httpx.Client) -> None:
    operation = create(client_of(own, "v1beta1", "grpc"))
    operation.result(timeout=patient(20))
    shown = rest.get(f"/v1beta1/{operation.operation.name}?$alt=json;enum-encoding=int").json()
    assert shown["response"]["jobState"] == 5


@pytest.mark.parametrize(
    "kind", ["NotebookExecutionJob", "CreateNotebookExecutionJobOperationMetadata", "DeleteOperationMetadata"]
)
def test_the_messages_of_v1beta1_are_those_of_v1_with_two_more_fields(kind: str) -> None:
    one, other = (getattr(library, kind).meta.pb.DESCRIPTOR for library, _ in VERSIONS.values())
    fields, more = shape(one, "aiplatform.v1."), shape(other, "aiplatform.v1beta1.")
    assert set(fields) == set(more)
    added = {(name, field) for name in fields for field in more[name] ^ fields[name]}
    known = {(6, "multihost_gpu_node_count", 5), (9, "min_gpu_driver_version", 9)}  # taken, see `json_requests.py`
    assert added <= {("google.cloud.MachineSpec", field) for field in known}


def shape(message: Descriptor, package: str) -> dict[str, set[tuple[int, str, int]]]:
    """The fields of a message and of all that it consists of."""
    found: dict[str, set[tuple[int, str, int]]] = {}
    todo = [message]
    while todo:
        each = todo.pop()
        name = each.full_name.replace(package, "")
        if name not in found:
            found[name] = {(field.number, field.name, field.type) for field in each.fields}
            todo += [field.message_type for field in each.fields if field.message_type]
    return found
