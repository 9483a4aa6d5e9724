"""The command against the emulator: each check passes, and fails by a real answer, and says what to do."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_nbjob.doctor.command_line import main
from scripts.processes import BUCKET
from tests.support.doctor_runs import Run
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient

NEEDS_CREDENTIALS = {"credentials", "identity", "create jobs", "service account", "quota"}
DATAFORM = "projects/p/locations/us-central1/repositories/data-quality"


def statuses(findings: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Return the names of the checks by their status."""
    found: dict[str, set[str]] = {}
    for name, finding in findings.items():
        found.setdefault(finding["status"], set()).add(name)
    return found


def files_of(emulator: EmulatorProcess) -> dict[Path, int]:
    """Return all objects of the emulator, with the time at which each was written."""
    folder = emulator.data_dir / "cloudstorage"
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and "sqlite" not in path.name}


def test_all_is_well(service: EmulatorProcess, doctor: Run) -> None:
    before = files_of(service)
    status, findings = doctor()
    found = statuses(findings)
    assert (status, found.get("failed")) == (0, None)
    assert found["skipped"] == NEEDS_CREDENTIALS
    assert files_of(service) == before  # nothing was written, and so nothing is left
    called = service.calls()
    assert called == {"ListNotebookExecutionJobs": 1, "GetNotebookRuntimeTemplate": 1}


def test_options_that_are_not_given_skip_their_checks(
    service: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    assert main(["doctor", "--location", "us-central1", "--timeout", f"{patient(20):g}"]) == 0
    printed = capsys.readouterr()
    for flag in ("template", "output-uri", "source", "service-account"):
        assert re.search(rf"^skipped  .* --{flag} was not given$", printed.out, re.MULTILINE)
    assert printed.err == ""
    assert all(re.match(r"(passed|skipped)  ", line) for line in printed.out.splitlines())  # there is no log in it


def test_a_dataform_repository_is_read(service: EmulatorProcess, doctor: Run) -> None:
    status, findings = doctor(source=DATAFORM)
    assert (status, findings["source"]["status"]) == (0, "passed")
    status, findings = doctor(source=DATAFORM + "-2")
    assert (status, findings["source"]["fix"]) == (1, "Check --source.")
    assert "NOT_FOUND" in findings["source"]["detail"]


# --- faults ---


@pytest.mark.parametrize(
    ("code", "words", "fix"),
    [
        ("PERMISSION_DENIED", "lacks the permission aiplatform.notebookExecutionJobs.list", "colabEnterpriseUser on"),
        ("UNAUTHENTICATED", "UNAUTHENTICATED", "Repair the connection's key"),
        ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "max_requests_per_minute"),
        ("INTERNAL", "INTERNAL", "Try again"),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT", "Check --project-id"),
        ("NOT_FOUND", "NOT_FOUND", "Check --project-id"),
    ],
)
def test_an_api_that_refuses_the_list_is_reachable(
    service: EmulatorProcess, doctor: Run, code: str, words: str, fix: str
) -> None:
    service.fault("ListNotebookExecutionJobs", code)
    status, findings = doctor()
    assert (status, statuses(findings)["failed"]) == (1, {"list jobs"})
    assert findings["API"]["status"] == "passed"
    assert words in findings["list jobs"]["detail"]
    assert fix in findings["list jobs"]["fix"]
    assert service.calls()["ListNotebookExecutionJobs"] == 1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "CANCELLED", "UNIMPLEMENTED"])
def test_an_api_that_does_not_answer_fails_only_what_needs_it(service: EmulatorProcess, doctor: Run, code: str) -> None:
    service.fault("*", code)
    status, findings = doctor()
    assert (status, statuses(findings)["failed"]) == (1, {"API"})
    assert code in findings["API"]["detail"]
    assert ("location" if code == "UNIMPLEMENTED" else service.grpc_address) in findings["API"]["fix"]
    for name in ("list jobs", "create jobs", "template"):
        assert (findings[name]["status"], findings[name]["detail"]) == ("skipped", "needs API")
    assert {"output: read", "output: write", "source"} <= statuses(findings)["passed"]


@pytest.mark.parametrize(
    ("code", "words", "fix"),
    [
        ("PERMISSION_DENIED", "lacks the permission aiplatform.notebookRuntimeTemplates.get", "colabEnterpriseUser on"),
        ("UNAVAILABLE", "UNAVAILABLE", "network"),
    ],
)
def test_a_template_that_cannot_be_read(service: EmulatorProcess, doctor: Run, code: str, words: str, fix: str) -> None:
    service.fault("GetNotebookRuntimeTemplate", code)
    status, findings = doctor()
    assert (status, statuses(findings)["failed"]) == (1, {"template"})
    assert words in findings["template"]["detail"]
    assert fix in findings["template"]["fix"]


