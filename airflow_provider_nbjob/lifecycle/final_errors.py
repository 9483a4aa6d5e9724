"""Errors after which Airflow does not retry a task.

Each class derives from an error of this provider, such as `JobFailed`, and from Airflow's `AirflowFailException`, which
fails a task regardless of `retries`. The classes are defined at module level, so that their errors can be pickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_nbjob.exceptions import (
    ApiError,
    ConnectionUnavailable,
    CreateUnanswered,
    CredentialsUnavailable,
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    JobUnwatched,
    NotebookExecutionJobError,
    NotebookUnreadable,
    OutputUnavailable,
    remade,
)
from airflow_provider_nbjob.masking import redact


class FinalError(NotebookExecutionJobError, AirflowFailException):
    """A `NotebookExecutionJobError` that is never retried."""


class FinalApiError(ApiError, FinalError):
    """An `ApiError` that is never retried."""


class FinalCredentialsUnavailable(CredentialsUnavailable, FinalError):
    """A `CredentialsUnavailable` that is never retried."""


class FinalInvalidJob(InvalidJob, FinalError):
    """An `InvalidJob` that is never retried. Operators and the sensor raise it."""


class FinalJobFailed(JobFailed, FinalError):
    """A `JobFailed` that is never retried."""


class FinalJobCancelled(JobCancelled, FinalError):
    """A `JobCancelled` that is never retried."""


class FinalJobExpired(JobExpired, FinalError):
    """A `JobExpired` that is never retried."""


class FinalJobTimeout(JobTimeout, FinalError):
    """A `JobTimeout` that is never retried."""


class FinalJobLost(JobLost, FinalError):
    """A `JobLost` that is never retried."""


class FinalNotebookUnreadable(NotebookUnreadable, FinalError):
    """A `NotebookUnreadable` that is never retried."""


class FinalConnectionUnavailable(ConnectionUnavailable, FinalError):
    """A `ConnectionUnavailable` that is never retried."""


class FinalCreateUnanswered(CreateUnanswered, FinalError):
    """A `CreateUnanswered` that is never retried."""


class FinalJobUnwatched(JobUnwatched, FinalError):
    """A `JobUnwatched` that is never retried."""


class FinalOutputUnavailable(OutputUnavailable, FinalError):
    """An `OutputUnavailable` that is never retried."""


_FINAL: dict[type[NotebookExecutionJobError], type[FinalError]] = {
    ApiError: FinalApiError,
    ConnectionUnavailable: FinalConnectionUnavailable,
    CreateUnanswered: FinalCreateUnanswered,
    CredentialsUnavailable: FinalCredentialsUnavailable,
    JobUnwatched: FinalJobUnwatched,
    OutputUnavailable: FinalOutputUnavailable,
    InvalidJob: FinalInvalidJob,
    JobFailed: FinalJobFailed,
    JobCancelled: FinalJobCancelled,
    JobExpired: FinalJobExpired,
    JobTimeout: FinalJobTimeout,
    JobLost: FinalJobLost,
    NotebookUnreadable: FinalNotebookUnreadable,
    NotebookExecutionJobError: FinalError,
}


def never_retried(error: NotebookExecutionJobError) -> FinalError:
    """Convert an error to one of the same kind that Airflow does not retry.

    Mask Airflow's secrets in it, because callbacks of the DAG get the error, and send it to other systems. An error of
    a class without such a kind becomes one of the nearest base class that has one.
    """
    if isinstance(error, FinalError):
        return error
    kind = next(_FINAL[above] for above in type(error).__mro__ if above in _FINAL)
    return remade(kind, redact(error.args), {name: redact(value) for name, value in vars(error).items()})


@contextmanager
def bad_input_is_not_retried() -> Iterator[None]:
    """Convert an `InvalidJob` to an error that fails the task regardless of `retries`."""
    try:
        yield
    except FinalError:
        raise
    except InvalidJob as error:
        raise never_retried(error) from error
