"""One emulator for the tests of this folder, in this process, and the clients that speak to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient

from airflow_provider_nbjob.emulator import engine
from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_jobs import BUCKET, CLEANUP_DELAY, grpc_client
from tests.support.patience import patient


@pytest.fixture
def lasting_provisioning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the machine of ``slow-provisioning`` start never, so that no test has to be faster than it."""
    monkeypatch.setattr(engine, "SLOW_PROVISIONING", 3600.0)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulator for this folder."""
    data_dir = tmp_path_factory.mktemp("in-process") / "data"
    with Emulator(data_dir, cleanup_delay=CLEANUP_DELAY, buckets=[BUCKET]) as running:
        running.data_dir = data_dir  # type: ignore[attr-defined]
        yield running


@pytest.fixture(scope="session")
def client(server: Emulator) -> NotebookServiceClient:
    """A client over gRPC."""
    return grpc_client(server)


@pytest.fixture(scope="session")
def http(server: Emulator) -> Iterator[httpx.Client]:
    """A plain HTTP client of the REST API."""
    with httpx.Client(base_url=server.rest_url, timeout=patient(30)) as opened:
        yield opened


@pytest.fixture(scope="session")
def gcs(server: Emulator) -> storage.Client:
    """A Cloud Storage client."""
    return storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": server.storage_url}
    )


@pytest.fixture(scope="session")
def read_object(gcs: storage.Client) -> Callable[[str], bytes]:
    """Read an object by its URI."""

    def read(uri: str) -> bytes:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        return gcs.bucket(bucket).blob(name).download_as_bytes()

    return read


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No fault outlives its test."""
    yield
    if "http" in request.fixturenames:
        request.getfixturevalue("http").delete("/emulator/faults").raise_for_status()
