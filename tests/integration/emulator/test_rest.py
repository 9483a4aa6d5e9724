"""The same API over HTTP and JSON: paths, encodings, errors, Google's REST client, and gcloud's requests."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx
import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.services.notebook_service.transports import NotebookServiceRestTransport
from google.cloud.aiplatform_v1.types import JobState
from google.longrunning import operations_pb2

from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_jobs import BUCKET, PARENT, create, job_name, make_job, new_id, notebook, template
from tests.support.patience import patient, wait_until

CONTENT = notebook("1 + 1")
JOBS = f"{PARENT}/notebookExecutionJobs"


def rest_job(**changes: Any) -> dict[str, Any]:
    """A job in JSON that the API takes, with fields changed; it needs no kernel."""
    return {
        "displayName": "d",
        "directNotebookSource": {"content": base64.b64encode(CONTENT).decode()},
        "notebookRuntimeTemplateResourceName": template(),
        "gcsOutputUri": f"gs://{BUCKET}/results",
        "serviceAccount": "sa@emulator-project.iam.gserviceaccount.com",
        **changes,
    }


def post_job(http: httpx.Client, version: str = "v1", job_id: str = "", **changes: Any) -> str:
    """Create a job; the name of its operation."""
    query = {"notebookExecutionJobId": job_id} if job_id else {}
    answer = http.post(f"/{version}/{JOBS}", params=query, json=rest_job(**changes)).raise_for_status()
    return answer.json()["name"]


# --- paths ---


@pytest.mark.parametrize("version", ["v1", "v1beta1", "ui"])
def test_all_versions_serve_all_methods(http: httpx.Client, version: str) -> None:
    job_id = new_id("rest")
    operation = post_job(http, version, job_id)
    job = operation.partition("/operations/")[0]
    assert http.get(f"/{version}/{job}").json()["name"] == job
    listed = http.get(f"/{version}/{JOBS}", params={"filter": f"notebookExecutionJob={job_id}"}).json()
    assert [found["name"] for found in listed["notebookExecutionJobs"]] == [job]
    assert http.get(f"/{version}/{operation}").json()["name"] == operation
    assert [o["name"] for o in http.get(f"/{version}/{job}/operations").json()["operations"]] == [operation]
    waited = http.post(f"/{version}/{operation}:wait", json={"timeout": f"{patient(10):g}s"}).json()
    assert waited["done"] is True
    assert http.post(f"/{version}/{operation}:cancel", json={}).json() == {}
    assert http.get(f"/{version}/{template('a100')}").json()["notebookRuntimeType"] == "ONE_CLICK"
    assert http.delete(f"/{version}/{operation}").json() == {}
    assert http.get(f"/{version}/{operation}").status_code == 404
    deletion = http.delete(f"/{version}/{job}").json()
    assert deletion["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert http.get(f"/{version}/{deletion['name']}").json() == deletion
    assert http.get(f"/{version}/{job}").status_code == 404


def test_an_empty_list_has_no_fields(http: httpx.Client) -> None:
    assert http.get("/v1/projects/empty/locations/us-central1/notebookExecutionJobs").json() == {}


def test_a_list_is_paged(http: httpx.Client) -> None:
    jobs = "/v1/projects/paged/locations/us-central1/notebookExecutionJobs"
    for job_id in ("a", "b", "c"):
        http.post(jobs, params={"notebookExecutionJobId": job_id}, json=rest_job()).raise_for_status()
    query = {"pageSize": "2", "orderBy": "createTime"}
    first = http.get(jobs, params=query).json()
    second = http.get(jobs, params={**query, "pageToken": first["nextPageToken"]}).json()
    ids = [job["name"][-1] for page in (first, second) for job in page["notebookExecutionJobs"]]
    assert (ids, "nextPageToken" in second) == (["a", "b", "c"], False)


# --- encodings ---


def test_the_operation_has_the_shape_of_the_api(http: httpx.Client) -> None:
    operation = http.post(f"/v1/{JOBS}", json=rest_job()).json()
    assert re.fullmatch(
        r"projects/\d+/locations/us-central1/notebookExecutionJobs/\d{19}/operations/\d+", operation["name"]
    )
    kind = "type.googleapis.com/google.cloud.aiplatform.v1.CreateNotebookExecutionJobOperationMetadata"
    assert operation["metadata"]["@type"] == kind
    assert set(operation["metadata"]) == {"@type", "genericMetadata", "progressMessage"}


def test_values_are_encoded_as_the_api_encodes_them(http: httpx.Client) -> None:
    changes = {
        "executionTimeout": "90.500s",
        "notebookRuntimeTemplateResourceName": None,
        "customEnvironmentSpec": {"persistentDiskSpec": {"diskType": "pd-ssd", "diskSizeGb": "100"}},
    }
    job = post_job(http, **changes).partition("/operations/")[0]
    shown = http.get(f"/v1/{job}", params={"view": "NOTEBOOK_EXECUTION_JOB_VIEW_FULL"}).json()
    assert shown["executionTimeout"] == "90.500s"
    assert shown["customEnvironmentSpec"]["persistentDiskSpec"]["diskSizeGb"] == "100"
    assert base64.b64decode(shown["directNotebookSource"]["content"]) == CONTENT
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shown["createTime"])
    assert shown["jobState"].startswith("JOB_STATE_")


def test_numbers_are_taken_for_int64_and_urlsafe_base64_for_bytes(http: httpx.Client) -> None:
    content = b'{"\xf0\x9f\x99\x82": "???>>>"}'
    changes = {
        "directNotebookSource": {"content": base64.urlsafe_b64encode(content).decode()},
        "notebookRuntimeTemplateResourceName": None,
        "customEnvironmentSpec": {"persistentDiskSpec": {"diskSizeGb": 100}},
    }
    job = post_job(http, **changes).partition("/operations/")[0]
    shown = http.get(f"/v1/{job}", params={"view": "2"}).json()
    assert shown["customEnvironmentSpec"]["persistentDiskSpec"]["diskSizeGb"] == "100"
    assert base64.b64decode(shown["directNotebookSource"]["content"]) == content


@pytest.mark.parametrize(
    ("view", "source"),
    [("", {}), ("0", {}), ("1", {}), ("NOTEBOOK_EXECUTION_JOB_VIEW_BASIC", {})],
)
def test_the_basic_view_keeps_an_empty_source(http: httpx.Client, view: str, source: dict[str, str]) -> None:
    job = post_job(http).partition("/operations/")[0]
    assert http.get(f"/v1/{job}", params={"view": view} if view else {}).json()["directNotebookSource"] == source


def test_enums_are_numbers_where_that_is_asked(http: httpx.Client) -> None:
    job = post_job(http).partition("/operations/")[0]
    assert isinstance(http.get(f"/v1/{job}?$alt=json;enum-encoding=int").json()["jobState"], int)
    assert isinstance(http.get(f"/v1/{job}?%24alt=json%3Benum-encoding%3Dint").json()["jobState"], int)
    assert isinstance(http.get(f"/v1/{job}?alt=json").json()["jobState"], str)


def test_what_the_service_takes_beside_its_public_fields_is_taken(http: httpx.Client) -> None:
    beside = {
        "parameters": {"day": "monday"},  # sent by Google's JupyterLab plugin
        "workbenchRuntime": {"vmImage": {"project": "p", "family": "f"}},
        "labels": {"a": "b"},
    }
    query = {"prettyPrint": "true", "key": "k", "$.xgafv": "2", "fields": "name", "quotaUser": "q"}
    job = post_job(http, **beside).partition("/operations/")[0]
    shown = http.get(f"/v1/{job}", params=query).raise_for_status().json()
    assert shown["labels"] == {"a": "b"}
    assert "parameters" not in shown


def test_snake_case_is_taken_as_well(http: httpx.Client) -> None:
    job = {**rest_job(), "display_name": "snake"}
    del job["displayName"]
    answer = http.post(f"/v1/{JOBS}", params={"notebook_execution_job_id": new_id("snake")}, json=job).json()
    assert "/notebookExecutionJobs/snake-" in answer["name"]


# --- errors ---


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Code, status and message of an error answer, which holds nothing else."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "status"}
    assert body["error"]["code"] == answer.status_code
    return answer.status_code, body["error"]["status"], body["error"]["message"]


def test_errors_have_the_shape_of_the_api(http: httpx.Client) -> None:
    code, status, message = error_of(http.post(f"/v1/{JOBS}", json={}))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert message.startswith("List of found errors:\t1.Field: notebook_execution_job.display_name; Message: ")
    post_job(http, job_id="taken")
    again = http.post(f"/v1/{JOBS}?notebookExecutionJobId=taken", json=rest_job())
    assert error_of(again)[:2] == (409, "ALREADY_EXISTS")
    assert error_of(http.get(f"/v1/{JOBS}/never"))[:2] == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "body", ["{", "[]", '"text"', "7", "null x", '{"displayName": 7}', '{"executionTimeout": "soon"}', b"\xff\xfe\xfd"]
)
def test_a_body_that_is_no_job_is_refused(http: httpx.Client, body: Any) -> None:
    headers = {"content-type": "application/json"}
    assert error_of(http.post(f"/v1/{JOBS}", content=body, headers=headers))[:2] == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("query", ["pageSize=many", "pageSize=99999999999", "pageSize=101", "pageSize=-1"])
def test_a_query_that_is_wrong_is_refused(http: httpx.Client, query: str) -> None:
    assert error_of(http.get(f"/v1/{JOBS}?{query}"))[:2] == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", ["/v2/" + JOBS, "/v1/projects/p", "/v1/" + PARENT + "/schedules", "/emulator/nothing"])
def test_a_path_that_is_none_is_not_found(http: httpx.Client, path: str) -> None:
    assert error_of(http.get(path))[:2] == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("verb", "path"), [("DELETE", JOBS), ("POST", f"{JOBS}/x"), ("PATCH", f"{JOBS}/x"), ("PUT", JOBS)]
)
def test_a_method_that_a_path_does_not_have_is_not_allowed(http: httpx.Client, verb: str, path: str) -> None:
    assert error_of(http.request(verb, f"/v1/{path}"))[0] == 405


# --- Google's client over REST ---


@pytest.fixture(scope="module")
def rest_client(server: Emulator) -> NotebookServiceClient:
    host = server.rest_url.removeprefix("http://")
    transport = NotebookServiceRestTransport(host=host, url_scheme="http", credentials=AnonymousCredentials())
    return NotebookServiceClient(transport=transport)


def test_the_rest_client_polls_its_operation_to_the_end(rest_client: NotebookServiceClient) -> None:
    operation = create(rest_client, make_job(), new_id("rest"))
    job = operation.result(timeout=patient(20))
    assert (job.name, job.job_state) == (job_name(operation), JobState.JOB_STATE_FAILED)


def test_the_rest_client_sees_what_the_grpc_client_made(
    rest_client: NotebookServiceClient, client: NotebookServiceClient
) -> None:
    name = job_name(create(client, make_job(labels={"a": "b"}), new_id("both")))
    request = {"name": name, "view": 2}
    wait_until(
        lambda: (
            rest_client.get_notebook_execution_job(request=request)
            == client.get_notebook_execution_job(request=request)
        ),
        timeout=20,
        what="both transports to show the same",
    )
    listed = rest_client.list_notebook_execution_jobs(
        request={"parent": PARENT, "filter": f'notebookExecutionJob="{name.rpartition("/")[2]}"', "page_size": 1}
    )
    assert [job.name for job in listed] == [name]
    rest_client.delete_notebook_execution_job(name=name).result(timeout=patient(10))
    with pytest.raises(NotFound):
        client.get_notebook_execution_job(name=name)


def test_the_rest_client_cancels_and_is_told_errors(rest_client: NotebookServiceClient) -> None:
    job = make_job(notebook_runtime_template_resource_name=template("slow-provisioning"))
    operation = create(rest_client, job, new_id("rest"))
    rest_client.cancel_operation(operations_pb2.CancelOperationRequest(name=operation.operation.name))
    wait_until(
        lambda: (
            rest_client.get_notebook_execution_job(name=job_name(operation)).job_state == JobState.JOB_STATE_CANCELLED
        ),
        timeout=10,
        what="cancelled",
    )
    with pytest.raises(BadRequest, match="List of found errors"):
        create(rest_client, {}, new_id())
