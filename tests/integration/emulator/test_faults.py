"""Faults that tests ask for: what they do to calls over both transports, and the count of the calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from google.api_core import exceptions
from google.api_core.exceptions import AlreadyExists, InternalServerError, NotFound, ServiceUnavailable
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.longrunning import operations_pb2

from tests.support.emulator_jobs import PARENT, create, make_job, new_id

LIST = "ListNotebookExecutionJobs"
GET = "GetNotebookExecutionJob"
JOBS = f"/v1/{PARENT}/notebookExecutionJobs"
Inject = Callable[..., None]


@pytest.fixture(autouse=True)
def _from_zero(http: httpx.Client) -> Iterator[None]:
    """No fault stands, and all counters are zero, before and after."""
    for what in ("faults", "calls"):
        http.delete(f"/emulator/{what}").raise_for_status()
    yield
    http.delete("/emulator/faults").raise_for_status()


@pytest.fixture
def inject(http: httpx.Client) -> Inject:
    """Have a fault stand."""
    return lambda rpc, **fault: http.post("/emulator/faults", json={"rpc": rpc, **fault}).raise_for_status()


def list_once(client: NotebookServiceClient) -> None:
    """List jobs without the client library's own retries."""
    client.list_notebook_execution_jobs(request={"parent": PARENT, "page_size": 1}, retry=None)


@pytest.mark.parametrize(
    ("code", "error", "status"),
    [
        ("UNAVAILABLE", exceptions.ServiceUnavailable, 503),
        ("INTERNAL", exceptions.InternalServerError, 500),
        ("DEADLINE_EXCEEDED", exceptions.DeadlineExceeded, 504),
        ("RESOURCE_EXHAUSTED", exceptions.ResourceExhausted, 429),
        ("PERMISSION_DENIED", exceptions.PermissionDenied, 403),
        ("UNAUTHENTICATED", exceptions.Unauthenticated, 401),
        ("NOT_FOUND", exceptions.NotFound, 404),
        ("ALREADY_EXISTS", exceptions.AlreadyExists, 409),
        ("FAILED_PRECONDITION", exceptions.FailedPrecondition, 400),
        ("UNIMPLEMENTED", exceptions.MethodNotImplemented, 501),
        ("ABORTED", exceptions.Aborted, 409),
        ("CANCELLED", exceptions.Cancelled, 499),
        ("UNKNOWN", exceptions.Unknown, 500),
    ],
)
def test_a_code_fails_calls_over_both_transports(
    client: NotebookServiceClient, http: httpx.Client, inject: Inject, code: str, error: type[Exception], status: int
) -> None:
    inject(LIST, code=code, times=2)
    with pytest.raises(error, match=f"Fault injected into {LIST}: {code}") as raised:
        list_once(client)
    assert type(raised.value) is error
    answer = http.get(JOBS)
    assert (answer.status_code, answer.json()["error"]["status"]) == (status, code)
    list_once(client)
    assert http.get("/emulator/faults").json() == []


def test_times_are_used_up_and_shown(client: NotebookServiceClient, http: httpx.Client, inject: Inject) -> None:
    inject(LIST, code="INTERNAL", times=2)
    for left in (2, 1):
        assert [fault["times"] for fault in http.get("/emulator/faults").json()] == [left]
        with pytest.raises(InternalServerError):
            list_once(client)
    list_once(client)
    assert http.get("/emulator/faults").json() == []


def test_a_fault_without_times_stands_until_it_is_removed(
    client: NotebookServiceClient, http: httpx.Client, inject: Inject
) -> None:
    inject(LIST, code="INTERNAL")
    for _ in range(5):
        with pytest.raises(InternalServerError):
            list_once(client)
    http.delete("/emulator/faults").raise_for_status()
    list_once(client)
    assert http.get("/emulator/calls").json() == {LIST: 6}


def test_a_fault_meets_its_rpc_only(client: NotebookServiceClient, inject: Inject) -> None:
    inject(GET, code="INTERNAL")
    list_once(client)
    with pytest.raises(InternalServerError):
        client.get_notebook_execution_job(name=f"{PARENT}/notebookExecutionJobs/x", retry=None)


def test_a_star_meets_all_rpcs(client: NotebookServiceClient, http: httpx.Client, inject: Inject) -> None:
    inject("*", code="UNAVAILABLE")
    with pytest.raises(ServiceUnavailable):
        list_once(client)
    with pytest.raises(ServiceUnavailable):
        client.get_operation(operations_pb2.GetOperationRequest(name=f"{PARENT}/operations/1"), retry=None)
    with pytest.raises(ServiceUnavailable):
        create(client, make_job())
    assert http.get("/emulator/health").json() == {"status": "ok"}


@pytest.mark.parametrize(("probability", "failures"), [(0, 0), (1, 20), (1.0, 20)])
def test_a_probability_of_none_or_all(http: httpx.Client, inject: Inject, probability: float, failures: int) -> None:
    inject(LIST, code="INTERNAL", probability=probability)
    assert sum(http.get(JOBS).status_code == 500 for _ in range(20)) == failures


