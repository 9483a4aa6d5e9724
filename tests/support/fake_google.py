"""What the provider uses of Google, in this process: Cloud Storage, Dataform, and `NotebookService`.

Everything of the provider is real, from the operator to the hook; only the clients are made here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud.dataform_v1 import types as dataform
from google.cloud.dataform_v1.services.dataform.pagers import QueryRepositoryDirectoryContentsPager

from airflow_provider_nbjob.hooks import dataform as dataform_reads
from airflow_provider_nbjob.hooks import files, retrying
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.triggers import job_watch
from tests.support.fake_service import PARENT, FakeService
from tests.support.fake_storage import FakeStorage

REPOSITORY = f"{PARENT}/repositories/reports"


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


def patch_pauses(monkeypatch: pytest.MonkeyPatch, pause: Callable[[float], None]) -> None:
    """Have the storage library call this between its attempts, instead of sleeping.

    google-cloud-storage 3 retries downloads by the first of these modules, google-cloud-storage 2 by the second.
    """
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pause)
    for module in ("google.api_core.retry.retry_unary", "google.resumable_media.requests._request_helpers"):
        if find_spec(module):
            monkeypatch.setattr(f"{module}.time", clock)


class FakeGoogle:
    """All of them, in place of the real ones for as long as `monkeypatch` lasts.

    `bucket` exists; Airflow's default connection names the project `p`, and all clients are without credentials.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage = FakeStorage({"bucket"})
        self.dataform = FakeDataform()
        self.service = FakeService(self.storage)
        client = self.storage.client()
        connection = '{"conn_type": "google_cloud_platform", "extra": {"project": "p"}}'
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
        monkeypatch.setenv("NBJOB_EMULATOR_HOST", "127.0.0.1:1")  # plaintext: no credentials are looked for
        monkeypatch.setattr(files, "storage_client", lambda _: client)
        monkeypatch.setattr(dataform_reads, "dataform_client", self.dataform)
        monkeypatch.setattr(NotebookExecutionJobHook, "get_conn", lambda *_: self.service)


class FakeWait(FakeGoogle):
    """Google whose jobs are waited for, and all that makes a wait last made short, for as long as `monkeypatch` lasts.

    There is no worker whose end a trigger's event must not overtake, no limit to the requests a minute, and no
    retry of a single request.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.service.course = ("RUNNING", "SUCCEEDED")
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
        monkeypatch.setenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", "1000000")
        monkeypatch.setattr(job_watch, "ARRIVAL", 0.01)
        monkeypatch.setattr(retrying, "RETRY_TOTAL", 0.0)
