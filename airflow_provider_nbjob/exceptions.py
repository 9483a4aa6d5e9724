"""What can go wrong with a notebook job, one class per answer a caller may want to give.

A retry policy or an `on_failure_callback` can tell them apart by class; all derive from
`NotebookExecutionJobError`. This module knows neither Airflow nor Google.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

# google.rpc.Code names after which the same request may succeed; the API documents none of this for notebook
# jobs, so it is the set that Google's own client libraries treat as retryable, with ABORTED.
TRANSIENT_CODES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED"})


class NotebookExecutionJobError(Exception):
    """Base of all errors of this provider.

    `public_message` is what may be shown to those who may not read the task's log: a text that names no file, account
    or address of the machine that could not do something. If it is None, the error's own text is such a one.

    Errors can be copied and pickled, with all of their attributes: Airflow hands them to callbacks and retry policies.
    """

    public_message: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return remade, (type(self), self.args, vars(self))

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return False

    @property
    def public(self) -> str:
        """The error as it may be shown to those who may not read the task's log."""
        return self.public_message or str(self)


class ApiError(NotebookExecutionJobError):
    """The API refused a request or could not be reached, after the hook's own retries.

    :param message: what was asked for, and the API's answer in plain text
    :param code: name of the google.rpc.Code, such as ``"PERMISSION_DENIED"``
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in TRANSIENT_CODES


class CreateUnanswered(ApiError):
    """A create got no answer, and may have been performed: the job may run, and cost.

    Any other error of a create says that no job was submitted.
    """


class CredentialsUnavailable(ApiError):
    """There are no credentials that can be used, until somebody mends the connection, its key or the account.

    :param message: what was asked for, and what is wrong with the credentials
    """

    def __init__(self, message: str, code: str = "UNAUTHENTICATED") -> None:
        super().__init__(message, code)
        self.public_message = "The connection has no credentials that can be used; the log says why."


class ConnectionUnavailable(ApiError):
    """Airflow returned no connection of this id: nobody defined it, or the backend that holds it did not answer.

    Airflow (3.1 to 3.3) reports both cases as "isn't defined", so this error is transient: the same look-up may succeed
    later. It is not transient if a secrets backend denied the access; the code is then ``"PERMISSION_DENIED"``.

    A connection that exists but cannot be used raises `CredentialsUnavailable` or `InvalidJob`.

    :param message: which connection was asked for, and what Airflow answered
    """

    def __init__(self, message: str, code: str = "UNAVAILABLE") -> None:
        super().__init__(message, code)


class InvalidJob(NotebookExecutionJobError):
    """Bad input: the same request would fail again, so operators never retry it.

    :param problems: one text per fault, each naming the field, the value and the rule
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class JobFailed(NotebookExecutionJobError):
    """The job ended without success (FAILED, or PARTIALLY_SUCCEEDED where that is not accepted).

    :param message: what happened to which job
    :param cell: number of the cell that failed, counting all cells from 1; ``None`` if that is not known
    :param ename: name of the exception that it raised, such as ``"KeyError"``
    :param evalue: that exception's text
    :param traceback: its traceback, without colours and cut where huge
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
    """The job was cancelled by somebody else."""


class JobExpired(NotebookExecutionJobError):
    """The job ran into the API's own time limit (`job_timeout`)."""


class JobTimeout(NotebookExecutionJobError):
    """The job was not finished when the caller's deadline came."""


class JobLost(NotebookExecutionJobError):
    """The job is gone: somebody deleted it."""


class OutputUnavailable(NotebookExecutionJobError):
    """The job is a success, but what the task wants of its executed notebook could not be done: see `on_output_error`.

    The job is not to be run again for it: the notebook can be read later.
    """


class NotebookUnreadable(NotebookExecutionJobError):
    """An executed notebook cannot be read; the message says what there is in its place."""


class JobUnwatched(ApiError):
    """The wait for a job ended, although nothing says that the job did: looks at it were refused, or not answered.

    The job was not stopped, and may still run. Another try of the task goes on with it.

    :param message: which job, why it could not be watched, and the last error
    :param code: of the last error
    """


E = TypeVar("E", bound=Exception)


def remade(kind: type[E], args: tuple[Any, ...], state: Mapping[str, Any]) -> E:
    """Return an error of a class from its arguments and attributes, whatever parameters the class has."""
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
