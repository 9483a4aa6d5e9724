"""A test run in several processes that is interrupted, or fails, leaves no emulator, kernel or worker behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.paths import CHECKOUT
from tests.support.patience import patient, wait_until

pytestmark = pytest.mark.test_all  # a run of its own for each test

MARK = "NBJOB_TEST_NESTED_RUN"
# Two modules of it are run: the tests of one stay in one worker.
TEST = """
import os, pathlib, time

def test_it(emulator):
    pathlib.Path({ready!r}).touch()
    {then}
"""


class NestedRun:
    """A pytest of its own with two workers, each of which has an emulator.

    :param folder: where its tests are, and where they say that they run
    :param then: what its tests do once the emulator serves
    """

    def __init__(self, folder: Path, then: str) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        modules = [folder / f"test_nested_{number}.py" for number in (1, 2)]
        self.ready = [module.with_suffix(".ready") for module in modules]
        for module, ready in zip(modules, self.ready, strict=True):
            module.write_text(TEST.format(ready=str(ready), then=then))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
        command = [sys.executable, "-m", "pytest", "--rootdir", str(CHECKOUT)]
        command += ["-c", str(CHECKOUT / "pyproject.toml"), "--numprocesses", "2", *map(str, modules)]
        with (folder / "printed").open("w") as printed:
            self.process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env={**kept, MARK: self.mark, "PYTHONPATH": str(CHECKOUT)},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_it_runs(self) -> None:
        """Wait until both workers run a test."""

        def runs() -> bool:
            assert self.process.poll() is None, self.printed()
            return all(ready.exists() for ready in self.ready)

        wait_until(runs, timeout=90, what="two tests with an emulator each")
        assert sum("airflow_provider_nbjob.emulator" in command for command in self.left()) == 2

    def printed(self) -> str:
        """Return what the run printed."""
        return (self.folder / "printed").read_text()

    def left(self) -> list[str]:
        """Return the commands of the processes that the run started and that have not ended."""
        commands = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    commands.append(" ".join(process.cmdline()))
        return commands


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_a_run_that_is_interrupted_leaves_nothing(tmp_path, how):
    run = NestedRun(tmp_path, "time.sleep(3600)")
    run.wait_until_it_runs()
    if how == "Ctrl-C":
        os.killpg(run.process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    else:
        run.process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    assert run.process.wait(patient(60)) != 0
    wait_until(lambda: not run.left(), timeout=60, what="the end of all that the run started")


@pytest.mark.parametrize("then", ["raise ValueError('as asked')", "os._exit(3)"])
def test_a_run_that_fails_leaves_nothing(tmp_path, then):
    run = NestedRun(tmp_path, then)
    assert run.process.wait(patient(120)) == 1, run.printed()
    assert "2 failed" in run.printed()
    wait_until(lambda: not run.left(), timeout=60, what="the end of all that the run started")
