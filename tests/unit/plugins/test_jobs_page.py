from __future__ import annotations

import html
from types import SimpleNamespace

import pytest
from airflow import settings
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import sessionmaker

from airflow_provider_nbjob.plugins.notebook_jobs import authorization
from airflow_provider_nbjob.plugins.notebook_jobs.app import app, get_user
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.jobs_page import path_in_airflow
from airflow_provider_nbjob.plugins.notebook_jobs.queries import PAGE_SIZE
from airflow_provider_nbjob.plugins.notebook_jobs.urls import URL_PREFIX
from tests.support.metadata import Rows, ended, record

SUCCEEDED = ended("JOB_STATE_SUCCEEDED")


class Person(SimpleNamespace):
    """Whom Airflow asks about: what they may list, and of which DAGs."""

    may_list = True
    dag_ids = frozenset({"reports"})

    def is_authorized_dag(self, **_) -> bool:
        return self.may_list

    def batch_is_authorized_dag(self, requests, **_) -> bool:
        return self.may_list

    def get_authorized_dag_ids(self, **_) -> set[str]:
        return set(self.dag_ids)


@pytest.fixture
def person(monkeypatch) -> Person:
    person = Person()
    monkeypatch.setattr(authorization, "get_auth_manager", lambda: person)
    monkeypatch.setitem(app.dependency_overrides, get_user, lambda: person)
    return person


@pytest.fixture
def client(person, engine, monkeypatch) -> TestClient:
    """A client of an Airflow below a path of its own, which the app is part of."""
    monkeypatch.setattr(settings, "NonScopedSession", sessionmaker(engine))
    airflow = FastAPI(root_path="/airflow")
    airflow.mount(URL_PREFIX, app)
    return TestClient(airflow, base_url="http://test/airflow", raise_server_exceptions=True)


@pytest.fixture
def get(client):
    def get_page(query: str = "", status: int = 200) -> str:
        answer = client.get(f"{URL_PREFIX}/{query}")
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "private, no-store"
        assert " style=" not in answer.text
        return answer.text

    return get_page


def inserted(insert, *jobs):
    rows = Rows()
    for arguments in jobs:
        rows.task_instance(**arguments)
    insert(rows)


def test_without_jobs_it_says_what_fills_it(get):
    page = get()
    assert "There are no notebook jobs yet, or none that you may see." in page
    assert "CreateNotebookExecutionJobOperator" in page
    assert "<table" not in page
    assert 'data-refresh-seconds="30"' in page


def test_a_job_and_its_links(get, insert):
    told = record("job-1", **ended("JOB_STATE_FAILED", failed_cell={"number": 3, "ename": "KeyError", "evalue": "'w'"}))
    inserted(insert, {"run_id": "run 1+2/3", "map_index": 4, "state": "failed", "told": told, "seconds": 200})
    page = html.unescape(get())
    query = "dag_id=reports&run_id=run%201%2B2%2F3&task_id=notebook&map_index=4&try_number=1"
    assert page.count(f'href="/airflow{URL_PREFIX}/task?{query}"') == 2  # the row, and the bar of its chart
    outside = 'href="/airflow/dags/reports/runs/run%201%2B2%2F3/tasks/notebook/mapped/4?try_number=1" target="_top"'
    assert outside in page
    for text in ("cell 3: KeyError: 'w'", "job-1", "3 min 20 s", "2026-01-01 00:00:00", "1–1 of 1", "[4]"):  # noqa: RUF001
        assert text in page
    assert 'data-refresh-seconds="30"' in page


def test_it_looks_again_soon_while_a_job_goes_on(get, insert):
    inserted(insert, {"state": "deferred", "told": record("job-1")})
    page = get()
    assert 'data-refresh-seconds="10"' in page
    assert '<span class="state" data-state="ACTIVE">active</span>' in page


def test_what_others_wrote_is_text(get, insert, person):
    evil = "<img src=x onerror=alert(1)>\"'{{7*7}}"
    person.dag_ids = {evil}
    told = record("x", **ended(f"JOB_STATE_{evil}", evil, failed_cell={"number": evil, "ename": evil, "evalue": evil}))
    names = {"dag_id": evil, "task_id": evil, "run_id": evil, "rendered_map_index": evil, "map_index": 0}
    inserted(insert, {**names, "state": "failed", "told": {**told, "name": f"a/{evil}"}})
    for page in (get(), get("?text=%3Cimg%20src%3Dx%20")):
        assert "<img" not in page
        assert "{{7*7}}" in html.unescape(page) or "No job matches" in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in get()


def test_what_may_not_be_read_is_nowhere(get, insert):
    inserted(insert, *({"dag_id": dag, "told": record(f"of-{dag}", **SUCCEEDED)} for dag in ("reports", "secret")))
    assert "of-reports" in get()
    assert "secret" not in get()
    assert "of-secret" not in get("?dag_id=secret")


def test_who_may_list_nothing_is_told(get, person):
    person.may_list = False
    assert "You may not read the task instances" in get(status=403)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?page=x", "page: 'x' must be a whole number"),
        ("?state=bad", "state: 'bad' must be ACTIVE"),
        ("?since=%3Cb%3E", "since: '<b>' must be a date"),
        ("?text=a&text=b", "text: given twice"),
    ],
)
def test_a_bad_query_is_refused_with_its_rule(get, query, told):
    page = get(query, 400)
    assert told in html.unescape(page)
    assert "<b>" not in page


def test_states_are_links_that_keep_the_other_filters(get, insert):
    inserted(insert, {"told": record("a", **SUCCEEDED)}, {"run_id": "r2", "state": "failed", "told": record("b")})
    page = html.unescape(get("?dag_id=reports&state=JOB_STATE_FAILED&page=1"))
    assert '?dag_id=reports&state=JOB_STATE_FAILED" aria-current="true"' in page
    assert '?dag_id=reports&state=JOB_STATE_SUCCEEDED" >' in page
    assert '<input type="hidden" name="state" value="JOB_STATE_FAILED">' in page
    assert 'name="dag_id" list="dag-ids" value="reports"' in page


def test_filters_that_match_nothing(get, insert):
    inserted(insert, {"told": record("a", **SUCCEEDED)})
    page = get("?text=nowhere&state=ACTIVE&since=2026-01-01T00:00:01")
    assert "No job matches." in page
    assert 'value="2026-01-01T00:00:01"' in page
    assert 'data-state="ACTIVE">active</span> 0' in page


def test_pages(get, insert):
    inserted(insert, *({"run_id": f"r{n}", "told": record(f"j{n}", **SUCCEEDED)} for n in range(2 * PAGE_SIZE + 1)))
    first, last = get(), html.unescape(get("?page=999&text=r"))
    assert "1–50 of 101" in first  # noqa: RUF001
    assert '<span class="quiet">Previous</span>' in first
    assert f'href="/airflow{URL_PREFIX}/?page=3">Last</a>' in first
    assert "101–101 of 101" in last  # noqa: RUF001
    assert "Page 3 of 3" in last
    assert '?text=r&page=2">Previous</a>' in last
    assert '<span class="quiet">Next</span>' in last


def test_paths_in_airflow():
    assert path_in_airflow(TaskRef("d", "r", "g.t", -1, 2)) == "/dags/d/runs/r/tasks/g.t?try_number=2"
    assert path_in_airflow(TaskRef("d", "a b:c", "t", 0)) == "/dags/d/runs/a%20b%3Ac/tasks/t/mapped/0"
