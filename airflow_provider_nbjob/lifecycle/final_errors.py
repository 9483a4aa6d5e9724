"""Errors after which Airflow is not to try a task again.

Each is of its own kind, such as `JobFailed`, and of Airflow's `AirflowFailException`, which ends a task whatever
`retries` says. The classes stand in this module, so that an error can be pickled.
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
    """An `InvalidJob` as operators and the sensor raise it."""


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
    """Return the same error as one of its own kind that Airflow does not retry.

    What Airflow masks is masked in it: callbacks of the DAG get it too, and send it to others. An error of a class that
    has no such kind becomes one of the nearest class above it that has.
    """
    if isinstance(error, FinalError):
        return error
    kind = next(_FINAL[above] for above in type(error).__mro__ if above in _FINAL)
    return remade(kind, redact(error.args), {name: redact(value) for name, value in vars(error).items()})


@contextmanager
def bad_input_is_not_retried() -> Iterator[None]:
    """Have `InvalidJob` end the task, whatever `retries` says."""
    try:
        yield
    except FinalError:
        raise
    except InvalidJob as error:
        raise never_retried(error) from error
