"""Stop a job: cancel its operations, or delete it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from google.longrunning.operations_pb2 import CancelOperationRequest, GetOperationRequest, ListOperationsRequest
from google.rpc import code_pb2

from airflow_provider_nbjob import metrics
from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, JobLost
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.attempts import ATTEMPT
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.masking import redact

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


def stop(hook: NotebookExecutionJobHook, job: JobName, *, grace: float) -> bool:
    """Stop a job, and return whether there was one; see `NotebookExecutionJobHook.cancel_notebook_execution_job`."""
    try:
        how = ""
        if not (cancel_operations(hook, job) and is_inactive(hook, job, within=grace)):
            hook.delete_notebook_execution_job(name=str(job), wait=grace)
            how = " by deleting it"
    except JobLost:
        hook.log.info("Notebook job %s is gone already", job)
        return False
    metrics.send(metrics.JOBS_STOPPED)
    hook.log.info("Stopped notebook job %s%s", job, how)
    return True


def cancel_operations(hook: NotebookExecutionJobHook, job: JobName) -> bool:
    """Cancel what a job has under way, and return whether the API took it."""
    try:
        operations = hook.request(
            lambda api: api.list_operations(ListOperationsRequest(name=str(job)), **ATTEMPT),
            f"list of operations of {job}",
            job.location,
            not_found=JobLost,
            access=permissions.LIST_OPERATIONS,
        ).operations
        for operation in [o for o in operations if not o.done and _is_of(o.name, job)]:
            request = CancelOperationRequest(name=operation.name)
            hook.request(
                lambda api, request=request: api.cancel_operation(request, **ATTEMPT),  # type: ignore[misc]
                f"cancel of {operation.name}",
                job.location,
                access=permissions.CANCEL_OPERATION,
            )
    except (ApiError, InvalidJob) as error:
        hook.log.info("Cancelling the operation was refused, so the job will be deleted: %s", error)
        return False
    return True


def _is_of(operation: str, job: JobName) -> bool:
    """Return whether an operation is the job's own; its name may have the project's number for its id."""
    try:
        return JobName.parse(operation).job_id == job.job_id
    except InvalidJob:
        return False


def is_inactive(hook: NotebookExecutionJobHook, job: JobName, *, within: float) -> bool:
    """Wait until a job no longer holds a machine; return whether it came to that in so many seconds."""
    end_time = time.monotonic() + within
    while state_of(hook.get_notebook_execution_job(name=str(job))).is_active:
        if time.monotonic() > end_time:
            return False
        time.sleep(1)
    return True


def await_deletion(hook: NotebookExecutionJobHook, job: JobName, operation: Any, *, within: float) -> None:
    """Wait until a delete's operation has ended.

    :param operation: the message of the long-running operation; None if the API returned none
    :raises ApiError: if it ends with an error
    """
    end_time = time.monotonic() + within
    while operation is not None and operation.name:
        if number := operation.error.code:
            code = code_pb2.Code.Name(number) if number in code_pb2.Code.values() else "UNKNOWN"
            raise ApiError(redact(f"The delete of {job} failed: {code}: {operation.error.message}"), code)
        if operation.done:
            return
        if time.monotonic() > end_time:
            hook.log.warning("The delete of %s was accepted, and is still under way after %.0f s", job, within)
            return
        time.sleep(1)
        request = GetOperationRequest(name=operation.name)
        try:
            operation = hook.request(
                lambda api, request=request: api.get_operation(request, **ATTEMPT),  # type: ignore[misc]
                f"look at {operation.name}",
                job.location,
                not_found=JobLost,
                access=permissions.GET_OPERATION,
            )
        except JobLost:
            return
        except (ApiError, InvalidJob) as error:
            hook.log.warning("The delete of %s was accepted, but its end cannot be seen: %s", job, error)
            return
