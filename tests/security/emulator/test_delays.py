"""No client of the emulator keeps it from answering the others, whatever it sends or leaves unsent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, ResourceExhausted

from airflow_provider_nbjob.emulator import methods, rest_api, store
from airflow_provider_nbjob.emulator.json_requests import PARTS_MAX
from airflow_provider_nbjob.emulator.listing import parse_filter
from airflow_provider_nbjob.emulator.patterns import PATTERN_MAX, compile_pattern
from airflow_provider_nbjob.emulator.rest_api import BODY_MAX
from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.emulator.store import Store
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.security.emulator.case import BUCKET, JOBS, PARENT, create_job, keep, rest_job
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient, wait_until

pytestmark = pytest.mark.test_all


GREEDY = 60  # clients of each kind: more than there are threads of whatever kind
DELAY = 1.0  # seconds that one client may delay another, on a quiet machine

# --- regular expressions ---

SLOW = [
    "(a|a)+$",
    "(a+)+$",
    "(a*)*b",
    "(.*a){20}b",
    "(?:a|aa)+$",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "((a|a)|a)+$",
    "(x+x+)+y",
]


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_takes_linear_time(pattern: str) -> None:
    text = "a" * 127 + "!"
    started = time.thread_time()
    for _ in range(100):
        compile_pattern(pattern).search(text)
    assert time.thread_time() - started < 5  # Python's own engine would need more than the age of the universe


@pytest.mark.parametrize(
    "pattern", ["a" * (PATTERN_MAX + 1), "(a{1000}){1000}", "a{1001}", "\\pL{900}", "(?=a)b", "(a)\\1", "("]
)
def test_a_pattern_that_is_too_large_or_cannot_be_linear_is_refused(http: httpx.Client, pattern: str) -> None:
    answer = http.get(JOBS, params={"filter": f'displayName=~"{pattern}"'})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_filter_is_bounded_before_it_is_read() -> None:
    for text in ('displayName="' + "x" * 5000 + '"', " " * 10**6, 'displayName="a" AND ' * 1000):
        with pytest.raises(InvalidArgument, match="at most 4096"):
            parse_filter(text)


def test_a_list_that_takes_long_ends_and_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store(tmp_path / "jobs.sqlite")
    for number in range(3000):
        name = f"{PARENT}/notebookExecutionJobs/j{number}"
        keep(kept, name, display_name="a" * 128)
    monkeypatch.setattr(store, "LIST_SECONDS", 0.05)
    with pytest.raises(ResourceExhausted):
        kept.page(PARENT, parse_filter('displayName=~"(a{100}){10}"'), [("create_time", True)], None, 100)
    assert len(kept.page(PARENT, [], [("create_time", True)], None, 100)[0]) == 100
    kept.close()


# --- bodies ---


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"a":' * 90_000,
        '{"directNotebookSource":' * 900 + "{}" + "}" * 900,
        '{"displayName": ' + "9" * 5000 + "}",
        '{"executionTimeout": 1e999}',
        '{"executionTimeout": "99999999999999s"}',
        "[" + "[]," * PARTS_MAX + "[]]",
        '{"displayName": "\\ud800"}',
        '{"labels": {"a": "b", "a": {"c": []}}}',
        "NaN",
    ],
)
def test_a_body_of_a_strange_shape_is_an_invalid_argument(http: httpx.Client, body: str) -> None:
    headers = {"content-type": "application/json"}
    for path in (JOBS, "emulator/faults"):
        answer = http.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "query",
    ["pageSize=%C2%B2", "pageSize=" + "9" * 5000, "view=" + "9" * 30, "pageToken=W1tdLFtdXQ==", "filter=%ED%A0%80"],
)
def test_a_query_of_strange_digits_is_an_invalid_argument(http: httpx.Client, query: str) -> None:
    answer = http.get(f"{JOBS}?{query}")
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(http: httpx.Client, is_chunked: bool) -> None:
    chunk = b" " * 2**20
    content = (chunk for _ in range(BODY_MAX // len(chunk) + 1)) if is_chunked else b" " * (BODY_MAX + 1)
    answer = http.post(JOBS, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "payload size exceeds" in answer.json()["error"]["message"]


def test_large_bodies_are_bounded_in_sum_and_small_ones_are_taken(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_api, "BODIES_MAX", 2**20)
    monkeypatch.setattr(rest_api, "SMALL_BODY", 2**16)
    headers = {"content-type": "application/json"}
    large = b" " * 2**17
    released = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b" " * 2**20
        released.wait(patient(30))
        yield b"{}"

    def send_slowly(_: int) -> None:
        # It is refused itself if it comes after one of those below; the server may then close while it still sends.
        while not released.is_set():
            with suppress(httpx.TransportError):
                httpx.post(f"{http.base_url}{JOBS}", content=slowly(), headers=headers, timeout=patient(60))

    def code() -> int:
        return http.post(JOBS, content=large, headers=headers).status_code

    with in_background(1, send_slowly):
        try:
            wait_until(lambda: code() == 429, timeout=10, what="refusal")
            assert http.post(JOBS, content=b"{}", headers=headers).status_code == 400
        finally:
            released.set()
    wait_until(lambda: code() == 400, timeout=10, what="room")


def test_a_compressed_message_is_not_unpacked(emulator: Emulator) -> None:
    with emulator_channel(emulator.grpc_address, emulator.token) as channel:
        call = channel.unary_unary("/google.longrunning.Operations/GetOperation")
        with pytest.raises(grpc.RpcError) as error:
            call(b"\x0a\x80\x80\x40" + b"x" * 2**20, compression=grpc.Compression.Gzip, timeout=patient(30))
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gcsOutputUri", "gs://b/../x"),
        ("gcsOutputUri", "gs://bucket/.."),
        ("gcsOutputUri", "gs://bucket/a\r\nb"),
        ("gcsOutputUri", "gs://bucket/" + "x" * 1025),
        ("gcsOutputUri", "gs://../bucket"),
        ("gcsOutputUri", "gs://" + "b" * 300 + "/x"),
        ("gcsNotebookSource", {"uri": "gs://b/../x"}),
        ("gcsNotebookSource", {"uri": "gs://bucket/.."}),
        ("gcsNotebookSource", {"uri": "gs://bucket/a\0b"}),
        ("gcsNotebookSource", {"uri": "gs://bucket/" + "\u00e4" * 600}),
        ("kernelName", "../../x"),
        ("kernelName", "-c"),
        ("labels", {f"l{number}": "" for number in range(65)}),
        ("scheduleResourceName", "x" * 1025),
    ],
)
def test_a_name_that_the_api_refuses_is_answered_at_once(http: httpx.Client, field: str, value: object) -> None:
    job = rest_job(**{field: value})
    if field == "gcsNotebookSource":
        del job["directNotebookSource"]
    if field == "kernelName":
        job["workbenchRuntime"] = {}
    answer = http.post(JOBS, json=job)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


# --- many greedy clients at once ---


@contextmanager
def in_background(count: int, call: Callable[[int], object]) -> Iterator[None]:
    """Have so many threads perform a call, whose errors are their own business, until the block ends."""

    def perform(number: int) -> None:
        with suppress(httpx.HTTPError, grpc.RpcError, OSError, GoogleAPICallError):
            call(number)

    with ThreadPoolExecutor(count) as pool:
        for number in range(count):
            pool.submit(perform, number)
        yield


def silent_sockets(address: tuple[str, int], sent: bytes) -> list[socket.socket]:
    """Connections that send the beginning of something, and no more."""
    opened = [socket.create_connection(address, timeout=patient(10)) for _ in range(GREEDY)]
    for connection in opened:
        connection.sendall(sent)
    return opened


def answers_in_time(emulator: Emulator, client: httpx.Client, operation: str) -> None:
    """Assert that whatever a client may ask is answered within `DELAY`, over HTTP and gRPC."""
    job = operation.partition("/operations/")[0]
    paths = ["emulator/health", f"v1/{job}", f"v1/{operation}", JOBS, f"{JOBS}?filter=displayName%3D~%22^d$%22"]
    for path in paths:
        started = time.monotonic()
        client.get(path).raise_for_status()
        assert time.monotonic() - started < patient(DELAY), path
    started = time.monotonic()
    client.get(f"{emulator.storage_url}/storage/v1/b/{BUCKET}/o").raise_for_status()
    assert time.monotonic() - started < patient(DELAY), "Cloud Storage"
    with emulator_channel(emulator.grpc_address, emulator.token) as channel:
        call = channel.unary_unary("/google.cloud.aiplatform.v1.NotebookService/GetNotebookExecutionJob")
        started = time.monotonic()
        call(b"\x0a" + bytes([len(job)]) + job.encode(), timeout=patient(30))
        assert time.monotonic() - started < patient(DELAY), "gRPC"


@pytest.mark.test_all
def test_no_kind_of_greedy_client_delays_another(emulator: Emulator, http: httpx.Client) -> None:
    operation = create_job(http, "greedy")
    head = f"POST /{emulator.token}/{JOBS} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    rest, grpc_port = ("127.0.0.1", urlsplit(emulator.rest_url).port or 0), int(emulator.grpc_address.split(":")[1])
    storage = ("127.0.0.1", urlsplit(emulator.storage_url).port or 0)
    released = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"{"
        released.wait(patient(60))

    def wait_by_grpc(_: int) -> None:
        with emulator_channel(emulator.grpc_address, emulator.token) as channel:
            call = channel.unary_unary("/google.longrunning.Operations/WaitOperation")
            future = call.future(b"\x0a" + bytes([len(operation)]) + operation.encode(), timeout=patient(60))
            released.wait(patient(60))
            future.cancel()

    def half_a_call(_: int) -> None:
        with emulator_channel(emulator.grpc_address, emulator.token) as channel:
            call = channel.stream_unary("/google.longrunning.Operations/GetOperation")
            future = call.future(slowly(), timeout=patient(60))
            released.wait(patient(60))
            future.cancel()

    def post(path: str, body: object) -> Callable[[int], object]:
        return lambda _: httpx.post(f"{emulator.rest_url}/{path}", json=body, timeout=patient(2), trust_env=False)

    def get(query: str) -> Callable[[int], object]:
        url = f"{emulator.rest_url}/{JOBS}?filter=displayName%3D~%22{query}%22"
        return lambda _: httpx.get(url, timeout=patient(2), trust_env=False)

    http.post("emulator/faults", json={"rpc": "ListOperations", "delay": 600}).raise_for_status()
    job = operation.partition("/operations/")[0]
    with ExitStack() as stack:
        for address, sent in (
            (rest, b""),
            (rest, b"GET / HT"),
            (rest, f"{head}content-length: 1000000\r\n\r\n{{".encode()),
            (rest, f"{head}transfer-encoding: chunked\r\n\r\n5\r\n{{".encode()),
            (storage, b""),
            (storage, b"GET / HT"),
            (storage, f"POST /{emulator.token}/upload/storage/v1/b/{BUCKET}/o HTTP/1.1\r\nhost: ".encode()),
            (("127.0.0.1", grpc_port), b""),
            (("127.0.0.1", grpc_port), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ):
            for connection in silent_sockets(address, sent):
                stack.enter_context(connection)
        stack.enter_context(in_background(GREEDY, post(f"v1/{operation}:wait", {"timeout": "60s"})))
        stack.enter_context(in_background(GREEDY, wait_by_grpc))
        stack.enter_context(in_background(GREEDY, half_a_call))
        stack.enter_context(
            in_background(GREEDY, lambda _: httpx.get(f"{emulator.rest_url}/v1/{job}/operations", timeout=patient(2)))
        )
        for pattern in SLOW[:3]:
            stack.enter_context(in_background(4, get(pattern.replace("+", "%2B"))))
        stack.callback(released.set)
        answers_in_time(emulator, http, operation)


@pytest.mark.test_all
def test_so_many_wait_and_the_rest_are_answered_as_it_stands(
    emulator: Emulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = create_job(http, "waiters")
    count = methods.WAITERS_MAX + 50
    path = f"{emulator.rest_url}/v1/{operation}:wait"
    answers: list[dict[str, object]] = []

    def wait(_: int) -> None:
        answers.append(httpx.post(path, json={"timeout": "2s"}, timeout=patient(60), trust_env=False).json())

    with in_background(count, wait):
        pass
    assert [answer["name"] for answer in answers] == [operation] * count
    assert not any(answer.get("done") for answer in answers)


def test_a_name_that_is_deleted_again_and_again_blocks_nobody(emulator: Emulator, http: httpx.Client) -> None:
    running = {"notebookRuntimeTemplateResourceName": f"{PARENT}/notebookRuntimeTemplates/slow-provisioning"}
    codes: list[int] = []
    url = f"{emulator.rest_url}/{JOBS}/again"
    for number in range(3):
        create_job(http, "again", **running)
        with in_background(20, lambda _: codes.append(httpx.delete(url, timeout=patient(30)).status_code)):
            answers_in_time(emulator, http, create_job(http, f"other-{number}"))
    assert set(codes) <= {200, 404}
    assert codes.count(200) >= 3


# --- SIGTERM ---


def test_sigterm_ends_it_at_once_whatever_is_under_way(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path / "data", "--cleanup-delay", "3600", "--bucket", BUCKET) as process:
        base = process.rest_url
        with httpx.Client(base_url=f"{base}/", timeout=patient(30), trust_env=False) as client:
            operation = create_job(client, "stopped", displayName="a" * 100 + "!")
            client.post("emulator/faults", json={"rpc": "ListOperations", "delay": 600}).raise_for_status()
            job = operation.partition("/operations/")[0]
            options = {"timeout": patient(30), "trust_env": False}
            requests: list[Callable[[], object]] = [
                lambda: httpx.get(f"{base}/{JOBS}?filter=displayName%3D~%22(a|a)%2B$%22", **options),
                lambda: httpx.post(f"{base}/v1/{operation}:wait", json={"timeout": "60s"}, **options),
                lambda: httpx.get(f"{base}/v1/{job}/operations", **options),
            ]
            head = f"POST /{process.token}/{JOBS} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            rest = ("127.0.0.1", urlsplit(base).port or 0)
            half = f"{head}content-length: 10\r\n\r\n{{".encode()
            with ExitStack() as stack:
                for connection in silent_sockets(rest, half):
                    stack.enter_context(connection)
                stack.enter_context(in_background(30, lambda number: requests[number % len(requests)]()))
                wait_until(lambda: waits(client), timeout=20, what="the requests to be under way")
                assert process.stop(seconds=5) == 0


def waits(client: httpx.Client) -> bool:
    """Return whether calls of `WaitOperation` and delayed calls are under way."""
    calls = client.get("emulator/calls").json()
    return calls.get("WaitOperation", 0) >= 10 and calls.get("ListOperations", 0) >= 10
