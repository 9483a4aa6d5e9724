"""The only door to Google: `NotebookService` of the Vertex AI API, and the bucket that holds the output.

One synchronous hook serves worker, triggerer (through a thread) and UI. What Google raises is told in this
provider's own exceptions, so that its callers need no Google package.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from airflow.providers.google.common.hooks.base_google import PROVIDE_PROJECT_ID, GoogleBaseHook
from google.longrunning.operations_pb2 import CancelOperationRequest, ListOperationsRequest

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import (
    TRANSIENT_CODES,
    ApiError,
    InvalidJob,
    JobLost,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.hooks.clients import (
    Endpoint,
    notebook_service_client,
    resolve_endpoint,
)
from airflow_provider_nbjob.hooks.looking import looks_at_job
from airflow_provider_nbjob.hooks.notebook_files import NotebookFiles
from airflow_provider_nbjob.hooks.notebook_service import (
    CreateNotebookExecutionJobRequest,
    DeleteNotebookExecutionJobRequest,
    GetNotebookExecutionJobRequest,
    ListNotebookExecutionJobsRequest,
    NotebookExecutionJob,
    NotebookServiceClient,
)
from airflow_provider_nbjob.hooks.requests import credentials_error, perform
from airflow_provider_nbjob.job import JOB_ID_FORM, JobName, JobResult, state_of
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.record import JobSteps
from airflow_provider_nbjob.spec import NotebookExecutionJobSpec

T = TypeVar("T")

PAGE_SIZE_MAX = 100  # the API rejects more (facts: a third party's report; no page of Google's says so)
# One attempt: at most 30 s, and no retries of the client library's beside our own.
ATTEMPT: dict[str, Any] = {"timeout": 30.0, "retry": None}
STOP_GRACE = 10.0  # seconds that a cancelled job is given before it is deleted
CLOCK_SKEW = timedelta(minutes=5)

# Without an id of its own a create must not be sent again unless it was certainly not performed.
NOT_PERFORMED_CODES = frozenset({"RESOURCE_EXHAUSTED", "ABORTED"})


class NotebookExecutionJobHook(NotebookFiles, GoogleBaseHook):
    """Create, watch and stop `NotebookExecutionJob`s, and find what they wrote.

    Transient errors (see `exceptions.TRANSIENT_CODES`) are retried with exponential back-off and jitter for up
    to 60 s; a call that hung for 30 s gets a new client. An answer UNAUTHENTICATED is asked for once more with new
    credentials, as a token may have expired. All methods take `project_id` (default: the connection's) and
    `location` (a region), and raise `InvalidJob` for INVALID_ARGUMENT and for malformed names, `JobLost` for the
    NOT_FOUND of a job, `CredentialsUnavailable` at once if there are no credentials that can be used, and
    `ApiError` for all else.

    :param gcp_conn_id: an Airflow connection of type `google_cloud_platform`
    :param impersonation_chain: service account, or chain of accounts, to impersonate
    :param api_endpoint: host of the API, or ``http://host:port`` for plaintext without credentials; one that
        ``[nbjob] allowed_api_endpoints`` allows. Default: the connection's extra `api_endpoint`, then the variable
        ``NBJOB_EMULATOR_HOST`` (plaintext too), then Google's own host of the location
    """

    def __init__(
        self,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain, **kwargs)
        self.api_endpoint = api_endpoint

    # --- where ---------------------------------------------------------------------------------------------

    def get_endpoint(self, location: str) -> Endpoint:
        """Return where requests for `location` go.

        :raises InvalidJob: if the location is malformed, or the endpoint is not allowed
        """
        return resolve_endpoint(location, self.api_endpoint or self._get_field("api_endpoint"))

    def get_conn(self, location: str) -> NotebookServiceClient:
        """The API client for `location`: one per credentials and endpoint in this process."""
        return notebook_service_client(self, self.get_endpoint(location))

    def get_project_id(self, project_id: str | None, location: str) -> str:
        """Return the given project, or the connection's.

        :raises InvalidJob: if there is neither, or it is malformed
        """
        project = project_id or self._get_field("project")
        if not project and not self.get_endpoint(location).is_plaintext:
            project = self.project_id
        if not project or project == PROVIDE_PROJECT_ID:
            raise InvalidJob(f"project_id: not given, and connection {self.gcp_conn_id!r} names no project")
        return names.check_project(str(project))

    def get_credentials_and_project_id(self) -> tuple[Any, str | None]:
        """Return the connection's credentials and project; see `GoogleBaseHook`.

        :raises InvalidJob: if an account of the impersonation chain, which stands in a URL, is malformed
        :raises ApiError: if there are none that can be used: `CredentialsUnavailable`, or a transient one
        """
        chain = self.impersonation_chain or self._get_field("impersonation_chain") or ()
        for account in chain.split(",") if isinstance(chain, str) else chain:
            names.check(
                "impersonation_chain", account.strip(" "), names.ACCOUNT, "name@project.iam.gserviceaccount.com"
            )
        try:
            credentials_and_project: tuple[Any, str | None] = super().get_credentials_and_project_id()
        except Exception as error:  # of google.auth, of a key file that is missing or none, of a faulty connection
            raise credentials_error(error, f"connection {self.gcp_conn_id!r}") from error
        return credentials_and_project

    def get_job_name(self, name: str, location: str | None = None, project_id: str | None = None) -> JobName:
        """Return the job's name from a resource name, or from a bare id with its location.

        :raises InvalidJob: if the name is malformed, or the location of a bare id is missing
        """
        if "/" in str(name):
            return JobName.parse(name)
        if not location:
            raise InvalidJob(f"location: required with the bare job id {names.shown(name)}")
        return JobName(self.get_project_id(project_id, location), location, name)

    def get_parent(self, project_id: str | None, location: str) -> str:
        """Return ``projects/{project}/locations/{location}``.

        :raises InvalidJob: if a part is malformed, or there is no project
        """
        names.check_location(location)
        return f"projects/{self.get_project_id(project_id, location)}/locations/{location}"

    # --- requests ------------------------------------------------------------------------------------------

    def create_notebook_execution_job(
        self,
        *,
        job: NotebookExecutionJobSpec | Mapping[str, Any] | NotebookExecutionJob,
        location: str,
        project_id: str | None = None,
        notebook_execution_job_id: str | None = None,
    ) -> str:
        """Submit a job and return its resource name; the job's LRO is not waited for.

        With an id, a create whose answer was lost is sent again, and ALREADY_EXISTS then means that it had been
        performed. Without one it is sent again only where it certainly was not.

        :param job: what to run, as a spec (which is validated), a dict in the proto's field names, or the message
        :param notebook_execution_job_id: id of the job; default: the one of the spec, else the API mints one
        :raises ApiError: code ALREADY_EXISTS where a job of this id was there before
        """
        if isinstance(job, NotebookExecutionJobSpec):
            job.validate()
            notebook_execution_job_id = notebook_execution_job_id or job.notebook_execution_job_id
            job = job.to_api(self.get_project_id(project_id, location))
        parent = self.get_parent(project_id, location)
        if notebook_execution_job_id:
            names.check("notebook_execution_job_id", notebook_execution_job_id, names.JOB_ID, JOB_ID_FORM)
        request = CreateNotebookExecutionJobRequest(
            parent=parent,
            notebook_execution_job=_message(job),
            notebook_execution_job_id=notebook_execution_job_id or "",
        )
        what = f"create of job {notebook_execution_job_id or '(id minted by the API)'} in {parent}"
        started = datetime.now(timezone.utc)
        attempts = 0

        def send(api: NotebookServiceClient) -> Any:
            nonlocal attempts
            attempts += 1
            return api.create_notebook_execution_job(request, **ATTEMPT)

        try:
            codes = TRANSIENT_CODES if notebook_execution_job_id else NOT_PERFORMED_CODES
            # What a create does not find is a template, a project or a location: bad input.
            operation = self._request(send, what, location, codes=codes, not_found=InvalidJob)
        except ApiError as error:
            if error.code != "ALREADY_EXISTS" or attempts == 1:
                raise
            existing = self.get_notebook_execution_job(
                name=f"{parent}/notebookExecutionJobs/{notebook_execution_job_id}"
            )
            if existing.create_time < started - CLOCK_SKEW:
                raise
            return str(existing.name)
        return str(JobName.parse(operation.operation.name))

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
        :raises JobLost: where there is no such job
        """
        job = self.get_job_name(name, location, project_id)
        request = GetNotebookExecutionJobRequest(name=str(job), view=_view(view))
        return self._request(
            lambda api: api.get_notebook_execution_job(request, **ATTEMPT),
            f"get of {job}",
            job.location,
            codes=TRANSIENT_CODES if retry else (),
            renews=retry if renew is None else renew,
            not_found=JobLost,
        )

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
        request = ListNotebookExecutionJobsRequest(
            parent=self.get_parent(project_id, location),
            filter=filter or "",
            order_by=order_by or "",
            page_size=min(page_size, PAGE_SIZE_MAX),
            view=_view(view),
        )
        while True:
            page = self._list_page(request, location, retry=retry, renew=retry if renew is None else renew)
            yield from page.notebook_execution_jobs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def list_changes(
        self, *, location: str, project_id: str | None = None, page_token: str = ""
    ) -> tuple[list[tuple[str, str, float]], str]:
        """Return a page of the jobs of a location, the one that changed last first; one attempt.

        Reads the plain protobuf messages: wrapping each in proto-plus would be most of what a sweep costs.

        :param page_token: of the page before; default: the first page
        :return: a (name, state, time of the change in POSIX seconds) for each job, and the token of the next page
        """
        request = ListNotebookExecutionJobsRequest(
            parent=self.get_parent(project_id, location),
            order_by="update_time desc",
            page_size=PAGE_SIZE_MAX,
            page_token=page_token,
            view=_view("BASIC"),
        )
        page = self._list_page(request, location, retry=False, renew=True)
        return [
            (job.name, _state_name(job), job.update_time.seconds + job.update_time.nanos / 1e9)
            for job in type(page).pb(page).notebook_execution_jobs
        ], page.next_page_token

    def delete_notebook_execution_job(
        self, *, name: str, location: str | None = None, project_id: str | None = None
    ) -> None:
        """Delete a job; one that runs is stopped by it. Its output in Cloud Storage stays.

        :raises JobLost: where there is no such job
        """
        job = self.get_job_name(name, location, project_id)
        request = DeleteNotebookExecutionJobRequest(name=str(job))
        self._request(
            lambda api: api.delete_notebook_execution_job(request, **ATTEMPT),
            f"delete of {job}",
            job.location,
            not_found=JobLost,
        )

    def cancel_notebook_execution_job(
        self,
        *,
        name: str,
        location: str | None = None,
        project_id: str | None = None,
        grace: float = STOP_GRACE,
    ) -> None:
        """Stop a job: cancel its operation, and delete it where that is refused or without effect.

        The API has no cancel of its own for a job, and whether cancelling the operation stops a run is not
        documented. A job that has ended, or is gone, is left as it is.

        :param grace: seconds that a cancelled job is given before it is deleted
        """
        job = self.get_job_name(name, location, project_id)
        try:
            if self._cancel_operations(job) and self._is_inactive(job, within=grace):
                self.log.info("Stopped notebook job %s", job)
                return
            self.delete_notebook_execution_job(name=str(job))
            self.log.info("Stopped notebook job %s by deleting it", job)
        except JobLost:
            self.log.info("Notebook job %s is gone already", job)

    # --- waiting -------------------------------------------------------------------------------------------

    def wait_for_notebook_execution_job(
        self, *, name: str, poll_interval: float = 10.0, end_time: float | None = None, steps: JobSteps | None = None
    ) -> NotebookExecutionJob:
        """Block until a job has ended and return it, whatever its state; see `looks_at_job` for the rest.

        :param steps: where the states that it was seen in are noted down
        """
        for look in looks_at_job(self, name, poll_interval=poll_interval, end_time=end_time):
            if look.job and steps is not None:
                steps.look(look.job)
            if look.pause is None:
                break
            time.sleep(look.pause)
        return look.job

    def find_scheduled_job(
        self, *, schedule: str, created_after: float, location: str, project_id: str | None = None
    ) -> NotebookExecutionJob | None:
        """Return the newest job that a schedule launched at or after a time, or `None`; one attempt.

        :param schedule: resource name or bare id of the schedule
        :param created_after: POSIX seconds
        :raises InvalidJob: if the schedule is malformed, or in another location
        """
        schedule_id = _schedule_id(schedule, location)
        for job in self.list_notebook_execution_jobs(
            location=location,
            project_id=project_id,
            filter=f'schedule="{schedule_id}"',
            order_by="create_time desc",
            page_size=10,
            retry=False,
            renew=True,
        ):
            if job.schedule_resource_name.rpartition("/")[2] == schedule_id:
                return job if job.create_time.timestamp() >= created_after else None
        return None

    # --- output --------------------------------------------------------------------------------------------

    def get_result(self, job: NotebookExecutionJob) -> JobResult:
        """Return what an ended job came to, masked, with the executed notebook if one is found."""
        return masked_result(job, output_notebook_uri=self.find_output_notebook(job))

    # --- inside --------------------------------------------------------------------------------------------

    def _cancel_operations(self, job: JobName) -> bool:
        """Cancel what the job has under way; whether the API took it."""
        try:
            operations = self._request(
                lambda api: api.list_operations(ListOperationsRequest(name=str(job)), **ATTEMPT),
                f"list of operations of {job}",
                job.location,
                not_found=JobLost,
            ).operations
            for operation in [o for o in operations if not o.done and _is_of(o.name, job)]:
                request = CancelOperationRequest(name=operation.name)
                self._request(
                    lambda api, request=request: api.cancel_operation(request, **ATTEMPT),  # type: ignore[misc]
                    f"cancel of {operation.name}",
                    job.location,
                )
        except (ApiError, InvalidJob) as error:
            self.log.info("Cancelling the operation was refused, so the job will be deleted: %s", error)
            return False
        return True

    def _list_page(self, request: ListNotebookExecutionJobsRequest, location: str, *, retry: bool, renew: bool) -> Any:
        pager = self._request(
            lambda api: api.list_notebook_execution_jobs(request, **ATTEMPT),
            f"list of jobs in {request.parent}",
            location,
            codes=TRANSIENT_CODES if retry else (),
            renews=renew,
        )
        return next(iter(pager.pages))

    def _is_inactive(self, job: JobName, within: float) -> bool:
        end_time = time.monotonic() + within
        while state_of(self.get_notebook_execution_job(name=str(job))).is_active:
            if time.monotonic() > end_time:
                return False
            time.sleep(1)
        return True

    def _request(
        self,
        call: Callable[[NotebookServiceClient], T],
        what: str,
        location: str,
        *,
        codes: Collection[str] = TRANSIENT_CODES,
        renews: bool = True,
        not_found: type[NotebookExecutionJobError] | None = None,
    ) -> T:
        """Perform one request, again after errors of `codes`; see `perform`.

        :param call: one attempt, with the client to make it with
        """
        endpoint = self.get_endpoint(location)
        return perform(
            lambda: call(self.get_conn(location)),
            f"{what} at {endpoint.address}",
            log=self.log,
            codes=codes,
            not_found=not_found,
            renew=lambda: notebook_service_client.forget(self, endpoint),
            renews=renews,
            credentials=None if endpoint.is_plaintext else self.get_credentials,
        )


def masked_result(job: NotebookExecutionJob, *, output_notebook_uri: str | None = None) -> JobResult:
    """Return what a job came to, without the secrets that Airflow masks: it gets into XComs and exceptions."""
    result = JobResult.from_job(job, output_notebook_uri=output_notebook_uri)
    return replace(result, status=redact(result.status), display_name=redact(result.display_name))


def _is_of(operation: str, job: JobName) -> bool:
    """Return whether an operation is the job's own; its name may have the project's number for its id."""
    try:
        return JobName.parse(operation).job_id == job.job_id
    except InvalidJob:
        return False


def _schedule_id(schedule: str, location: str) -> str:
    """Return the id of a schedule from its resource name, or the bare id that it is.

    :raises InvalidJob: if it is neither, or in another location
    """
    form = "projects/{project}/locations/{location}/schedules/{schedule}, or the bare id"
    pattern = rf"(?:projects/{names.PROJECT}/locations/{names.LOCATION}/schedules/)?{names.RESOURCE_ID}"
    names.check("schedule", schedule, pattern, form)
    prefix, _, schedule_id = schedule.rpartition("/")
    if prefix and prefix.split("/")[3] != location:
        raise InvalidJob(f"schedule: {schedule!r} is not in the location {location!r}")
    return schedule_id


def _message(job: Mapping[str, Any] | NotebookExecutionJob) -> NotebookExecutionJob:
    try:
        return NotebookExecutionJob(job)
    except (ValueError, TypeError) as error:  # an unknown field or a wrong type, in a nested dict
        raise InvalidJob(f"notebook_execution_job: {error}") from error


def _state_name(job: Any) -> str:
    """The name of a plain message's state; a number without a name is kept, as `state_of` does."""
    numbers = job.DESCRIPTOR.fields_by_name["job_state"].enum_type.values_by_number
    known = numbers.get(job.job_state)
    return known.name if known else f"JOB_STATE_{job.job_state}"


def _view(view: str) -> str:
    return f"NOTEBOOK_EXECUTION_JOB_VIEW_{view}"
