"""Start processes that run one notebook each, one of them ahead: its kernel is ready when the next job comes.

Each process has a folder ``job-*`` in the data directory, which is removed when it ends. If an emulator was killed, the
next one removes the folders that it left.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, Protocol, cast

import psutil
from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.environment import hidden_from_kernel, runner_environment
from airflow_provider_nbjob.emulator.processes import MARK, kill_marked, kill_tree
from airflow_provider_nbjob.job import JobState

log = logging.getLogger(__name__)

LOG_TAIL = 4_000  # bytes of the log of a process that ended early, which the emulator's log quotes
PREFIX = "job-"
# The files in the folder of a run; a notebook may add others.
_MADE = {"work", "log.txt"}
_MADE_LATER = {"input.ipynb", "output.ipynb", "output.partial", "outcome.json"}


class Outcome(NamedTuple):
    """The end of a run.

    :param state: terminal state of the job
    :param code: of google.rpc.Code, for the job's status
    :param message: for the job's status; empty if it succeeded
    """

    state: JobState
    code: int = code_pb2.OK
    message: str = ""


class NotebookRun(Protocol):
    """The run of one notebook: by a process with a kernel (`Runner`), or as a script says (`ScriptedRun`)."""

    def begin(self, notebook: bytes, kernel_name: str) -> None:
        """Run a notebook.

        :param kernel_name: kernel to run it with; empty: the notebook's own
        """

    def wait(self, seconds: float) -> bool:
        """Wait until the run has ended; return False if it has not after so many seconds."""

    def kill(self) -> None:
        """End the run with all that it started."""

    def output(self) -> bytes | None:
        """Return the executed notebook as far as it ran, or None if there is none."""

    def outcome(self) -> Outcome:
        """Return the end of the run, once `wait` has returned True."""

    def end(self) -> None:
        """End the run, and remove what it made."""


class Runner:
    """A process that starts a kernel and then waits for its notebook, in a temporary folder of its own.

    :param data_dir: holds the folder, and the caches of kernels
    :param more: see `runner_environment`, as for `additions`
    """

    def __init__(self, data_dir: Path, more: Sequence[str], additions: Mapping[str, str]) -> None:
        cache = data_dir / "cache"
        cache.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "airflow_provider_nbjob.emulator.run_notebook"]
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=data_dir))
        (self.folder / "work").mkdir()
        with (self.folder / "log.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [*command, str(self.folder), *hidden_from_kernel(more)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.folder / "work",
                env={**runner_environment(os.environ, more, cache, additions), MARK: str(self.folder)},
            )
        self._root = psutil.Process(self.process.pid)
        self._input = cast("IO[bytes]", self.process.stdin)

    def begin(self, notebook: bytes, kernel_name: str) -> None:
        """Make the process run a notebook.

        :param kernel_name: kernel to run it with; empty: the notebook's own
        """
        (self.folder / "input.ipynb").write_bytes(notebook)
        with suppress(BrokenPipeError), self._input as line:  # a process that was killed has no outcome
            line.write(json.dumps(kernel_name).encode() + b"\n")

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended; return False if it has not after so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the process with all that it started."""
        kill_tree(self._root)

    def output(self) -> bytes | None:
        """Return the executed notebook as far as it ran, or None if there is none."""
        output = self.folder / "output.ipynb"
        return output.read_bytes() if output.exists() else None

    def outcome(self) -> Outcome:
        """Return the end of the run."""
        try:
            outcome = json.loads((self.folder / "outcome.json").read_text())
            succeeded, message = bool(outcome["succeeded"]), str(outcome["message"])
        except (OSError, ValueError, KeyError, TypeError):
            log.error("The process in %s ended early:\n%s", self.folder, _tail(self.folder / "log.txt"))
            succeeded, message = False, "The process that ran the notebook ended early."
        if succeeded:
            return Outcome(JobState.SUCCEEDED)
        # The API does not document the code of a job whose cell raised.
        return Outcome(JobState.FAILED, code_pb2.UNKNOWN, message)

    def end(self) -> None:
        """End the process with all that it started, and remove its folder."""
        self.kill()
        kill_marked(str(self.folder))  # if something else killed the process, its children are no longer below it
        self.process.wait()
        with suppress(BrokenPipeError):
            self._input.close()
        _remove(self.folder)


def _tail(path: Path) -> str:
    """Return the last `LOG_TAIL` bytes of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            return file.read(LOG_TAIL).decode(errors="replace")
    except OSError as error:
        return f"There is no log: {error}"


def _remove(folder: Path) -> None:
    """Remove a folder with all that is in it, also if a notebook has changed its permissions."""
    for above, names, _ in os.walk(folder):
        for path in [Path(above, name) for name in names]:
            if not path.is_symlink():
                with suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(data_dir: Path) -> None:
    """Remove the processes and folders that an emulator left when it was killed."""
    kill_marked(str(data_dir / PREFIX))
    for path in data_dir.glob(f"{PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            names = {entry.name for entry in path.iterdir()}
            if names >= _MADE or names <= _MADE | _MADE_LATER:  # other folders do not belong to the emulator
                _remove(path)


class Runners:
    """Hand out runners, and start the next one when one is taken.

    The first job starts its own runner: an emulator that runs no notebook starts no kernel.

    :param data_dir: see `Runner`, as for the other parameters; `additions` may change
    """

    def __init__(self, data_dir: Path, more: Sequence[str], additions: Mapping[str, str]) -> None:
        self._make = lambda: Runner(data_dir, more, additions)
        self._spare: Runner | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    def take(self) -> Runner:
        """Return a runner that belongs to the caller from now on."""
        with self._lock:
            runner, self._spare = self._spare, None
            if runner and runner.process.poll() is not None:  # something killed it
                runner.end()
                runner = None
            runner = runner or self._make()
            if not self._is_stopped:
                self._spare = self._make()
        return runner

    def stop(self) -> None:
        """End the runner that waits, and start no more ahead."""
        with self._lock:
            self._is_stopped = True
            if self._spare:
                self._spare.end()
                self._spare = None
