"""The list of the operations of a location: over gRPC and REST, filtered and in pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.longrunning import operations_pb2

from airflow_provider_nbjob.emulator import engine
from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_jobs import BUCKET, create, grpc_client, job_name, make_job, template, wait_for_state
from tests.support.patience import patient

PARENT = "projects/listed/locations/us-central1"
ELSEWHERE = "projects/listed/locations/us-central12"  # begins as the other one


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    data_dir = tmp_path_factory.mktemp("location") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "SLOW_PROVISIONING", 3600.0)
        with Emulator(data_dir, cleanup_delay=0, buckets=[BUCKET]) as emulator:
            yield emulator


@pytest.fixture(scope="module")
def made(own: Emulator) -> dict[str, str]:
    """The operations of a location, by what they are: three creates, two of them done, and a delete."""
    client = grpc_client(own)
    names = {}
    for job_id in ("ended", "deleted"):
        operation = create(client, make_job(), job_id, PARENT)
        wait_for_state(client, job_name(operation))
        names[job_id] = operation.operation.name
    names["deletion"] = client.delete_notebook_execution_job(name=job_name(operation)).operation.name
    slow = make_job(notebook_runtime_template_resource_name=template("slow-provisioning"))
    running = create(client, slow, "running", PARENT)
    names["running"] = running.operation.name
    elsewhere = make_job(notebook_runtime_template_resource_name=template(location="us-central12"))
    create(client, elsewhere, "elsewhere", ELSEWHERE)
    return names


@pytest.fixture(params=["grpc", "v1", "v1beta1", "ui"])
def listing(request: pytest.FixtureRequest, own: Emulator) -> Any:
    """List by one of the ways: takes fields of the request, returns names and the token of the next page."""
    if request.param == "grpc":
        client: NotebookServiceClient = grpc_client(own)

        def over_grpc(parent: str = PARENT, **fields: Any) -> tuple[list[str], str]:
            # The client's own method leaves out the token.
            answer = client.list_operations(operations_pb2.ListOperationsRequest(name=parent, **fields))
            return [operation.name for operation in answer.operations], answer.next_page_token

        return over_grpc

    def over_rest(parent: str = PARENT, **fields: Any) -> tuple[list[str], str]:
        answer = httpx.get(f"{own.rest_url}/{request.param}/{parent}/operations", params=fields, timeout=patient(30))
        if answer.status_code == 400:
            raise InvalidArgument(answer.json()["error"]["message"])
        content = answer.raise_for_status().json()
        return [operation["name"] for operation in content.get("operations", [])], content.get("nextPageToken", "")

    return over_rest


def test_all_operations_of_the_location_are_listed_the_newest_first(listing: Any, made: dict[str, str]) -> None:
    assert listing() == ([made[key] for key in ("running", "deletion", "deleted", "ended")], "")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("done=true", ["deletion", "deleted", "ended"]),
        ("done:true", ["deletion", "deleted", "ended"]),
        ("done = TRUE", ["deletion", "deleted", "ended"]),
        ("done!=true", ["running"]),
        ("done=false", ["running"]),
        ("done != false", ["deletion", "deleted", "ended"]),
        ("done=true AND done=false", []),
        ('name="{ended}"', ["ended"]),
        ('done=true AND name!="{ended}"', ["deletion", "deleted"]),
    ],
)
def test_they_are_filtered(listing: Any, made: dict[str, str], text: str, keys: list[str]) -> None:
    wanted = [made[key] for key in keys]
    found, _ = listing(filter=text.replace("{ended}", made["ended"]))
    assert found == wanted


@pytest.mark.parametrize(("text", "size"), [("", 1), ("", 3), ("done=true", 2), ("", 2**31 - 1)])
def test_they_come_in_pages(listing: Any, made: dict[str, str], size: int, text: str) -> None:
    whole, _ = listing(filter=text)
    found: list[str] = []
    token = ""
    while True:
        page, token = listing(filter=text, page_size=size, page_token=token)
        assert len(page) <= size
        found += page
        if not token:
            break
        assert len(page) == size
    assert found == whole


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": "done"},
        {"filter": "done=maybe"},
        {"filter": "done>true"},
        {"filter": "state=RUNNING"},
        {"filter": "done=true OR done=false"},
        {"filter": "x" * 5000},
        {"page_size": -1},
        {"page_token": "none-of-ours"},
        {"page_token": "W" * 10_000},
        {"parent": "projects/listed/locations/nowhere"},
    ],
)
def test_what_is_wrong_is_refused(listing: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        listing(**fields)


def test_a_token_belongs_to_its_list(listing: Any, made: dict[str, str]) -> None:
    _, token = listing(page_size=1)
    for fields in ({"filter": "done=true"}, {"parent": ELSEWHERE}):
        with pytest.raises(InvalidArgument):
            listing(page_size=1, page_token=token, **fields)


def test_a_location_without_operations_has_an_empty_list(listing: Any) -> None:
    assert listing(parent="projects/empty/locations/us-central1") == ([], "")
