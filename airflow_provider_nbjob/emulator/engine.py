"""Run jobs: a limited number at once, each in a process of its own; the others wait in the order that they came.

A job is QUEUED, then PENDING (its machine starts), then RUNNING, until it ends. A job that was deleted, or ended by
another thread, takes no further step. Jobs are identified by their uids: a run or a cancel that comes late does not
touch another job that has the name by then.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.messages import JobMessage
from airflow_provider_nbjob.emulator.processes import KILL_SECONDS
from airflow_provider_nbjob.emulator.runner import NotebookRun, Runners, remove_leftovers
from airflow_provider_nbjob.emulator.scripted_run import ScriptedRun
from airflow_provider_nbjob.emulator.scripts import Scripts
from airflow_provider_nbjob.emulator.sources import SourceError, output_name, read_source
from airflow_provider_nbjob.emulator.storage import Storage
from airflow_provider_nbjob.emulator.store import Store, set_state
from airflow_provider_nbjob.job import JobName, JobState, bucket_and_path, state_of

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 86_400.0  # seconds; the API's documented default of execution_timeout
SLOW_PROVISIONING = 5.0  # seconds in PENDING with the runtime template `slow-provisioning`
CANCELLED = "The job was cancelled."
INTERRUPTED = "The emulator was stopped before this job ended."
NO_MACHINE = (
    "The zone does not have enough resources available to fulfill the request.<br>"
    "<b>ZONE_RESOURCE_POOL_EXHAUSTED</b>: try a different zone, or try again later."
)


@dataclass
class _Run:
    """The run of a job, from its place in the queue to its end."""

    uid: str
    is_started: bool = False
    is_cancelled: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    runner: NotebookRun | None = None


class Engine:
    """Run the jobs of a store, after `start`.

    Jobs that an earlier emulator left QUEUED wait again, in the order that they came. Jobs that it left CANCELLING are
    CANCELLED; other jobs that it left unfinished have FAILED.

    :param max_concurrent: jobs that run at once
    :param cleanup_delay: seconds between the end of a job and that of its operation
    :param environment: names of variables that notebooks see beside those that `environment.py` allows
    :param scripts: jobs that one matches end as it says; default: all jobs run for real
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
        scripts: Scripts | None = None,
    ) -> None:
        self.cleanup_delay = cleanup_delay
        self.additions: dict[str, str] = {}  # variables of notebooks: the addresses of the emulator's servers
        self._store, self._storage, self._data_dir = store, storage, data_dir
        self._queue: queue.Queue[_Run | None] = queue.Queue()
        self._runs: dict[str, _Run] = {}  # by uid: queued and running ones
        self._pinned: set[str] = set()
        self._lock = threading.Lock()
        self._scripts = scripts or Scripts()
        self._runners = Runners(data_dir, environment, self.additions)
        self._max_concurrent = max_concurrent
        self._is_stopping = False
        self._threads: list[threading.Thread] = []
        (data_dir / "cache").mkdir(exist_ok=True)  # of kernels
        remove_leftovers(data_dir)
        for uid, job in store.jobs(unfinished=True):
            state = state_of(job)
            if state is JobState.QUEUED:
                self.submit(uid)
            elif state is JobState.CANCELLING:
                self.end(uid, JobState.CANCELLED, code_pb2.CANCELLED, CANCELLED)
            else:
                self.end(uid, JobState.FAILED, code_pb2.UNAVAILABLE, INTERRUPTED)

    def start(self) -> None:
        """Begin to run the jobs that wait."""
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._max_concurrent)]
        for thread in self._threads:
            thread.start()

    def submit(self, uid: str) -> None:
        """Put a job into the queue."""
        run = _Run(uid)
        with self._lock:
            self._runs[uid] = run
        self._queue.put(run)

    def stop(self) -> None:
        """Stop all runs and their processes; do not change their jobs in the store."""
        for _ in self._threads:
            self._queue.put(None)
        with self._lock:
            self._is_stopping = True
            runs = list(self._runs.values())
        for run in runs:
            self._stop_run(run)
        for thread in self._threads:
            thread.join(15)
        self._runners.stop()

    def forget(self, uid: str) -> None:
        """Stop the run of a deleted job."""
        with self._lock:
            self._pinned.discard(uid)
            run = self._runs.pop(uid, None)
        if run:
            self._stop_run(run)

    def interrupt(self, uid: str) -> None:
        """Stop the run of a job, if it has one, and wait until its processes are gone."""
        with self._lock:
            run = self._runs.get(uid)
        if run:
            self._stop_run(run)

    def cancel(self, uid: str) -> None:
        """Cancel a job that has not ended: it is CANCELLING, and CANCELLED once its processes are gone."""
        with self._lock:
            self._pinned.discard(uid)
            run = self._runs.get(uid)
            is_running = run is not None and run.is_started
            is_first = run is not None and not run.is_cancelled
            if run is not None and is_running:
                run.is_cancelled = True
        if not is_running:
            self.end(uid, JobState.CANCELLED, code_pb2.CANCELLED, CANCELLED)
        elif is_first:
            self._advance(uid, JobState.CANCELLING)
            threading.Thread(target=self._finish_cancel, args=(uid,), daemon=True).start()

    def pin(self, uid: str, state: JobState) -> None:
        """Set the state of a job, which its run can no longer change; a terminal state stops the run."""
        with self._lock:
            self._pinned.add(uid)
        if state.is_terminal:
            self.interrupt(uid)
            self._store.finish_operations(uid, time.time() + self.cleanup_delay)
        self._store.update(uid, lambda job: set_state(job, state))

    def end(self, uid: str, state: JobState, code: int = 0, message: str = "") -> bool:
        """End a job in a state; return False if it had ended before, and so keeps its state."""
        if not self._advance(uid, state, code, message):
            return False
        self._store.finish_operations(uid, time.time() + self.cleanup_delay)
        return True

    def _advance(self, uid: str, state: JobState, code: int = 0, message: str = "") -> bool:
        advanced = False

        def change(job: JobMessage) -> bool:
            nonlocal advanced
            advanced = not state_of(job).is_terminal and uid not in self._pinned
            if advanced:
                set_state(job, state, code, message)
                if state.is_terminal:
                    log.info("Job %s ended as %s", JobName.parse(job.name).job_id, state)
            return advanced

        self._store.update(uid, change)
        return advanced

    def _finish_cancel(self, uid: str) -> None:
        self.interrupt(uid)
        self.end(uid, JobState.CANCELLED, code_pb2.CANCELLED, CANCELLED)

    def _stop_run(self, run: _Run) -> None:
        with self._lock:
            run.stopped.set()
            is_started = run.is_started
        if run.runner:
            run.runner.kill()
        if is_started:
            run.ended.wait(15)

    # --- one job ---

    def _work(self) -> None:
        while (run := self._queue.get()) is not None:
            with self._lock:
                run.is_started = not run.stopped.is_set() and not self._is_stopping
            try:
                if run.is_started:
                    self._run(run)
            except Exception as error:
                # An error of one job must not end the thread, which other jobs wait for.
                log.exception("The job of operation %s could not be run", run.uid)
                message = f"The emulator failed: {type(error).__name__}; see its log."
                with suppress(Exception):
                    self.end(run.uid, JobState.FAILED, code_pb2.INTERNAL, message)
            finally:
                with self._lock:
                    if self._runs.get(run.uid) is run:
                        del self._runs[run.uid]
                run.ended.set()

    def _run(self, run: _Run) -> None:
        job = self._store.get_by_uid(run.uid, with_content=True)
        if job is None or state_of(job).is_terminal:
            return
        self._advance(run.uid, JobState.PENDING)
        template = job.notebook_runtime_template_resource_name.rpartition("/")[2]
        if template == "slow-provisioning" and run.stopped.wait(SLOW_PROVISIONING):
            return
        if template == "fail-provisioning":
            self.end(run.uid, JobState.FAILED, code_pb2.RESOURCE_EXHAUSTED, NO_MACHINE)
            return
        bucket, _ = bucket_and_path(job.gcs_output_uri)
        if not self._storage.has_bucket(bucket):
            message = f"404 The bucket gs://{bucket} of gcs_output_uri does not exist."
            self.end(run.uid, JobState.FAILED, code_pb2.NOT_FOUND, message)
            return
        try:
            notebook = read_source(job, self._storage, self._data_dir)
        except SourceError as error:
            self.end(run.uid, JobState.FAILED, code_pb2.NOT_FOUND, str(error))
            return
        script = self._scripts.take(job)
        runner: NotebookRun = ScriptedRun(script, self._scripts) if script else self._runners.take()
        try:
            self._execute(run, job, notebook, runner)
        finally:
            runner.end()

    def _execute(self, run: _Run, job: JobMessage, notebook: bytes, runner: NotebookRun) -> None:
        """Run the notebook, write the executed notebook, and end the job."""
        self._advance(run.uid, JobState.RUNNING)
        run.runner = runner
        runner.begin(notebook, job.kernel_name)
        if run.stopped.is_set():  # after the run left the queue, before its process began
            runner.kill()
        timeout = job.execution_timeout.ToNanoseconds() / 1e9 if job.HasField("execution_timeout") else DEFAULT_TIMEOUT
        has_expired = not runner.wait(timeout)
        if has_expired:
            runner.kill()
            runner.wait(KILL_SECONDS)
        self._write_output(run.uid, job, runner.output())
        if run.stopped.is_set():
            return  # the method that stopped it sets the state
        if has_expired:
            # The API does not document the state of such a job.
            message = f"The execution timeout of {timeout:g} s was exceeded."
            self.end(run.uid, JobState.EXPIRED, code_pb2.DEADLINE_EXCEEDED, message)
            return
        self.end(run.uid, *runner.outcome())

    def _write_output(self, uid: str, job: JobMessage, output: bytes | None) -> None:
        if output is not None and self._store.get_by_uid(uid) is not None:
            uri = JobName.parse(job.name).output_uri(job.gcs_output_uri) + output_name(job)
            self._storage.write(uri, output)
