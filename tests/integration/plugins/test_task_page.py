"""The tab's routes over HTTP; who may ask is told, and the database is stood in for. With both real: `system/ui`."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient

from airflow_provider_nbjob.hooks import clients
from airflow_provider_nbjob.plugins.notebook_jobs import task_page
from airflow_provider_nbjob.plugins.notebook_jobs.app import app
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import Reader, TaskRef, readable_task, reader_of
from airflow_provider_nbjob.plugins.notebook_jobs.bounded_executor import SECONDS, BoundedExecutor
from airflow_provider_nbjob.plugins.notebook_jobs.notebooks import Outcomes
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData, TaskTry
from airflow_provider_nbjob.plugins.notebook_jobs.ttl_cache import TTLCache
from airflow_provider_nbjob.rendering import renderer
from tests.integration.plugins.ran import FAILING
from tests.support.patience import patient
from tests.support.tasks import SLEEPING

pytestmark = pytest.mark.test_all

QUERY = "dag_id=d&run_id=r&task_id=t"


@pytest.fixture
def browser(monkeypatch):
    """Somebody who may read everything; `browser.task` is what Airflow's database has."""
    client = TestClient(app)
    client.task = None
    overrides = {
        get_user: lambda: None,
        readable_task: lambda: TaskRef("d", "r", "t"),
        reader_of: lambda: Reader("somebody", xcoms=True, logs=True),
    }
    monkeypatch.setattr(app, "dependency_overrides", overrides)
    monkeypatch.setattr(task_page, "_load", lambda ref, with_record: client.task)
    monkeypatch.setattr(task_page, "SECONDS", patient(SECONDS))
    for name, made in {
        "_google": BoundedExecutor(seconds=patient(SECONDS)),
        "_outcomes": Outcomes(),
        "_documents": TTLCache(max_bytes=2**26),
        "_views": TTLCache(max_bytes=2**24, seconds=3600),
    }.items():
        monkeypatch.setattr(task_page, name, made)
    return client


@contextmanager
def hanging_bucket(monkeypatch):
    """A Cloud Storage that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{listener.getsockname()[1]}")
        accepted = []

        def accept():
            while True:
                try:
                    accepted.append(listener.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setattr(clients.storage_client, "_kept", type(clients.storage_client._kept)())
        yield
        for connection, _ in accepted:
            connection.close()


def test_the_tab_of_a_failure(browser, failure):
    browser.task = failure.data()
    answer = browser.get(f"/task?{QUERY}")
    assert answer.status_code == 200
    for shown in (
        "Cell 3 failed",
        "KeyError: &#39;west&#39;",
        'data-fragment="#cell-3"',
        'data-state="JOB_STATE_FAILED"',
    ):
        assert shown in answer.text
    assert 'data-refresh-seconds="0"' in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_notebook_is_a_document_without_rights(browser, failure, theme):
    browser.task = failure.data()
    answer = browser.get(f"/notebook?{QUERY}&theme={theme}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "allow-" not in policy
    assert 'id="cell-3"' in answer.text
    assert "<script" not in answer.text
    assert browser.get(f"/notebook?{QUERY}&theme={theme}").content == answer.content  # from the cache


def test_without_the_extra_the_tab_shows_all_but_the_notebook(browser, failure, monkeypatch):
    there = renderer.find_spec
    monkeypatch.setattr(renderer, "find_spec", lambda name: None if name == "nbconvert" else there(name))
    browser.task = failure.data()
    shown, notebook = (browser.get(f"/{path}?{QUERY}") for path in ("task", "notebook"))
    assert shown.status_code == 200
    assert 'data-state="JOB_STATE_FAILED"' in shown.text
    assert "KeyError: &#39;west&#39;" in shown.text
    assert "pip install &#39;airflow-provider-nbjob[ui]&#39;" in notebook.text


def test_a_running_job_is_asked_again(browser, ran):
    ran.run(wait=False, **SLEEPING)
    browser.task = ran.data()
    answer = browser.get(f"/task?{QUERY}")
    assert 'data-refresh-seconds="10"' in answer.text
    assert "Source" in answer.text
    assert "time.sleep" in browser.get(f"/notebook?{QUERY}").text.replace("</span>", "").replace('<span class="o">', "")


def test_those_who_watch_one_job_ask_the_api_as_often_as_one(browser, success, service):
    browser.task = success.data()
    service.reset()
    texts = {browser.get(f"/task?{QUERY}").status_code for _ in range(5)}
    assert texts == {200}
    assert service.calls() == {"GetNotebookExecutionJob": 1}


def test_a_task_of_another_provider_gets_a_quiet_note(browser):
    browser.task = TaskData(TaskRef("d", "r", "t"), (TaskTry(1, "success", None, None),), None)
    answer = browser.get(f"/task?{QUERY}")
    assert answer.status_code == 200
    assert "No notebook job is known of this task" in answer.text


def test_what_no_route_foresaw_is_answered_too(browser, monkeypatch, caplog):
    def fails(ref, with_record):
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(task_page, "_load", fails)
    answer = browser.get(f"/task?{QUERY}")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "a secret" in caplog.text


def test_a_task_that_is_not_there(browser):
    assert browser.get(f"/task?{QUERY}").status_code == 404
    assert browser.get(f"/notebook?{QUERY}").status_code == 404


def test_a_bucket_that_hangs_holds_nobody(browser, failure, monkeypatch):
    browser.task = failure.data()
    with hanging_bucket(monkeypatch):
        for path, status in (("task", 200), ("notebook", 503)):
            started = time.monotonic()
            answer = browser.get(f"/{path}?{QUERY}")
            assert time.monotonic() - started < patient(SECONDS + 2)
            assert answer.status_code == status
            assert "timed out" in answer.text
            if path == "task":  # what the task recorded is shown all the same
                assert "Cell 3 failed" in answer.text


def test_markup_in_names_and_messages_is_text(browser, ran):
    evil = '"><script>alert(1)</script>'
    ran.run(gcs_notebook_source=FAILING, display_name=evil[:100], labels={"a": "b"})
    ran.record["failed_cell"] = {"number": 3, "ename": evil, "evalue": evil}
    ran.tries[0] = TaskTry(1, evil, None, None)
    browser.task = ran.data(fields={})
    text = browser.get(f"/task?{QUERY}").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_static_files_are_two(browser):
    for name in ("notebook-jobs.css", "notebook-jobs.js"):
        assert browser.get(f"/static/{name}").status_code == 200
    for name in ("..%2f__init__.py", "%2e%2e/app.py", "base.html"):
        assert browser.get(f"/static/{name}").status_code == 404
