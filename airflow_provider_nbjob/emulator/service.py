"""The rules of NotebookService and of its operations, on plain protobuf messages; gRPC and REST both lead here.

Documented (the proto and its comments, google-cloud-aiplatform 2.7): methods, fields, views, the LRO's metadata,
what can be filtered and ordered by. Reported by clients of the real service: returned names carry the project's
*number*; the create's LRO is named below the job, and is done only after the run and a clean-up, without an error
even where the notebook failed; at most 100 jobs a page. Not documented, so chosen here: the characters of a job id
(RFC 1035, or all digits), that deleting a running job stops it, that cancelling its operation does.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import threading
import time
from typing import Any

from google.api_core.exceptions import Aborted, AlreadyExists, InvalidArgument, MethodNotImplemented, NotFound
from google.cloud.aiplatform_v1.types import (
    CreateNotebookExecutionJobOperationMetadata,
    DeleteOperationMetadata,
    ListNotebookExecutionJobsResponse,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.engine import Engine
from airflow_provider_nbjob.emulator.listing import (
    page_token,
    parse_filter,
    parse_order,
    parse_page_size,
    parse_page_token,
)
from airflow_provider_nbjob.emulator.store import JobMessage, Operation, Store, set_state, state_of
from airflow_provider_nbjob.emulator.validation import PARENT, TEMPLATE, check_job, check_location
from airflow_provider_nbjob.job import JobName, JobState

log = logging.getLogger(__name__)

VIEW_FULL = 2
_OPERATION = re.compile(r"projects/[^/]+/locations/[^/]+/(notebookExecutionJobs/[^/]+/)?operations/[^/]+")


def project_number(project: str) -> str:
    """The number of a project: made from its id, always the same; a number stays as it is."""
    if project.isascii() and project.isdigit():
        return project
    return str(10**11 + int(hashlib.sha256(project.encode()).hexdigest(), 16) % (9 * 10**11))


def canonical(name: str) -> str:
    """A resource name with the project's number in place of its id."""
    return re.sub(r"^projects/([^/]+)", lambda match: f"projects/{project_number(match[1])}", name)


