"""Errors after which Airflow is not to try a task again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_nbjob.exceptions import InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.masking import redact


def never_retried(error: NotebookExecutionJobError) -> Exception:
    """Return the same error, of its own class and of `AirflowFailException`, which ends a task whatever `retries` says.

    What Airflow masks is masked in it: callbacks of the DAG get it too, and send it to others.
    """
    kind = type(error)
    failure = type(kind.__name__, (kind, AirflowFailException), {"__module__": kind.__module__})
    unretried: Exception = failure(*redact(error.args))
    vars(unretried).update({name: redact(value) for name, value in vars(error).items()})  # the cell of a JobFailed, say
    return unretried


@contextmanager
def bad_input_is_not_retried() -> Iterator[None]:
    """Have `InvalidJob` end the task, whatever `retries` says."""
    try:
        yield
    except InvalidJob as error:
        raise never_retried(error) from error
