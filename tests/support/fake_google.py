"""What the provider uses of Google, in this process: Cloud Storage, Dataform, and `NotebookService`.

Everything of the provider is real, from the operator to the hook; only the clients are made here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import JobState, NotebookExecutionJob
from google.cloud.dataform_v1 import types as dataform
from google.cloud.dataform_v1.services.dataform.pagers import QueryRepositoryDirectoryContentsPager
from google.rpc.status_pb2 import Status

from airflow_provider_nbjob.hooks import dataform as dataform_reads
from airflow_provider_nbjob.hooks import files
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.support.fake_storage import FakeStorage

PARENT = "projects/p/locations/us-central1"
REPOSITORY = f"{PARENT}/repositories/reports"
OUTPUT = "gs://bucket/runs"  # where jobs write
MOMENT = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass
class FakeDataform:
    """A Dataform repository, by commit; `DataformClient` as far as it is used.

    :param commits: the files of each commit; the empty SHA is the head of the default branch
    :param failures: raised by the next calls, one each
    :param endpoints: where each client was asked for
    :param forgotten: how often a new client was asked for
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)
    endpoints: list[str] = field(default_factory=list)
    forgotten: int = 0
    calls: list[str] = field(default_factory=list)

    def __call__(self, _: Any, endpoint: Any) -> FakeDataform:
        self.endpoints.append(str(endpoint))
        return self

    def forget(self, *_: Any) -> None:
        self.forgotten += 1

    def _files(self, method: str, request: Any) -> dict[str, bytes]:
        self.calls.append(method)
        if self.failures:
            raise self.failures.pop(0)
        assert request.name == REPOSITORY
        return self.commits[request.commit_sha]

    def query_repository_directory_contents(self, request: Any, **_: Any) -> QueryRepositoryDirectoryContentsPager:
        request = dataform.QueryRepositoryDirectoryContentsRequest(request)
        files = self._files("query", request)
        entries = [{"directory" if name.endswith("/") else "file": name} for name in files]
        response = dataform.QueryRepositoryDirectoryContentsResponse(directory_entries=entries)
        return QueryRepositoryDirectoryContentsPager(lambda *_, **__: None, request, response)

    def read_repository_file(self, request: Any, **_: Any) -> dataform.ReadRepositoryFileResponse:
        request = dataform.ReadRepositoryFileRequest(request)
        return dataform.ReadRepositoryFileResponse(contents=self._files("read", request)[request.path])


@dataclass
class FakeNotebookService:
    """`NotebookService` whose jobs end at once, as far as it is used.

    :param submitted: the jobs that were submitted, in order
    :param changes: fields that a job has once it has ended, beside `job_state`
    """

    storage: FakeStorage
    submitted: list[NotebookExecutionJob] = field(default_factory=list)
    job_state: int = JobState.JOB_STATE_SUCCEEDED
    executed: bytes | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    def create_notebook_execution_job(self, request: Any, **_: Any) -> SimpleNamespace:
        job = NotebookExecutionJob(request.notebook_execution_job)
        job.name = f"{request.parent}/notebookExecutionJobs/{request.notebook_execution_job_id or '1'}"
        self.submitted.append(job)
        return SimpleNamespace(operation=SimpleNamespace(name=f"{job.name}/operations/1"))

    def get_notebook_execution_job(self, request: Any, **_: Any) -> NotebookExecutionJob:
        (submitted,) = (job for job in self.submitted if job.name == request.name)
        if self.executed is not None:
            folder = f"{submitted.gcs_output_uri}/{submitted.name.rpartition('/')[2]}"
            self.storage.put(f"{folder}/content.ipynb", self.executed)
        values = {"job_state": self.job_state, "create_time": MOMENT, "update_time": MOMENT, **self.changes}
        job = NotebookExecutionJob(submitted)
        for name, value in values.items():
            setattr(job, name, value)
        return job


class FakeGoogle:
    """All of them, in place of the real ones for as long as `monkeypatch` lasts.

    `bucket` exists; Airflow's default connection names the project `p`, and all clients are without credentials.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage = FakeStorage({"bucket"})
        self.dataform = FakeDataform()
        self.notebooks = FakeNotebookService(self.storage)
        client = self.storage.client()
        connection = '{"conn_type": "google_cloud_platform", "extra": {"project": "p"}}'
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
        monkeypatch.setenv("NBJOB_EMULATOR_HOST", "127.0.0.1:1")  # plaintext: no credentials are looked for
        monkeypatch.setattr(files, "storage_client", lambda _: client)
        monkeypatch.setattr(dataform_reads, "dataform_client", self.dataform)
        monkeypatch.setattr(NotebookExecutionJobHook, "get_conn", lambda *_: self.notebooks)


def ended_job(state: str | int = "SUCCEEDED", message: str = "", code: int = 0, **changes: Any) -> NotebookExecutionJob:
    """Return a job that has ended, as the API shows it.

    :param state: the end of its API name, or a number that the client library may not know
    """
    values = {
        "name": f"{PARENT}/notebookExecutionJobs/j1",
        "display_name": "a report",
        "job_state": state if isinstance(state, int) else JobState[f"JOB_STATE_{state}"],
        "status": Status(code=code, message=message),
        "gcs_output_uri": OUTPUT,
        "create_time": MOMENT,
        "update_time": MOMENT,
    }
    return NotebookExecutionJob({**values, **changes})


EXECUTED = f"{OUTPUT}/j1/content.ipynb"  # the executed notebook of `ended_job`
