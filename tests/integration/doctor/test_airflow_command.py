"""The command as a person types it, in an Airflow of its own, with a connection in that Airflow's database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from scripts.processes import BUCKET, airflow_environment
from tests.support.airflow_versions import PROVIDERS_HAVE_COMMANDS
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient

COMMANDS = [
    pytest.param(
        ["airflow", "nbjob", "doctor"],
        marks=pytest.mark.skipif(not PROVIDERS_HAVE_COMMANDS, reason="Airflow 3.1 asks no provider for commands"),
        id="airflow",
    ),
    pytest.param([sys.executable, "-m", "airflow_provider_nbjob", "doctor"], id="python -m"),
]


def run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, emulator: EmulatorProcess) -> dict[str, str]:
    """Return the environment of an Airflow with a database, in which the connection `of_the_database` is."""
    folder = tmp_path_factory.mktemp("airflow")
    environment = airflow_environment(folder, folder / "dags") | emulator.exports
    for command in (
        ["db", "migrate"],
        [
            *("connections", "add", "of_the_database", "--conn-type", "google_cloud_platform"),
            *("--conn-password", "a-password-of-the-database"),
            *("--conn-extra", json.dumps({"project": "my-project", "is_anonymous": True})),
        ],
    ):
        done = run(["airflow", *command], environment)
        assert done.returncode == 0, done.stdout + done.stderr
    return environment


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_connection_of_the_database_is_examined(home: dict[str, str], command: list[str]) -> None:
    options = ["--conn-id", "of_the_database", "--location", "us-central1", "--timeout", f"{patient(20):g}"]
    done = run([*command, *options, "--output-uri", f"gs://{BUCKET}/runs"], home)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[0] == "passed   connection       of_the_database is there and can be read"
    assert "passed   project          my-project, from the connection" in lines
    assert {line.split()[0] for line in lines} == {"passed", "skipped"}  # there are neither logs nor warnings in it
    assert "a-password-of-the-database" not in done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_the_exit_status_says_what_came_out(home: dict[str, str], command: list[str]) -> None:
    failed = run([*command, "--location", "us-central1", "--conn-id", "none", "--json"], home)
    assert (failed.returncode, json.loads(failed.stdout)["passed"]) == (1, False)
    misused = run([*command, "--location", "moon"], home)
    assert (misused.returncode, misused.stdout) == (2, "")
    assert misused.stderr.splitlines()[-1] == "doctor: error: --location: 'moon' is not of the form us-central1"
