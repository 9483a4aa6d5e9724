"""The rules of `NotebookService` for jobs, once, for gRPC and REST alike.

Takes and returns plain protobuf messages and raises google.api_core's exceptions, which carry the gRPC code and the
HTTP code both. What Google does not document is decided here and said beside it.
"""

from __future__ import annotations

import threading

from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound
from google.protobuf.message import Message

from airflow_provider_nbjob.emulator import listing, validation
from airflow_provider_nbjob.emulator.engine import Engine
from airflow_provider_nbjob.emulator.messages import (
    TERMINAL_STATES,
    VIEW_FULL,
    Job,
    JobState,
    ListResponse,
    now_micros,
)
from airflow_provider_nbjob.emulator.names import JobName, new_id, parse_parent
from airflow_provider_nbjob.emulator.operations import Operations
from airflow_provider_nbjob.emulator.store import OperationRecord, Store

_OUTPUT_ONLY = ("name", "job_state", "status", "create_time", "update_time")


class NotebookService:
    """Create, get, list and delete jobs.

    :param store: keeps them
    :param engine: runs them
    :param operations: the long-running operations of create and delete
    """

    def __init__(self, store: Store, engine: Engine, operations: Operations) -> None:
        self._store = store
        self._engine = engine
        self._operations = operations
        self._lock = threading.Lock()

    def create(self, request: Message, api_version: str) -> Message:
        """Check a job and queue it.

        :return: the operation, which is done after the run and its clean-up
        :raises InvalidArgument: with all that is wrong with the job
        :raises NotFound: for the runtime template ``not-found``
        :raises AlreadyExists: where a job of that id exists, finished or not
        """
        parent = parse_parent(request.parent)
        location = parent.rpartition("/")[2]
        validation.check_create(request.notebook_execution_job, request.notebook_execution_job_id, location)
        template = request.notebook_execution_job.notebook_runtime_template_resource_name
        if template.endswith("/not-found"):
            raise NotFound(f"The NotebookRuntimeTemplate {template!r} does not exist.")
        job = Job()
        job.CopyFrom(request.notebook_execution_job)
        for field in _OUTPUT_ONLY:
            job.ClearField(field)
        job_name = JobName(parent, request.notebook_execution_job_id or new_id())
        job.name = str(job_name)
        job.job_state = JobState.JOB_STATE_QUEUED
        uid = new_id()
        with self._lock:  # the engine gets jobs in the order of their creation
            if not self._store.add(uid, job):
                raise AlreadyExists(f"The NotebookExecutionJob {job.name!r} already exists.")
            record = OperationRecord(f"{job.name}/operations/{uid}", uid, "create", api_version, now_micros())
            self._store.add_operation(record)
            self._engine.submit(uid)
        return self._operations.describe(record)

    def get(self, request: Message) -> Message:
        """A job, without the content of its direct source unless the view is FULL.

        :raises NotFound: where there is none of that name
        """
        _, job = self._find(request.name)
        return _viewed(job, request.view)

    def list(self, request: Message) -> Message:
        """A page of the jobs of a location.

        :raises InvalidArgument: for a filter, an order, a page size or a page token that is not allowed
        """
        parent = parse_parent(request.parent)
        size = listing.check_page_size(request.page_size)
        conditions = listing.parse_filter(request.filter)
        order = listing.parse_order(request.order_by)
        list_of = (parent, request.filter, request.order_by)
        after = listing.read_token(request.page_token, len(order) + 1, *list_of) if request.page_token else None
        jobs, position = self._store.page(parent, conditions, order, after, size)
        token = listing.make_token(position, *list_of) if position else ""
        jobs = [_viewed(job, request.view) for job in jobs]
        return ListResponse(notebook_execution_jobs=jobs, next_page_token=token)

    def delete(self, request: Message, api_version: str) -> Message:
        """Delete a job, which kills it where it runs; what is in Cloud Storage stays.

        :return: the operation, which is done when the run has ended
        :raises NotFound: where there is none of that name
        """
        with self._lock:
            uid, job = self._find(request.name)
            self._operations.settle(uid, job)
            self._store.delete(uid)
            parent = JobName.parse(job.name).parent
            record = OperationRecord(f"{parent}/operations/{new_id()}", uid, "delete", api_version, now_micros())
            self._store.add_operation(record)
        self._engine.stop(uid, "delete")
        return self._operations.describe(record)

    def force_state(self, name: str, state: int, status: Message | None) -> Message:
        """Have a job report a state, which no client of the API can; a terminal one stops the run.

        :param status: google.rpc.Status to report with it; default: the one that goes with the state
        :raises NotFound: where there is none of that name
        """
        uid, _ = self._find(name)

        def force(job: Message) -> bool:
            job.job_state = state
            job.ClearField("status")
            if status is not None:
                job.status.CopyFrom(status)
            elif state in TERMINAL_STATES:
                is_error = state not in (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_PARTIALLY_SUCCEEDED)
                job.status.code = 2 if is_error else 0
                job.status.message = "This state was set through /emulator." if is_error else ""
            return True

        job = self._store.update(uid, force)
        if job is None:
            raise _not_found(name)
        if state in TERMINAL_STATES:
            self._engine.stop(uid, "forced")
        return _viewed(job, 0)

    def _find(self, name: str) -> tuple[str, Message]:
        job_name = JobName.parse(name)
        found = self._store.find(job_name)
        if found is None:
            raise _not_found(str(job_name))
        return found


def _not_found(name: str) -> GoogleAPICallError:
    return NotFound(f"The NotebookExecutionJob {name!r} does not exist.")


def _viewed(job: Message, view: int) -> Message:
    """The job as GET and LIST show it. That a Workbench runtime is not among it is seen, not documented."""
    job.ClearField("workbench_runtime")
    if view != VIEW_FULL and job.WhichOneof("notebook_source") == "direct_notebook_source":
        job.direct_notebook_source.content = b""
    return job
