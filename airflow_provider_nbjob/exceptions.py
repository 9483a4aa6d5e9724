"""The errors of this provider, one class for each reaction that a caller may choose.

A retry policy or an `on_failure_callback` distinguishes them by class. All derive from `NotebookExecutionJobError`.
This module imports neither Airflow nor a package of Google's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

# Names of google.rpc.Code after which the same request may succeed. The API documents none for notebook jobs. So this
# is the set that Google's client libraries retry, with ABORTED.
TRANSIENT_CODES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED"})


class NotebookExecutionJobError(Exception):
    """Base class of all errors of this provider.

    `public_message` is the text for users who may not read the task's log. It names no file, account or address of the
    machine on which the error occurred. If it is None, the error's own text meets this condition.

    Errors can be copied and pickled with all of their attributes, because Airflow passes them to callbacks and retry
    policies.
    """

    public_message: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return remade, (type(self), self.args, vars(self))

    @property
    def is_transient(self) -> bool:
        """Return whether the same request may succeed later."""
        return False

    @property
    def public(self) -> str:
        """Return the error's text for users who may not read the task's log."""
        return self.public_message or str(self)


class ApiError(NotebookExecutionJobError):
    """The API refused a request, or could not be reached, after the hook's own retries.

    :param message: the request, and the API's answer as plain text
    :param code: name of the google.rpc.Code, such as ``"PERMISSION_DENIED"``
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_transient(self) -> bool:
        """Return whether the same request may succeed later: whether `code` is one of `TRANSIENT_CODES`."""
        return self.code in TRANSIENT_CODES


class CreateUnanswered(ApiError):
    """A create got no answer. The API may have performed it: the job may run, and cost money.

    Any other error of a create means that no job was submitted.
    """


class CredentialsUnavailable(ApiError):
    """The credentials cannot be used until an administrator repairs the connection, its key or the account.

    :param message: the request, and the problem with the credentials
    :param code: name of the google.rpc.Code; default ``"UNAUTHENTICATED"``
    """

    def __init__(self, message: str, code: str = "UNAUTHENTICATED") -> None:
        super().__init__(message, code)
        self.public_message = "The connection has no credentials that can be used; the log says why."


class ConnectionUnavailable(ApiError):
    """Airflow returned no connection of this id: it is not defined, or the backend that holds it did not answer.

    Airflow (3.1 to 3.3) reports both cases as "isn't defined". So this error is transient: the same request may succeed
    later. If a secrets backend denied access, the code is ``"PERMISSION_DENIED"``, and the error is not transient.

    A connection that exists but cannot be used raises `CredentialsUnavailable` or `InvalidJob`.

    :param message: the id of the connection, and Airflow's answer
    :param code: name of the google.rpc.Code; default ``"UNAVAILABLE"``
    """

    def __init__(self, message: str, code: str = "UNAVAILABLE") -> None:
        super().__init__(message, code)


class InvalidJob(NotebookExecutionJobError):
    """The input is invalid. The same request would fail again, so operators never retry it.

    :param problems: one message for each problem, which names the field, the value and the rule
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class JobFailed(NotebookExecutionJobError):
    """The job ended without success: as FAILED, or as PARTIALLY_SUCCEEDED if the caller does not accept that.

    :param message: the job, its state and the reason
    :param cell: number of the cell that failed, counting all cells from 1; None if it is not known
    :param ename: name of the exception that the cell raised, such as ``"KeyError"``; None if it is not known
    :param evalue: text of the exception, at most 2048 characters; None if it is not known
    :param traceback: traceback without colours, at most 16384 characters; None if it is not known
    """

    def __init__(
        self,
        message: str,
        *,
        cell: int | None = None,
        ename: str | None = None,
        evalue: str | None = None,
        traceback: str | None = None,
    ) -> None:
        super().__init__(message)
        self.cell = cell
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback


class JobCancelled(NotebookExecutionJobError):
    """Another user or program cancelled the job."""


class JobExpired(NotebookExecutionJobError):
    """The job reached the API's own time limit, `job_timeout`."""


class JobTimeout(NotebookExecutionJobError):
    """The job had not ended at the caller's deadline."""


class JobLost(NotebookExecutionJobError):
    """The job does not exist any more: another user or program deleted it."""


class OutputUnavailable(NotebookExecutionJobError):
    """The job succeeded, but its executed notebook, which the task needs, could not be read: see `on_output_error`.

    The job need not run again: the notebook can be read later.
    """


class NotebookUnreadable(NotebookExecutionJobError):
    """An executed notebook cannot be read; the message says why."""


class JobUnwatched(ApiError):
    """The wait for a job ended without its end: requests for the job were refused, or got no answer.

    The job was not stopped, and may still run. The next try of the task goes on with it.

    :param message: the job, the reason why the wait ended, and the last error
    :param code: name of the google.rpc.Code of the last error
    """


E = TypeVar("E", bound=Exception)


def remade(kind: type[E], args: tuple[Any, ...], state: Mapping[str, Any]) -> E:
    """Create an error of a class from its `args` and attributes, without the parameters of the class.

    :param args: the error's `args`
    :param state: the error's attributes by name
    """
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
