"""A connection that cannot be opened raises an error of this provider, and an outage can be told from a faulty one."""

from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_nbjob.exceptions import ApiError, ConnectionUnavailable, CredentialsUnavailable
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.support.airflow_versions import FAULTY_EXTRA_IS_NO_CONNECTION

# What a connection whose extra is faulty raises.
REFUSED = ConnectionUnavailable if FAULTY_EXTRA_IS_NO_CONNECTION else CredentialsUnavailable
BACKEND = "vault.internal:8200"  # where a secrets backend is: not for those who may not read the log


class Backend:
    """A secrets backend that fails, as Airflow asks it."""

    def __init__(self, error):
        self._error = error

    def get_connection(self, conn_id, team_name=None):
        raise self._error


@pytest.fixture
def backend(monkeypatch):
    """Have Airflow ask a backend that fails with the given error, and no other."""

    def fail(error):
        monkeypatch.setattr(
            "airflow.sdk.execution_time.supervisor.ensure_secrets_backend_loaded", lambda: [Backend(error)]
        )

    return fail


def test_a_connection_that_nobody_defined_may_be_there_later():
    with pytest.raises(ConnectionUnavailable, match=r"'no_such_connection'.*isn't defined") as raised:
        NotebookExecutionJobHook("no_such_connection")
    assert (raised.value.code, raised.value.is_transient) == ("UNAVAILABLE", True)
    assert raised.value.__cause__ is not None
    assert "no_such_connection" in raised.value.public


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError(f"{BACKEND} refused"),
        TimeoutError(f"{BACKEND} does not answer"),
        EOFError(f"the supervisor is gone, as is {BACKEND}"),
        RuntimeError(BACKEND),
        OSError(24, "Too many open files", BACKEND),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("raised_by", ["backend", "airflow"])
def test_an_outage_of_the_secrets_backend_is_transient(monkeypatch, backend, error, raised_by):
    backend(error)
    if raised_by == "airflow":  # as a supervisor does whose socket is broken
        monkeypatch.setattr("airflow.sdk.execution_time.context._get_connection", Backend(error).get_connection)
    with pytest.raises(ConnectionUnavailable) as raised:
        NotebookExecutionJobHook("behind_a_backend")
    assert raised.value.is_transient
    assert BACKEND not in raised.value.public
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (type(copy), str(copy), copy.code, copy.public) == (
        ConnectionUnavailable,
        str(raised.value),
        "UNAVAILABLE",
        raised.value.public,
    )


def test_a_denial_is_no_outage(monkeypatch):
    denial = PermissionError("team a may not read connections of team b")
    monkeypatch.setattr("airflow.sdk.execution_time.context._get_connection", Backend(denial).get_connection)
    with pytest.raises(ConnectionUnavailable) as raised:
        NotebookExecutionJobHook("of_another_team")
    assert (raised.value.code, raised.value.is_transient) == ("PERMISSION_DENIED", False)


@pytest.mark.parametrize("extra", ["[]", '"a text"', "5", "true"])
def test_a_connection_with_a_faulty_extra_is_no_outage(monkeypatch, extra):
    connection = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    with pytest.raises(REFUSED, match="connection 'google_cloud_default'") as raised:
        NotebookExecutionJobHook()
    assert raised.value.is_transient is FAULTY_EXTRA_IS_NO_CONNECTION


def test_a_connection_that_is_read_anew_stays_as_it_was_if_that_fails(monkeypatch):
    good = {"conn_type": "google_cloud_platform", "extra": {"project": "p-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(good))
    hook = NotebookExecutionJobHook()
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({**good, "extra": "[]"}))
    with pytest.raises(REFUSED):
        hook.reread_connection()
    monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
    with pytest.raises(ConnectionUnavailable):
        hook.reread_connection()
    assert hook.extras == {"project": "p-1"}


def test_a_faulty_argument_of_the_hook_is_told_as_the_hook_promises(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform"}')
    with pytest.raises(ApiError, match="quota_project_id"):
        NotebookExecutionJobHook(quota_project_id="No Project")
