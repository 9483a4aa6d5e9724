"""Whatever is sent to any route of the emulator, the answer is one of the API's: no failure of the server."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_nbjob.emulator.rest_api import ROUTES
from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.security.emulator.case import PARENT, rest_job
from tests.support.patience import patient

bounded = settings(deadline=None, suppress_health_check=list(HealthCheck))

# --- what is sent ---

texts = st.text(st.characters(), max_size=20)  # surrogates and NUL included
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
job_fields = st.sampled_from(
    [*rest_job(), "labels", "executionTimeout", "jobState", "status", "createTime", "parameters"]
)
bodies: Any = st.one_of(
    st.binary(max_size=40),
    st.just(b"["),
    st.just(b"[" * 10**5),
    st.just(b'{"a":' * 10**5),
    st.sampled_from([b"null", b'"x"', b"7", b"[]", b"", b"NaN", b"1e999", b"9" * 5000, b"\xff\xfe"]),
    st.dictionaries(job_fields | texts, values, max_size=4).map(lambda body: json.dumps(body).encode()),
)
parts = st.sampled_from(
    [
        *("us-central1", "projects", "locations", "operations", "x", "-", ".", "..", "latest", "a_b"),
        "a" * 300,
        "%",
        "a:b",
    ]
) | texts.map(lambda text: text.encode("utf-8", "surrogatepass").decode("latin-1"))
queries = st.lists(
    st.tuples(
        st.sampled_from(["pageSize", "pageToken", "filter", "orderBy", "view", "alt", "$alt", "uploadType", "name"])
        | st.sampled_from(["maxResults", "prefix", "delimiter", "generation", "upload_id", "ifGenerationMatch", "alt"])
        | texts,
        texts | st.sampled_from(["1", "-1", "9" * 30, "media", "json;enum-encoding=int", "W" * 5000, "true", "\ud800"]),
    ),
    max_size=3,
)
types = st.sampled_from(
    ["application/json", "text/plain", "multipart/related; boundary=x", "multipart/mixed; boundary=x"]
)


def url_of(path: str, query: list[tuple[str, str]]) -> str:
    def quoted(text: str) -> str:
        return quote(text.encode("utf-8", "surrogatepass"), safe="")

    return path + ("?" + "&".join(f"{quoted(name)}={quoted(value)}" for name, value in query) if query else "")


# --- routes ---

API = [
    (verb, re.sub(r"\(\?P<\w+>|\(\?:|\)\??|\\", "", pattern.pattern).replace("[^/:]+", "{}").replace("[^/]+", "{}"))
    for verb, pattern, _ in ROUTES
]
OWN = [
    ("POST", "jobs/{}/state"),
    *(("GET", "jobs"), ("POST", "scripts")),
    *((verb, what) for verb in ("GET", "DELETE") for what in ("calls", "faults", "health", "scripts")),
]
STORAGE = [
    *(("GET", "b"), ("POST", "b"), ("GET", "b/{}"), ("DELETE", "b/{}"), ("GET", "b/{}/o"), ("GET", "b/{}/o/{}")),
    *(("PATCH", "b/{}/o/{}"), ("PUT", "b/{}/o/{}"), ("DELETE", "b/{}/o/{}"), ("POST", "b/{}/o/{}/compose")),
    *(("POST", "b/{}/o/{}/copyTo/b/{}/o/{}"), ("POST", "b/{}/o/{}/rewriteTo/b/{}/o/{}"), ("GET", "b/{}/storageLayout")),
]
paths = (
    st.tuples(st.sampled_from(API), st.sampled_from(["v1", "v1beta1", "ui", "v2"])).map(
        lambda chosen: (chosen[0][0], f"/{chosen[1]}/{chosen[0][1]}")
    )
    | st.sampled_from(OWN).map(lambda route: (route[0], f"/emulator/{route[1]}"))
    | st.tuples(
        st.sampled_from(["GET", "POST", "DELETE", "PATCH", "PUT", "HEAD"]),
        texts.map(lambda t: f"/v1/{quote(t.encode('utf-8', 'surrogatepass'))}"),
    )
)
storage_paths = st.sampled_from(STORAGE).map(lambda route: (route[0], f"/storage/v1/{route[1]}")) | st.sampled_from(
    [
        *(("POST", "/upload/storage/v1/b/{}/o"), ("PUT", "/upload/storage/v1/b/{}/o"), ("POST", "/batch/storage/v1")),
        *(("GET", "/download/storage/v1/b/{}/o/{}"), ("DELETE", "/upload/storage/v1/b/{}/o")),
    ]
)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=patient(30), trust_env=False) as client:
        yield client


def check(
    http: httpx.Client,
    base: str,
    route: tuple[str, str],
    names: list[str],
    query: list[tuple[str, str]],
    body: bytes,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    verb, path = route
    for name in names:
        path = path.replace("{}", quote(name.encode("utf-8", "surrogatepass"), safe=""), 1)
    with caplog.at_level(logging.ERROR):
        answer = http.request(verb, base + url_of(path, query), content=body, headers={"content-type": kind})
    assert answer.status_code < 500, f"{verb} {path}: {answer.text[:500]}"
    if answer.status_code >= 400 and verb != "HEAD":
        assert answer.json()["error"]["code"] == answer.status_code
        assert answer.json()["error"]["message"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


@bounded
@given(route=paths, names=st.lists(parts, min_size=4, max_size=4), query=queries, body=bodies)
@example(
    route=("GET", "/v1/projects/p/locations/us-central1/notebookExecutionJobs"),
    names=[],
    query=[("\ud800", "")],
    body=b"",
)
@example(route=("POST", f"/v1/{PARENT}/notebookExecutionJobs"), names=[], query=[], body=b'{"\\ud800": 1}')
@example(route=("POST", "/emulator/scripts"), names=[], query=[], body=b'{"results": {"\\ud800": NaN}, "cell": 1e999}')
@example(route=("POST", "/emulator/scripts"), names=[], query=[], body=b'{"job": "\\ud800", "results": {"a": [[1]]}}')
@example(route=("POST", "/emulator/faults"), names=[], query=[], body=b'{"rpc": ' + b"[" * 95 + b"]" * 95 + b"}")
def test_any_request_to_the_api(
    http: httpx.Client,
    emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
    route: Any,
    names: Any,
    query: Any,
    body: Any,
) -> None:
    check(http, emulator.rest_url, route, names, query, body, "application/json", caplog)


@bounded
@given(route=storage_paths, names=st.lists(parts, min_size=4, max_size=4), query=queries, body=bodies, kind=types)
@example(route=("GET", "/storage/v1/b/{}/o/{}"), names=["nbjob-tests", "a\0b"], query=[], body=b"", kind="text/plain")
@example(
    route=("GET", "/storage/v1/b/{}/o"), names=["nbjob-tests"], query=[("prefix", "\0")], body=b"", kind="text/plain"
)
@example(route=("GET", "/storage/v1/b/{}/o"), names=["nbjob-tests"], query=[("prefix", "\ud800")], body=b"", kind="a/b")
def test_any_request_to_cloud_storage(
    http: httpx.Client,
    emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
    route: Any,
    names: Any,
    query: Any,
    body: Any,
    kind: str,
) -> None:
    check(http, emulator.storage_url, route, names, query, body, kind, caplog)


RPCS = [
    *(
        f"/google.cloud.aiplatform.{version}.NotebookService/{verb}NotebookExecutionJob{'s' if verb == 'List' else ''}"
        for version in ("v1", "v1beta1")
        for verb in ("Create", "Get", "List", "Delete")
    ),
    "/google.cloud.aiplatform.v1.NotebookService/GetNotebookRuntimeTemplate",
    *(f"/google.longrunning.Operations/{verb}Operation" for verb in ("Get", "Cancel", "Delete")),
    "/google.longrunning.Operations/ListOperations",
]


@bounded
@given(
    rpc=st.sampled_from(RPCS),
    message=st.binary(max_size=60)
    | texts.map(lambda text: b"\x0a" + bytes([len(text.encode("utf-8", "replace"))]) + text.encode("utf-8", "replace")),
)
def test_any_message_over_grpc(emulator: Emulator, caplog: pytest.LogCaptureFixture, rpc: str, message: bytes) -> None:
    with emulator_channel(emulator.grpc_address, emulator.token) as channel, caplog.at_level(logging.ERROR):
        error = channel.unary_unary(rpc).future(message, timeout=patient(30)).exception()
    if isinstance(error, grpc.RpcError):
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), f"{rpc}: {error}"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text
