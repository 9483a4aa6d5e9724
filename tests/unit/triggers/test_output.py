"""Executed notebooks that are read in the triggerer: how many at once, how large, and what happens if it fails."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from airflow_provider_nbjob.connection import Connection
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.lifecycle.outcome import Conclusion
from airflow_provider_nbjob.triggers import output
from airflow_provider_nbjob.triggers.output import OutputReader
from tests.support.fake_google import FakeWait
from tests.support.fake_service import EXECUTED, ended_job
from tests.support.notebooks import code, notebook, result, scrap
from tests.support.running import run

GOOD = notebook(code("40 + 2", result({"text/plain": "42"}), tags=("result",)))


@pytest.fixture
def google(monkeypatch) -> FakeWait:
    made = FakeWait(monkeypatch)
    made.storage.put(EXECUTED, GOOD)
    return made


def message(**changes: Any) -> Any:
    """Return the API's plain message of a job that has ended."""
    job = ended_job(**changes)
    return type(job).pb(job)


def result_of(job: Any = None, project_id: str | None = None, **how: Any) -> Any:
    async def scene() -> Any:
        reader = OutputReader(Connection().make_hook, "us-central1")
        return await reader.result_of(job or message(), Conclusion(**how), project_id)

    return run(scene())


def test_a_result_comes_with_the_projects_id(google):
    found, project = result_of()
    assert (found.results, found.output_notebook_uri, project) == ({"result": 42}, EXECUTED, "p")
    assert result_of(project_id="q")[1] == "q"
    assert not google.service.calls  # the message is the one that the watch has seen


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_a_worker_tells_of_what_is_no_success(google, state):
    assert result_of(message(state=state)) is None
    assert not google.storage.requests


def test_two_requests_find_a_notebook_and_read_it(google):
    assert result_of()[0].results == {"result": 42}
    assert [request.split()[0] for request in google.storage.requests] == ["list", "read"]


@pytest.mark.parametrize("operation", ["list", "read"])
@pytest.mark.parametrize("error", [403, 404, RuntimeError("a fault of ours")], ids=str)
def test_a_worker_reads_what_the_triggerer_cannot(google, operation, error):
    google.storage.fail(operation, error)
    assert result_of() is None


def test_a_worker_reads_if_no_connection_can_be_had(google, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "{")
    assert result_of() is None


def test_a_worker_reads_if_the_triggerer_takes_too_long(google, monkeypatch):
    monkeypatch.setattr(output, "READ_SECONDS", 0.2)
    released = threading.Event()
    monkeypatch.setattr(google.storage, "request", lambda *_, **__: released.wait(60))
    try:
        assert result_of() is None
    finally:
        released.set()


def test_an_event_carries_no_result_that_is_too_large_for_it(google):
    text = "x" * (output.EVENT_MAX - 500)
    google.storage.put(EXECUTED, notebook(code("glue", scrap("text", text))))
    assert result_of(result_max_bytes=10**9)
    google.storage.put(EXECUTED, notebook(code("glue", scrap("text", text + "x" * 600))))
    assert result_of(result_max_bytes=10**9) is None


@pytest.mark.parametrize(("configured", "is_read"), [("0", False), (str(len(GOOD)), True), (str(len(GOOD) - 1), False)])
def test_the_size_that_is_read_is_configured(google, monkeypatch, configured, is_read):
    monkeypatch.setenv("AIRFLOW__NBJOB__TRIGGERER_READ_MAX_BYTES", configured)
    assert (result_of() is not None) is is_read


@pytest.mark.parametrize("configured", ["-1", "many", "", "1.5", "nan"])
def test_a_bad_size_is_told_and_its_default_used(google, monkeypatch, caplog, configured):
    monkeypatch.setenv("AIRFLOW__NBJOB__TRIGGERER_READ_MAX_BYTES", configured)
    assert result_of() is not None
    assert "[nbjob] triggerer_read_max_bytes is not valid, so it is 2097152" in caplog.text


def test_so_many_are_read_at_once_and_no_more(google, monkeypatch):
    now, most, lock = 0, 0, threading.Lock()
    find = NotebookExecutionJobHook.get_project_id

    def slow(*arguments: Any) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return find(*arguments)

    monkeypatch.setattr(NotebookExecutionJobHook, "get_project_id", slow)

    async def scene() -> list[Any]:
        reader = OutputReader(Connection().make_hook, "us-central1")
        return await asyncio.gather(*(reader.result_of(message(), Conclusion(), None) for _ in range(20)))

    assert all(run(scene()))
    assert most == output.READERS
