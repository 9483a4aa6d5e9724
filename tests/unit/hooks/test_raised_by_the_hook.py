"""The hook raises this provider's errors, whatever goes wrong below it: its users need no other package's."""

from __future__ import annotations

import contextlib
import http.client
import inspect
import io
import json
import socket
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import requests
import urllib3
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException
from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.aiplatform_v1.types import NotebookExecutionJob

from airflow_provider_nbjob.exceptions import (
    ApiError,
    CredentialsUnavailable,
    JobTimeout,
    NotebookExecutionJobError,
    NotebookUnreadable,
)
from airflow_provider_nbjob.hooks import clients, files
from airflow_provider_nbjob.hooks.connected import ConnectedHook
from airflow_provider_nbjob.hooks.files import NotebookFiles, StoredNotebook
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.support.fake_google import REPOSITORY, FakeGoogle
from tests.support.fake_service import EXECUTED, MOMENT, OUTPUT, PARENT, ended_job

LOCATION = "us-central1"
NAME = f"{PARENT}/notebookExecutionJobs/j1"
URI = "gs://bucket/n.ipynb"
JOB = {"display_name": "x", "gcs_output_uri": OUTPUT, "direct_notebook_source": {"content": b"{}"}}
PATH = "/etc/keys/of-a-secret-place.json"

Call = Callable[[NotebookExecutionJobHook], Any]
# What asks `NotebookService`, Cloud Storage and Dataform.
SERVICE: dict[str, Call] = {
    "create_notebook_execution_job": lambda hook: hook.create_notebook_execution_job(job=JOB, location=LOCATION),
    "get_notebook_execution_job": lambda hook: hook.get_notebook_execution_job(name=NAME),
    "find_notebook_execution_job": lambda hook: hook.find_notebook_execution_job(name=NAME),
    "list_notebook_execution_jobs": lambda hook: list(hook.list_notebook_execution_jobs(location=LOCATION)),
    "list_changes": lambda hook: hook.list_changes(location=LOCATION),
    "delete_notebook_execution_job": lambda hook: hook.delete_notebook_execution_job(name=NAME),
    "cancel_notebook_execution_job": lambda hook: hook.cancel_notebook_execution_job(name=NAME, grace=0.0),
    "wait_for_notebook_execution_job": lambda hook: hook.wait_for_notebook_execution_job(
        name=NAME, poll_interval=0.01, end_time=1.0
    ),
    "find_scheduled_job": lambda hook: hook.find_scheduled_job(schedule="7", created_after=0.0, location=LOCATION),
}
STORAGE: dict[str, Call] = {
    "read_gcs_notebook": lambda hook: hook.files.read_gcs_notebook(URI),
    "upload_notebook": lambda hook: hook.files.upload_notebook(b"{}", URI),
    "find_output_notebook": lambda hook: hook.files.find_output_notebook(ended_job()),
    "stat_output_notebook": lambda hook: hook.files.stat_output_notebook(ended_job(), retry=False),
    "stat_notebook": lambda hook: hook.files.stat_notebook(URI),
    "read_stored_notebook": lambda hook: hook.files.read_stored_notebook(StoredNotebook(URI, 1, 2)),
    "read_output_notebook": lambda hook: hook.files.read_output_notebook(EXECUTED),
    "read_executed_notebook": lambda hook: hook.files.read_executed_notebook(EXECUTED),
    "check_folder": lambda hook: hook.files.check_folder("gs://bucket/runs"),
    "held_permissions": lambda hook: hook.files.held_permissions("bucket", ["storage.objects.get"]),
}
DATAFORM: dict[str, Call] = {"read_dataform_notebook": lambda hook: hook.files.read_dataform_notebook(REPOSITORY)}
# What asks nobody but for credentials, or for nothing.
OTHERS: dict[str, Call] = {
    "get_conn": lambda hook: hook.get_conn(LOCATION),
    "get_credentials_and_project_id": lambda hook: hook.get_credentials_and_project_id(),
    "get_project_id": lambda hook: hook.get_project_id(None, LOCATION),
    "get_job_name": lambda hook: hook.get_job_name("j1", LOCATION),
    "get_parent": lambda hook: hook.get_parent(None, LOCATION),
    "reread_connection": lambda hook: hook.reread_connection(),
    "forget_client": lambda hook: hook.forget_client(LOCATION),
}
# Proved elsewhere: `get_connection` in test_connections.py, `get_endpoint` in tests/security/hooks/test_hosts.py; a
# faulty configuration is Airflow's to tell; `get_result` tells what it could not read in the result.
ELSEWHERE = {
    *(
        "get_connection",
        "get_endpoint",
        "direct_content_max_bytes",
        "files",
        "get_result",
        "job_as_known",
        "request",
        "wrapped",
    )
}


