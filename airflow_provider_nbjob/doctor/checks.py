"""The checks, in the order in which a task would fail for them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_nbjob.connection import Connection
from airflow_provider_nbjob.doctor.advice import HOST, Advice, advice, origin_of, repair_of, unreachable
from airflow_provider_nbjob.doctor.options import Options
from airflow_provider_nbjob.doctor.runner import Check, Problem, Remark, Skipped
from airflow_provider_nbjob.exceptions import ApiError, CredentialsUnavailable, InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.hooks import diagnosis, permissions
from airflow_provider_nbjob.hooks.clients import Endpoint, google_host
from airflow_provider_nbjob.hooks.emulator_token import HOST_VARIABLE, TOKEN_VARIABLE
from airflow_provider_nbjob.hooks.google_compat import connection_field
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import bucket_and_path
from airflow_provider_nbjob.masking import mask

# After these nobody knows whether the API of this location is there; any other code is its answer. A host of Google's
# that serves no such API answers UNIMPLEMENTED, which is what gRPC makes of HTTP's 404.
_NO_ANSWER = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "UNIMPLEMENTED", "CANCELLED"})
_USER_INFORMATION = re.compile(r"//[^/@\s:\"]*:([^@\s\"]+)@")  # of a URL, with its password
STORAGE_VARIABLE = "STORAGE_EMULATOR_HOST"  # of Google's client
_NO_CREDENTIALS = "the endpoint is plaintext, as an emulator's is, and is sent no credentials"


class Examination:
    """The checks of one connection, and what they have found so far."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._hook: NotebookExecutionJobHook | None = None
        self._listed: NotebookExecutionJobError | None = None

    def checks(self) -> Iterator[Check]:
        """Yield the checks in their order."""
        options = self._options
        output = bucket_and_path(options.output_uri)[0] if options.output_uri else ""
        storage, iam, api = _storage_host(), google_host("iam"), f"the API of {options.location}"
        first = ("connection", "endpoint", "credentials")
        sent = (*first, "project")

        def of(host: str, access: permissions.Access, resource: str, flag: str) -> Advice:
            return advice(host, access, resource, f"Check {flag}.")

        project, bucket, account = "the project", f"the bucket {output}", f"the account {options.service_account}"
        yield Check("connection", self._connection, self._define)
        yield Check("endpoint", self._endpoint, lambda _: HOST, first[:1])
        yield Check("credentials", self._credentials, self._repair, first[:2])
        yield Check("identity", self._identity, self._repair, first)
        yield Check("project", self._project, lambda _: "Give --project-id, or the connection a project.", first[:2])
        yield Check("API", self._api, self._api_advice, sent)
        yield Check("list jobs", self._list, of(api, permissions.LIST_JOBS, project, "--project-id"), ("API",))
        yield Check("create jobs", self._create, lambda _: "", ("API",), is_optional=True)
        yield Check("template", self._template, of(api, permissions.GET_TEMPLATE, project, "--template"), ("API",))
        yield Check("output: read", self._read, of(storage, permissions.LIST_OBJECTS, bucket, "--output-uri"), first)
        yield Check("output: write", self._write, of(storage, permissions.GET_OBJECT, bucket, "--output-uri"), first)
        yield Check("source", self._source, self._source_advice, first)
        yield Check("service account", self._act_as, of(iam, permissions.ACT_AS, account, "--service-account"), first)
        yield Check("quota", self._quota, lambda _: "", sent, is_optional=True)

    # --- the connection ---

    def _connection(self) -> str:
        options = self._options
        _mask_emulator()
        self._hook = Connection(options.conn_id, options.accounts, options.api_endpoint).make_hook()
        _mask_passwords(self._hook.extras)
        return f"{options.conn_id} is there and can be read"

    def _define(self, error: NotebookExecutionJobError) -> str:
        if isinstance(error, CredentialsUnavailable):
            return f"Repair the extra of connection {self._options.conn_id}: it is to be a JSON object."
        return (
            f"Define connection {self._options.conn_id} with the type google_cloud_platform, or repair what holds it:"
            " Airflow's database, a secrets backend, or a variable AIRFLOW_CONN_... of this process."
        )

    @property
    def hook(self) -> NotebookExecutionJobHook:
        """The hook, which the check of the connection makes."""
        assert self._hook is not None, "the checks that need the connection are made after it"  # noqa: S101
        return self._hook

    def _endpoint(self) -> str:
        endpoint = self.endpoint
        if self._options.api_endpoint:
            origin = "from --api-endpoint"
        elif connection_field(self.hook, "api_endpoint"):
            origin = "from the connection's extra api_endpoint"
        elif os.environ.get(HOST_VARIABLE):
            origin = f"from {HOST_VARIABLE}"
        else:
            origin = "Google's own for the location"
        kind = "; it is a Private Service Connect endpoint" if diagnosis.is_private_endpoint(endpoint.address) else ""
        return f"{endpoint}, {origin}{'; plaintext, without credentials' if endpoint.is_plaintext else kind}"

    @cached_property
    def endpoint(self) -> Endpoint:
        """The endpoint of the API."""
        return self.hook.get_endpoint(self._options.location)

    def _credentials(self) -> str:
        self._need_credentials()
        diagnosis.fetch_token(self.hook)
        return f"an access token was issued for {origin_of(diagnosis.credentials_field(self.hook))}"

    def _repair(self, error: NotebookExecutionJobError) -> str:
        """Return what to do about credentials that get no token."""
        if isinstance(error, InvalidJob):
            return "Check --impersonation-chain, or the connection's extra impersonation_chain."
        if isinstance(error, ApiError) and error.is_transient:
            return unreachable("what issues tokens (the key's token_uri, the metadata server, IAM Credentials)")
        return repair_of(diagnosis.credentials_field(self.hook))

    def _need_credentials(self, reason: str = _NO_CREDENTIALS) -> None:
        """Skip a check that is of no use without credentials.

        :raises Skipped: if the endpoint is plaintext
        """
        if self.endpoint.is_plaintext:
            raise Skipped(reason)

    def _identity(self) -> str:
        self._need_credentials()
        sender, *impersonating = diagnosis.accounts(self.hook)
        return f"requests are sent as {sender}" + "".join(f", impersonated by {account}" for account in impersonating)

    def _project(self) -> str:
        is_in_connection = bool(connection_field(self.hook, "project"))
        others = "from the connection" if is_in_connection else "from the credentials"
        return f"{self.project}, {'from --project-id' if self._options.project_id else others}"

    @cached_property
    def project(self) -> str:
        """The project of the jobs."""
        return self.hook.get_project_id(self._options.project_id, self._options.location)

    # --- the API ---

    def _api(self) -> str:
        """Send the list of jobs. Any answer to it means that the API is reachable; `_list` judges the answer."""
        jobs = self.hook.list_notebook_execution_jobs(
            location=self._options.location, project_id=self.project, page_size=1, retry=False, renew=False
        )
        try:
            next(jobs, None)
        except CredentialsUnavailable:
            raise
        except NotebookExecutionJobError as error:
            if isinstance(error, ApiError) and error.code in _NO_ANSWER:
                raise
            self._listed = error
        return f"{self.endpoint.address} answers"

    def _api_advice(self, error: NotebookExecutionJobError) -> str:
        if isinstance(error, CredentialsUnavailable):
            return self._repair(error)
        if isinstance(error, ApiError) and error.code == "UNIMPLEMENTED":
            return "Check --location, and the endpoint: this host serves no notebook jobs."
        private = "In a private network, name its endpoint in the connection's extra api_endpoint."
        return f"{unreachable(self.endpoint.address)} {private}"

    def _list(self) -> str:
        if self._listed:
            raise self._listed
        return f"the jobs of project {self.project} in {self._options.location} can be listed"

    def _create(self) -> str:
        self._need_credentials("an emulator has no IAM")
        held = diagnosis.held_on_project(self.hook, self.project, [permissions.CREATE_JOB.permission])
        _expect(self.hook, held, permissions.CREATE_JOB, f"the project {self.project}")
        return f"jobs can be created in project {self.project}"

    def _template(self) -> str:
        name = self._options.template_name(self.project)
        if not name:
            raise Skipped("--template was not given")
        diagnosis.read_template(self.hook, name)
        return f"{name} can be read"

    # --- Cloud Storage and Dataform ---

    def _read(self) -> str:
        uri, bucket = self._output()
        self.hook.files.check_folder(uri)
        held = self.hook.files.held_permissions(bucket, [permissions.GET_OBJECT.permission])
        _expect(self.hook, held, permissions.GET_OBJECT, f"the bucket {bucket}")
        return f"{uri} can be listed, and objects in it can be read"

    def _write(self) -> str:
        """Ask for the permission. No object is written: nothing can be overwritten, and nothing is left behind."""
        uri, bucket = self._output()
        access = permissions.CREATE_OBJECT
        if access.permission not in self.hook.files.held_permissions(bucket, [access.permission]):
            lack = permissions.Need(self.hook, access, f"the bucket {bucket}").lacking()
            raise Remark(
                f"{lack} Only a notebook with parameters, or one that is no object or repository, needs it, if it has"
                f" more than {self.hook.files.direct_content_max_bytes} bytes.",
                f"Grant {access.role} on the bucket if there are such notebooks.",
            )
        return f"objects can be created in {uri}; none was"

    def _output(self) -> tuple[str, str]:
        uri = self._options.output_uri
        if not uri:
            raise Skipped("--output-uri was not given")
        return uri, bucket_and_path(uri)[0]

    def _source(self) -> str:
        if repository := self._options.dataform_source:
            content = self.hook.files.read_dataform_notebook(repository, retry=False)
            return f"the notebook of {repository} was read, {len(content)} bytes"
        uri = self._options.gcs_source
        if not uri:
            raise Skipped("--source was not given")
        stored = self.hook.files.stat_notebook(uri)
        if stored is None:
            raise Problem(f"There is no object {uri}.", "Check --source.")
        return f"{uri} can be read, {stored.size} bytes"

    def _source_advice(self, error: NotebookExecutionJobError) -> str:
        if repository := self._options.dataform_source:
            host = self.endpoint.address if self.endpoint.is_plaintext else google_host("dataform")
            what = advice(host, permissions.READ_REPOSITORY, f"the repository {repository}", "Check --source.")
        else:
            bucket = bucket_and_path(str(self._options.gcs_source))[0]
            what = advice(_storage_host(), permissions.GET_OBJECT, f"the bucket {bucket}", "Check --source.")
        return what(error)

    # --- what a job needs ---

    def _act_as(self) -> str:
        account = self._options.service_account
        if not account:
            raise Skipped("--service-account was not given")
        self._need_credentials("an emulator has no IAM")
        held = diagnosis.held_on_account(self.hook, account, [permissions.ACT_AS.permission])
        _expect(self.hook, held, permissions.ACT_AS, f"the service account {account}")
        return f"jobs can run as {account}"

    def _quota(self) -> str:
        self._need_credentials("an emulator has no quotas")
        quotas = diagnosis.request_quotas(self.hook, self.project, self._options.location)
        if not quotas:
            raise Skipped("no quota of requests that manage resources is listed for the project")
        shown = ", ".join(f"{quota.name}: {quota.limit} a minute" for quota in quotas)
        configured = conf.getint("nbjob", "max_requests_per_minute", fallback=60)
        if any(0 <= quota.limit < configured for quota in quotas):
            raise Remark(
                f"{shown}; [nbjob] max_requests_per_minute is {configured}",
                "Lower [nbjob] max_requests_per_minute below the quota, or have the quota raised.",
            )
        return shown


