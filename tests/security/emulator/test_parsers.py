"""No parser of the emulator raises anything but what it documents, whatever it is given."""

from __future__ import annotations

import argparse
import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from google.cloud.aiplatform_v1.types import CreateNotebookExecutionJobRequest, NotebookExecutionJob
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_nbjob.emulator.__main__ import secret, token, upload, variable
from airflow_provider_nbjob.emulator.dataform import Repository
from airflow_provider_nbjob.emulator.faults import RPCS, Fault
from airflow_provider_nbjob.emulator.guard import is_allowed_host
from airflow_provider_nbjob.emulator.json_requests import DEPTH_MAX, load_json
from airflow_provider_nbjob.emulator.listing import (
    page_token,
    parse_filter,
    parse_operation_filter,
    parse_operation_page_size,
    parse_order,
    parse_page_size,
    parse_page_token,
)
from airflow_provider_nbjob.emulator.methods import Method
from airflow_provider_nbjob.emulator.patterns import compile_pattern
from airflow_provider_nbjob.emulator.rest_api import _parse
from airflow_provider_nbjob.emulator.secret_manager import Secrets
from airflow_provider_nbjob.emulator.service import NotebookService
from airflow_provider_nbjob.emulator.store import Store
from airflow_provider_nbjob.emulator.validation import check_job
from airflow_provider_nbjob.job import JobName
from tests.security.emulator.case import PARENT, keep, rest_job

