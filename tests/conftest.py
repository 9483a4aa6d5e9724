"""What all tests share: an emulator in a process of its own, and waiting with a bound."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from xdist.remote import Producer

from tests.support import keeper
from tests.support.fixtures import DidNotStart, built, worker_id
from tests.support.patience import patient
from tests.support.process_state import as_it_was
from tests.support.progress import Progress
from tests.support.promises import proven_by
from tests.support.scheduling import ByWhatIsShared, rank_of

CHECKOUT = Path(__file__).parents[1]
# Airflow makes its home when it is imported, by default in that of the user. Processes that run at once have one each.
os.environ["AIRFLOW_HOME"] = str(CHECKOUT / "tests" / "output" / f"airflow-{worker_id()}")
# Where pytest makes its numbered folders; unlike with --basetemp, two runs at once have one each.
os.environ["PYTEST_DEBUG_TEMPROOT"] = str(CHECKOUT / "tests" / "output")
BUCKET = "nbjob-examples"
FAULT_LINE = "fault"  # the property of a test that holds its line of the fault matrix

# How long an example takes, and how long it takes to make, depends on the machine. `make random` searches for longer.
PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("patient", max_examples=30, **PATIENT)
settings.register_profile("searching", max_examples=100, **PATIENT)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--whole``: the fault matrix with its full numbers, which takes three times as long."""
    parser.addoption("--whole", action="store_true", help="run the fault matrix with its full numbers")


def pytest_configure(config: pytest.Config) -> None:
    """End by SIGTERM as by Ctrl-C, so that fixtures stop the processes that they started; a keeper ends the rest."""
    (CHECKOUT / "tests" / "output").mkdir(exist_ok=True)
    keeper.start()
    signal.signal(signal.SIGTERM, _end)
    # Below a shell's background job, as CI may be, SIGINT is ignored, and would be by all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if worker_id() == "main":
        config.pluginmanager.register(Progress(config))


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt what ends the processes
    pytest.exit("SIGTERM", returncode=143)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByWhatIsShared:
    """Keep together what shares an Airflow, or what its module makes."""
    return ByWhatIsShared(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault matrix, whose lines come from the processes that ran its cases."""
    ended = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    lines = [value for report in ended for name, value in report.user_properties if name == FAULT_LINE]
    if lines:
        terminalreporter.section("faults, and what came of them")
        terminalreporter.write_line("\n".join(lines))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: those of a gzip carry the time, and the processes of a run must agree on all ids."""
    return f"{len(val)}_bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Scale the time that each test may take, as every other bound, and do not trace what is only searched for.

    Tracing doubles the time of a body that Hypothesis runs again and again.
    """
    if worker_id() != "main":
        items.sort(key=lambda item: rank_of(item.nodeid))
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.no_cover)
        marker = item.get_closest_marker("timeout")
        seconds = marker.args[0] if marker else float(config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(patient(seconds)), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Leave the process to the next test as it was."""
    with as_it_was():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say below a test that failed which sentences of the README are then false."""
    report = yield
    if report.failed and (sentences := proven_by(item.nodeid)):
        report.sections.append(("README.md promises", "\n".join(sentences)))
    return report


class EmulatorProcess:
    """The emulator as a user starts it: ``python -m airflow_provider_nbjob.emulator``.

    :param data_dir: its data directory
    :param options: further options of its command line
    :param environment: variables beside this process's own
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
        if not self._is_ready():
            self.stop()
            raise DidNotStart("the emulator", [self.log_path])

    def _is_ready(self) -> bool:
        """Read what it prints until it serves; return whether it does in time."""
        assert self._process.stdout
        timer = threading.Timer(patient(60), self._process.kill)  # ends the output too
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").strip().partition("=")
                    self.exports[name] = value.strip("'")
                elif line.startswith("rest "):
                    self.rest_url = line.split()[1]
                elif line.strip() == "ready":
                    return True
            return False
        finally:
            timer.cancel()

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

    def stop(self) -> None:
        """End it, and what it started."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patient(20))
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()

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
        """The display name of every job that was ever submitted, by the job's id; deleted ones too."""
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


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """Start one emulator for the session, with the example notebooks."""
    with example_emulator(tmp_path_factory, "emulator") as process:
        yield process
