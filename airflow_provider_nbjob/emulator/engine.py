"""Runs jobs: so many at once, each in a process of its own, the rest waiting in the order that they came.

A job goes QUEUED, PENDING (its machine starts), RUNNING, and to its end. Every step is refused to a job that was
deleted, or ended by somebody else, meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.processes import kill_tree
from airflow_provider_nbjob.emulator.runner import Runner, Runners
from airflow_provider_nbjob.emulator.sources import SourceError, output_name, read_source
from airflow_provider_nbjob.emulator.storage import Storage
from airflow_provider_nbjob.emulator.store import Store, set_state, state_of
from airflow_provider_nbjob.job import JobName, JobState, bucket_and_path

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 86_400.0  # seconds; the API's documented default of execution_timeout
SLOW_PROVISIONING = 5.0  # seconds in PENDING with the runtime template `slow-provisioning`
LOG_TAIL = 4_000  # bytes that are shown of the log of a process that ended early
NO_MACHINE = (
    "The zone does not have enough resources available to fulfill the request.<br>"
    "<b>ZONE_RESOURCE_POOL_EXHAUSTED</b>: try a different zone, or try again later."
)


@dataclass
class _Run:
    """A job on its way: from its turn in the queue to its end."""

    name: str
    is_started: bool = False
    is_cancelled: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen[bytes] | None = None


class Engine:
    """Runs jobs of a store.

    :param max_concurrent: so many at once
    :param cleanup_delay: seconds between the end of a job and that of its operation
    :param environment: names of variables that notebooks see beside those that `environment.py` allows
    """

    def __init__(
        self,
        store: Store,
        storage: Storage,
        data_dir: Path,
        *,
        max_concurrent: int,
        cleanup_delay: float,
        environment: Sequence[str] = (),
    ) -> None:
        self.cleanup_delay = cleanup_delay
        self.additions: dict[str, str] = {}  # variables of notebooks that lead them to what the emulator serves
        self._store, self._storage, self._data_dir = store, storage, data_dir
        self._queue: queue.Queue[_Run | None] = queue.Queue()
        self._runs: dict[str, _Run] = {}  # those that wait, and those that run
        self._pinned: set[str] = set()
        self._lock = threading.Lock()
        self._runners = Runners(data_dir, environment, self.additions)
        self._fail_what_was_interrupted()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max_concurrent)]
        for thread in self._threads:
            thread.start()

    def _fail_what_was_interrupted(self) -> None:
        for name in self._store.unfinished():
            self.end(name, JobState.FAILED, code_pb2.UNAVAILABLE, "The emulator was stopped before this job ended.")

    def submit(self, name: str) -> None:
        """Have a job wait for its turn."""
        run = _Run(name)
        with self._lock:
            self._runs[name] = run
        self._queue.put(run)

    def stop(self) -> None:
        """Stop all runs, and their processes; their jobs stay as they are in the store."""
        for _ in self._threads:
            self._queue.put(None)
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            self._stop_run(run)
        for thread in self._threads:
            thread.join(15)
        self._runners.stop()

    def forget(self, name: str) -> None:
        """Stop the run of a deleted job; another job may have its name from now on."""
        with self._lock:
            self._pinned.discard(name)
            run = self._runs.pop(name, None)
        if run:
            self._stop_run(run)

    def interrupt(self, name: str) -> None:
        """Stop the run of a job, where it has one; its processes are gone when this returns."""
        with self._lock:
            run = self._runs.get(name)
        if run:
            self._stop_run(run)

    def cancel(self, name: str) -> None:
        """Cancel a job that has not ended: CANCELLING, and CANCELLED once its processes are gone."""
        with self._lock:
            self._pinned.discard(name)
            run = self._runs.get(name)
            is_running = run is not None and run.is_started
            is_first = run is not None and not run.is_cancelled
            if run is not None and is_running:
                run.is_cancelled = True
        if not is_running:
            self.end(name, JobState.CANCELLED, code_pb2.CANCELLED, "The job was cancelled.")
        elif is_first:
            self._advance(name, JobState.CANCELLING)
            threading.Thread(target=self._finish_cancel, args=(name,), daemon=True).start()

    def pin(self, name: str, state: JobState) -> None:
        """Have a job report a state whatever its run does; a terminal one stops the run."""
        with self._lock:
            self._pinned.add(name)
        if state.is_terminal:
            self.interrupt(name)
            self._store.finish_operations(name, time.time() + self.cleanup_delay)
        self._store.update(name, lambda job: set_state(job, state))

    def end(self, name: str, state: JobState, code: int = 0, message: str = "") -> bool:
        """End a job; whether it had not ended before, so that this is what it ended as."""
        if not self._advance(name, state, code, message):
            return False
        log.info("Job %s ended as %s", JobName.parse(name).job_id, state)
        self._store.finish_operations(name, time.time() + self.cleanup_delay)
        return True

    def _advance(self, name: str, state: JobState, code: int = 0, message: str = "") -> bool:
        advanced = False

        def change(job: Any) -> bool:
            nonlocal advanced
            advanced = not state_of(job).is_terminal and name not in self._pinned
            if advanced:
                set_state(job, state, code, message)
            return advanced

        self._store.update(name, change)
        return advanced

    def _finish_cancel(self, name: str) -> None:
        self.interrupt(name)
        self.end(name, JobState.CANCELLED, code_pb2.CANCELLED, "The job was cancelled.")

    def _stop_run(self, run: _Run) -> None:
        with self._lock:
            run.stopped.set()
            is_started = run.is_started
        if run.process:
            kill_tree(run.process.pid)
        if is_started:
            run.ended.wait(15)

    # --- one job ---

    def _work(self) -> None:
        while (run := self._queue.get()) is not None:
            with self._lock:
                run.is_started = not run.stopped.is_set()
            try:
                if run.is_started:
                    self._run(run)
            except Exception:
                log.exception("Job %s could not be run", run.name)
                self.end(run.name, JobState.FAILED, code_pb2.INTERNAL, "The emulator failed; see its log.")
            finally:
                with self._lock:
                    if self._runs.get(run.name) is run:
                        del self._runs[run.name]
                run.ended.set()

    def _run(self, run: _Run) -> None:
        job = self._store.get(run.name, with_content=True)
        if job is None or state_of(job).is_terminal:
            return
        self._advance(run.name, JobState.PENDING)
        template = job.notebook_runtime_template_resource_name.rpartition("/")[2]
        if template == "slow-provisioning" and run.stopped.wait(SLOW_PROVISIONING):
            return
        if template == "fail-provisioning":
            self.end(run.name, JobState.FAILED, code_pb2.RESOURCE_EXHAUSTED, NO_MACHINE)
            return
        bucket, _ = bucket_and_path(job.gcs_output_uri)
        if not self._storage.has_bucket(bucket):
            message = f"404 The bucket gs://{bucket} of gcs_output_uri does not exist."
            self.end(run.name, JobState.FAILED, code_pb2.NOT_FOUND, message)
            return
        try:
            notebook = read_source(job, self._storage, self._data_dir)
        except SourceError as error:
            self.end(run.name, JobState.FAILED, code_pb2.NOT_FOUND, str(error))
            return
        runner = self._runners.take()
        try:
            self._execute(run, job, notebook, runner)
        finally:
            runner.end()

    def _execute(self, run: _Run, job: Any, notebook: bytes, runner: Runner) -> None:
        """Run the notebook, write what came of it, and end the job."""
        self._advance(run.name, JobState.RUNNING)
        run.process = runner.process
        runner.begin(notebook, job.kernel_name)
        if run.stopped.is_set():  # between the look at the queue and the start of the process
            kill_tree(run.process.pid)
        timeout = job.execution_timeout.ToNanoseconds() / 1e9 if job.HasField("execution_timeout") else DEFAULT_TIMEOUT
        try:
            run.process.wait(timeout)
            has_expired = False
        except subprocess.TimeoutExpired:
            kill_tree(run.process.pid)
            run.process.wait()
            has_expired = True
        self._write_output(job, runner.folder)
        if run.stopped.is_set():
            return  # whoever stopped it says what it ended as
        if has_expired:
            # Which state the real service gives such a job is not documented.
            message = f"The execution timeout of {timeout:g} s was exceeded."
            self.end(run.name, JobState.EXPIRED, code_pb2.DEADLINE_EXCEEDED, message)
            return
        self._end_by_outcome(run.name, runner.folder)

    def _end_by_outcome(self, name: str, folder: Path) -> None:
        try:
            outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
        except FileNotFoundError:
            log.error("The process of job %s ended early:\n%s", name, _tail(folder / "log.txt"))
            outcome = {"succeeded": False, "message": "The process that ran the notebook ended early."}
        if outcome["succeeded"]:
            self.end(name, JobState.SUCCEEDED)
        else:
            # Which code the real service gives a cell that raised is not documented.
            self.end(name, JobState.FAILED, code_pb2.UNKNOWN, outcome["message"])

    def _write_output(self, job: Any, folder: Path) -> None:
        output = folder / "output.ipynb"
        if output.exists() and self._store.get(job.name) is not None:
            uri = JobName.parse(job.name).output_uri(job.gcs_output_uri) + output_name(job)
            self._storage.write(uri, output.read_bytes())


def _tail(path: Path) -> str:
    """Return the last `LOG_TAIL` bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
        return file.read(LOG_TAIL).decode(errors="replace")
