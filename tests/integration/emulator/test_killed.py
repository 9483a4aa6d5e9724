"""What is left of runs and of emulators that were killed is ended and removed; nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import JobState

from airflow_provider_nbjob.emulator.processes import MARK
from airflow_provider_nbjob.emulator.runner import remove_leftovers
from airflow_provider_nbjob.emulator.server import Emulator
from tests.integration.emulator.processes import living
from tests.support.emulator_jobs import (
    BUCKET,
    create,
    grpc_client,
    job_name,
    make_job,
    new_id,
    notebook,
    template,
    wait_for_state,
)
from tests.support.emulator_process import EmulatorProcess
from tests.support.files import notebooks_of_runs
from tests.support.patience import wait_until

PLAIN = {"notebook_runtime_template_resource_name": template("plain")}
EARLY = "The process that ran the notebook ended early."

# Starts what tries to get away in every way, and tells the process ids.
CELL = """
import json, os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
detached = '''
import os, subprocess, sys
nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, **nowhere).pid)
'''
pids = {{
    "kernel": os.getpid(),
    "runner": os.getppid(),
    "supervisor": int(open("/proc/%d/stat" % os.getppid()).read().rpartition(")")[2].split()[1]),
    "child": subprocess.Popen(sleeper, **nowhere).pid,
    "session": subprocess.Popen(sleeper, start_new_session=True, **nowhere).pid,
    "orphan": int(subprocess.check_output([sys.executable, "-c", detached], start_new_session=True)),
    "no environment": subprocess.Popen(sleeper, start_new_session=True, env={{}}, **nowhere).pid,
}}
with open({path!r} + ".partial", "w") as file:
    json.dump(pids, file)
os.replace({path!r} + ".partial", {path!r})
time.sleep(600)
"""


def start(client: NotebookServiceClient, path: Path) -> tuple[str, dict[str, psutil.Process]]:
    """Start the notebook; its job's name, and its processes, all living."""
    source = {"content": notebook(CELL.format(path=str(path)))}
    name = job_name(create(client, make_job(**PLAIN, direct_notebook_source=source), new_id("killed")))
    wait_until(path.exists, timeout=60, what="the notebook's processes", interval=0.05)
    found = {what: psutil.Process(pid) for what, pid in json.loads(path.read_text()).items()}
    assert len(living(found)) == len(found)
    return name, found


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A process of this user that no run started."""
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment) as process:
        yield psutil.Process(process.pid)
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers and /proc")
@pytest.mark.parametrize(
    "killed",
    [
        pytest.param(["runner"], id="runner"),
        pytest.param(["supervisor"], id="supervisor", marks=pytest.mark.test_all),
        pytest.param(["kernel", "runner"], id="kernel and runner", marks=pytest.mark.test_all),
    ],
)
def test_a_killed_process_of_a_run_leaves_none_that_the_notebook_started(
    client: NotebookServiceClient, server: Emulator, tmp_path: Path, bystander: psutil.Process, killed: list[str]
) -> None:
    name, processes = start(client, tmp_path / "pids.json")
    for what in killed:
        processes[what].kill()
    job = wait_for_state(client, name, JobState.JOB_STATE_FAILED)
    assert job.status.message == EARLY
    wait_until(lambda: not living(processes), timeout=20, what=f"no process left: {living(processes)}")
    data_dir: Path = server.data_dir  # type: ignore[attr-defined]
    wait_until(lambda: not notebooks_of_runs(data_dir), timeout=20, what="its folder removed")
    assert bystander.is_running()


@pytest.mark.test_all
@pytest.mark.skipif(sys.platform != "linux", reason="subreapers and /proc")
def test_the_next_start_removes_what_an_emulator_that_was_killed_left(
    tmp_path: Path, bystander: psutil.Process
) -> None:
    data_dir = tmp_path / "data"
    with EmulatorProcess(data_dir, "--bucket", BUCKET, "--max-concurrent", "1") as emulator:
        client = grpc_client(emulator)
        name, processes = start(client, tmp_path / "pids.json")
        queued = job_name(create(client, make_job(), "queued"))
        # All at once, so that no process of the run is left to end the others.
        for process in (emulator._process, processes["supervisor"], processes["runner"]):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        emulator._process.wait()
    assert list(data_dir.glob("job-*"))
    assert "session" in living(processes)
    with EmulatorProcess(data_dir) as emulator:
        # Without its environment a process is not known; the others are gone before the emulator serves.
        assert set(living(processes)) <= {"no environment"}
        client = grpc_client(emulator)
        failed = client.get_notebook_execution_job(name=name)
        assert (failed.job_state, failed.status.message) == (
            JobState.JOB_STATE_FAILED,
            "The emulator was stopped before this job ended.",
        )
        ended = wait_for_state(client, queued, JobState.JOB_STATE_FAILED)
        assert "ZONE_RESOURCE_POOL_EXHAUSTED" in ended.status.message  # it ran
        assert not notebooks_of_runs(data_dir)
    assert not list(data_dir.glob("job-*"))
    assert bystander.is_running()
    with suppress(psutil.NoSuchProcess):
        processes["no environment"].kill()


@pytest.mark.parametrize(
    ("content", "is_removed"),
    [
        ([], True),
        (["work/a.txt", "log.txt"], True),
        (["work/deep/closed/x", "log.txt", "input.ipynb", "output.ipynb", "made-by-the-notebook"], True),
        (["output.partial", "outcome.json"], True),
        (["spec.yaml"], False),
        (["work/a.txt", "spec.yaml"], False),
    ],
)
def test_folders_of_runs_are_removed_and_no_others(tmp_path: Path, content: list[str], is_removed: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "kept").touch()
    data_dir = tmp_path / "data"
    folder = data_dir / "job-abcdefgh"
    folder.mkdir(parents=True)
    for name in content:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if (folder / "work").exists():
        (folder / "work" / "link").symlink_to(outside)
    if (folder / "work" / "deep").exists():
        (folder / "work" / "deep").chmod(0)
    (data_dir / "job-link").symlink_to(outside)
    (data_dir / "job-file").touch()
    remove_leftovers(data_dir)
    assert folder.exists() != is_removed
    assert (data_dir / "job-link").is_symlink()
    assert (data_dir / "job-file").exists()
    assert (outside / "kept").exists()
    assert outside.stat().st_mode & 0o777 == 0o755


def test_only_processes_of_runs_in_the_data_directory_are_ended(tmp_path: Path, bystander: psutil.Process) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    marks = {"ours": f"{tmp_path}/data/job-1", "of another": f"{tmp_path}/data2/job-1", "other": f"{tmp_path}/data/x"}
    made = {what: subprocess.Popen(sleeper, env={**os.environ, MARK: mark}) for what, mark in marks.items()}
    processes = {what: psutil.Process(process.pid) for what, process in made.items()}
    (tmp_path / "data").mkdir()
    try:
        remove_leftovers(tmp_path / "data")
        assert living(processes) == ["of another", "other"]
        assert bystander.is_running()
    finally:
        for process in made.values():
            process.kill()
            process.wait()
