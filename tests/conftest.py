"""What all tests share: an emulator in a process of its own, and waiting with a bound."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

CHECKOUT = Path(__file__).parents[1]
# Airflow makes its home when it is imported, in that of the user unless told otherwise.
os.environ["AIRFLOW_HOME"] = str(CHECKOUT / "tests" / "output" / "airflow")
BUCKET = "nbjob-examples"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--whole``: the fault matrix with its full numbers, which takes three times as long."""
    parser.addoption("--whole", action="store_true", help="run the fault matrix with its full numbers")


def pytest_configure() -> None:
    """End by SIGTERM as by Ctrl-C, so that fixtures stop the processes that they started."""
    (CHECKOUT / "tests" / "output").mkdir(exist_ok=True)  # holds --basetemp
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM", returncode=143))


def wait_until(condition: Callable[[], Any], *, timeout: float, what: str, interval: float = 0.2) -> Any:
    """Wait until `condition` returns something true, and return that; fail after `timeout` seconds."""
    end_time = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end_time, f"not within {timeout:g} s: {what}"
        time.sleep(interval)
    return value


class EmulatorProcess:
    """The emulator as a user starts it: ``python -m airflow_provider_nbjob.emulator``.

    :param data_dir: its data directory
    :param options: further options of its command line
    :param environment: variables beside this process's own, which the notebooks see too
    """

    def __init__(self, data_dir: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.exports: dict[str, str] = {}
        self.rest_url = ""
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        self._log = self.log_path.open("a")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "airflow_provider_nbjob.emulator", "--data-dir", str(data_dir)),
                *("--grpc-port", "0", "--rest-port", "0", "--storage-port", "0", *options),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                self.exports[name] = value.strip("'")
            elif line.startswith("rest "):
                self.rest_url = line.split()[1]
            elif line.strip() == "ready":
                return
        raise AssertionError(f"the emulator did not start: {self.log_path.read_text()[-2000:]}")

    def __enter__(self) -> EmulatorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and what it started."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()

    # --- what tests ask of it ---

    def fault(self, rpc: str, code: str | None = None, **options: Any) -> None:
        """Have requests fail, see the emulator's `faults`."""
        body = {"rpc": rpc, "code": code, **options}
        httpx.post(
            f"{self.rest_url}/emulator/faults", json={k: v for k, v in body.items() if v is not None}
        ).raise_for_status()

    def reset(self) -> None:
        """Remove all faults and set all counters to zero."""
        for what in ("faults", "calls"):
            httpx.delete(f"{self.rest_url}/emulator/{what}").raise_for_status()

    def calls(self) -> dict[str, int]:
        """How often each rpc was called."""
        return httpx.get(f"{self.rest_url}/emulator/calls").raise_for_status().json()

    def force_state(self, job_id: str, state: str) -> None:
        """Have a job report a state."""
        httpx.post(f"{self.rest_url}/emulator/jobs/{job_id}/state", json={"jobState": state}).raise_for_status()

    def submitted(self) -> dict[str, str]:
        """The display name of every job that was ever submitted, by the job's id; deleted ones too."""
        lines = re.finditer(r"Job (\S+) was submitted: '(.*)'", self.log_path.read_text())
        return {line[1]: line[2] for line in lines}

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first, as the API shows them."""
        url = f"{self.rest_url}/v1/projects/emulator-project/locations/us-central1/notebookExecutionJobs"
        return (
            httpx.get(url, params={"orderBy": "createTime desc"})
            .raise_for_status()
            .json()
            .get("notebookExecutionJobs", [])
        )

    def delete(self, name: str) -> None:
        """Delete a job, as somebody else may."""
        httpx.delete(f"{self.rest_url}/v1/{name}", timeout=30).raise_for_status()

    def delete_active_jobs(self) -> None:
        """Delete the jobs that have not ended, so that they take nobody's turn."""
        for job in self.jobs():
            if "status" not in job:
                self.delete(job["name"])

    def object_path(self, uri: str) -> Path:
        """The file that holds an object."""
        return self.data_dir / "cloudstorage" / uri.removeprefix("gs://")


def make_dataform_repository(data_dir: Path, name: str, notebook: Path) -> Path:
    """A git repository that holds one notebook, where the emulator looks for Dataform repositories."""
    repository = data_dir / "dataform" / name
    repository.mkdir(parents=True)
    shutil.copy(notebook, repository / "content.ipynb")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    return repository


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """One emulator for the session, with the example notebooks in its Cloud Storage and in Dataform."""
    data_dir = tmp_path_factory.mktemp("emulator") / "data"
    notebooks = CHECKOUT / "example_dags" / "notebooks"
    make_dataform_repository(data_dir, "data-quality", notebooks / "data_quality.ipynb")
    upload = f"{notebooks}=gs://{BUCKET}/notebooks"
    kernels = tmp_path_factory.mktemp("kernels")
    install = [sys.executable, "-m", "bash_kernel.install", "--prefix", str(kernels)]
    subprocess.run(install, check=True, env={**os.environ, "IPYTHONDIR": str(kernels)})
    environment = {"JUPYTER_PATH": str(kernels / "share" / "jupyter"), "HISTFILE": "/dev/null"}
    with EmulatorProcess(data_dir, "--cleanup-delay", "0.2", "--upload", upload, environment=environment) as process:
        yield process