def _expect(hook: Any, held: set[str], access: permissions.Access, resource: str) -> None:
    """Check that a permission is among those that the account has.

    :raises Problem: if it is not
    """
    if access.permission not in held:
        lack = permissions.Need(hook, access, resource).lacking()
        raise Problem(lack, f"Grant {access.role} on {resource} to that account.")


def _storage_host() -> str:
    """Return the host of Cloud Storage for a person; the URL of an emulator has a token in it."""
    is_emulated = bool(os.environ.get(STORAGE_VARIABLE))
    return f"the address in {STORAGE_VARIABLE}" if is_emulated else google_host("storage")


def _mask_emulator() -> None:
    """Have Airflow mask the emulator's token, which the URL of its Cloud Storage has as its path."""
    path = os.environ.get(STORAGE_VARIABLE, "").partition("://")[2].partition("/")[2]
    for secret in (os.environ.get(TOKEN_VARIABLE, ""), path.strip("/")):
        if secret:
            mask(secret)


def _mask_passwords(extra: Mapping[str, Any]) -> None:
    """Have Airflow mask the passwords in the URLs of a connection's extra, such as that of an endpoint.

    Airflow masks the other secrets of a connection when it is read.
    """
    with suppress(RecursionError):
        for password in _USER_INFORMATION.findall(json.dumps(extra)):
            mask(password)
