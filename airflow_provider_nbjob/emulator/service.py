"""Apply the rules of NotebookService and of its operations, on plain protobuf messages; gRPC and REST both call it.

Documented (the proto and its comments, google-cloud-aiplatform 2.7): methods, fields, views, the LRO's metadata,
the fields of filters and orders. Reported by clients of the real service: returned names carry the project's *number*;
the create's LRO is named below the job, and is done only after the run and a clean-up, without an error even if the
notebook failed; at most 100 jobs a page. Not documented, and so chosen here: the characters of a job id
(`names.JOB_ID`), that deleting a running job stops it, that cancelling its operation stops it, and the filter of a list
of operations.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import threading
import time

from google.api_core.exceptions import Aborted, AlreadyExists, InvalidArgument, MethodNotImplemented, NotFound
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from airflow_provider_nbjob.emulator.engine import Engine
from airflow_provider_nbjob.emulator.listing import (
    page_token,
    parse_filter,
    parse_operation_filter,
    parse_operation_page_size,
    parse_order,
    parse_page_size,
    parse_page_token,
)
from airflow_provider_nbjob.emulator.messages import (
    CreateRequest,
    DeleteRequest,
    GetRequest,
    GetTemplateRequest,
    JobMessage,
    ListRequest,
    ListResponse,
    TemplateMessage,
)
from airflow_provider_nbjob.emulator.operations import operation_message
from airflow_provider_nbjob.emulator.store import Kept, Operation, Store, set_state
from airflow_provider_nbjob.emulator.validation import PARENT, TEMPLATE, check_job, check_location
from airflow_provider_nbjob.job import JobName, JobState

log = logging.getLogger(__name__)

VIEW_FULL = 2
ONE_CLICK = 2  # of `NotebookRuntimeType`
_OPERATION = re.compile(r"projects/[^/]+/locations/[^/]+/(notebookExecutionJobs/[^/]+/)?operations/[^/]+")


def project_number(project: str) -> str:
    """Return the number of a project: always the same one, made from its id. Return a number as it is."""
    if project.isascii() and project.isdigit():
        return project
    return str(10**11 + int(hashlib.sha256(project.encode()).hexdigest(), 16) % (9 * 10**11))


def canonical(name: str) -> str:
    """Return a resource name with the project's number in place of its id."""
    return re.sub(r"^projects/([^/]+)", lambda match: f"projects/{project_number(match[1])}", name)


def _find_template(name: re.Match[str]) -> None:
    """Raise the error for a template that does not exist.

    :param name: a match of `TEMPLATE`
    :raises NotFound: for the id ``not-found``
    """
    if name["id"] == "not-found":
        raise NotFound(f"NotebookRuntimeTemplate {name[0]} was not found.")


