"""The command with credentials: Google's own client libraries, and an HTTP server in place of Google's services.

The emulator has no TLS and so takes no credentials. Only the client of NotebookService is made here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core.exceptions import PermissionDenied
from google.auth.transport.requests import AuthorizedSession

from airflow_provider_nbjob.hooks import diagnosis
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.support.doctor_runs import WHOLE, Run
from tests.support.google_server import TOKEN, GoogleServer, google_server, refusal
from tests.support.patience import patient

OWN = "connection@my-project.iam.gserviceaccount.com"
SERVICE_ACCOUNT = WHOLE["service-account"]
BUCKET = "ml-runs"
TEST_PERMISSIONS = "GET /iam/testPermissions"
ACT_AS = "POST /v1/projects/-/serviceAccounts/train@my-project.iam.gserviceaccount.com:testIamPermissions"
CREATE = "POST /v1/projects/my-project:testIamPermissions"
QUOTAS = "GET /consumerQuotaMetrics"


def quota(limit: int, location: str = "us-central1", name: str = "Resource management requests") -> dict[str, Any]:
    """Return a quota metric, as Service Usage describes it, with a limit for one region."""
    buckets = [
        {"effectiveLimit": "600", "defaultLimit": "600"},
        {"effectiveLimit": str(limit), "dimensions": {"region": location}},
    ]
    limits = [
        {"unit": "1/min/{project}/{region}", "quotaBuckets": buckets},
        {"unit": "1/{project}", "quotaBuckets": [{"effectiveLimit": "1"}]},
    ]
    return {"displayName": name, "consumerQuotaLimits": limits}


@pytest.fixture(scope="module")
def private_key() -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, form, plain).decode()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, private_key: str) -> Iterator[GoogleServer]:
    """Serve tokens, IAM, quotas and buckets, all of which grant what is asked for, to the connection's key file."""
    with google_server() as server:
        held = ["storage.objects.get", "storage.objects.create"]
        server.answers |= {
            TEST_PERMISSIONS: (200, {"permissions": held}),
            ACT_AS: (200, {"permissions": ["iam.serviceAccounts.actAs"]}),
            CREATE: (200, {"permissions": ["aiplatform.notebookExecutionJobs.create"]}),
            QUOTAS: (200, {"metrics": [quota(600), {"displayName": "CPUs"}]}),
            f"GET /b/{BUCKET}/o": (200, {"items": []}),
            "GET /n.ipynb": (200, {"name": "n.ipynb", "bucket": BUCKET, "size": "7", "generation": "1"}),
        }
        key = {
            "type": "service_account",
            "client_email": OWN,
            "private_key": private_key,
            "token_uri": f"{server.url}/token",
        }
        path = tmp_path / "key.json"
        path.write_text(json.dumps(key))
        monkeypatch.delenv("NBJOB_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        connection = {"conn_type": "google_cloud_platform", "extra": {"project": "my-project", "key_path": str(path)}}
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
        client = SimpleNamespace(
            list_notebook_execution_jobs=lambda *_, **__: SimpleNamespace(
                pages=iter([SimpleNamespace(notebook_execution_jobs=[], next_page_token="")])
            ),
            get_notebook_runtime_template=lambda **_: None,
        )
        monkeypatch.setattr(NotebookExecutionJobHook, "get_conn", lambda *_: client)

        class Session(AuthorizedSession):
            """Sends what is for Google's hosts to the server."""

            def request(self, method: str, url: str, **options: Any) -> Any:  # type: ignore[override]
                scheme, _, rest = url.partition("://")
                host, _, path = rest.partition("/")
                assert (scheme, host.partition(".")[2]) == ("https", "googleapis.com")
                return super().request(method, f"{server.url}/{path}", **options)

        monkeypatch.setattr(diagnosis, "AuthorizedSession", Session)
        yield server


@pytest.fixture
def examined(google: GoogleServer, doctor: Run) -> Any:
    """Return what runs the command with a bucket that the server serves; no finding may have a secret."""

    def run(**options: str) -> tuple[int, dict[str, dict[str, Any]]]:
        status, findings = doctor(
            **{"output_uri": f"gs://{BUCKET}/runs", "source": f"gs://{BUCKET}/n.ipynb", **options}
        )
        assert TOKEN not in str(findings)
        assert "PRIVATE KEY" not in str(findings)
        return status, findings

    return run


def failed(findings: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, finding in findings.items() if finding["status"] == "failed"}


def test_all_is_well(examined: Any, google: GoogleServer) -> None:
    status, findings = examined()
    assert (status, {finding["status"] for finding in findings.values()}) == (0, {"passed"})
    assert findings["endpoint"]["detail"] == "us-central1-aiplatform.googleapis.com, Google's own for the location"
    assert findings["credentials"]["detail"].endswith("/key.json'")
    assert findings["identity"]["detail"] == f"requests are sent as {OWN}"
    assert findings["quota"]["detail"] == "Resource management requests: 600 a minute"
    asked = dict(google.requests)
    sent = {path: credentials for path, credentials in asked.items() if "testIamPermissions" in path}
    assert {*sent.values()} == {f"Bearer {TOKEN}"}
    assert len(sent) == 2
    assert not [path for path, _ in google.requests if path.startswith(("PUT", "DELETE")) or "/upload/" in path]


def test_the_accounts_of_an_impersonation_are_named(examined: Any, google: GoogleServer, monkeypatch: Any) -> None:
    minted: list[str] = []

    def impersonated(self: Any, request: Any) -> None:
        minted.append(self._target_principal)
        self.token = TOKEN

    monkeypatch.setattr("google.auth.impersonated_credentials.Credentials.refresh", impersonated)
    chain = "middle@p.iam.gserviceaccount.com, last@p.iam.gserviceaccount.com"
    _, findings = examined(impersonation_chain=chain)
    assert findings["identity"]["detail"] == (
        "requests are sent as last@p.iam.gserviceaccount.com, impersonated by middle@p.iam.gserviceaccount.com,"
        f" impersonated by {OWN}"
    )
    assert "last@p.iam.gserviceaccount.com" in minted


def test_a_refused_key_fails_what_needs_credentials_only(examined: Any, google: GoogleServer) -> None:
    google.answers["POST /token"] = (400, {"error": "invalid_grant", "error_description": "Account not found"})
    status, findings = examined()
    assert (status, failed(findings)) == (1, {"credentials"})
    assert "invalid_grant" in findings["credentials"]["detail"]
    assert findings["credentials"]["fix"].startswith("Repair the connection's key_path '/")
    assert {finding["detail"] for name, finding in findings.items() if name not in ("connection", "endpoint")} >= {
        *("needs credentials", "needs API", "my-project, from the connection"),
    }


def test_what_issues_tokens_and_hangs_is_given_up(examined: Any, google: GoogleServer) -> None:
    google.hanging.add("POST /token")
    limit = f"{patient(2):g}"
    status, findings = examined(timeout=limit)
    assert (status, failed(findings)) == (1, {"credentials"})
    assert f"longer than {limit} s" in findings["credentials"]["detail"]
    assert "token_uri" in findings["credentials"]["fix"]


# --- permissions that the account lacks ---


@pytest.mark.parametrize(
    ("check", "answer", "permission", "fix"),
    [
        ("service account", ACT_AS, "iam.serviceAccounts.actAs", f"on the service account {SERVICE_ACCOUNT}"),
        ("create jobs", CREATE, "aiplatform.notebookExecutionJobs.create", "on the project my-project"),
        ("output: read", TEST_PERMISSIONS, "storage.objects.get", f"on the bucket {BUCKET}"),
    ],
)
def test_a_permission_that_is_not_held_is_named_with_a_role_and_the_account(
    examined: Any, google: GoogleServer, check: str, answer: str, permission: str, fix: str
) -> None:
    held = ["storage.objects.create"] if answer == TEST_PERMISSIONS else []
    google.answers[answer] = (200, {"permissions": held} if held else {})
    status, findings = examined()
    assert (status, failed(findings)) == (1, {check})
    assert findings[check]["detail"].startswith(f"{OWN} lacks the permission {permission}, which roles/")
    assert findings[check]["fix"].startswith("Grant roles/")
    assert fix in findings[check]["fix"]


def test_a_bucket_that_cannot_be_written_to_is_a_warning(examined: Any, google: GoogleServer) -> None:
    """The roles that README.md names do not have it: only large notebooks are uploaded."""
    google.answers[TEST_PERMISSIONS] = (200, {"permissions": ["storage.objects.get"]})
    status, findings = examined()
    assert (status, findings["output: write"]["status"]) == (0, "warning")
    assert f"{OWN} lacks the permission storage.objects.create" in findings["output: write"]["detail"]
    assert "roles/storage.objectCreator" in findings["output: write"]["fix"]


@pytest.mark.parametrize(
    ("check", "answer", "role"),
    [
        ("output: read", f"GET /b/{BUCKET}/o", "roles/storage.objectViewer"),
        ("source", "GET /n.ipynb", "roles/storage.objectViewer"),
        ("service account", ACT_AS, "roles/iam.serviceAccountUser"),
    ],
)
def test_a_refusal_names_a_role(examined: Any, google: GoogleServer, check: str, answer: str, role: str) -> None:
    google.answers[answer] = (403, refusal(403, "no access"))
    status, findings = examined()
    assert (status, failed(findings)) == (1, {check})
    assert "no access" in findings[check]["detail"]
    assert findings[check]["fix"].startswith(f"Grant {role} on ")


def test_an_account_that_is_not_there(examined: Any, google: GoogleServer) -> None:
    google.answers[ACT_AS] = (404, refusal(404, "Unknown service account"))
    status, findings = examined()
    assert (status, failed(findings)) == (1, {"service account"})
    assert findings["service account"]["fix"] == "Check --service-account."


@pytest.mark.parametrize(
    "message",
    ["IAM API has not been used in project 1 before or it is disabled.", "violates VPC Service Controls"],
)
def test_a_refusal_for_another_reason_names_no_role(examined: Any, google: GoogleServer, message: str) -> None:
    google.answers[ACT_AS] = (403, refusal(403, message))
    _, findings = examined()
    assert message in findings["service account"]["detail"]
    assert "roles/" not in str(findings["service account"])


def test_a_redirect_is_not_followed(examined: Any, google: GoogleServer) -> None:
    google.answers[ACT_AS] = (302, {})
    _, findings = examined()
    assert findings["service account"]["status"] == "failed"


# --- quotas, and what else may not be known ---


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ((200, {"metrics": [quota(30)]}), "warning", "30 a minute; [nbjob] max_requests_per_minute is 60"),
        ((200, {"metrics": [quota(30, "europe-west1")]}), "passed", "600 a minute"),
        ((200, {"metrics": [quota(-1)]}), "passed", "-1 a minute"),
        ((200, {}), "skipped", "no quota"),
        ((403, refusal(403, "no serviceusage.quotas.get")), "skipped", "could not be found out: "),
        ((200, []), "skipped", "could not be found out: "),
        ((200, {"nextPageToken": "again"}), "skipped", "no quota"),  # and so without end
        ((500, {}), "skipped", "could not be found out: "),
    ],
)
def test_quotas(examined: Any, google: GoogleServer, answer: tuple[int, Any], status: str, words: str) -> None:
    google.answers[QUOTAS] = answer
    code, findings = examined()
    assert (code, findings["quota"]["status"]) == (0, status)
    assert words in findings["quota"]["detail"]


