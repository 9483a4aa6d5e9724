"""No secret of a connection is in the output of the command, however broken the connection is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_nbjob.doctor import command_line
from airflow_provider_nbjob.doctor.command_line import main
from tests.support.patience import patient

SECRET = "s3cret-that-nobody-may-see"
PASSWORD = "passw0rd-in-an-address"
KEY_ID = "0123456789abcdef0123456789abcdef01234567"
CLOSED = "http://127.0.0.1:9/token"


@pytest.fixture(scope="module")
def private_key() -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, form, plain).decode()


def key(private_key: str, **changes: Any) -> dict[str, Any]:
    """Return a service account's key with fields changed."""
    return {
        "type": "service_account",
        "client_email": "a@p.iam.gserviceaccount.com",
        "private_key_id": KEY_ID,
        "private_key": private_key,
        "token_uri": CLOSED,
        **changes,
    }


def broken_file(folder: Path, content: str) -> dict[str, str]:
    path = folder / "key.json"
    path.write_text(content)
    return {"key_path": str(path)}


EXTRAS: dict[str, Callable[[str, Path], Any]] = {
    "key file, whose issuer cannot be reached": lambda pem, folder: broken_file(folder, json.dumps(key(pem))),
    "key file, cut": lambda pem, folder: broken_file(folder, json.dumps(key(pem))[:-40]),
    "key file that is the private key": lambda pem, folder: broken_file(folder, pem),
    "key file that is a list": lambda pem, folder: broken_file(folder, json.dumps([SECRET, pem])),
    "key file of no known type": lambda pem, folder: broken_file(folder, json.dumps(key(pem, type=SECRET[:6]))),
    "key file with half a private key": lambda pem, folder: broken_file(folder, json.dumps(key(pem[: len(pem) // 2]))),
    "key file without an account": lambda pem, folder: broken_file(folder, json.dumps({"private_key": pem})),
    "key file that is no file": lambda pem, folder: {"key_path": str(folder)},
    "key file that is not there": lambda pem, folder: {"key_path": str(folder / "no.json")},
    "key, whose issuer cannot be reached": lambda pem, _: {"keyfile_dict": json.dumps(key(pem))},
    "key as an object": lambda pem, _: {"keyfile_dict": key(pem)},
    "key, cut": lambda pem, _: {"keyfile_dict": json.dumps(key(pem))[:-40]},
    "key that is the private key": lambda pem, _: {"keyfile_dict": pem},
    "key that is a number": lambda pem, _: {"keyfile_dict": 5, "password": pem},
    "key with half a private key": lambda pem, _: {"keyfile_dict": key(pem[: len(pem) // 2])},
    "old name of the key": lambda pem, _: {"extra__google_cloud_platform__keyfile_dict": json.dumps(key(pem))},
    "two ways": lambda pem, folder: {**broken_file(folder, pem), "keyfile_dict": json.dumps(key(pem))},
    "issuer with a password": lambda pem, _: {
        "keyfile_dict": json.dumps(key(pem, token_uri=f"http://me:{PASSWORD}@127.0.0.1:9/token"))
    },
    "identity provider": lambda pem, _: {
        "idp_issuer_url": f"http://me:{PASSWORD}@127.0.0.1:9",
        "client_id": "me",
        "client_secret": SECRET,
    },
    "endpoint with a password": lambda pem, _: {"api_endpoint": f"https://me:{PASSWORD}@evil.example.com"},
    "impersonation of nobody": lambda pem, _: {"impersonation_chain": "a@p/../b", "keyfile_dict": key(pem)},
    "extra that is a list": lambda pem, _: [SECRET, pem],
    "extra that is a text": lambda pem, _: pem,
    "deep extra": lambda pem, _: {"keyfile_dict": pem, "deep": "[" * 5000 + "]" * 5000},
}


@pytest.mark.parametrize("kind", EXTRAS)
@pytest.mark.parametrize("is_json", [True, False])
def test_a_broken_connection_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    private_key: str,
    kind: str,
    is_json: bool,
) -> None:
    for name in ("NBJOB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    extra = {"project": "my-project"} if isinstance(EXTRAS[kind](private_key, tmp_path), dict) else None
    content = EXTRAS[kind](private_key, tmp_path)
    connection = {
        "conn_type": "google_cloud_platform",
        "login": "me",
        "password": SECRET,
        "extra": content if extra is None else {**extra, **content},
    }
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(connection))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    options = [
        "--location=us-central1",
        "--conn-id=broken",
        f"--timeout={patient(10):g}",
        "--output-uri=gs://bucket/runs",
    ]
    status = main(["doctor", *options, *(["--json"] if is_json else [])])
    printed = "".join(capsys.readouterr())
    assert status == command_line.FAILED
    assert "Traceback" not in printed
    for secret in (SECRET, PASSWORD, KEY_ID, "PRIVATE KEY", *private_key.splitlines()[1:-1]):
        assert secret not in printed
    assert '"failed"' in printed if is_json else "\nfailed  " in f"\n{printed}"


def test_a_key_file_that_cannot_be_used_names_the_file_to_whoever_runs_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is a person with a shell on this machine: unlike a page or an exception, the command may name the path."""
    connection = {"conn_type": "google_cloud_platform", "extra": {"project": "p", **broken_file(tmp_path, "{")}}
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(connection))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.delenv("NBJOB_EMULATOR_HOST", raising=False)
    assert main(["doctor", "--location=us-central1", "--conn-id=broken"]) == command_line.FAILED
    _, _, advice = capsys.readouterr().out.partition("failed   credentials")
    assert f"-> Repair the connection's key_path '{tmp_path / 'key.json'}', or" in advice


def test_the_token_of_the_emulator_is_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = "a-token-of-tests_0123456789"
    monkeypatch.setenv("NBJOB_EMULATOR_HOST", "127.0.0.1:9")
    monkeypatch.delenv("NBJOB_EMULATOR_TOKEN", raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:9/{token}")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setenv("AIRFLOW_CONN_EMULATED", '{"conn_type": "google_cloud_platform", "extra": {"project": "p"}}')
    options = ["--location=us-central1", "--conn-id=emulated", "--output-uri=gs://bucket/runs"]
    assert main(["doctor", *options]) == command_line.FAILED
    printed = capsys.readouterr().out
    assert "output: read" in printed
    assert token not in printed
