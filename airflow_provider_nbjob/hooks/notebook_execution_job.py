"""Call `NotebookService` of the Vertex AI API, and read the bucket that holds the output.

One synchronous hook serves worker, triggerer (through a thread) and UI. It translates Google's exceptions into this
provider's own, so that its callers need no Google package.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import TRANSIENT_CODES, InvalidJob, JobLost, NotebookExecutionJobError
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.attempts import ATTEMPT, Attempts
from airflow_provider_nbjob.hooks.connected import ConnectedHook
from airflow_provider_nbjob.hooks.creating import create
from airflow_provider_nbjob.hooks.files import NotebookFiles
from airflow_provider_nbjob.hooks.notebook_service import (
    CreateNotebookExecutionJobRequest,
    DeleteNotebookExecutionJobRequest,
    GetNotebookExecutionJobRequest,
    ListNotebookExecutionJobsRequest,
    NotebookExecutionJob,
)
from airflow_provider_nbjob.hooks.polling import Poller, poll_until_ended
from airflow_provider_nbjob.hooks.stopping import await_deletion, stop
from airflow_provider_nbjob.job import JOB_ID_FORM, JobName, JobResult
from airflow_provider_nbjob.job.deadlines import Deadline
from airflow_provider_nbjob.job.intervals import POLL_SECONDS
from airflow_provider_nbjob.job.mark import MARK_LABEL, Mark, new_nonce
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.job.schedule_window import ScheduleWindow
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook import OUTPUT_SECONDS

T = TypeVar("T")

PAGE_SIZE_MAX = 100  # the API rejects more (a third party reports it; no page of Google says so)
DELETE_SECONDS = 60.0  # that the hook waits for a delete's operation
STOP_GRACE = 10.0  # seconds that a cancelled job is given before it is deleted
NO_OUTPUT_URI = "The job has no gcs_output_uri, so its executed notebook was kept nowhere."


class NotebookExecutionJobHook(ConnectedHook):
    """Create, watch and stop `NotebookExecutionJob`s, and find what they wrote.

    Transient errors (see `exceptions.TRANSIENT_CODES`) are retried with exponential back-off and jitter for up
    to 60 s; a call that hung for 30 s gets a new client. An answer UNAUTHENTICATED is asked for once more with new
    credentials, as a token may have expired. All methods take `project_id` (default: the connection's) and
    `location` (a region), and raise `InvalidJob` for INVALID_ARGUMENT and for malformed names, `JobLost` for the
    NOT_FOUND of a job, `CredentialsUnavailable` at once if there are no credentials that can be used,
    `ConnectionUnavailable` if Airflow returns no connection, and `ApiError` for all else. What Google's clients or
    Airflow raised is the error's cause. A PERMISSION_DENIED names the role and the account that most likely lack.

    :param gcp_conn_id: an Airflow connection of type `google_cloud_platform`
    :param impersonation_chain: service account, or chain of accounts, to impersonate
    :param api_endpoint: host of the API, or ``http://host:port`` for plaintext without credentials; one that
        ``[nbjob] allowed_api_endpoints`` allows. Default: the connection's extra `api_endpoint`, then the variable
        ``NBJOB_EMULATOR_HOST`` (plaintext too), then Google's own host of the location
    """

    @cached_property
    def files(self) -> NotebookFiles:
        """The notebooks of the jobs, in Cloud Storage and Dataform."""
        return NotebookFiles(self)

    # --- requests ------------------------------------------------------------------------------------------

    def create_notebook_execution_job(
        self,
        *,
        job: NotebookExecutionJobSpec | Mapping[str, Any] | NotebookExecutionJob,
        location: str,
        project_id: str | None = None,
        notebook_execution_job_id: str | None = None,
        default_labels: bool = True,
    ) -> str:
        """Submit a job and return its resource name; the job's LRO is not waited for.

        With an id, a create whose answer was lost is sent again. ALREADY_EXISTS then means that it had been performed,
        if the job has the label ``airflow-submission`` that this create sent. If it has no such label, it must be
        like the one that was sent, and not older. Without an id a create is sent again only if it certainly was not
        performed.

        :param job: what to run, as a spec (which is validated), a dict in the proto's field names, or the message
        :param notebook_execution_job_id: id of the job; default: the one of the spec, else the API mints one
        :param default_labels: whether to add that label, if the job does not have it yet
        :raises ApiError: no job was submitted; code ALREADY_EXISTS if one of this id was there before
        :raises CreateUnanswered: the job may have been submitted
        """
        if isinstance(job, NotebookExecutionJobSpec):
            job = job.validated()
            notebook_execution_job_id = notebook_execution_job_id or job.notebook_execution_job_id
            job = job.to_api(self.get_project_id(project_id, location))
        parent = self.get_parent(project_id, location)
        if notebook_execution_job_id:
            names.check("notebook_execution_job_id", notebook_execution_job_id, names.JOB_ID, JOB_ID_FORM)
        message = _message(NotebookExecutionJob, "notebook_execution_job", job)  # a copy: the caller's stays as it is
        if default_labels and MARK_LABEL not in message.labels:
            message.labels[MARK_LABEL] = Mark(new_nonce()).label
        return create(
            self,
            CreateNotebookExecutionJobRequest(
                parent=parent,
                notebook_execution_job=message,
                notebook_execution_job_id=notebook_execution_job_id or "",
            ),
        )

    def get_notebook_execution_job(
        self,
        *,
        name: str,
        location: str | None = None,
        project_id: str | None = None,
        view: str = "BASIC",
        retry: bool = True,
        renew: bool | None = None,
    ) -> NotebookExecutionJob:
        """Read a job.

        :param name: resource name, or bare id with `location`
        :param view: ``"BASIC"`` leaves out the content of a direct notebook source, ``"FULL"`` has all
        :param retry: false: one attempt
        :param renew: whether to ask once more with new credentials after UNAUTHENTICATED, as who polls does. Default:
            `retry`
        :raises JobLost: if there is no such job
        """
        job = self.get_job_name(name, location, project_id)
        request = _message(GetNotebookExecutionJobRequest, "view", {"name": str(job), "view": _view(view)})
        return self.request(
            lambda api: api.get_notebook_execution_job(request, **ATTEMPT),
            f"get of {job}",
            job.location,
            codes=TRANSIENT_CODES if retry else (),
            renews=retry if renew is None else renew,
            not_found=JobLost,
            access=permissions.GET_JOB,
        )

    def find_notebook_execution_job(self, *, name: str, retry: bool = True) -> NotebookExecutionJob | None:
        """Return a job, or None if there is none; see `get_notebook_execution_job`."""
        try:
            return self.get_notebook_execution_job(name=name, retry=retry)
        except JobLost:  # an id may stay taken for a while after its job was deleted
            return None

    def list_notebook_execution_jobs(
        self,
        *,
        location: str,
        project_id: str | None = None,
        filter: str | None = None,
        order_by: str | None = None,
        page_size: int = PAGE_SIZE_MAX,
        view: str = "BASIC",
        retry: bool = True,
        renew: bool | None = None,
    ) -> Iterator[NotebookExecutionJob]:
        """Iterate over the jobs of a location, fetching a page when it is reached.

        :param filter: on `notebookExecutionJob`, `displayName` or `schedule`; the API rejects any on the state or a
            time
        :param order_by: such as ``"update_time desc"``; the fields are display_name, create_time, update_time
        :param page_size: jobs a request, at most 100
        :param retry: false: one attempt a page
        :param renew: see `get_notebook_execution_job`
        """
        if not isinstance(page_size, int) or page_size < 0:
            raise InvalidJob(f"page_size: {names.shown(page_size)} is not a number of jobs")
        asked = {
            "parent": self.get_parent(project_id, location),
            "filter": filter or "",
            "order_by": order_by or "",
            "page_size": min(page_size, PAGE_SIZE_MAX),
            "view": _view(view),
        }
        request = _message(ListNotebookExecutionJobsRequest, "filter, order_by, view", asked)
        while True:
            page = self._list_page(request, location, retry=retry, renew=retry if renew is None else renew)
            yield from page.notebook_execution_jobs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def list_changes(
        self, *, location: str, project_id: str | None = None, page_token: str = ""
    ) -> tuple[list[Any], str]:
        """Return a page of the jobs of a location, the one that changed last first; one attempt.

        :param page_token: of the page before; default: the first page
        :return: the plain protobuf message of each job, and the token of the next page. To wrap each in proto-plus
            would be most of what a sweep costs: see `wrapped`
        """
        asked = {
            "parent": self.get_parent(project_id, location),
            "order_by": "update_time desc",
            "page_size": PAGE_SIZE_MAX,
            "page_token": page_token,
            "view": _view("BASIC"),
        }
        request = _message(ListNotebookExecutionJobsRequest, "page_token", asked)
        page = self._list_page(request, location, retry=False, renew=True)
        return list(type(page).pb(page).notebook_execution_jobs), page.next_page_token

    @staticmethod
    def wrapped(message: Any) -> NotebookExecutionJob:
        """Return the job of a plain protobuf message."""
        job: NotebookExecutionJob = NotebookExecutionJob.wrap(message)
        return job

    def delete_notebook_execution_job(
        self,
        *,
        name: str,
        location: str | None = None,
        project_id: str | None = None,
        wait: float = DELETE_SECONDS,
    ) -> None:
        """Delete a job; one that runs is stopped by it. Its output in Cloud Storage stays.

        NOT_FOUND after an attempt that got no answer means that this attempt deleted it.

        :param wait: seconds to wait for the end of the delete's operation; one that takes longer is taken for a success
        :raises JobLost: if there is no such job
        :raises ApiError: if the delete, or its operation, fails
        """
        job = self.get_job_name(name, location, project_id)
        request = DeleteNotebookExecutionJobRequest(name=str(job))
        send = Attempts(lambda api: api.delete_notebook_execution_job(request, **ATTEMPT))
        try:
            answer = self.request(
                send, f"delete of {job}", job.location, not_found=JobLost, access=permissions.DELETE_JOB
            )
        except JobLost:
            if not send.unanswered:
                raise
            self.log.info("Notebook job %s is gone: an attempt to delete it had got no answer", job)
            return
        await_deletion(self, job, getattr(answer, "operation", None), within=wait)

    def cancel_notebook_execution_job(
        self,
        *,
        name: str,
        location: str | None = None,
        project_id: str | None = None,
        grace: float = STOP_GRACE,
    ) -> bool:
        """Stop a job: cancel its operation, and delete it if that is refused or without effect.

        The API has no cancel of its own for a job, and whether cancelling the operation stops a run is not
        documented. A job that has ended, or is gone, is left as it is.

        :param grace: seconds that a cancelled job is given before it is deleted
        :return: whether there was such a job
        """
        return stop(self, self.get_job_name(name, location, project_id), grace=grace)

    # --- waiting -------------------------------------------------------------------------------------------

    def wait_for_notebook_execution_job(
        self,
        *,
        name: str,
        poll_interval: float = POLL_SECONDS,
        end_time: float | None = None,
        steps: JobSteps | None = None,
    ) -> NotebookExecutionJob:
        """Block until a job has ended and return it, in any state; see `poll_until_ended` for the errors.

        :param steps: takes the states that it was seen in
        """
        job_name = JobName.parse(name)
        polls = poll_until_ended(
            Poller(
                self.log, f"Notebook job {job_name}", self.reread_connection, has_deadline=Deadline(end_time).is_finite
            ),
            lambda: self.get_notebook_execution_job(name=name, retry=False, renew=True),
            job_name,
            log=self.log,
            poll_interval=poll_interval,
            end_time=end_time,
        )
        for poll in polls:
            if poll.job and steps is not None:
                steps.look(poll.job)
            if poll.pause is None:
                break
            time.sleep(poll.pause)
        return poll.job

    def find_scheduled_job(
        self,
        *,
        schedule: str,
        created_after: float,
        location: str,
        project_id: str | None = None,
        created_before: float | None = None,
        run_time: float | None = None,
    ) -> NotebookExecutionJob | None:
        """Return the job that a schedule launched in a time, or `None`; one attempt for each page.

        :param schedule: resource name or bare id of the schedule
        :param created_after: POSIX seconds, as for `created_before` and `run_time`; see `ScheduleWindow`
        :raises InvalidJob: if the schedule is malformed, or in another location
        """
        schedule_id = names.schedule_id(schedule, location)
        window = ScheduleWindow(created_after, created_before, run_time)
        is_past = created_before is not None and created_before < time.time()
        jobs = self.list_notebook_execution_jobs(
            location=location,
            project_id=project_id,
            filter=f'schedule="{schedule_id}"',
            order_by="create_time desc",
            page_size=PAGE_SIZE_MAX if is_past else 10,
            retry=False,
            renew=True,
        )
        return window.choose(job for job in jobs if job.schedule_resource_name.rpartition("/")[2] == schedule_id)

    # --- output --------------------------------------------------------------------------------------------

    def get_result(self, job: NotebookExecutionJob, *, timeout: float = OUTPUT_SECONDS) -> JobResult:
        """Return what an ended job came to, masked, with the executed notebook if one is found.

        A bucket that cannot be listed decides nothing about the job: the log says why, as does `output_error`.

        :param timeout: seconds that looking for the executed notebook may take
        """
        if not job.gcs_output_uri:
            return masked_result(job, output_error=NO_OUTPUT_URI)
        try:
            stored = self.files.stat_output_notebook(job, timeout=timeout)
        except NotebookExecutionJobError as error:
            self.log.warning("%s", error)
            return masked_result(job, output_error=error.public)
        return masked_result(job, output_notebook_uri=stored and stored.uri)

    def job_as_known(
        self, *, name: str, job_state: str, display_name: str, gcs_output_uri: str
    ) -> NotebookExecutionJob:
        """Return what is known of a job that the API does not show, as if it had shown it."""
        return NotebookExecutionJob(
            name=name, job_state=job_state, display_name=display_name, gcs_output_uri=gcs_output_uri
        )

    # --- inside --------------------------------------------------------------------------------------------

    def _list_page(self, request: ListNotebookExecutionJobsRequest, location: str, *, retry: bool, renew: bool) -> Any:
        pager = self.request(
            lambda api: api.list_notebook_execution_jobs(request, **ATTEMPT),
            f"list of jobs in {request.parent}",
            location,
            codes=TRANSIENT_CODES if retry else (),
            renews=renew,
            access=permissions.LIST_JOBS,
        )
        return next(iter(pager.pages))


def masked_result(
    job: NotebookExecutionJob, *, output_notebook_uri: str | None = None, output_error: str | None = None
) -> JobResult:
    """Return what a job came to, without the secrets that Airflow masks: it gets into XComs and exceptions."""
    result = JobResult.from_job(job, output_notebook_uri=output_notebook_uri)
    return (result.with_output_error(output_error) if output_error else result).with_texts(redact)


def _message(kind: Callable[[Any], T], field: str, value: Any) -> T:
    """Return a message of the API.

    :param kind: its class
    :param field: how an error names what the message is made of
    :raises InvalidJob: if a field is unknown or of a wrong type, however deep
    """
    try:
        return kind(value)
    except Exception as error:  # of proto-plus: ValueError and TypeError, and others
        raise InvalidJob(f"{field}: {error}") from error


def _view(view: str) -> str:
    return f"NOTEBOOK_EXECUTION_JOB_VIEW_{view}"
