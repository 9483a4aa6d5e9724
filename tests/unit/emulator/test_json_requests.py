"""Requests in JSON are read as strictly as Google's services read them, and what they refuse is told in their words."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud.aiplatform_v1.types import (
    CreateNotebookExecutionJobRequest,
    GetNotebookExecutionJobRequest,
    ListNotebookExecutionJobsRequest,
)
from google.longrunning import operations_pb2
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.emulator.json_requests import DEPTH_MAX, load_json, parse_request

CREATE, LIST, GET = (
    kind.meta.pb
    for kind in (CreateNotebookExecutionJobRequest, ListNotebookExecutionJobsRequest, GetNotebookExecutionJobRequest)
)
JOB = "notebook_execution_job"
V1 = "type.googleapis.com/google.cloud.aiplatform.v1"


def read_job(job: Any, *query: tuple[str, str]) -> Any:
    """Read a create request; the job in it."""
    return parse_request(
        CREATE, JOB, {"parent": "p"}, query, load_json(json.dumps(job).encode())
    ).notebook_execution_job


def refusal(job: Any) -> str:
    with pytest.raises(InvalidArgument) as refused:
        read_job(job)
    return str(refused.value.message)


def query_refusal(request_type: Any, *query: tuple[str, str], in_path: dict[str, str] | None = None) -> str:
    with pytest.raises(InvalidArgument) as refused:
        parse_request(request_type, None, in_path or {}, query, {})
    return str(refused.value.message)


# --- names ---


@pytest.mark.parametrize(
    ("job", "name", "where"),
    [
        ({"x": 1}, "x", JOB),
        ({"x": None}, "x", JOB),
        ({"display name": "d"}, "display name", JOB),
        ({"DisplayName": "d"}, "DisplayName", JOB),
        ({"displayname": "d"}, "displayname", JOB),
        ({"": ""}, "", JOB),
        ({"machineSpec": {}}, "machineSpec", JOB),
        ({"customContainerImage": {}}, "customContainerImage", JOB),
        ({"gcsNotebookSource": {"url": "gs://b/n"}}, "url", f"{JOB}.gcs_notebook_source"),
        ({"gcs_notebook_source": {"parameters": {}}}, "parameters", f"{JOB}.gcs_notebook_source"),
        (
            {"customEnvironmentSpec": {"machineSpec": {"machine_typ": "n1"}}},
            "machine_typ",
            f"{JOB}.custom_environment_spec.machine_spec",
        ),
        ({"status": {"x": 1}}, "x", f"{JOB}.status"),
    ],
)
def test_a_name_that_is_no_field_is_refused(job: dict[str, Any], name: str, where: str) -> None:
    expected = f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."
    assert refusal(job) == expected


def test_all_that_is_wrong_is_told_at_once() -> None:
    job = {"x": 1, "displayName": 7, "jobState": "LOST", "labels": {"a": 1}}
    assert refusal(job).splitlines() == [
        f"Invalid JSON payload received. Unknown name \"x\" at '{JOB}': Cannot find field.",
        f"Invalid value at '{JOB}.display_name' (TYPE_STRING), 7",
        f"Invalid value at '{JOB}.job_state' ({V1}.JobState), \"LOST\"",
        f"Invalid value at '{JOB}.labels[a]' (TYPE_STRING), 1",
    ]
    assert len(refusal({f"x{number}": 1 for number in range(5000)}).splitlines()) == 50


@pytest.mark.parametrize(
    "beside",
    [
        {"parameters": {"day": "monday"}},
        {"parameters": None},
        {"parameters": {"nested": {"a": [1, None]}}},
        {"workbenchRuntime": {"vmImage": {"project": "p", "family": "f"}}},
        {"workbench_runtime": {"custom_container_image": {"repository": "r", "tag": "t"}}},
        {"customEnvironmentSpec": {"shieldedInstanceConfig": {"enableVtpm": True}}},
    ],
)
def test_what_the_service_takes_beside_its_public_fields_is_taken(beside: dict[str, Any]) -> None:
    assert read_job({"displayName": "d", **beside}).display_name == "d"


@pytest.mark.parametrize(
    "job", [{"displayName": "d", "executionTimeout": "5s"}, {"display_name": "d", "execution_timeout": "5s"}]
)
def test_names_are_taken_in_both_styles(job: dict[str, Any]) -> None:
    read = read_job(job)
    assert (read.display_name, read.execution_timeout.seconds) == ("d", 5)


def test_a_field_is_given_once() -> None:
    assert "The field is there twice" in refusal({"displayName": "a", "display_name": "b"})
    with pytest.raises(InvalidArgument, match=r'The key "a" is there twice'):
        load_json(b'[{"b": {"a": 1, "c": 2, "a": 3}}]')


@pytest.mark.parametrize("second", ["directNotebookSource", "dataform_repository_source"])
def test_one_of_several_sources_is_given(second: str) -> None:
    job = {"gcsNotebookSource": {"uri": "gs://b/n.ipynb"}, second: {}}
    expected = f"Invalid value at '{JOB}' (oneof), oneof field 'notebook_source' is already set. Cannot set '{second}'"
    assert refusal(job) == expected


def test_a_null_is_no_value() -> None:
    job = {"gcsNotebookSource": None, "directNotebookSource": {"content": None}, "displayName": None, "labels": None}
    assert read_job(job).WhichOneof("notebook_source") == "direct_notebook_source"
    assert "The field is there twice" in refusal({"displayName": None, "display_name": "b"})


# --- values ---


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"displayName": 7}, "display_name' (TYPE_STRING), 7"),
        ({"displayName": {}}, "display_name' (TYPE_STRING), {}"),
        ({"displayName": "\ud800"}, 'display_name\' (TYPE_STRING), "\\ud800"'),
        (
            {"gcsNotebookSource": "gs://b/n"},
            f"gcs_notebook_source' ({V1}.NotebookExecutionJob.GcsNotebookSource), \"gs",
        ),
        ({"gcsNotebookSource": {"generation": 3}}, "gcs_notebook_source.generation' (TYPE_STRING), 3"),
        ({"labels": ["a"]}, "labels' (a map), "),
        ({"labels": {"a": None}}, "labels[a]' (TYPE_STRING), null"),
        ({"executionTimeout": 90}, "execution_timeout' (type.googleapis.com/google.protobuf.Duration), 90"),
        ({"executionTimeout": "90"}, "execution_timeout' (type.googleapis.com/google.protobuf.Duration), "),
        ({"executionTimeout": "1e9s"}, "execution_timeout' (type.googleapis.com/google.protobuf.Duration), "),
        ({"executionTimeout": {}}, "execution_timeout' (type.googleapis.com/google.protobuf.Duration), {}"),
        ({"createTime": "yesterday"}, "create_time' (type.googleapis.com/google.protobuf.Timestamp), "),
        ({"jobState": "RUNNING"}, "job_state' (type.googleapis.com/google.cloud.aiplatform.v1.JobState), "),
        ({"jobState": "job_state_running"}, "job_state' (type.googleapis.com/google.cloud.aiplatform.v1.JobState), "),
        ({"jobState": "99"}, "job_state' ("),
        ({"jobState": 2**31}, "job_state' ("),
        ({"jobState": True}, "job_state' ("),
        ({"jobState": 1.5}, "job_state' ("),
        ({"directNotebookSource": {"content": "not base64!"}}, "direct_notebook_source.content' (TYPE_BYTES), "),
        ({"directNotebookSource": {"content": "abcde"}}, "direct_notebook_source.content' (TYPE_BYTES), "),
        ({"directNotebookSource": {"content": [1]}}, "is not repeating, cannot start list."),
        ({"directNotebookSource": {"content": 7}}, "direct_notebook_source.content' (TYPE_BYTES), 7"),
        ({"directNotebookSource": []}, "is not repeating, cannot start list."),
        ({"customEnvironmentSpec": {"networkSpec": {"enableInternetAccess": "yes"}}}, "(TYPE_BOOL), "),
        ({"customEnvironmentSpec": {"persistentDiskSpec": {"diskSizeGb": "ten"}}}, "(TYPE_INT64), "),
        ({"customEnvironmentSpec": {"persistentDiskSpec": {"diskSizeGb": 2**63}}}, "(TYPE_INT64), "),
        ({"customEnvironmentSpec": {"machineSpec": {"acceleratorType": "NVIDIA_L5"}}}, f"({V1}.AcceleratorType), "),
        ({"customEnvironmentSpec": {"machineSpec": {"acceleratorCount": "\u0663"}}}, "(TYPE_INT32), "),
    ],
)
def test_a_value_that_is_not_of_the_fields_type_is_refused(job: dict[str, Any], expected: str) -> None:
    assert expected in refusal(job)


@pytest.mark.parametrize(("state", "number"), [("JOB_STATE_RUNNING", 3), (3, 3), ("3", 3), (3.0, 3), (77, 77)])
def test_an_enum_is_a_name_or_a_number(state: object, number: int) -> None:
    assert read_job({"jobState": state}).job_state == number


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("cut", ["", "="])
@given(content=st.binary(max_size=40))
def test_bytes_are_base64_of_both_alphabets_with_padding_or_without(encode: Any, cut: str, content: bytes) -> None:
    text = encode(content).decode().rstrip(cut or None)
    assert read_job({"directNotebookSource": {"content": text}}).direct_notebook_source.content == content


@pytest.mark.parametrize("root", [[], None, "x", 7, 1.5, True, [{}]])
def test_a_body_is_an_object(root: object) -> None:
    assert refusal(root) == 'Invalid JSON payload received. Unknown name "": Root element must be a message.'


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"{",
            b"}",
            b"{]",
            b"nul",
            b"'a'",
            b'{"a": 1,}',
            b"{} {}",
            b'{"a" 1}',
            b'"\x00"',
            b"\xff\xfe{",
            b'"\xed\xa0\x80"',
        ),
        *(b"NaN", b'{"a": Infinity}', b"[-Infinity]", b'{"a": ' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}"),
        *(
            "{}".encode("utf-16"),
            b"[" * 10**5,
            b'{"a":' * 10**4 + b"1",
            b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
        ),
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument, match="Invalid JSON payload received"):
        load_json(body)


@pytest.mark.parametrize("body", [b"", b" \n", b"{}"])
def test_no_body_is_an_empty_object(body: bytes) -> None:
    assert load_json(body) == {}


# --- the query, and methods without a body ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([("x", "1")], "Unknown name \"x\": Cannot bind query parameter. Field 'x' could not be found"),
        ([("page_siz", "1")], "Cannot bind query parameter. Field 'page_siz' could not be found in request message."),
        ([("", "")], "Cannot bind query parameter."),
        ([("$alt$", "json")], "Cannot bind query parameter."),
        ([("parent", "p")], "Cannot bind query parameter. The field is in the path"),
        ([("pageSize", "1"), ("pageSize", "2")], "is not repeating"),
        ([("pageSize", "1"), ("page_size", "2")], "is not repeating"),
        ([("pageSize", "many")], "Invalid value at 'page_size' (TYPE_INT32), \"many\""),
        ([("pageSize", "")], "Invalid value at 'page_size' (TYPE_INT32)"),
        ([("pageSize", "9" * 30)], "Invalid value at 'page_size' (TYPE_INT32)"),
        ([("pageSize", "\u00b2")], "Invalid value at 'page_size' (TYPE_INT32)"),
        ([("view", "FULL")], f"Invalid value at 'view' ({V1}.NotebookExecutionJobView), \"FULL\""),
        ([("view", "9")], "Invalid value at 'view'"),
    ],
)
def test_a_query_that_is_wrong_is_refused(query: list[tuple[str, str]], expected: str) -> None:
    assert expected in query_refusal(LIST, *query, in_path={"parent": "p"})


def test_a_query_is_read() -> None:
    query = [("$alt", "json;enum-encoding=int"), ("prettyPrint", "1"), ("$.xgafv", "2"), ("key", "k")]
    query += [("view", "2"), ("page_size", "7"), ("filter", "a=b"), ("orderBy", "c")]
    read: Any = parse_request(LIST, None, {"parent": "p"}, query, {})
    assert (read.parent, read.view, read.page_size, read.filter, read.order_by) == ("p", 2, 7, "a=b", "c")
    wait: Any = parse_request(operations_pb2.WaitOperationRequest, "*", {"name": "n"}, [("timeout", "3s")], {})
    assert (wait.name, wait.timeout.seconds) == ("n", 3)


def test_the_body_of_create_is_not_in_its_query() -> None:
    with pytest.raises(InvalidArgument, match="is the body"):
        read_job({}, (JOB, "{}"))
    assert parse_request(CREATE, JOB, {}, [("notebookExecutionJobId", "a")], {}).notebook_execution_job_id == "a"


@pytest.mark.parametrize("request_type", [LIST, GET])
def test_a_method_without_a_body_takes_none(request_type: Any) -> None:
    assert parse_request(request_type, None, {}, [], {})
    for body in ({"view": 2}, {"x": 1}):
        with pytest.raises(InvalidArgument, match=r'Unknown name "(view|x)": Cannot find field\.'):
            parse_request(request_type, None, {}, [], body)


# --- anything ---

texts = st.text(st.characters(), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([field.json_name for field in CREATE.DESCRIPTOR.fields_by_name[JOB].message_type.fields])


@given(job=st.dictionaries(names | texts, values, max_size=4), query=st.lists(st.tuples(texts, texts), max_size=2))
def test_nothing_but_the_refusal_is_raised(job: dict[str, Any], query: list[tuple[str, str]]) -> None:
    with suppress(InvalidArgument):
        parse_request(CREATE, JOB, {"parent": "p"}, query, load_json(json.dumps(job).encode()))


@given(body=st.binary(max_size=50))
def test_nothing_but_the_refusal_is_raised_for_bytes(body: bytes) -> None:
    with suppress(InvalidArgument):
        load_json(body)
