"""`python -m airflow_provider_nbjob.emulator`: what it prints, its options, and how it refuses."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from google.api_core.exceptions import MethodNotImplemented
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.services.notebook_service.transports import NotebookServiceGrpcTransport
from google.longrunning import operations_pb2

from airflow_provider_nbjob.emulator.__main__ import is_loopback, main, parser
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.support.emulator_jobs import create, make_job, notebook
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient

COMMAND = [sys.executable, "-m", "airflow_provider_nbjob.emulator"]
FREE_PORTS = ["--grpc-port", "0", "--rest-port", "0", "--storage-port", "0"]


def test_it_prints_what_leads_clients_to_it_and_then_ready(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.ipynb").write_bytes(notebook("1"))
    (folder / "sub" / "b.txt").write_text("b")
    (folder / ".hidden").write_text("no")
    options = ["--upload", f"{folder}=gs://uploads/n", "--bucket", "one", "--bucket", "two", "--no-operation-cancel"]
    with subprocess.Popen(
        [*COMMAND, "--data-dir", str(tmp_path / "data"), "--host", "127.0.0.2", *FREE_PORTS, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if lines[-1] == "ready":
                    break
            address, token, storage, connection, rest = _read(lines)
            assert json.loads(connection) == {
                "conn_type": "google_cloud_platform",
                "extra": {"project": "emulator-project", "is_anonymous": True},
            }
            assert httpx.get(f"{rest}/emulator/health", timeout=patient(5)).json() == {"status": "ok"}
            buckets = httpx.get(f"{storage}/storage/v1/b?project=p", timeout=patient(5)).json()["items"]
            assert sorted(bucket["name"] for bucket in buckets) == ["one", "two", "uploads"]
            objects = httpx.get(f"{storage}/storage/v1/b/uploads/o", timeout=patient(5)).json()["items"]
            assert sorted(stored["name"] for stored in objects) == ["n/a.ipynb", "n/sub/b.txt"]
            channel = emulator_channel(address, token)
            client = NotebookServiceClient(transport=NotebookServiceGrpcTransport(channel=channel))
            name = create(client, make_job()).operation.name
            with pytest.raises(MethodNotImplemented):
                client.cancel_operation(operations_pb2.CancelOperationRequest(name=name))
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=patient(20))
    assert process.returncode == 0
    assert "WARNING: listening on" not in errors


def _read(lines: list[str]) -> tuple[str, ...]:
    """gRPC address, token, storage URL, connection and REST URL, of all that was printed, which is nothing else."""
    number = r"127\.0\.0\.2:\d+"
    expected = [
        f"export NBJOB_EMULATOR_HOST=({number})",
        "export NBJOB_EMULATOR_TOKEN=([A-Za-z0-9_-]{32})",
        f"export STORAGE_EMULATOR_HOST=(http://{number}.*)",
        "export AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT='(.*)'",
        f"rest (http://{number}/.*)",
        "ready",
    ]
    matches = [re.fullmatch(pattern, line) for pattern, line in zip(expected, lines, strict=True)]
    assert all(matches), lines
    found = tuple(match[1] for match in matches[:5] if match)
    assert found[4].endswith(f"/{found[1]}")
    return found


def test_the_exports_are_what_a_shell_takes(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path / "data") as emulator:
        exports = emulator.exports
    names = ("NBJOB_EMULATOR_HOST", "NBJOB_EMULATOR_TOKEN", "STORAGE_EMULATOR_HOST")
    assert set(exports) == {*names, "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"}
    assert json.loads(exports["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"])["conn_type"] == "google_cloud_platform"
    assert (tmp_path / "data" / "jobs.sqlite").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-concurrent", "0"], "argument --max-concurrent: 0 is less than 1"),
        (["--max-concurrent", "two"], "argument --max-concurrent: invalid"),
        (["--grpc-port", "x"], "argument --grpc-port: invalid int value"),
        (["--cleanup-delay", "soon"], "argument --cleanup-delay: invalid float value"),
        (["--upload", "folder"], "is not of the form DIR=gs://BUCKET/FOLDER, with a folder DIR"),
        (["--upload", "no-such-folder=gs://b/f"], "is not of the form DIR=gs://BUCKET/FOLDER, with a folder DIR"),
        (["--upload", ".=b/f"], "is not of the form DIR=gs://BUCKET/FOLDER, with a folder DIR"),
        (["--rest-port", "65536"], "argument --rest-port: 65536 is not between 0 and 65535"),
        (["--grpc-port", "-1"], "argument --grpc-port: -1 is not between 0 and 65535"),
        (["--storage-port", "8e3"], "argument --storage-port: invalid int value: '8e3'"),
        (["--cleanup-delay", "nan"], "argument --cleanup-delay: nan is not a number of seconds, from 0 on"),
        (["--cleanup-delay", "-1"], "argument --cleanup-delay: -1 is not a number of seconds, from 0 on"),
        (["--cleanup-delay", "inf"], "argument --cleanup-delay: inf is not"),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_the_defaults_listen_on_this_machine_only() -> None:
    options = parser().parse_args([])
    assert is_loopback(options.host)
    assert (options.grpc_port, options.rest_port, options.storage_port) == (8960, 8961, 8962)
    assert (options.max_concurrent, options.cleanup_delay, options.no_operation_cancel) == (2, 5.0, False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
        ("example.com", False),
    ],
)
def test_only_loopback_addresses_need_no_warning(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def refused(data_dir: Path, *options: str) -> str:
    """What it says when it cannot start: status 1, nothing on stdout, and no traceback."""
    command = [*COMMAND, "--data-dir", str(data_dir), *FREE_PORTS, *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=patient(20))
    assert (run.returncode, run.stdout) == (1, "")
    assert "Traceback" not in run.stderr
    return run.stderr


def test_an_address_that_others_may_reach_is_warned_of(tmp_path: Path) -> None:
    # An address of the documentation range, which no machine has: nothing is ever listened on.
    errors = refused(tmp_path / "data", "--host", "192.0.2.1")
    assert "WARNING: listening on 192.0.2.1: whoever reaches it runs code on this machine" in errors
    assert "The emulator could not start: " in errors


@pytest.mark.parametrize("option", ["--grpc-port", "--rest-port", "--storage-port"])
def test_a_port_that_is_taken_ends_it_with_a_message(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        errors = refused(tmp_path / "data", option, str(taken.getsockname()[1]))
    assert "The emulator could not start: " in errors


@pytest.mark.parametrize("option", ["--bucket=A", "--bucket=../x", "--upload={}=gs://A/x", "--upload={}=gs://"])
def test_a_bucket_that_cannot_be_ends_it_with_a_message(tmp_path: Path, option: str) -> None:
    assert "The emulator could not start: " in refused(tmp_path / "data", option.format(tmp_path))
