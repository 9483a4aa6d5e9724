"""Errors that are never retried: of which classes they are, and that they survive a copy and another process."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_nbjob import exceptions
from airflow_provider_nbjob.exceptions import (
    ApiError,
    CredentialsUnavailable,
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    NotebookExecutionJobError,
    NotebookUnreadable,
)
from airflow_provider_nbjob.lifecycle.final_errors import bad_input_is_not_retried, never_retried

CELL = {"cell": 3, "ename": "KeyError", "evalue": "'west'", "traceback": "Traceback\nend"}
ERRORS = [
    NotebookExecutionJobError("waiting failed"),
    ApiError("get of j1: not yours", "PERMISSION_DENIED"),
    CredentialsUnavailable("get of j1: the key is broken"),
    InvalidJob("location: 'mars' is not of the form us-central1"),
    InvalidJob(["location: required, but not given", "labels: 1 is not a text"]),
    InvalidJob([]),
    JobFailed("it failed"),
    JobFailed("it failed", **CELL),
    JobCancelled("somebody"),
    JobExpired("24 h"),
    JobTimeout("the deadline"),
    JobLost("gone"),
    NotebookUnreadable("it is HTML"),
]


def named(error: Exception) -> str:
    return f"{type(error).__name__}-{len(vars(error))}"


def attributes(error: Exception) -> dict[str, Any]:
    names = ("problems", "code", "cell", "ename", "evalue", "traceback", "public_message", "public", "is_transient")
    return {"args": error.args, "text": str(error), **{n: getattr(error, n) for n in names if hasattr(error, n)}}


@pytest.fixture(params=[*ERRORS, *map(never_retried, ERRORS)], ids=named)
def error(request) -> NotebookExecutionJobError:
    return request.param


@pytest.mark.parametrize("error", ERRORS, ids=named)
def test_an_error_that_is_never_retried_is_of_its_own_kind_and_airflows(error):
    final = never_retried(error)
    assert isinstance(final, AirflowFailException)
    assert isinstance(final, type(error))
    assert attributes(final) == attributes(error)
    assert never_retried(final) is final


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_of_an_error_has_all_of_it(error, way):
    again = way(error)
    assert type(again) is type(error)
    assert attributes(again) == attributes(error)


def test_what_is_added_to_an_error_is_copied_too():
    error = never_retried(InvalidJob("location: required, but not given"))
    error.public_message = "bad input"
    error.add_note("see the documentation") if hasattr(error, "add_note") else None
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)


def test_errors_can_be_read_in_another_process(tmp_path):
    """Of which each class is imported anew, by its name."""
    errors = [*ERRORS, *map(never_retried, ERRORS)]
    (tmp_path / "errors").write_bytes(pickle.dumps(errors))
    script = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    errors = pickle.load(file)
for error in errors:
    print(type(error).__module__, type(error).__qualname__, repr(str(error)))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "errors")], capture_output=True, text=True, check=True
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("airflow_provider_nbjob")]
    assert lines == [f"{type(e).__module__} {type(e).__qualname__} {str(e)!r}" for e in errors]


def test_each_kind_of_error_can_be_made_final():
    kinds = [
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, NotebookExecutionJobError)
    ]
    assert len(kinds) >= 10
    for kind in kinds:
        error = kind.__new__(kind, "text")
        final = never_retried(error)
        assert isinstance(final, AirflowFailException)
        assert str(final) == str(error)


def test_an_error_of_somebody_elses_class_is_one_of_the_nearest_kind():
    class Refused(ApiError):
        def __init__(self, reason: str) -> None:
            super().__init__(f"refused: {reason}", "PERMISSION_DENIED")
            self.reason = reason

    final = never_retried(Refused("policy"))
    assert isinstance(final, ApiError)
    assert isinstance(final, AirflowFailException)
    assert (str(final), final.code, final.reason) == ("refused: policy", "PERMISSION_DENIED", "policy")


def test_only_bad_input_is_made_final():
    with pytest.raises(InvalidJob) as caught, bad_input_is_not_retried():
        raise InvalidJob("labels: 1 is not a text")
    assert isinstance(caught.value, AirflowFailException)
    assert type(caught.value.__cause__) is InvalidJob
    with pytest.raises(JobFailed) as failed, bad_input_is_not_retried():
        raise JobFailed("it failed")
    assert not isinstance(failed.value, AirflowFailException)


def test_what_is_final_already_stays_the_same_error():
    error = never_retried(InvalidJob("labels: 1 is not a text"))
    with pytest.raises(InvalidJob) as caught, bad_input_is_not_retried():
        raise error
    assert caught.value is error
    assert error.__cause__ is None
