"""The emulator in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_nbjob.job import JobState
from scripts.processes import BUCKET, emulator_command, read_served, stop
from tests.support.fixtures import DidNotStart, built
from tests.support.paths import CHECKOUT
from tests.support.patience import patient
from tests.support.repositories import make_dataform_repository


class EmulatorProcess:
    """The emulator as a user starts it: ``python -m airflow_provider_nbjob.emulator``.

    :param data_dir: its data directory
    :param options: further options of its command line
    :param environment: variables beside this process's own
    """

    def __init__(self, data_dir: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        self._log = self.log_path.open("a")
        self._process = subprocess.Popen(
            emulator_command(data_dir, *options),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        timer = threading.Timer(patient(60), self._process.kill)  # ends what it prints too
        timer.start()
        try:
            served = read_served(self._process)
        finally:
            timer.cancel()
        if served is None:
            self.stop()
            raise DidNotStart("the emulator", [self.log_path])
        self.exports, self.rest_url = served

    @property
    def grpc_address(self) -> str:
        """Where it serves gRPC."""
        return self.exports["NBJOB_EMULATOR_HOST"]

    @property
    def token(self) -> str:
        """What clients must send."""
        return self.exports["NBJOB_EMULATOR_TOKEN"]

    def __enter__(self) -> EmulatorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, seconds: float = 20) -> int:
        """End it and what it started, by SIGKILL if that takes longer, and return its exit status."""
        stop(self._process, patient(seconds))
        self._log.close()
        return self._process.returncode

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, f"{self.rest_url}/{path}", timeout=patient(30), **options).raise_for_status()

    # --- what tests ask of it ---

    def fault(self, rpc: str, code: str | None = None, **options: Any) -> None:
        """Have requests fail, see the emulator's `faults`."""
        body = {"rpc": rpc, "code": code, **options}
        self._request("POST", "emulator/faults", json={k: v for k, v in body.items() if v is not None})

    def reset(self) -> None:
        """Remove all faults and set all counters to zero."""
        for what in ("faults", "calls"):
            self._request("DELETE", f"emulator/{what}")

    def calls(self) -> dict[str, int]:
        """How often each rpc was called."""
        return self._request("GET", "emulator/calls").json()

    def force_state(self, job_id: str, state: str) -> None:
        """Have a job report a state."""
        self._request("POST", f"emulator/jobs/{job_id}/state", json={"jobState": state})

    def submitted(self) -> dict[str, str]:
        """Return the display name of every job that was ever submitted, by the job's id; deleted ones too.

        The log tells them while tests have the API refuse requests or count them, and a deleted job's name at all.
        """
        lines = re.finditer(r"Job (\S+) was submitted: '(.*)'", self.log_path.read_text())
        return {line[1]: line[2] for line in lines}

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first, as the API shows them."""
        path = "v1/projects/emulator-project/locations/us-central1/notebookExecutionJobs"
        found: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        while True:
            answer = self._request("GET", path, params={"orderBy": "createTime desc", **page}).json()
            found += answer.get("notebookExecutionJobs", [])
            if not (token := answer.get("nextPageToken")):
                return found
            page = {"pageToken": token}

    def delete(self, name: str) -> None:
        """Delete a job, as somebody else may."""
        self._request("DELETE", f"v1/{name}")

    def active_jobs(self) -> list[str]:
        """Return the names of the jobs whose state is an active one."""
        return [job["name"] for job in self.jobs() if JobState(job["jobState"]).is_active]

    def delete_active_jobs(self) -> None:
        """Delete the jobs that have not ended, so that they take nobody's turn."""
        for job in self.jobs():
            if "status" not in job:
                self.delete(job["name"])

    def object_path(self, uri: str) -> Path:
        """The file that holds an object."""
        return self.data_dir / "cloudstorage" / uri.removeprefix("gs://")


@contextmanager
def example_emulator(
    factory: pytest.TempPathFactory, name: str, *options: str, more_environment: Mapping[str, str] | None = None
) -> Iterator[EmulatorProcess]:
    """Start an emulator with the example notebooks in its Cloud Storage and in Dataform, and a bash kernel.

    :param factory: makes its data directory
    :param name: begins the data directory's name
    :param options: further options of its command line
    :param more_environment: further variables of its environment
    """
    kernels = factory.mktemp("kernels")
    install = [sys.executable, "-m", "bash_kernel.install", "--prefix", str(kernels)]
    subprocess.run(install, check=True, env={**os.environ, "IPYTHONDIR": str(kernels)})
    environment = {
        "JUPYTER_PATH": str(kernels / "share" / "jupyter"),
        "HISTFILE": os.devnull,
        **(more_environment or {}),
    }
    notebooks = CHECKOUT / "example_dags" / "notebooks"
    given = [
        "--cleanup-delay",
        "0.2",
        "--env",
        "HISTFILE",
        "--upload",
        f"{notebooks}=gs://{BUCKET}/notebooks",
        *options,
    ]

    def make(suffix: str) -> EmulatorProcess:
        data_dir = factory.mktemp(f"{name}{suffix}") / "data"
        make_dataform_repository(data_dir, "data-quality", notebooks / "data_quality.ipynb")
        return EmulatorProcess(data_dir, *given, environment=environment)

    with built(make) as process:
        yield process


def lead_to(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that lead this process to an emulator."""
    for name, value in emulator.exports.items():
        monkeypatch.setenv(name, value)
    # There is no worker whose end a trigger must not overtake.
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
