"""Create a job: send the request until it is answered, and have it performed once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_nbjob import metrics
from airflow_provider_nbjob.exceptions import (
    TRANSIENT_CODES,
    ApiError,
    CreateUnanswered,
    InvalidJob,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.attempts import ATTEMPT, Attempts
from airflow_provider_nbjob.hooks.hook_lineage import report_notebook
from airflow_provider_nbjob.hooks.notebook_service import CreateNotebookExecutionJobRequest, NotebookExecutionJob
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.job.mark import MARK_LABEL

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

CLOCK_SKEW = timedelta(minutes=5)
# Without an id of its own a create must not be sent again unless it was certainly not performed.
NOT_PERFORMED_CODES = frozenset({"RESOURCE_EXHAUSTED", "ABORTED"})


def create(hook: NotebookExecutionJobHook, request: CreateNotebookExecutionJobRequest) -> str:
    """Send a create until it is answered, and return the job's resource name; see the hook's method for the errors."""
    name = _performed(hook, request)
    metrics.send(metrics.JOBS_SUBMITTED)
    report_notebook(hook, request.notebook_execution_job.gcs_notebook_source.uri, "add_input_asset")
    return name


def _performed(hook: NotebookExecutionJobHook, request: CreateNotebookExecutionJobRequest) -> str:
    parent, job_id, sent = request.parent, request.notebook_execution_job_id, request.notebook_execution_job
    what = f"create of job {job_id or '(id minted by the API)'} in {parent}"
    started = datetime.now(timezone.utc)
    send = Attempts(lambda api: api.create_notebook_execution_job(request, **ATTEMPT))
    try:
        operation = hook.request(
            send,
            what,
            parent.rpartition("/")[2],
            codes=TRANSIENT_CODES if job_id else NOT_PERFORMED_CODES,
            not_found=InvalidJob,  # what a create does not find is a template, a project or a location
            access=permissions.CREATE_JOB,
            runs_as=sent.service_account,
        )
    except NotebookExecutionJobError as error:
        code = error.code if isinstance(error, ApiError) else "INVALID_ARGUMENT"
        cause = error
        if code == "ALREADY_EXISTS":
            try:
                existing = hook.find_notebook_execution_job(name=f"{parent}/notebookExecutionJobs/{job_id}")
            except NotebookExecutionJobError as unread:
                cause = unread
            else:
                since = started - CLOCK_SKEW if send.unanswered else None
                if existing and is_answer(existing, sent, since=since):
                    return str(existing.name)
                raise
        if not send.unanswered:
            raise
        raise _unanswered(cause, code) from error
    try:
        return str(JobName.parse(operation.operation.name))
    except InvalidJob as error:
        if job_id:
            return f"{parent}/notebookExecutionJobs/{job_id}"
        raise CreateUnanswered(f"The {what} was answered without the job's name: {error}", "UNKNOWN") from error


def is_answer(existing: NotebookExecutionJob, sent: NotebookExecutionJob, *, since: datetime | None) -> bool:
    """Return whether a job is what a create made that got no answer.

    :param since: when the create was sent first, less the clocks' difference; None if all attempts got an answer
    """
    if mark := existing.labels.get(MARK_LABEL):
        return bool(mark == sent.labels.get(MARK_LABEL))
    # The API may have replaced its labels by those of the template.
    fields = ("display_name", "gcs_output_uri", "service_account", "execution_user")
    is_alike = all(getattr(existing, name) == getattr(sent, name) for name in fields)
    return since is not None and is_alike and (existing.create_time is None or existing.create_time >= since)


def _unanswered(cause: NotebookExecutionJobError, code: str) -> CreateUnanswered:
    so_what = "(an attempt to create the job got no answer, and may have been performed)"
    error = CreateUnanswered(f"{cause} {so_what}", code)
    error.public_message = f"{cause.public} {so_what}"
    return error