bounded = settings(deadline=None, suppress_health_check=list(HealthCheck))
anything = st.text(st.characters(), max_size=60)  # surrogates and NUL included
as_sent = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)  # what protobuf can carry
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=10,
)
ORDER = [("create_time", True)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a job, for SQLite refuses values that a parser took."""
    made = Store(tmp_path_factory.mktemp("store") / "jobs.sqlite")
    keep(made, f"{PARENT}/notebookExecutionJobs/j", display_name="a job", schedule_resource_name="s")
    return made


@pytest.fixture(scope="module")
def names_of(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for jobs of any name."""
    return Store(tmp_path_factory.mktemp("names") / "jobs.sqlite")


class NoEngine:
    """No job is run here."""

    cleanup_delay = 0.0

    def submit(self, uid: str) -> None:
        pass


# --- lists ---

conditions = st.builds(
    "{}{}{}".format,
    st.sampled_from(["displayName", "schedule", "notebookExecutionJob", "jobState", "x"]) | anything,
    st.sampled_from(["=", "!=", "=~", "<", ""]),
    st.builds(json.dumps, anything) | st.builds('"{}"'.format, anything) | anything,
)


@bounded
@given(text=st.lists(conditions, max_size=4).map(" AND ".join) | anything)
def test_a_filter(kept: Store, text: str) -> None:
    try:
        found = parse_filter(text)
    except InvalidArgument:
        return
    if text.isprintable():  # the API's texts are UTF-8
        assert len(kept.page(PARENT, found, ORDER, None, 10)[0]) <= 1


@bounded
@given(
    text=anything
    | st.lists(
        st.builds(
            "{}{}{}".format, st.sampled_from(["done", "name", "x"]), st.sampled_from(["=", "!=", ":", "=~"]), anything
        )
    ).map(" AND ".join)
)
def test_a_filter_of_operations(kept: Store, text: str) -> None:
    try:
        found = parse_operation_filter(text)
    except InvalidArgument:
        return
    if text.isprintable():
        assert len(kept.operations(PARENT, None, found, None, 10)[0]) <= 1


@bounded
@given(text=anything | st.from_regex(r"[a-z(|)*+?.{}\[\]^$\\0-9]{1,40}", fullmatch=True))
def test_a_pattern(text: str) -> None:
    with suppress(ValueError):
        compile_pattern(text).search("some text")


@bounded
@given(
    text=st.lists(st.sampled_from(["createTime", "update_time desc", "displayName asc", "x"]) | anything).map(",".join)
)
def test_an_order(kept: Store, text: str) -> None:
    try:
        order = parse_order(text)
    except InvalidArgument:
        return
    assert len(kept.page(PARENT, [], order, None, 10)[0]) == 1


@bounded
@given(size=st.integers(-(2**31), 2**31 - 1))
def test_a_page_size(size: int) -> None:
    with suppress(InvalidArgument):
        assert 1 <= parse_page_size(size) <= 100
    with suppress(InvalidArgument):
        assert 1 <= parse_operation_page_size(size) <= 100


forged = st.builds(lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode(), json_values)
of_this_request = st.builds(page_token, st.lists(json_values, min_size=2, max_size=2), st.just([PARENT, "", ""]))


@bounded
@given(
    token=anything | forged | of_this_request | st.just("W" * 10**6) | st.just(base64.b64encode(b"[" * 10**5).decode())
)
def test_a_page_token(kept: Store, token: str) -> None:
    try:
        after = parse_page_token(token, [PARENT, "", ""], 2)
    except InvalidArgument:
        return
    kept.page(PARENT, [], ORDER, after, 10)


# --- names ---

names = st.builds(
    "projects/{}/locations/{}/{}/{}".format, *[as_sent | st.sampled_from(["p1", "us-central1", "operations"])] * 4
)
requests = st.sampled_from(
    ["get", "delete", "get_operation", "list_operations", "cancel_operation", "delete_operation"]
)


@bounded
@given(method=requests, name=names | as_sent)
def test_a_name(kept: Store, method: str, name: str) -> None:
    request = type("Request", (), {"name": name, "view": 0, "filter": "?", "page_size": 0, "page_token": ""})()
    version = [] if method in ("get", "cancel_operation", "delete_operation") else ["v1"]
    with pytest.raises((NotFound, InvalidArgument)):
        getattr(NotebookService(kept, NoEngine()), method)(request, *version)  # type: ignore[arg-type]


@bounded
@given(
    project=as_sent | st.from_regex(r"[a-z0-9][-a-z0-9.:]{0,30}", fullmatch=True),
    location=as_sent | st.just("us-central1"),
    job_id=as_sent | st.from_regex(r"[a-z0-9-]{1,70}", fullmatch=True),
)
def test_a_job_that_is_taken_has_a_name_that_can_be_read(
    names_of: Store, project: str, location: str, job_id: str
) -> None:
    job = json_format.ParseDict(rest_job(), NotebookExecutionJob.meta.pb())
    request = CreateNotebookExecutionJobRequest.meta.pb(
        parent=f"projects/{project}/locations/{location}", notebook_execution_job=job, notebook_execution_job_id=job_id
    )
    with suppress(InvalidArgument, AlreadyExists):
        operation = NotebookService(names_of, NoEngine()).create(request, "v1")  # type: ignore[arg-type]
        assert JobName.parse(operation.name.partition("/operations/")[0]).location == location


@bounded
@given(
    name=as_sent | st.builds("projects/p/locations/l/repositories/{}".format, as_sent),
    sha=as_sent | st.from_regex(r"[0-9a-f]{0,66}", fullmatch=True),
)
def test_a_repository(name: str, sha: str) -> None:
    with pytest.raises((NotFound, InvalidArgument)):
        Repository(Path("/nowhere"), name, sha)


@bounded
@given(
    name=as_sent | st.builds("projects/{}/secrets/{}/versions/{}".format, as_sent, as_sent, as_sent | st.just("latest"))
)
def test_a_secret_version(name: str) -> None:
    with pytest.raises((NotFound, InvalidArgument)):
        Secrets(Path("/nowhere")).access(type("Request", (), {"name": name})())


# --- bodies ---


@bounded
@given(body=st.binary(max_size=60) | st.builds(lambda value: json.dumps(value).encode(), json_values))
def test_a_body(body: bytes) -> None:
    with suppress(InvalidArgument):
        assert load_json(body) is not body


@pytest.mark.parametrize("depth", [1, DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1, 900, 10**5])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_a_body_is_so_deep_at_most(begin: str, end: str, depth: int) -> None:
    repeats = depth // begin.count("[") // begin.count("{") if "[{" in begin else depth
    body = (begin * repeats + "1" + end * repeats).encode()
    levels = repeats * (2 if "[{" in begin else 1)
    if levels < DEPTH_MAX:
        assert load_json(body)
    elif levels > DEPTH_MAX:
        with pytest.raises(InvalidArgument, match=r"Message too deep|It has more than"):
            load_json(body)


fields = {
    name: json_values | st.just(value)
    for name, value in {
        **rest_job(),
        "gcsNotebookSource": {"uri": "gs://bucket/x.ipynb"},
        "dataformRepositorySource": {"dataformRepositoryResourceName": f"{PARENT}/repositories/r", "commitSha": "abcd"},
        "executionTimeout": "90s",
        "labels": {"a": "b"},
        "workbenchRuntime": {},
        "kernelName": "python3",
        "status": {"details": [{"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}]},
        "createTime": "2026-01-01T00:00:00Z",
    }.items()
}


@bounded
@given(
    job=st.fixed_dictionaries({}, optional=fields),
    query=st.lists(st.tuples(st.sampled_from(["notebookExecutionJobId", "parent", "alt"]) | anything, anything)),
)
def test_a_job(job: dict[str, Any], query: list[tuple[str, str]]) -> None:
    method = Method(CreateNotebookExecutionJobRequest.meta.pb, lambda _: None)  # type: ignore[arg-type, return-value]
    try:
        message: Any = _parse(method, "CreateNotebookExecutionJob", {"parent": PARENT}, query, json.dumps(job).encode())
        assert message.parent == PARENT
        check_job(message.notebook_execution_job, message.notebook_execution_job_id, "us-central1")
    except InvalidArgument:
        return
    for output_only in ("status", "create_time", "update_time"):
        message.notebook_execution_job.ClearField(output_only)
    json_format.MessageToDict(message)


fault = st.fixed_dictionaries(
    {},
    optional={
        "rpc": st.sampled_from([*RPCS, "*"]) | json_values,
        "code": st.sampled_from(["UNAVAILABLE", "OK"]) | json_values,
        "times": st.integers() | json_values,
        "probability": st.floats() | json_values,
        "drop_response": st.booleans() | json_values,
        "delay": st.floats() | json_values,
    },
)


@bounded
@given(body=fault | json_values)
def test_a_fault(body: Any) -> None:
    try:
        made = Fault.from_json(body)
    except InvalidArgument:
        return
    assert 0 <= made.delay <= 600


# --- the command line ---


@bounded
@given(
    text=anything | st.builds("{}={}".format, anything, anything) | st.builds("{}=gs://{}".format, anything, anything)
)
@pytest.mark.parametrize("read", [upload, secret, variable, token])
def test_an_option(read: Any, text: str) -> None:
    with suppress(argparse.ArgumentTypeError):
        read(text)


@bounded
@given(
    header=anything
    | st.builds("{}:{}".format, anything, st.integers(0, 99999))
    | st.builds("127.0.0.1{}".format, anything)
)
def test_a_host_header(header: str) -> None:
    if is_allowed_host(header, "127.0.0.1"):
        name = header.lower().rpartition(":")[0] if header[-1:].isdigit() and ":" in header else header.lower()
        assert name in ("localhost", "[::1]") or name.startswith("127.")
        assert not name.strip("[]0123456789.:") or name == "localhost"