def test_a_probability_between_fails_some(http: httpx.Client, inject: Inject) -> None:
    inject(LIST, code="INTERNAL", probability=0.5)
    failures = sum(http.get(JOBS, params={"pageSize": 1}).status_code == 500 for _ in range(60))
    assert 0 < failures < 60


def test_a_dropped_response_is_of_a_call_that_was_performed(client: NotebookServiceClient, inject: Inject) -> None:
    inject("CreateNotebookExecutionJob", code="UNAVAILABLE", times=1, drop_response=True)
    job_id = new_id("dropped")
    with pytest.raises(ServiceUnavailable):
        create(client, make_job(), job_id)
    assert client.get_notebook_execution_job(name=f"{PARENT}/notebookExecutionJobs/{job_id}").name.endswith(job_id)
    with pytest.raises(AlreadyExists):
        create(client, make_job(), job_id)


def test_a_dropped_error_is_lost_too(client: NotebookServiceClient, inject: Inject) -> None:
    inject(GET, code="UNAVAILABLE", times=1, drop_response=True)
    name = f"{PARENT}/notebookExecutionJobs/never"
    with pytest.raises(ServiceUnavailable):
        client.get_notebook_execution_job(name=name, retry=None)
    with pytest.raises(NotFound):
        client.get_notebook_execution_job(name=name, retry=None)


def test_a_fault_that_is_not_dropped_performs_nothing(client: NotebookServiceClient, inject: Inject) -> None:
    inject("CreateNotebookExecutionJob", code="UNAVAILABLE", times=1)
    job_id = new_id("refused")
    with pytest.raises(ServiceUnavailable):
        create(client, make_job(), job_id)
    with pytest.raises(NotFound):
        client.get_notebook_execution_job(name=f"{PARENT}/notebookExecutionJobs/{job_id}")


def test_a_delay_holds_the_call_and_lets_it_through(http: httpx.Client, inject: Inject) -> None:
    inject(LIST, delay=0.5, times=1)
    start = time.monotonic()
    assert http.get(JOBS).status_code == 200
    assert time.monotonic() - start >= 0.5


def test_several_faults_meet_a_call_until_one_fails_it(http: httpx.Client, inject: Inject) -> None:
    inject(LIST, delay=0.3, times=2)
    inject("*", code="INTERNAL", times=1)
    inject(LIST, code="NOT_FOUND", times=1)
    start = time.monotonic()
    assert http.get(JOBS).status_code == 500
    assert [(fault["code"], fault["times"]) for fault in http.get("/emulator/faults").json()] == [
        (None, 1),
        ("NOT_FOUND", 1),
    ]
    assert http.get(JOBS).status_code == 404
    assert time.monotonic() - start >= 0.6
    assert http.get(JOBS).status_code == 200


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "rpc"),
        ({"rpc": "Nothing", "code": "INTERNAL"}, "rpc"),
        ({"rpc": ["*"], "code": "INTERNAL"}, "rpc"),
        ({"rpc": "*", "code": "OK"}, "code"),
        ({"rpc": "*", "code": "internal"}, "code"),
        ({"rpc": "*", "code": 13}, "code"),
        ({"rpc": "*", "code": ["INTERNAL"]}, "code"),
        ({"rpc": "*", "times": 0}, "times"),
        ({"rpc": "*", "times": 1.5}, "times"),
        ({"rpc": "*", "times": "1"}, "times"),
        ({"rpc": "*", "times": True}, "times"),
        ({"rpc": "*", "probability": 1.1}, "probability"),
        ({"rpc": "*", "probability": -0.1}, "probability"),
        ({"rpc": "*", "probability": None}, "probability"),
        ({"rpc": "*", "drop_response": "yes"}, "drop_response"),
        ({"rpc": "*", "delay": -1}, "delay"),
        ({"rpc": "*", "delay": "1"}, "delay"),
        ({"rpc": "*", "delay": 601}, "delay"),
    ],
)
def test_a_fault_that_is_wrong_is_refused_by_name(http: httpx.Client, body: Any, named: str) -> None:
    answer = http.post("/emulator/faults", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{named}: ")
    assert http.get("/emulator/faults").json() == []


@pytest.mark.parametrize("content", ['{"rpc": "*", "more": 1}', "[]", "7", "{", "", '{"rpc": "*", "delay": NaN}'])
def test_a_body_that_is_no_fault_is_refused(http: httpx.Client, content: str) -> None:
    answer = http.post("/emulator/faults", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert http.get("/emulator/faults").json() == []


def test_calls_are_counted_over_both_transports_and_reset(client: NotebookServiceClient, http: httpx.Client) -> None:
    list_once(client)
    http.get(JOBS)
    http.get(f"{JOBS}/never")
    http.post(JOBS, json={})
    assert http.get("/emulator/calls").json() == {LIST: 2, GET: 1, "CreateNotebookExecutionJob": 1}
    http.delete("/emulator/calls").raise_for_status()
    assert http.get("/emulator/calls").json() == {}


@pytest.mark.parametrize(("verb", "path"), [("POST", "calls"), ("GET", "nothing"), ("DELETE", "health"), ("GET", "")])
def test_what_the_emulator_does_not_have_is_not_found(http: httpx.Client, verb: str, path: str) -> None:
    answer = http.request(verb, f"/emulator/{path}")
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
