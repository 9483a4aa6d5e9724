"""What the command says if it cannot start: what is in the way, and the option that helps; and never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from google.cloud.aiplatform_v1.types import JobState

from airflow_provider_nbjob.emulator import engine
from airflow_provider_nbjob.emulator.__main__ import OF_EXTRA
from airflow_provider_nbjob.emulator.ports import listen
from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_jobs import create, grpc_client, job_name, make_job, template, wait_for_state
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient

COMMAND = [sys.executable, "-m", "airflow_provider_nbjob.emulator"]
FREE_PORTS = ["--grpc-port", "0", "--rest-port", "0", "--storage-port", "0"]


def refused(*options: str, environment: dict[str, str] | None = None) -> str:
    """What the command says: status 1, nothing on stdout, and no traceback."""
    run = subprocess.run(
        [*COMMAND, *FREE_PORTS, *options],
        capture_output=True,
        text=True,
        timeout=patient(30),
        env={**os.environ, **(environment or {})},
    )
    assert (run.returncode, run.stdout) == (1, ""), run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


# --- a second emulator ---


def test_a_second_emulator_is_refused_and_the_first_ones_jobs_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SLOW_PROVISIONING", 3600.0)
    data_dir = tmp_path / "data"
    with Emulator(data_dir) as emulator:
        client = grpc_client(emulator)
        slow = make_job(notebook_runtime_template_resource_name=template("slow-provisioning"))
        name = job_name(create(client, slow, "running"))
        before = wait_for_state(client, name, JobState.JOB_STATE_PENDING)
        (tmp_path / "link").symlink_to(data_dir)
        errors = refused("--data-dir", str(tmp_path / "link"), "--bucket", "new")
        assert (
            f"The emulator could not start: {data_dir} is used by another emulator, process {os.getpid()}: " in errors
        )
        assert "--data-dir" in errors
        with pytest.raises(OSError, match=f"process {os.getpid()}:"), Emulator(data_dir):
            pass
        assert client.get_notebook_execution_job(name=name) == before
        assert not (data_dir / "cloudstorage" / "new").exists()


@pytest.mark.test_all
def test_after_a_kill_the_next_one_starts(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with EmulatorProcess(data_dir) as first:
        pid = first._process.pid
        first._process.kill()
        first._process.wait()
    assert (data_dir / "lock").read_text().split()[0] == str(pid)
    with EmulatorProcess(data_dir) as second:
        errors = refused("--data-dir", str(data_dir))
        assert f"process {second._process.pid}:" in errors


# --- ports and hosts ---


@pytest.mark.parametrize("option", ["grpc_port", "rest_port", "storage_port"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_named_with_its_option(tmp_path: Path, option: str, host: str) -> None:
    named = f"--{option.replace('_', '-')}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = f"^port {port} of {host} is in use: choose another one with {named}, or {named} 0 for a free one$"
        with (
            pytest.raises(OSError, match=told),
            Emulator(tmp_path / "data", host=host, **{option: port}),  # type: ignore[arg-type]
        ):
            pass


@pytest.mark.test_all
def test_the_command_names_the_port_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        errors = refused("--data-dir", str(tmp_path / "data"), "--rest-port", str(port))
    assert f"The emulator could not start: port {port} of 127.0.0.1 is in use: " in errors


def test_a_start_that_fails_changes_no_job_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SLOW_PROVISIONING", 3600.0)
    with Emulator(tmp_path / "data", max_concurrent=1) as emulator:
        client = grpc_client(emulator)
        slow = make_job(notebook_runtime_template_resource_name=template("slow-provisioning"))
        wait_for_state(client, job_name(create(client, slow, "running")), JobState.JOB_STATE_PENDING)
        waiting = [job_name(create(client, make_job(), f"queued-{number}")) for number in range(3)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for option in ("grpc_port", "rest_port"):
            with (
                pytest.raises(OSError, match="is in use"),
                Emulator(tmp_path / "data", **{option: taken.getsockname()[1]}),  # type: ignore[arg-type]
            ):
                pass
    with Emulator(tmp_path / "data", max_concurrent=1) as emulator:
        client = grpc_client(emulator)
        ended = [wait_for_state(client, name, JobState.JOB_STATE_FAILED) for name in waiting]
    assert all("ZONE_RESOURCE_POOL_EXHAUSTED" in job.status.message for job in ended)  # each had its turn
    assert [job.update_time for job in ended] == sorted(job.update_time for job in ended)  # in its order


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "999.1.1.1"])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(OSError, match=f"{host} is no address of this machine: .*--host"):
        listen(host, 0, "--rest-port")


# --- the data directory ---


@pytest.mark.parametrize("kind", ["file", "below a file", "jobs is a folder", "objects is a folder", "cache is a file"])
def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    if kind in ("file", "below a file"):
        folder.touch()
        folder = folder / "below" if kind == "below a file" else folder
    elif kind == "cache is a file":
        folder.mkdir()
        (folder / "cache").touch()
    else:
        part = "jobs.sqlite" if kind.startswith("jobs") else "cloudstorage/.nbjob/objects.sqlite"
        (folder / part).mkdir(parents=True)
    with pytest.raises(OSError, match=str(folder)), Emulator(folder):
        pass


@pytest.mark.test_all
def test_it_starts_with_a_new_database_if_one_is_damaged(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "cloudstorage" / ".nbjob").mkdir(parents=True)
    for path in (data_dir / "jobs.sqlite", data_dir / "cloudstorage" / ".nbjob" / "objects.sqlite"):
        path.write_text("no database")
    with EmulatorProcess(data_dir) as emulator:
        assert emulator.jobs() == []
        log = emulator.log_path.read_text()
    assert log.count("is damaged (file is not a database): it is kept as ") == 2
    assert "Traceback" not in log


# --- the extra ---


@pytest.mark.parametrize(
    "module",
    [
        module if module in ("nbclient", "starlette") else pytest.param(module, marks=pytest.mark.test_all)
        for module in OF_EXTRA
    ],
)
def test_without_a_package_of_its_extra_it_says_what_to_install(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    errors = refused("--data-dir", str(tmp_path / "data"), environment={"PYTHONPATH": str(tmp_path)})
    assert f"{module} cannot be imported" in errors
    assert "pip install 'airflow-provider-nbjob[emulator]'" in errors
    assert not (tmp_path / "data").exists()


def test_all_packages_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nfor module in {OF_EXTRA!r}:\n    sys.modules[module] = None\n"
    )
    errors = refused(environment={"PYTHONPATH": str(tmp_path)})
    assert f"{', '.join(OF_EXTRA)} cannot be imported" in errors


# --- what is no request ---


def test_a_request_line_that_is_too_long_is_answered_in_json(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data") as emulator:
        _, _, address, token = emulator.rest_url.split("/")
        connection = HTTPConnection(address, timeout=patient(30))
        path = f"/{token}/v1/projects/p/locations/us-central1/notebookExecutionJobs?pageToken={'W' * 70_000}"
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["error"]["status"]) == (400, "INVALID_ARGUMENT")
        connection.close()
