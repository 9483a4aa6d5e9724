"""The process that waits for the next notebook: its kernel is there first, and its loss costs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from airflow_provider_nbjob.emulator.runner import Runner, Runners
from tests.support.emulator_jobs import notebook
from tests.support.patience import patient, wait_until

pytestmark = pytest.mark.test_all


@pytest.fixture
def runners(tmp_path: Path) -> Iterator[Runners]:
    made = Runners(tmp_path, (), {})
    yield made
    made.stop()


def run(runner: Runner, *cells: str, kernel_name: str = "") -> dict[str, object]:
    """Run a notebook; its outcome."""
    try:
        runner.begin(notebook(*cells), kernel_name)
        runner.process.wait(patient(40))
        return json.loads((runner.folder / "outcome.json").read_text())
    finally:
        runner.end()


def kernel_of(runner: Runner) -> psutil.Process:
    """Wait for the kernel that a runner started ahead."""

    def kernels() -> list[psutil.Process]:
        found = []
        for process in psutil.Process(runner.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if any("ipykernel_launcher" in part for part in process.cmdline()):
                    found.append(process)
        return found

    return wait_until(kernels, timeout=40, what="a kernel")[0]


def test_a_kernel_is_there_before_its_notebook(runners: Runners, tmp_path: Path) -> None:
    run(runners.take(), "")
    waiting = runners.take()
    kernel = kernel_of(waiting)
    seen = tmp_path / "seen"
    assert run(waiting, f"import os\nopen({str(seen)!r}, 'w').write(str(os.getpid()))")["succeeded"] is True
    assert int(seen.read_text()) == kernel.pid


def test_nothing_is_started_ahead_of_the_first_notebook(runners: Runners, tmp_path: Path) -> None:
    assert [path for path in tmp_path.iterdir() if path.name.startswith("job-")] == []


def test_one_that_was_killed_is_replaced(runners: Runners) -> None:
    run(runners.take(), "")
    spare = runners._spare
    assert spare
    spare.process.kill()
    spare.process.wait()
    assert run(runners.take(), "1 + 1") == {"succeeded": True, "message": ""}
    assert not spare.folder.exists()


def test_a_kernel_that_died_while_it_waited_is_started_again(runners: Runners) -> None:
    waiting = runners.take()
    kernel_of(waiting).kill()
    assert run(waiting, "1 + 1") == {"succeeded": True, "message": ""}


def test_another_kernel_can_be_asked_for(runners: Runners) -> None:
    outcome = run(runners.take(), "1 + 1", kernel_name="none-of-this-name")
    assert outcome["succeeded"] is False
    assert "none-of-this-name" in str(outcome["message"])


def test_stopping_leaves_neither_processes_nor_folders(tmp_path: Path) -> None:
    runners = Runners(tmp_path, (), {})
    run(runners.take(), "")
    spare = runners._spare
    assert spare
    kernel = kernel_of(spare)
    runners.stop()
    assert not psutil.pid_exists(spare.process.pid)
    wait_until(lambda: not kernel.is_running(), timeout=10, what="the kernel gone")
    assert [path for path in tmp_path.iterdir() if path.name.startswith("job-")] == []
    last = runners.take()  # a job whose turn came as the emulator stopped
    assert runners._spare is None
    last.end()


def test_the_end_of_the_emulator_ends_one_that_waits(runners: Runners) -> None:
    waiting = runners.take()
    kernel = kernel_of(waiting)
    waiting._input.close()  # as when the process at the other end is gone
    waiting.process.wait(patient(40))
    assert not (waiting.folder / "outcome.json").exists()
    wait_until(lambda: not kernel.is_running(), timeout=10, what="the kernel gone")
    waiting.end()