def test_names_of_what_is_not_there(service: EmulatorProcess, doctor: Run) -> None:
    status, findings = doctor(
        template="not-found", output_uri="gs://no-such-bucket/runs", source=f"gs://{BUCKET}/notebooks/none.ipynb"
    )
    assert (status, statuses(findings)["failed"]) == (1, {"template", "output: read", "output: write", "source"})
    assert "was not found" in findings["template"]["detail"]
    assert "The specified bucket does not exist" in findings["output: read"]["detail"]
    assert findings["source"]["detail"] == f"There is no object gs://{BUCKET}/notebooks/none.ipynb."
    assert [findings[name]["fix"] for name in ("template", "output: read", "source")] == [
        *("Check --template.", "Check --output-uri.", "Check --source."),
    ]


def test_a_project_that_nothing_names(service: EmulatorProcess, doctor: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform"}')
    status, findings = doctor()
    assert (status, statuses(findings)["failed"]) == (1, {"project"})
    assert findings["API"]["detail"] == findings["quota"]["detail"] == "needs project"
    assert "names no project" in findings["project"]["detail"]
    assert doctor(project_id="my-project")[1]["project"]["detail"] == "my-project, from --project-id"


# --- the connection ---


def test_a_connection_that_does_not_exist(service: EmulatorProcess, doctor: Run) -> None:
    status, findings = doctor(conn_id="no_such_connection")
    assert (status, statuses(findings)["failed"]) == (1, {"connection"})
    assert "returned no connection 'no_such_connection'" in findings["connection"]["detail"]
    assert "Define connection no_such_connection" in findings["connection"]["fix"]
    others = {finding["detail"] for name, finding in findings.items() if name != "connection"}
    assert others == {"needs connection", "needs API"}
    assert service.calls() == {}


def test_an_endpoint_that_is_not_allowed(
    service: EmulatorProcess, doctor: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = '{"project": "p", "is_anonymous": true, "api_endpoint": "http://me:my-s3cret@evil.example.com"}'
    monkeypatch.setenv("AIRFLOW_CONN_EVIL", f'{{"conn_type": "google_cloud_platform", "extra": {extra}}}')
    status, findings = doctor(conn_id="evil")
    assert (status, statuses(findings)["failed"]) == (1, {"endpoint"})
    assert "allowed_api_endpoints" in findings["endpoint"]["fix"]
    assert "my-s3cret" not in str(findings)
    assert service.calls() == {}


@pytest.mark.parametrize("origin", ["option", "extra"])
def test_the_origin_of_the_endpoint_is_named(
    service: EmulatorProcess, doctor: Run, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    assert doctor()[1]["endpoint"]["detail"].endswith("from NBJOB_EMULATOR_HOST; plaintext, without credentials")
    monkeypatch.delenv("NBJOB_EMULATOR_HOST")
    address = f"http://{service.grpc_address}"
    if origin == "extra":
        extra = f'{{"project": "p", "is_anonymous": true, "api_endpoint": "{address}"}}'
        monkeypatch.setenv("AIRFLOW_CONN_EXTRA", f'{{"conn_type": "google_cloud_platform", "extra": {extra}}}')
        _, findings = doctor(conn_id="extra")
        assert findings["endpoint"]["detail"].startswith(f"{address}, from the connection's extra api_endpoint;")
    else:
        _, findings = doctor(api_endpoint=address)
        assert findings["endpoint"]["detail"].startswith(f"{address}, from --api-endpoint;")
    assert findings["API"]["status"] == "passed"


# --- time ---


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of what takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


LIMIT = f"{patient(2):g}"  # seconds for each check; those that do not hang take no longer on a busy machine


def test_an_api_that_hangs_is_given_up(service: EmulatorProcess, doctor: Run, silent: str) -> None:
    status, findings = doctor(api_endpoint=f"http://{silent}", timeout=LIMIT)
    assert (status, statuses(findings)["failed"]) == (1, {"API"})
    assert f"longer than {LIMIT} s" in findings["API"]["detail"]
    assert silent in findings["API"]["fix"]


def test_a_slow_answer_is_given_up_too(service: EmulatorProcess, doctor: Run) -> None:
    service.fault("GetNotebookRuntimeTemplate", delay=600.0)
    status, findings = doctor(timeout=LIMIT)
    assert (status, statuses(findings)["failed"]) == (1, {"template"})
    assert f"longer than {LIMIT} s" in findings["template"]["detail"]


def test_a_bucket_that_hangs_is_given_up(
    service: EmulatorProcess, doctor: Run, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{silent}")
    status, findings = doctor(timeout=LIMIT)
    assert (status, statuses(findings)["failed"]) == (1, {"output: read", "output: write", "source"})
    assert f"longer than {LIMIT} s" in findings["output: read"]["detail"]
    assert "STORAGE_EMULATOR_HOST" in findings["source"]["fix"]
