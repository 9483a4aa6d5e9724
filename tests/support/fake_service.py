"""A `NotebookService` in this process: its jobs change when they are read, are launched by others, or made to fail.

The operator, the sensor, the trigger, the watch and the hook that use it are the real ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import repeat
from types import SimpleNamespace
from typing import Any

from google.api_core.exceptions import AlreadyExists, NotFound
from google.cloud.aiplatform_v1.types import JobState, ListNotebookExecutionJobsResponse, NotebookExecutionJob
from google.longrunning.operations_pb2 import Operation
from google.rpc.status_pb2 import Status

from tests.support.fake_storage import FakeStorage

PARENT = "projects/p/locations/us-central1"
OUTPUT = "gs://bucket/runs"  # where jobs write
MOMENT = datetime(2026, 1, 1, tzinfo=timezone.utc)
JOB = f"{PARENT}/notebookExecutionJobs/j1"
SCHEDULE = f"{PARENT}/schedules/77"
PAGE_SIZE = 100
EXECUTED = f"{OUTPUT}/j1/content.ipynb"  # the executed notebook of `ended_job`


def ended_job(state: str | int = "SUCCEEDED", message: str = "", code: int = 0, **changes: Any) -> NotebookExecutionJob:
    """Return a job that has ended, as the API shows it.

    :param state: the end of its API name, or a number that the client library may not know
    """
    values = {
        "name": f"{PARENT}/notebookExecutionJobs/j1",
        "display_name": "a report",
        "job_state": state if isinstance(state, int) else JobState[f"JOB_STATE_{state}"],
        "status": Status(code=code, message=message),
        "gcs_output_uri": OUTPUT,
        "create_time": MOMENT,
        "update_time": MOMENT,
    }
    return NotebookExecutionJob({**values, **changes})


@dataclass
class FakeService:
    """The jobs of a location; `NotebookServiceClient` as far as the provider uses it.

    This is the one fake of the client for tests in one process. `grpc_service` answers another process over gRPC, and
    counts what that costs. The models of `test_submitted_once`, in which workers are killed in mid-call, and of
    `test_sweeps`, in which there is no client, are of other things.

    :param storage: where jobs write
    :param jobs: by name; those that are still to change are followed by what they change to
    :param calls: how often each method was called: create, get, list, operations, cancel, delete, operation
    :param before: called with the method's name before it is performed, in the thread of the request
    :param course: the states that a job goes through which is created, as `put` takes them
    :param changes: further fields of each state of such a job
    :param executed: the executed notebook of such a job, which is there once the job is read in its last state
    :param submitted: the jobs that were created, as they were sent
    :param deletion: the operation that a delete returns; None returns none
    """

    storage: FakeStorage
    jobs: dict[str, list[NotebookExecutionJob]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    before: Callable[[str], None] = lambda _: None
    course: tuple[str, ...] = ("SUCCEEDED",)
    changes: dict[str, Any] = field(default_factory=dict)
    executed: bytes | None = None
    submitted: list[NotebookExecutionJob] = field(default_factory=list)
    deletion: Operation | None = None
    _lost: dict[str, Iterator[Exception]] = field(default_factory=dict)
    _failures: dict[str, Iterator[Exception]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # --- what tests do ---

    def put(self, *states: str | int, name: str = JOB, **changes: Any) -> str:
        """Add a job, or give it a new course, and return its name.

        :param states: as `ended_job` takes them; each read of the job shows the next one, and all later ones the last
        :param changes: further fields of the job
        """
        with self._lock:
            self._put(states, name, **changes)
        return name

    def delete(self, name: str = JOB) -> None:
        """Delete a job, as somebody else may."""
        with self._lock:
            del self.jobs[name]

    def fail(self, method: str, error: Exception, *, times: int | None = None) -> None:
        """Have the next `times` calls of a method fail; default: all of them."""
        self._failures[method] = repeat(error) if times is None else repeat(error, times)

    def mend(self) -> None:
        """Have no method fail any more."""
        self._failures.clear()

    def lose(self, method: str, error: Exception, *, times: int | None = None) -> None:
        """Have the next `times` calls of a method be performed, and then fail; default: all of them."""
        self._lost[method] = repeat(error) if times is None else repeat(error, times)

    def has_been_told_to_stop(self) -> bool:
        """Return whether anybody asked for the end of a job."""
        return any(self.calls[method] for method in ("operations", "cancel", "delete"))

    # --- what the client has ---

    def create_notebook_execution_job(self, request: Any, **_: Any) -> SimpleNamespace:
        with self._call("create"):
            job_id = request.notebook_execution_job_id or str(len(self.submitted) + 1)
            name = f"{request.parent}/notebookExecutionJobs/{job_id}"
            if name in self.jobs:
                raise AlreadyExists(f"{name} exists")
            sent = NotebookExecutionJob(request.notebook_execution_job)
            sent.name = name
            self.submitted.append(sent)
            self._begin(sent)
        return SimpleNamespace(operation=Operation(name=f"{name}/operations/1"))

    def get_operation(self, request: Any, **_: Any) -> Operation:
        with self._call("operation"):
            assert self.deletion is not None
            return self.deletion

    def get_notebook_execution_job(self, request: Any, **_: Any) -> NotebookExecutionJob:
        with self._call("get"):
            course = self._course(request.name)
            if len(course) > 1:
                return course.pop(0)
            self._write(course[0])
            return course[0]

    def list_notebook_execution_jobs(self, request: Any, **_: Any) -> SimpleNamespace:
        """Show a page of the jobs of a schedule, or of all of them, the newest first."""
        with self._call("list"):
            key = request.order_by.removesuffix(" desc")
            shown = [course[0] for course in self.jobs.values()]
            if request.filter:
                key_of = {"schedule": lambda job: job.schedule_resource_name.rpartition("/")[2]}
                field_name, _, wanted = request.filter.partition("=")
                shown = [job for job in shown if f'"{key_of.get(field_name, _display_name)(job)}"' == wanted]
            shown.sort(key=lambda job: getattr(job, key or "create_time"), reverse=True)
            start = int(request.page_token or 0)
            end = start + (request.page_size or PAGE_SIZE)
            token = str(end) if end < len(shown) else ""
            page = ListNotebookExecutionJobsResponse(notebook_execution_jobs=shown[start:end], next_page_token=token)
            return SimpleNamespace(pages=iter([page]))

    def list_operations(self, request: Any, **_: Any) -> SimpleNamespace:
        with self._call("operations"):
            self._course(request.name)
            return SimpleNamespace(operations=[SimpleNamespace(name=f"{request.name}/operations/1", done=False)])

    def cancel_operation(self, request: Any, **_: Any) -> None:
        with self._call("cancel"):
            (job, *_rest) = self._course(request.name.split("/operations/")[0])
            job.job_state = JobState.JOB_STATE_CANCELLED

    def delete_notebook_execution_job(self, request: Any, **_: Any) -> SimpleNamespace | None:
        with self._call("delete"):
            self._course(request.name)
            if self.deletion is None or not self.deletion.error.code:
                del self.jobs[request.name]
        return self.deletion and SimpleNamespace(operation=self.deletion)

    # --- inside ---

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        """Count a call, and have it fail, before it is performed or after, or go on alone."""
        self.before(method)
        with self._lock:
            self.calls[method] += 1
            if error := next(self._failures.get(method, iter(())), None):
                raise error
            yield
            if error := next(self._lost.get(method, iter(())), None):
                raise error

    def _put(self, states: Iterable[str | int], name: str, **changes: Any) -> None:
        self.jobs[name] = [
            ended_job(state, **{"name": name, "update_time": MOMENT + timedelta(seconds=number), **changes})
            for number, state in enumerate(states)
        ]

    def _begin(self, sent: NotebookExecutionJob) -> None:
        """Have a job go through `course`."""
        self.jobs[sent.name] = []
        created = datetime.now(timezone.utc)
        for number, state in enumerate(self.course):
            times = {"create_time": created, "update_time": MOMENT + timedelta(seconds=number)}
            job = NotebookExecutionJob(sent)
            for name, value in {"job_state": JobState[f"JOB_STATE_{state}"], **times, **self.changes}.items():
                setattr(job, name, value)
            self.jobs[sent.name].append(job)

    def _write(self, job: NotebookExecutionJob) -> None:
        if self.executed is not None:
            self.storage.put(f"{job.gcs_output_uri}/{job.name.rpartition('/')[2]}/content.ipynb", self.executed)

    def _course(self, name: str) -> list[NotebookExecutionJob]:
        """Return a job and what it changes to; the project may be told by its number or its id."""
        for known, course in self.jobs.items():
            if known.rpartition("/")[2] == name.rpartition("/")[2]:
                return course
        raise NotFound(f"no job {name}")


def _display_name(job: NotebookExecutionJob) -> str:
    return str(job.display_name)