class NotebookService:
    """The methods of NotebookService, and those of Operations, for the jobs of a store.

    Each takes the request's protobuf message and returns the answer's; each raises what google.api_core has for the
    API's error codes.

    :param can_cancel: false has `cancel_operation` answer UNIMPLEMENTED, as a service may
    """

    def __init__(self, store: Store, engine: Engine, *, can_cancel: bool = True) -> None:
        self._store, self._engine, self._can_cancel = store, engine, can_cancel
        self._naming = threading.Lock()
        self._leaving: set[str] = set()  # names of deleted jobs whose runs are being stopped

    # --- NotebookService ---

    def create(self, request: Any) -> operations_pb2.Operation:
        """CreateNotebookExecutionJob."""
        parent, location = self._parent(request.parent)
        job_id = request.notebook_execution_job_id
        check_job(request.notebook_execution_job, job_id, location)
        job = JobMessage()
        job.CopyFrom(request.notebook_execution_job)
        template = TEMPLATE.fullmatch(job.notebook_runtime_template_resource_name)
        if template and template["id"] == "not-found":
            raise NotFound(f"NotebookRuntimeTemplate {template[0]} was not found.")
        for output_only in ("status", "create_time", "update_time"):
            job.ClearField(output_only)
        set_state(job, JobState.QUEUED)
        job.name = f"{parent}/notebookExecutionJobs/{job_id or _digits()}"
        operation = Operation(f"{job.name}/operations/{_digits()}", job.name, "create", time.time(), None)
        with self._naming:
            if job.name in self._leaving:  # a name belongs to one run at a time
                raise Aborted(f"NotebookExecutionJob {job.name} is being deleted.")
            if not self._store.insert(job):
                raise AlreadyExists(f"NotebookExecutionJob {job.name} already exists.")
            self._store.put_operation(operation)
            self._engine.submit(job.name)
        log.info("Job %s was submitted: %r", JobName.parse(job.name).job_id, job.display_name)
        return self._shown(operation)

    def get(self, request: Any) -> Any:
        """GetNotebookExecutionJob."""
        return _view(self._job(request.name, with_content=request.view == VIEW_FULL), request.view)

    def list_jobs(self, request: Any) -> Any:
        """ListNotebookExecutionJobs."""
        parent, _ = self._parent(request.parent)
        size = parse_page_size(request.page_size)
        conditions, order = parse_filter(request.filter), parse_order(request.order_by)
        common = [parent, request.filter, request.order_by]
        after = parse_page_token(request.page_token, common, len(order) + 1)
        with_content = request.view == VIEW_FULL
        jobs, last = self._store.page(parent, conditions, order, after, size, with_content=with_content)
        return ListNotebookExecutionJobsResponse.meta.pb(
            notebook_execution_jobs=[_view(job, request.view) for job in jobs],
            next_page_token=page_token(last, common) if last else "",
        )

    def delete(self, request: Any) -> operations_pb2.Operation:
        """DeleteNotebookExecutionJob; one that runs is stopped. Its output stays."""
        job = self._job(request.name)
        with self._naming:
            self._leaving.add(job.name)
            self._store.delete(job.name)
        try:
            self._engine.forget(job.name)
        finally:
            with self._naming:
                self._leaving.discard(job.name)
        now = time.time()
        self._store.finish_operations(job.name, now)
        operation = Operation(f"{JobName.parse(job.name).parent}/operations/{_digits()}", job.name, "delete", now, now)
        self._store.put_operation(operation)
        return self._shown(operation)

    # --- google.longrunning.Operations ---

    def get_operation(self, request: Any) -> operations_pb2.Operation:
        """GetOperation."""
        return self._shown(self._operation(request.name))

    def list_operations(self, request: Any) -> operations_pb2.ListOperationsResponse:
        """ListOperations of a job."""
        job = self._job(request.name.removesuffix("/operations"))
        operations = [self._shown(operation) for operation in self._store.operations_of(job.name)]
        return operations_pb2.ListOperationsResponse(operations=operations)

    def cancel_operation(self, request: Any) -> empty_pb2.Empty:
        """CancelOperation: stops the run. What has ended stays as it is."""
        operation = self._operation(request.name)
        if not self._can_cancel:
            raise MethodNotImplemented("Operation is not implemented, or supported, or enabled.")
        if operation.kind == "create":
            self._engine.cancel(operation.job_name)
        return empty_pb2.Empty()

    def delete_operation(self, request: Any) -> empty_pb2.Empty:
        """DeleteOperation: forgets it, and stops nothing."""
        self._store.delete_operation(self._operation(request.name).name)
        return empty_pb2.Empty()

    # --- for tests ---

    def force_state(self, job_id: str, state: str) -> None:
        """Have a job report a state from now on, whatever its run does; a terminal one stops the run."""
        if state not in {member.value for member in JobState}:
            raise InvalidArgument(f"jobState: {state!r} is no state.")
        names = self._store.find(job_id)
        if not names:
            raise NotFound(f"There is no job {job_id}.")
        for name in names:
            self._engine.pin(name, JobState(state))

    # --- inside ---

    @staticmethod
    def _parent(name: str) -> tuple[str, str]:
        match = PARENT.fullmatch(name)
        if match is None:
            raise InvalidArgument(f"Invalid parent: {name!r} is not of the form projects/*/locations/*.")
        check_location(match["location"])
        return canonical(name), match["location"]

    def _job(self, name: str, *, with_content: bool = False) -> Any:
        job = self._store.get(canonical(name), with_content=with_content)
        if job is None:
            raise NotFound(f"NotebookExecutionJob {name} was not found.")
        return job

    def _operation(self, name: str) -> Operation:
        if not _OPERATION.fullmatch(name):
            raise InvalidArgument(f"Invalid operation name: {name!r}.")
        operation = self._store.operation(canonical(name))
        if operation is None:
            raise NotFound(f"Operation {name} was not found.")
        return operation

    def _shown(self, operation: Operation) -> operations_pb2.Operation:
        shown = operations_pb2.Operation(name=operation.name, done=operation.is_done)
        is_create = operation.kind == "create"
        kind = CreateNotebookExecutionJobOperationMetadata if is_create else DeleteOperationMetadata
        metadata = kind.meta.pb()
        metadata.generic_metadata.create_time.FromMicroseconds(int(operation.create_time * 1e6))
        changed = operation.ready_at if shown.done and operation.ready_at else operation.create_time
        metadata.generic_metadata.update_time.FromMicroseconds(int(changed * 1e6))
        job = self._store.get(operation.job_name)
        if is_create and job is not None:
            metadata.progress_message = f"The job is {state_of(job)}."
        shown.metadata.Pack(metadata)
        if not shown.done:
            return shown
        if not is_create:
            shown.response.Pack(empty_pb2.Empty())
        elif job is not None:
            shown.response.Pack(_view(job, 0))
        else:
            shown.error.code, shown.error.message = code_pb2.CANCELLED, "The job was deleted."
        return shown


def _view(job: Any, view: int) -> Any:
    """A copy of a job as a view shows it: BASIC has no direct content, and none shows `workbench_runtime`."""
    shown = JobMessage()
    shown.CopyFrom(job)
    shown.ClearField("workbench_runtime")
    if view != VIEW_FULL and shown.WhichOneof("notebook_source") == "direct_notebook_source":
        shown.direct_notebook_source.content = b""
        shown.direct_notebook_source.SetInParent()
    return shown


def _digits() -> str:
    return str(10**18 + secrets.randbelow(9 * 10**18))
