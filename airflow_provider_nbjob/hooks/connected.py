"""Connect to an API of Google's: read the Airflow connection and its credentials, find the endpoint, send a request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from airflow.providers.google.common.hooks.base_google import PROVIDE_PROJECT_ID, GoogleBaseHook

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import (
    TRANSIENT_CODES,
    CredentialsUnavailable,
    InvalidJob,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.clients import Endpoint, notebook_service_client, resolve_endpoint
from airflow_provider_nbjob.hooks.google_compat import connection_field, forget_credentials
from airflow_provider_nbjob.hooks.notebook_service import NotebookServiceClient
from airflow_provider_nbjob.hooks.retrying import connection_error, credentials_error, perform
from airflow_provider_nbjob.job import JobName

T = TypeVar("T")


class ConnectedHook(GoogleBaseHook):
    """A hook that reads its connection, and sends requests with it; `NotebookExecutionJobHook` has the parameters."""

    def __init__(
        self,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            super().__init__(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain, **kwargs)
        except NotebookExecutionJobError:
            raise
        except Exception as error:  # of the connection's extra, or of `quota_project_id`
            raise credentials_error(error, f"connection {gcp_conn_id!r}") from error
        _check_extra(self.extras, gcp_conn_id)
        self.api_endpoint = api_endpoint

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """Return an Airflow connection.

        :raises ConnectionUnavailable: if Airflow does not return it, for any reason
        """
        try:
            return super().get_connection(conn_id)
        except Exception as error:  # of Airflow, of its supervisor's socket, of a secrets backend
            raise connection_error(error, conn_id) from error

    def get_endpoint(self, location: str) -> Endpoint:
        """Return the endpoint of requests for `location`.

        :raises InvalidJob: if the location is malformed, or the endpoint is not allowed
        """
        return resolve_endpoint(location, self.api_endpoint or connection_field(self, "api_endpoint"))

    def get_conn(self, location: str) -> NotebookServiceClient:  # type: ignore[override]  # each location has its own
        """Return the API client for `location`: one per credentials and endpoint in this process.

        :raises InvalidJob: as `get_endpoint` does
        :raises ApiError: if it cannot be made
        """
        endpoint = self.get_endpoint(location)
        try:
            return notebook_service_client(self, endpoint)
        except NotebookExecutionJobError:
            raise
        except Exception as error:  # of google.auth, or of the client library's own checks
            beginning = f"The client of {endpoint.address} could not be made"
            raise credentials_error(error, "client", beginning=beginning) from error

    def reread_connection(self) -> None:
        """Read the connection again: its key or its endpoint may have changed. If that fails, it stays as it was.

        :raises ConnectionUnavailable: if Airflow does not return it
        :raises CredentialsUnavailable: if it cannot be used
        """
        connection = self.get_connection(self.gcp_conn_id)
        try:
            extra = connection.extra_dejson
        except Exception as error:  # of JSON that is nested too deep, or of the supervisor that masks it
            raise credentials_error(error, f"connection {self.gcp_conn_id!r}") from error
        _check_extra(extra, self.gcp_conn_id)
        self.extras = extra
        forget_credentials(self)

    def forget_client(self, location: str) -> None:
        """Drop the client for `location`, which may hang. The next request makes a new one, with new credentials."""
        notebook_service_client.forget(self, self.get_endpoint(location))

    def get_project_id(self, project_id: str | None, location: str) -> str:
        """Return the given project, or the connection's.

        :raises InvalidJob: if there is neither, or it is malformed
        """
        project = project_id or connection_field(self, "project")
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
        for account in permissions.impersonated(self):
            names.check("impersonation_chain", account, names.ACCOUNT, "name@project.iam.gserviceaccount.com")
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

    def request(
        self,
        call: Callable[[NotebookServiceClient], T],
        what: str,
        location: str,
        *,
        access: permissions.Access,
        codes: Collection[str] = TRANSIENT_CODES,
        renews: bool = True,
        not_found: type[NotebookExecutionJobError] | None = None,
        runs_as: str = "",
    ) -> T:
        """Send one request, and retry it after errors of `codes`; see `perform`.

        :param call: one attempt, with the client to make it with
        :param access: that the request needs
        :param runs_as: account that the job of a create runs as
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
            need=permissions.Need(self, access, "the project", runs_as=runs_as),
        )


def _check_extra(extra: Any, conn_id: str) -> None:
    if not isinstance(extra, dict):
        raise CredentialsUnavailable(f"The extra of connection {conn_id!r} is not a JSON object")
