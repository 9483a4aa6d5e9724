"""Secret Manager of the emulator: REST, gRPC with Google's own client, and what a notebook reads."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import google_crc32c
import httpx
import pytest
from google.api_core.exceptions import NotFound
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)

from airflow_provider_nbjob.emulator.secret_manager import PAYLOAD_MAX, Secrets
from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.support.emulator_jobs import PROJECT
from tests.support.patience import patient

PAYLOAD = "grüße\n".encode()


@pytest.fixture(scope="module")
def secret(server: Emulator) -> str:
    """A secret with versions 1, 2 and 10, and what is none; its name."""
    secrets = Secrets(server.data_dir)  # type: ignore[attr-defined]
    secrets.add("token", b"first")
    secrets.add("token", b"first")
    secrets.add("token", b"second")
    folder = server.data_dir / "secrets" / "token"  # type: ignore[attr-defined]
    (folder / "10").write_bytes(PAYLOAD)
    for name in ("9x", "011", "x", ".12", "20.partial"):
        (folder / name).write_text("no version")
    (folder / "5").symlink_to(folder / "1")
    os.mkfifo(folder / "6")
    (folder / "7").mkdir()
    (folder / "8").write_bytes(b"x" * (PAYLOAD_MAX + 1))
    return f"projects/{PROJECT}/secrets/token"


@pytest.mark.parametrize(
    ("version", "number", "payload"),
    [("1", "1", b"first"), ("2", "2", b"second"), ("10", "10", PAYLOAD), ("latest", "10", PAYLOAD)],
)
def test_a_version_is_read(http: httpx.Client, secret: str, version: str, number: str, payload: bytes) -> None:
    for prefix in ("v1", "v1beta1"):
        answer = http.get(f"/{prefix}/{secret}/versions/{version}:access").raise_for_status().json()
        assert answer == {
            "name": f"{secret}/versions/{number}",
            "payload": {
                "data": base64.b64encode(payload).decode(),
                "dataCrc32c": str(google_crc32c.value(payload)),
            },
        }


@pytest.mark.parametrize("version", ["3", "5", "6", "7", "8", "011", "9999999999"])
def test_what_is_no_version_is_not_found(http: httpx.Client, secret: str, version: str) -> None:
    answer = http.get(f"/v1/{secret}/versions/{version}:access")
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (f"projects/{PROJECT}/secrets/other/versions/latest", 404),
        (f"projects/{PROJECT}/secrets/../versions/1", 400),
        (f"projects/{PROJECT}/secrets/%2e%2e/versions/1", 400),
        (f"projects/{PROJECT}/secrets/a%2Fb/versions/1", 404),
        (f"projects/{PROJECT}/secrets/a.b/versions/1", 400),
        (f"projects/{PROJECT}/secrets/token/versions/x", 400),
        (f"projects/{PROJECT}/secrets/token/versions/-1", 400),
        (f"projects/{PROJECT}/secrets/token/versions/1%00", 400),
    ],
)
def test_a_name_leads_nowhere_else(server: Emulator, secret: str, name: str, code: int) -> None:
    target = f"/{server.token}/v1/{name}:access".encode()
    with httpx.Client(timeout=patient(30)) as client:
        answer = client.get(server.rest_url, extensions={"target": target})  # as it stands, `..` included
    assert answer.status_code == code


def test_googles_client_reads_it_over_grpc(server: Emulator, secret: str) -> None:
    channel = emulator_channel(server.grpc_address, server.token)
    client = SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))
    assert client.access_secret_version(name=f"{secret}/versions/latest").payload.data == PAYLOAD
    with pytest.raises(NotFound):
        client.access_secret_version(name=f"{secret}/versions/3")


def test_no_payload_is_logged(http: httpx.Client, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        http.get(f"/v1/{secret}/versions/1:access").raise_for_status()
    assert "first" not in caplog.text
    assert base64.b64encode(b"first").decode() not in caplog.text


def test_an_option_adds_a_version_once(tmp_path: Path) -> None:
    for payload in (b"a", b"a", b"b", b"a"):
        with Emulator(tmp_path / "data", secrets=[("s", payload)]):
            pass
    versions = {path.name: path.read_bytes() for path in (tmp_path / "data" / "secrets" / "s").iterdir()}
    assert versions == {"1": b"a", "2": b"b", "3": b"a"}