class NotebookService:
    """The methods of NotebookService, and those of Operations, for the jobs of a store.

    Each takes the request's protobuf message and returns the answer's. Each raises the errors of google.api_core for
    the API's codes. Those that return operations also take the version of the API that the request was sent to; it is
    empty if the request does not name one.

    :param can_cancel: if False, `cancel_operation` answers UNIMPLEMENTED, as a service may
    """

    def __init__(self, store: Store, engine: Engine, *, can_cancel: bool = True) -> None:
        self._store, self._engine, self._can_cancel = store, engine, can_cancel
        self._naming = threading.Lock()
        self._leaving: set[str] = set()  # names of deleted jobs whose runs are being stopped

    # --- NotebookService ---

    def create(self, request: CreateRequest, version: str) -> operations_pb2.Operation:
        """Serve CreateNotebookExecutionJob."""
        parent, location = self._parent(request.parent)
        job_id = request.notebook_execution_job_id
        check_job(request.notebook_execution_job, job_id, location)
        job = JobMessage()
        job.CopyFrom(request.notebook_execution_job)
        if template := TEMPLATE.fullmatch(job.notebook_runtime_template_resource_name):
            _find_template(template)
        for output_only in ("status", "create_time", "update_time"):
            job.ClearField(output_only)
        set_state(job, JobState.QUEUED)
        job.name = f"{parent}/notebookExecutionJobs/{job_id or _digits()}"
        uid = _digits()
        operation = Operation(
            name=f"{job.name}/operations/{uid}",
            job_name=job.name,
            kind="create",
            create_time=time.time(),
            ready_at=None,
            uid=uid,
            version=version or "v1",
        )
        with self._naming:
            if job.name in self._leaving:  # a name belongs to one run at a time
                raise Aborted(f"NotebookExecutionJob {job.name} is being deleted.")
            if not self._store.insert(job, operation):
                raise AlreadyExists(f"NotebookExecutionJob {job.name} already exists.")
            self._engine.submit(uid)
        log.info("Job %s was submitted: %r", JobName.parse(job.name).job_id, job.display_name)
        return self._shown(operation, version)

    def get(self, request: GetRequest) -> JobMessage:
        """Serve GetNotebookExecutionJob."""
        return _view(self._kept(request.name, with_content=request.view == VIEW_FULL).job, request.view)

    def list_jobs(self, request: ListRequest) -> ListResponse:
        """Serve ListNotebookExecutionJobs."""
        parent, _ = self._parent(request.parent)
        size = parse_page_size(request.page_size)
        conditions, order = parse_filter(request.filter), parse_order(request.order_by)
        common = [parent, request.filter, request.order_by]
        after = parse_page_token(request.page_token, common, len(order) + 1)
        with_content = request.view == VIEW_FULL
        jobs, last = self._store.page(parent, conditions, order, after, size, with_content=with_content)
        return ListResponse(
            notebook_execution_jobs=[_view(job, request.view) for job in jobs],
            next_page_token=page_token(last, common) if last else "",
        )

    def delete(self, request: DeleteRequest, version: str) -> operations_pb2.Operation:
        """Serve DeleteNotebookExecutionJob: stop the job if it runs. Its output stays."""
        uid, job = self._kept(request.name)
        with self._naming:
            if not self._store.delete(uid):  # another call was faster
                raise NotFound(f"NotebookExecutionJob {request.name} was not found.")
            self._leaving.add(job.name)
        try:
            self._engine.forget(uid)
        finally:
            with self._naming:
                self._leaving.discard(job.name)
        now = time.time()
        self._store.finish_operations(uid, now)
        operation = Operation(
            name=f"{JobName.parse(job.name).parent}/operations/{_digits()}",
            job_name=job.name,
            kind="delete",
            create_time=now,
            ready_at=now,
            uid=uid,
            version=version or "v1",
        )
        self._store.put_operation(operation)
        return self._shown(operation, version)

    def get_template(self, request: GetTemplateRequest) -> TemplateMessage:
        """Serve GetNotebookRuntimeTemplate: every template exists, but that of the id ``not-found``."""
        template = TEMPLATE.fullmatch(request.name)
        if template is None:
            raise InvalidArgument(f"Invalid resource name: {request.name[:200]!r}.")
        self._parent(request.name.rpartition("/notebookRuntimeTemplates/")[0])
        _find_template(template)
        return TemplateMessage(
            name=canonical(request.name), display_name=template["id"], notebook_runtime_type=ONE_CLICK
        )

    # --- google.longrunning.Operations ---

    def get_operation(self, request: operations_pb2.GetOperationRequest, version: str) -> operations_pb2.Operation:
        """Serve GetOperation."""
        return self._shown(self._operation(request.name), version)

    def list_operations(
        self, request: operations_pb2.ListOperationsRequest, version: str
    ) -> operations_pb2.ListOperationsResponse:
        """Serve ListOperations, of a job or of a location, the newest first."""
        name = request.name.removesuffix("/operations")
        if PARENT.fullmatch(name):
            uid, (below, _) = None, self._parent(name)
        else:
            uid, job = self._kept(name)
            below = job.name
        size = parse_operation_page_size(request.page_size)
        conditions = parse_operation_filter(request.filter)
        common = [below, request.filter]
        after = parse_page_token(request.page_token, common, 2)
        operations, last = self._store.operations(below, uid, conditions, after, size)
        return operations_pb2.ListOperationsResponse(
            operations=[self._shown(operation, version) for operation in operations],
            next_page_token=page_token(last, common) if last else "",
        )

    def cancel_operation(self, request: operations_pb2.CancelOperationRequest) -> empty_pb2.Empty:
        """Serve CancelOperation: stop the run. A job that has ended keeps its state."""
        operation = self._operation(request.name)
        if not self._can_cancel:
            raise MethodNotImplemented("Operation is not implemented, or supported, or enabled.")
        if operation.kind == "create":
            self._engine.cancel(operation.uid)
        return empty_pb2.Empty()

    def delete_operation(self, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        """Serve DeleteOperation: forget the operation, and stop nothing."""
        self._store.delete_operation(self._operation(request.name).name)
        return empty_pb2.Empty()

    # --- for tests ---

    def all_jobs(self) -> list[JobMessage]:
        """Return the jobs of all projects and locations, the oldest first, without direct content."""
        return [_view(kept.job, 0) for kept in self._store.jobs()]

    def force_state(self, job_id: str, state: str) -> None:
        """Set the state of a job, which its run can no longer change; a terminal state stops the run."""
        if state not in {member.value for member in JobState}:
            raise InvalidArgument(f"jobState: {state!r} is no state.")
        uids = self._store.find(job_id)
        if not uids:
            raise NotFound(f"There is no job {job_id}.")
        for uid in uids:
            self._engine.pin(uid, JobState(state))

    # --- inside ---

    @staticmethod
    def _parent(name: str) -> tuple[str, str]:
        match = PARENT.fullmatch(name)
        if match is None:
            raise InvalidArgument(f"Invalid parent: {name!r} is not of the form projects/*/locations/*.")
        check_location(match["location"])
        return canonical(name), match["location"]

    def _kept(self, name: str, *, with_content: bool = False) -> Kept:
        kept = self._store.get(canonical(name), with_content=with_content)
        if kept is None:
            raise NotFound(f"NotebookExecutionJob {name} was not found.")
        return kept

    def _operation(self, name: str) -> Operation:
        if not _OPERATION.fullmatch(name):
            raise InvalidArgument(f"Invalid operation name: {name!r}.")
        operation = self._store.operation(canonical(name))
        if operation is None:
            raise NotFound(f"Operation {name} was not found.")
        return operation

    def _shown(self, operation: Operation, version: str) -> operations_pb2.Operation:
        job = self._store.get_by_uid(operation.uid)
        return operation_message(operation, None if job is None else _view(job, 0), version)


def _view(job: JobMessage, view: int) -> JobMessage:
    """Return a copy of a job for a view: BASIC has no direct content, and no view has `workbench_runtime`."""
    shown = JobMessage()
    shown.CopyFrom(job)
    shown.ClearField("workbench_runtime")
    if view != VIEW_FULL and shown.WhichOneof("notebook_source") == "direct_notebook_source":
        shown.direct_notebook_source.content = b""
        shown.direct_notebook_source.SetInParent()
    return shown


def _digits() -> str:
    return str(10**18 + secrets.randbelow(9 * 10**18))
