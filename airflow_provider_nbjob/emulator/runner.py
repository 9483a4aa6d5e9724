"""Processes that run one notebook each, one of them started ahead: its kernel is there when the next job comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from airflow_provider_nbjob.emulator.environment import hidden_from_kernel, runner_environment
from airflow_provider_nbjob.emulator.processes import kill_tree


class Runner:
    """A process that starts a kernel and then waits for its notebook, in a temporary folder of its own.

    :param data_dir: holds the folder, and the caches of kernels
    :param more: see `runner_environment`, as for `additions`
    """

    def __init__(self, data_dir: Path, more: Sequence[str], additions: Mapping[str, str]) -> None:
        cache = data_dir / "cache"
        cache.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "airflow_provider_nbjob.emulator.run_notebook"]
        self._temporary = tempfile.TemporaryDirectory(prefix="job-", dir=data_dir)
        self.folder = Path(self._temporary.name)
        (self.folder / "work").mkdir()
        with (self.folder / "log.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [*command, str(self.folder), *hidden_from_kernel(more)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.folder / "work",
                env=runner_environment(os.environ, more, cache, additions),
            )
        self._input = cast("IO[bytes]", self.process.stdin)

    def begin(self, notebook: bytes, kernel_name: str) -> None:
        """Have it run a notebook.

        :param kernel_name: kernel to run it with; empty: the notebook's own
        """
        (self.folder / "input.ipynb").write_bytes(notebook)
        with suppress(BrokenPipeError), self._input as line:  # a process that was killed has no outcome
            line.write(json.dumps(kernel_name).encode() + b"\n")

    def end(self) -> None:
        """End the process with all that it started, and remove its folder."""
        kill_tree(self.process.pid)
        self.process.wait()
        with suppress(BrokenPipeError):
            self._input.close()
        self._temporary.cleanup()


class Runners:
    """Hands out runners, and starts the next one when one is taken.

    The first job starts its own: an emulator that runs no notebook starts no kernel.

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
        """End the one that waits, and start no more ahead."""
        with self._lock:
            self._is_stopped = True
            if self._spare:
                self._spare.end()
                self._spare = None
