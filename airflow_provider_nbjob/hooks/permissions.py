"""Name the permission that a refused request most likely lacked, a role that has it, and the account that needs it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import ApiError
from airflow_provider_nbjob.hooks.google_compat import cached_credentials, connection_field
from airflow_provider_nbjob.masking import redact


class Access(NamedTuple):
    """The access that a request needs.

    :param permission: of IAM
    :param role: the narrowest predefined role that docs/how-to/permissions.md recommends and that has the permission
    :param method: of the API, by which the request is counted; empty for what no request of ours asks for
    """

    permission: str
    role: str
    method: str = ""


_COLAB_USER = "roles/aiplatform.colabEnterpriseUser"
_VIEWER = "roles/storage.objectViewer"

# The permissions of aiplatform: https://cloud.google.com/iam/docs/roles-permissions/aiplatform. Google documents none
# for the cancel of an operation: that of the job's create is a guess.
CREATE_JOB = Access("aiplatform.notebookExecutionJobs.create", _COLAB_USER, "CreateNotebookExecutionJob")
GET_JOB = Access("aiplatform.notebookExecutionJobs.get", _COLAB_USER, "GetNotebookExecutionJob")
LIST_JOBS = Access("aiplatform.notebookExecutionJobs.list", _COLAB_USER, "ListNotebookExecutionJobs")
DELETE_JOB = Access("aiplatform.notebookExecutionJobs.delete", _COLAB_USER, "DeleteNotebookExecutionJob")
GET_TEMPLATE = Access("aiplatform.notebookRuntimeTemplates.get", _COLAB_USER, "GetNotebookRuntimeTemplate")
LIST_OPERATIONS = Access("aiplatform.operations.list", _COLAB_USER, "ListOperations")
GET_OPERATION = Access("aiplatform.operations.list", _COLAB_USER, "GetOperation")
CANCEL_OPERATION = Access("aiplatform.notebookExecutionJobs.create", _COLAB_USER, "CancelOperation")
# https://cloud.google.com/storage/docs/access-control/iam-json lists the permission of each method.
LIST_OBJECTS = Access("storage.objects.list", _VIEWER, "ListObjects")
GET_OBJECT = Access("storage.objects.get", _VIEWER, "GetObject")
CREATE_OBJECT = Access("storage.objects.create", "roles/storage.objectCreator", "CreateObject")
# https://cloud.google.com/dataform/reference/rest/v1beta1/projects.locations.repositories: by method.
LIST_REPOSITORY = Access(
    "dataform.repositories.queryDirectoryContents", "roles/dataform.codeViewer", "QueryDirectoryContents"
)
READ_REPOSITORY = Access("dataform.repositories.readFile", "roles/dataform.codeViewer", "ReadFile")
# https://cloud.google.com/iam/docs/service-account-permissions: to run a job as an account, and to impersonate one.
ACT_AS = Access("iam.serviceAccounts.actAs", "roles/iam.serviceAccountUser")
GET_TOKEN = Access("iam.serviceAccounts.getAccessToken", "roles/iam.serviceAccountTokenCreator")

# PERMISSION_DENIED for another reason than a missing role: a disabled API (SERVICE_DISABLED in
# https://cloud.google.com/apis/design/errors), billing, or VPC Service Controls, in the words that Google has for them.
_OTHER_REASONS = ("has not been used in project", "it is disabled", "VPC Service Controls", "billing")


def is_about_a_role(answer: str) -> bool:
    """Return whether an answer PERMISSION_DENIED is most likely about a missing role, by its text."""
    return not any(reason in answer for reason in _OTHER_REASONS)


@dataclass(frozen=True)
class Need:
    """The access that a request needs, and the account that sends it.

    :param hook: whose requests are meant
    :param resource: on which the role is to be granted, for a person
    :param runs_as: account that the job of a create is to run as, if it names one
    """

    hook: Any
    access: Access
    resource: str
    runs_as: str = ""

    def refused(self, message: str, answer: str) -> ApiError:
        """Return the error for PERMISSION_DENIED, which names the missing role and the account.

        The message for those who may not read the task's log does not name the account.

        :param message: names the request, and has Google's answer
        :param answer: Google's, which decides if it says what is missing
        """
        if not is_about_a_role(answer):
            return ApiError(message, "PERMISSION_DENIED")
        message = message.removesuffix(".")
        error = ApiError(f"{message}. Most likely {self._sentence(answer, account_of(self.hook))}", "PERMISSION_DENIED")
        error.public_message = f"{message}. Most likely {self._sentence(answer, 'the account of the connection')}"
        return error

    def lacking(self) -> str:
        """Return the sentence that names the account, the permission, a role and the resource, for a known lack."""
        return self._sentence("", account_of(self.hook))

    def _sentence(self, answer: str, account: str) -> str:
        access, resource = self.access, self.resource
        if self.runs_as and ("actAs" in answer or "act as" in answer):
            access, resource = ACT_AS, f"the service account {self.runs_as}"
        sentence = f"{account} lacks the permission {access.permission}, which {access.role} has, on {resource}."
        if self.runs_as and access is CREATE_JOB:
            sentence += f" It needs {ACT_AS.permission}, which {ACT_AS.role} has, on {self.runs_as} too."
        return str(redact(sentence))


def impersonated(hook: Any) -> tuple[str, ...]:
    """Return the accounts that a hook impersonates, the last one the one that its requests are sent as."""
    return names.accounts_of(hook.impersonation_chain or connection_field(hook, "impersonation_chain"))


def account_of(hook: Any) -> str:
    """Return the account that a hook's requests are sent as, for a person. No request is sent to find it.

    It is the last of the impersonation chain, else the one that the connection's key names, else the one that the
    credentials name. Those of a metadata server name none before their first refresh, and Airflow masks what stands in
    a connection's `keyfile_dict`.
    """
    credentials = cached_credentials(hook)
    if credentials is None and connection_field(hook, "key_path"):
        with suppress(Exception):  # a key that cannot be read names nobody
            credentials = hook.get_credentials()
    emails = [getattr(credentials, name, None) for name in ("service_account_email", "account")]
    for email in impersonated(hook)[-1:] or emails:
        if isinstance(email, str) and "@" in email and redact(email) == email:
            return email
    return f"the account of connection {hook.gcp_conn_id!r}"