class RpcError(grpc.RpcError):
    """gRPC's own, as a channel that is closed raises it."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED


def _not_json() -> Exception:
    try:
        json.loads("{")
    except ValueError as error:
        return error
    raise AssertionError


FAULTS: list[Exception] = [
    *(
        api.from_http_status(status, "no")
        for status in (400, 401, 403, 404, 405, 409, 412, 418, 429, 500, 501, 502, 504)
    ),
    *(api.from_grpc_status(code, "no") for code in grpc.StatusCode if code is not grpc.StatusCode.OK),
    api.RetryError("too long", cause=None),
    RpcError("Cannot invoke RPC on closed channel!"),
    auth.DefaultCredentialsError(f"File {PATH} was not found."),
    auth.RefreshError("invalid_grant", {"error": "invalid_grant"}),
    auth.TransportError("the metadata server does not answer"),
    auth.MutualTLSChannelError("no certificate"),
    requests.exceptions.ConnectionError("refused"),
    requests.exceptions.ReadTimeout("late"),
    requests.exceptions.ChunkedEncodingError("broken"),
    requests.exceptions.ProxyError("no proxy"),
    requests.exceptions.InvalidURL("no host"),
    requests.exceptions.JSONDecodeError("not JSON", "{", 1),
    urllib3.exceptions.ReadTimeoutError(None, "", "late"),
    urllib3.exceptions.ProtocolError("broken"),
    http.client.IncompleteRead(b""),
    ssl.SSLCertVerificationError("self-signed"),
    socket.gaierror(-2, "Name or service not known"),
    ConnectionResetError("reset"),
    TimeoutError("late"),
    FileNotFoundError(2, "No such file or directory", PATH),
    PermissionError(13, "Permission denied", PATH),
    OSError(24, "Too many open files"),
    _not_json(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ValueError("a universe domain does not match"),
    TypeError("of the client library"),
    KeyError("items"),
    AttributeError("of the client library"),
    RecursionError("nested too deep"),
    RuntimeError("cannot start new thread"),
    AirflowException("Invalid key JSON."),
    AirflowNotFoundException("The conn_id `x` isn't defined"),
]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr("airflow_provider_nbjob.hooks.retrying.RETRY_TOTAL", 0.0)
    monkeypatch.setattr(files, "RETRY_SECONDS", 0.001)  # google-api-core 2.16 takes 0 for no bound


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    return FakeGoogle(monkeypatch)


def assert_told(call: Call, fault: Exception) -> None:
    """Whatever the call raises is ours, keeps its cause, and does not show those who may not read the log a path."""
    try:
        call(NotebookExecutionJobHook())
    except (JobTimeout, NotebookUnreadable):  # of who swallowed it, or was told that there is none
        return
    except NotebookExecutionJobError as error:
        if PATH in error.public or fault not in _causes(error):
            pytest.fail(f"{fault!r} was told as {error!r}, of which all may see: {error.public}")
    except Exception as error:
        pytest.fail(f"{fault!r} got out as {error!r}")


def _causes(error: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while error and len(causes) < 20:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def test_every_public_method_is_in_a_table():
    methods = {
        name
        for kind in (NotebookExecutionJobHook, ConnectedHook, NotebookFiles)
        for name, value in vars(kind).items()
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, (property, classmethod)))
    }
    assert methods == {*SERVICE, *STORAGE, *DATAFORM, *OTHERS} | ELSEWHERE


@pytest.mark.parametrize("method", SERVICE)
def test_what_the_api_client_raises(google, monkeypatch, method):
    def fails(*_: Any, **__: Any) -> Any:
        raise fault

    methods = ("create", "get", "list", "delete")
    names = [f"{name}_notebook_execution_job{'s' if name == 'list' else ''}" for name in methods]
    client = SimpleNamespace(**dict.fromkeys([*names, "list_operations", "cancel_operation"], fails))
    monkeypatch.setattr(google, "service", client)
    for fault in FAULTS:
        assert_told(SERVICE[method], fault)


@pytest.mark.parametrize("method", STORAGE)
def test_what_the_storage_client_raises(google, monkeypatch, method):
    def fails(*_: Any, **__: Any) -> Any:
        raise fault

    monkeypatch.setattr(google.storage, "request", fails)
    for fault in FAULTS:
        assert_told(STORAGE[method], fault)


def test_what_the_dataform_client_raises(google):
    for fault in FAULTS:
        google.dataform.failures = [fault] * 10
        assert_told(DATAFORM["read_dataform_notebook"], fault)


@pytest.mark.parametrize("method", [*SERVICE, *STORAGE, *DATAFORM, *OTHERS])
def test_what_the_credentials_raise(monkeypatch, method):
    def fails(_: Any) -> Any:
        raise fault

    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform"}')
    monkeypatch.delenv("NBJOB_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(GoogleBaseHook, "get_credentials_and_project_id", fails)
    for fault in FAULTS:
        if not isinstance(fault, api.GoogleAPICallError):
            assert_told({**SERVICE, **STORAGE, **DATAFORM, **OTHERS}[method], fault)


@pytest.mark.parametrize("method", [*SERVICE, "get_conn"])
def test_what_making_a_client_raises(monkeypatch, method):
    def fails(*_: Any, **__: Any) -> Any:
        raise fault

    monkeypatch.setenv("NBJOB_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(clients, "NotebookServiceClient", fails)
    monkeypatch.setattr(clients.notebook_service_client, "_kept", type(clients.notebook_service_client._kept)())
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "gcp", "extra": {"project": "p"}}')
    for fault in (ValueError("universe"), OSError(PATH), auth.MutualTLSChannelError("x")):
        assert_told({**SERVICE, **OTHERS}[method], fault)


# --- odd answers ---

BODIES = [b"", b"{", b"[]", b"null", b"5", b'{"items": 5}', b'{"items": [5]}', b'{"items": [{}]}', b'{"items": [null]}']
BODIES += [b'{"items": [{"name": 5}]}', b'{"items": [{"name": "runs/j1/a.ipynb", "generation": "x"}]}', b"\xff"]
BODIES += [b'{"name": "n", "generation": [], "size": "x"}', b"[" * 100_000]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("method", STORAGE)
def test_odd_answers_of_cloud_storage(google, monkeypatch, method, body):
    def answer(method: str, url: str, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url = 200, url
        response.raw = urllib3.HTTPResponse(body=io.BytesIO(body), preload_content=False)
        response.request = requests.Request(method, url).prepare()
        return response

    monkeypatch.setattr(google.storage, "request", answer)
    with contextlib.suppress(NotebookExecutionJobError):
        STORAGE[method](NotebookExecutionJobHook())


@pytest.mark.parametrize(
    "job",
    [
        NotebookExecutionJob(),
        NotebookExecutionJob(name="x", gcs_output_uri="y", schedule_resource_name="schedules/7"),
        NotebookExecutionJob(name=NAME, gcs_output_uri="gs://", job_state=99, create_time=MOMENT),
    ],
)
@pytest.mark.filterwarnings("ignore:Unrecognized JobState")
def test_odd_answers_of_the_api(google, monkeypatch, job):
    operations = SimpleNamespace(operations=[SimpleNamespace(name="x", done=False)])
    page = SimpleNamespace(notebook_execution_jobs=[job], next_page_token="")
    client = SimpleNamespace(
        create_notebook_execution_job=lambda *_, **__: SimpleNamespace(operation=SimpleNamespace(name=job.name)),
        get_notebook_execution_job=lambda *_, **__: job,
        list_notebook_execution_jobs=lambda *_, **__: SimpleNamespace(pages=iter([page])),
        delete_notebook_execution_job=lambda *_, **__: None,
        list_operations=lambda *_, **__: operations,
    )
    monkeypatch.setattr(google, "service", client)
    calls = {name: call for name, call in SERVICE.items() if name != "list_changes"}  # it reads plain messages
    for call in (*calls.values(), lambda hook: hook.get_result(job), lambda hook: hook.files.find_output_notebook(job)):
        with contextlib.suppress(NotebookExecutionJobError):
            call(NotebookExecutionJobHook())


# --- arguments of whatever kind ---

ODD = [None, "", 5, -1.5, True, b"x", [], {}, object(), "x" * 100_000, "\ud800", "a/../b", "{{ ds }}"]


@pytest.mark.parametrize(
    "call",
    [
        lambda hook, odd: hook.get_endpoint(odd),
        lambda hook, odd: hook.get_project_id(odd, LOCATION),
        lambda hook, odd: hook.get_job_name(odd),
        lambda hook, odd: hook.get_job_name(odd, LOCATION),
        lambda hook, odd: hook.get_job_name("j1", odd),
        lambda hook, odd: hook.get_parent(odd, LOCATION),
        lambda hook, odd: hook.get_notebook_execution_job(name=odd, location=LOCATION),
        lambda hook, odd: hook.get_notebook_execution_job(name=NAME, view=odd),
        lambda hook, odd: list(hook.list_notebook_execution_jobs(location=odd)),
        lambda hook, odd: list(hook.list_notebook_execution_jobs(location=LOCATION, filter=odd)),
        lambda hook, odd: list(hook.list_notebook_execution_jobs(location=LOCATION, order_by=odd)),
        lambda hook, odd: list(hook.list_notebook_execution_jobs(location=LOCATION, page_size=odd)),
        lambda hook, odd: list(hook.list_notebook_execution_jobs(location=LOCATION, view=odd)),
        lambda hook, odd: hook.list_changes(location=LOCATION, page_token=odd),
        lambda hook, odd: hook.create_notebook_execution_job(job=odd, location=LOCATION),
        lambda hook, odd: hook.create_notebook_execution_job(job={"labels": odd}, location=LOCATION),
        lambda hook, odd: hook.create_notebook_execution_job(job={**JOB, "execution_timeout": odd}, location=LOCATION),
        lambda hook, odd: hook.create_notebook_execution_job(job=JOB, location=LOCATION, notebook_execution_job_id=odd),
        lambda hook, odd: hook.delete_notebook_execution_job(name=odd, location=LOCATION),
        lambda hook, odd: hook.find_scheduled_job(schedule=odd, created_after=0.0, location=LOCATION),
        lambda hook, odd: hook.find_scheduled_job(schedule="7", created_after=0.0, location=odd),
        lambda hook, odd: hook.files.read_gcs_notebook(odd),
        lambda hook, odd: hook.files.read_dataform_notebook(odd),
        lambda hook, odd: hook.files.read_dataform_notebook(REPOSITORY, odd),
        lambda hook, odd: hook.files.upload_notebook(b"{}", odd),
        lambda hook, odd: hook.files.stat_notebook(odd),
        lambda hook, odd: hook.files.stat_notebook(URI, odd),
        lambda hook, odd: hook.files.read_output_notebook(odd),
        lambda hook, odd: hook.files.read_executed_notebook(odd),
    ],
    ids=lambda call: inspect.getsource(call).strip()[:70],
)
def test_odd_arguments(google, monkeypatch, call):
    def refuses(*_: Any, **__: Any) -> Any:
        raise api.FailedPrecondition("it was sent")

    names = ("create_notebook_execution_job", "get_notebook_execution_job", "delete_notebook_execution_job")
    client = SimpleNamespace(**dict.fromkeys([*names, "list_notebook_execution_jobs"], refuses))
    monkeypatch.setattr(google, "service", client)
    google.dataform.failures = [api.FailedPrecondition("it was sent")] * len(ODD)
    hook = NotebookExecutionJobHook()
    for odd in ODD:
        try:
            with contextlib.suppress(NotebookExecutionJobError):
                call(hook, odd)
        except Exception as error:
            pytest.fail(f"{odd!r:.100} got out as {error!r}")


# --- which error it is ---


@pytest.mark.parametrize(
    ("fault", "code", "is_transient"),
    [
        (api.from_http_status(503, "x"), "UNAVAILABLE", True),
        (api.from_http_status(403, "x"), "PERMISSION_DENIED", False),
        (api.from_http_status(429, "x"), "RESOURCE_EXHAUSTED", True),
        (requests.exceptions.ConnectionError("x"), "UNAVAILABLE", True),
        (requests.exceptions.ReadTimeout("x"), "DEADLINE_EXCEEDED", True),
        (auth.TransportError("x"), "UNAVAILABLE", True),
        (FileNotFoundError(2, "x", PATH), "UNKNOWN", False),
        (_not_json(), "UNKNOWN", False),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["read_output_notebook", "upload_notebook", "find_output_notebook"])
def test_an_error_of_cloud_storage_has_the_code_of_what_happened(google, method, fault, code, is_transient):
    for operation in ("list", "read", "write"):
        google.storage.fail(operation, fault)
    with pytest.raises(ApiError) as raised:
        STORAGE[method](NotebookExecutionJobHook())
    assert (raised.value.code, raised.value.is_transient) == (code, is_transient)


def test_refused_credentials_are_told_from_a_refused_request(google):
    google.storage.fail("read", auth.RefreshError("invalid_grant", {"error": "invalid_grant"}))
    with pytest.raises(CredentialsUnavailable):
        NotebookExecutionJobHook().files.read_output_notebook(EXECUTED)


# --- who lacks what ---

SERVICE_ACCOUNT = "runner@p.iam.gserviceaccount.com"
IMPERSONATED = "airflow@p.iam.gserviceaccount.com"
LACKED = {
    "create_notebook_execution_job": ("aiplatform.notebookExecutionJobs.create", "aiplatform.colabEnterpriseUser"),
    "get_notebook_execution_job": ("aiplatform.notebookExecutionJobs.get", "aiplatform.colabEnterpriseUser"),
    "list_notebook_execution_jobs": ("aiplatform.notebookExecutionJobs.list", "aiplatform.colabEnterpriseUser"),
    "delete_notebook_execution_job": ("aiplatform.notebookExecutionJobs.delete", "aiplatform.colabEnterpriseUser"),
    "find_output_notebook": ("storage.objects.list", "storage.objectViewer", "the bucket bucket"),
    "read_output_notebook": ("storage.objects.get", "storage.objectViewer", "the bucket bucket"),
    "read_gcs_notebook": ("storage.objects.get", "storage.objectViewer", "the bucket bucket"),
    "upload_notebook": ("storage.objects.create", "storage.objectCreator", "the bucket bucket"),
    "check_folder": ("storage.objects.list", "storage.objectViewer", "the bucket bucket"),
    "read_dataform_notebook": ("dataform.repositories.queryDirectoryContents", "dataform.codeViewer", REPOSITORY),
}


def refused(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, method: str, message: str, **options: Any) -> str:
    """Return what the hook says of a request that Google refuses."""

    def fails(*_: Any, **__: Any) -> Any:
        raise api.PermissionDenied(message)

    monkeypatch.setattr(google, "service", SimpleNamespace(**dict.fromkeys(SERVICE, fails)))
    for operation in ("list", "read", "write"):
        google.storage.fail(operation, 403, message)
    google.dataform.failures = [api.PermissionDenied(message)]
    with pytest.raises(ApiError) as raised:
        {**SERVICE, **STORAGE, **DATAFORM}[method](NotebookExecutionJobHook(**options))
    assert raised.value.code == "PERMISSION_DENIED"
    assert message in raised.value.public
    assert "@p.iam" not in raised.value.public.replace(SERVICE_ACCOUNT, "")
    return str(raised.value)


@pytest.mark.parametrize("method", LACKED)
def test_a_refusal_names_the_role_and_the_account_that_most_likely_lack(google, monkeypatch, method):
    told = refused(google, monkeypatch, method, "no access", impersonation_chain=["a@p.iam", IMPERSONATED])
    assert "no access" in told
    permission, role, *_ = LACKED[method]
    assert f"Most likely {IMPERSONATED} lacks the permission {permission}, which roles/{role} has, on the" in told
    assert LACKED[method][-1] in told


@pytest.mark.parametrize("is_a_file", [True, False])
def test_the_account_of_a_key_is_named_without_a_request(google, monkeypatch, tmp_path, is_a_file):
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = {
        "type": "service_account",
        "client_email": f"{'file' if is_a_file else 'extra'}@p.iam.gserviceaccount.com",
        "private_key": private.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode(),
        "token_uri": "https://127.0.0.1:1/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    extra = {"project": "p", **({"key_path": str(path)} if is_a_file else {"keyfile_dict": key})}
    connection = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_OF_A_KEY", connection)
    told = refused(google, monkeypatch, "get_notebook_execution_job", "no access", gcp_conn_id="of_a_key")
    # Airflow masks all that stands in the extra's `keyfile_dict`.
    account = key["client_email"] if is_a_file else "the account of connection 'of_a_key'"
    assert f"Most likely {account} lacks" in told


def test_an_account_that_nobody_knows_is_named_by_its_connection(google, monkeypatch):
    told = refused(google, monkeypatch, "get_notebook_execution_job", "no access")
    assert "Most likely the account of connection 'google_cloud_default' lacks" in told


@pytest.mark.parametrize(
    ("message", "is_about_it"),
    [
        (f"You do not have permission to act as service_account: {SERVICE_ACCOUNT} (or it may not exist).", True),
        ("Permission 'iam.serviceAccounts.actAs' denied on service account x", True),
        ("Permission 'aiplatform.notebookExecutionJobs.create' denied on resource", False),
    ],
)
def test_the_right_to_run_as_an_account_is_told_from_the_right_to_submit(google, monkeypatch, message, is_about_it):
    job = {**JOB, "service_account": SERVICE_ACCOUNT}
    monkeypatch.setitem(SERVICE, "create_notebook_execution_job", _create(job))
    told = refused(google, monkeypatch, "create_notebook_execution_job", message)
    account = f"the service account {SERVICE_ACCOUNT}" if is_about_it else SERVICE_ACCOUNT
    assert f"iam.serviceAccounts.actAs, which roles/iam.serviceAccountUser has, on {account}" in told
    assert ("roles/aiplatform.colabEnterpriseUser" in told) != is_about_it


def _create(job: dict[str, Any]) -> Call:
    return lambda hook: hook.create_notebook_execution_job(job=job, location=LOCATION)


@pytest.mark.parametrize(
    "message",
    [
        "Vertex AI API has not been used in project 1 before or it is disabled. Enable it by visiting https://x",
        "Request is prohibited by organization's policy. VPC Service Controls uniqueIdentifier: x",
        "This API method requires billing to be enabled.",
    ],
)
@pytest.mark.parametrize("method", ["get_notebook_execution_job", "read_output_notebook", "read_dataform_notebook"])
def test_a_refusal_for_another_reason_names_no_role(google, monkeypatch, method, message):
    assert "Most likely" not in refused(google, monkeypatch, method, message)


def test_a_refused_impersonation_names_its_role(google):
    message = "Unable to acquire impersonated credentials"
    google.storage.fail("read", auth.RefreshError(message, '{"error": {"code": 403, "status": "PERMISSION_DENIED"}}'))
    with pytest.raises(CredentialsUnavailable, match=r"roles/iam\.serviceAccountTokenCreator"):
        NotebookExecutionJobHook().files.read_output_notebook(EXECUTED)
