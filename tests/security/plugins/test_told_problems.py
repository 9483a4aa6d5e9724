"""What a viewer is told of an error has no path, address or key of the API server in it; its log has all."""

from __future__ import annotations

import re

import pytest
from google.api_core.exceptions import PermissionDenied, ServiceUnavailable
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.plugins.notebook_jobs import task_page
from tests.security.plugins.site import QUERY, cell, notebook, record_of

PATH = "/opt/airflow/secrets/key-of-ours.json"
LEAKS = (PATH, "key-of-ours", "10.1.2.3", "private_key")
ERRORS = [
    FileNotFoundError(2, "No such file or directory", PATH),
    DefaultCredentialsError(f"File {PATH} was not found."),
    RefreshError(f"invalid_grant of {PATH}", {"private_key": "x"}),
    TransportError(f"10.1.2.3 does not answer for {PATH}"),
    ServiceUnavailable(f"Getting metadata from plugin failed with error: ('invalid', '{PATH}')"),
    PermissionError(13, "Permission denied", PATH),
    ValueError(f"Could not deserialize private_key in {PATH}"),
    RuntimeError(f"proxy 10.1.2.3 of {PATH}"),
]


def assert_told(site, caplog):
    for path in ("task", "notebook"):
        answer = site.get(f"{path}?{QUERY}")
        assert answer.status_code in (200, 503)
        for leak in LEAKS:
            assert leak not in answer.text
        assert re.search("Google Cloud could not be asked|log says why", answer.text)
    assert any(leak in caplog.text for leak in LEAKS)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_no_client_can_be_made(site, monkeypatch, caplog, error):
    def get_conn(*_):
        raise error

    site.task(record_of(site.job()))
    monkeypatch.setattr(NotebookExecutionJobHook, "get_conn", get_conn)
    assert_told(site, caplog)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_bucket_cannot_be_asked(site, caplog, error):
    site.task(record_of(site.job(notebook=notebook(cell()))))
    site.google.storage.fail("list", error)
    assert_told(site, caplog)


def test_what_google_answers_is_told(site):
    site.task(record_of(site.job()))
    site.service.fail("get", PermissionDenied("lacks aiplatform.notebookExecutionJobs.get"))
    for path in ("task", "notebook"):
        assert "lacks aiplatform.notebookExecutionJobs.get" in site.get(f"{path}?{QUERY}").text


def test_a_connection_that_is_not_defined_is_named(site):
    site.task(record_of(site.job()), fields={"gcp_conn_id": "no_such_connection"})
    assert "no_such_connection" in site.shown()


def test_an_error_that_no_route_foresaw_is_told_by_none_of_its_words(site, monkeypatch, caplog):
    def fails(*_, **__):
        raise RuntimeError(PATH)

    monkeypatch.setattr(task_page, "_load", fails)
    answer = site.get(f"task?{QUERY}")
    assert answer.status_code == 500
    assert PATH not in answer.text
    assert PATH in caplog.text


@pytest.mark.parametrize("is_gone", [False, True])
def test_why_a_task_did_not_read_its_notebook_is_told_as_text(site, is_gone):
    name = site.name() if is_gone else site.job(notebook=notebook(cell()))
    why = "Could not read gs://bucket/n.ipynb: <img src=x onerror=alert(1)>"
    site.task(record_of(name, job_state="JOB_STATE_SUCCEEDED", output_error=why))
    answer = site.get(f"task?{QUERY}").text
    if not is_gone:
        assert "Could not read gs://bucket/n.ipynb" in answer
    assert "<img src=x" not in answer