def test_quotas_that_hang_are_skipped(examined: Any, google: GoogleServer) -> None:
    google.hanging |= {QUOTAS, CREATE}
    code, findings = examined(timeout=f"{patient(2):g}")
    assert (code, findings["quota"]["status"], findings["create jobs"]["status"]) == (0, "skipped", "skipped")


@pytest.mark.parametrize("metrics", [5, [5], [None], [{"displayName": "notebook", "consumerQuotaLimits": [7]}]])
def test_odd_answers_break_no_other_check(examined: Any, google: GoogleServer, metrics: Any) -> None:
    google.answers[QUOTAS] = (200, {"metrics": metrics})
    google.answers[ACT_AS] = (200, {"permissions": 5})
    _, findings = examined()
    assert failed(findings) == {"service account"}
    assert findings["quota"]["status"] == "skipped"
    assert findings["output: write"]["status"] == "passed"


def test_a_refused_list_names_the_account(examined: Any, google: GoogleServer, monkeypatch: Any) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionDenied("Permission 'aiplatform.notebookExecutionJobs.list' denied")

    client = SimpleNamespace(list_notebook_execution_jobs=refused, get_notebook_runtime_template=lambda **_: None)
    monkeypatch.setattr(NotebookExecutionJobHook, "get_conn", lambda *_: client)
    status, findings = examined()
    assert (status, failed(findings)) == (1, {"list jobs"})
    assert f"Most likely {OWN} lacks the permission" in findings["list jobs"]["detail"]


def test_a_private_endpoint_is_named(examined: Any) -> None:
    _, findings = examined(api_endpoint="my-endpoint.p.googleapis.com")
    assert findings["endpoint"]["detail"].endswith("it is a Private Service Connect endpoint")


def test_the_proxies_of_the_process_are_named_without_their_passwords(
    examined: Any, google: GoogleServer, monkeypatch: Any
) -> None:
    monkeypatch.setenv("https_proxy", "http://me:my-s3cret@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(diagnosis, "AuthorizedSession", AuthorizedSession)  # whose host cannot be reached
    _, findings = examined()
    assert "has https_proxy" in findings["service account"]["fix"]
    assert "my-s3cret" not in str(findings)
    assert os.environ["https_proxy"]
