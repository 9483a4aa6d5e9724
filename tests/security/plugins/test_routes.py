"""Every route of the plugin: who may ask, with what, and what they are told. A new route has to be classified here."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from fastapi.routing import APIRoute

from airflow_provider_nbjob.plugins.notebook_jobs.app import app
from tests.security.plugins.site import QUERY, cell, notebook, printed, record_of
from tests.support.routes import routes_of

# What a route needs of the DAG that it is asked about; None: it is about no DAG.
NEEDS = {
    "/": {"TASK_INSTANCE"},
    "/task": {"TASK_INSTANCE"},
    "/notebook": {"TASK_INSTANCE", "TASK_LOGS"},
    "/static/{name}": None,
}
ROUTES = sorted(route.path for route in routes_of(app))
OF_A_DAG = [path for path in ROUTES if NEEDS.get(path)]
RESULT, PRINTED, RAISED, RECORDED = "the-result", "the-output", "the-error", "the-recorded-error"


def url(path: str) -> str:
    return f"{path.lstrip('/').replace('{name}', 'notebook-jobs.css')}?{QUERY}"


@pytest.fixture
def told(site):
    """A task whose job failed, and which tells of all that may be told."""
    raised = {"output_type": "error", "ename": "ValueError", "evalue": RAISED, "traceback": [RAISED]}
    result = {"output_type": "execute_result", "data": {"text/plain": repr(RESULT)}, "metadata": {}}
    cells = [cell("1", printed(PRINTED)), cell("2", result, tags=("result",)), cell("3", raised)]
    name = site.job(notebook=notebook(*cells), state="FAILED", status={"code": 3, "message": RAISED})
    end = {"job_state": "JOB_STATE_FAILED", "failed_cell": {"number": 3, "ename": "E", "evalue": RECORDED}}
    site.task(record_of(name, **end), state="failed")
    return site


def test_each_route_is_classified():
    assert set(ROUTES) == set(NEEDS), "say in NEEDS what the new route needs"
    assert {type(route) for route in routes_of(app)} == {APIRoute}, "what is mounted asks nobody who they are"
    assert {method for route in routes_of(app) for method in route.methods} == {"GET"}, "nothing changes anything"


@pytest.mark.parametrize("path", ROUTES)
def test_nobody_is_told_anything_who_is_not_signed_in(told, path):
    for headers in ({}, {"x-user": "nobody"}, {"authorization": "Basic YTpi"}, {"cookie": "_token=x"}):
        answer = told.get(url(path), user=None, headers=headers)
        assert answer.status_code == 401
        assert not re.search("reports|the-|nbjob-[0-9a-f]|JOB_STATE", answer.text)
    assert told.service.asked == []


@pytest.mark.parametrize("path", OF_A_DAG)
@pytest.mark.parametrize("lacking", ["TASK_INSTANCE", "TASK_LOGS"])
def test_each_permission_that_a_route_needs_is_asked_for(told, path, lacking):
    reads = {"TASK_INSTANCE", "XCOM", "TASK_LOGS"} - {lacking}
    answer = told.get(url(path), user=told.people.add("somebody", *reads))
    assert answer.status_code == (403 if lacking in NEEDS[path] else 200)
    if lacking in NEEDS[path]:
        assert not re.search("the-|nbjob-[0-9a-f]", answer.text)
        assert told.service.asked == []


@pytest.mark.parametrize("path", OF_A_DAG)
@pytest.mark.parametrize("dag_id", ["another", "report", "reports2", "REPORTS", "~"])
def test_who_may_read_another_dag_reads_that_alone(told, path, dag_id):
    user = told.people.add("of-another", "TASK_INSTANCE", "XCOM", "TASK_LOGS", dag_id=dag_id)
    answer = told.get(url(path), user=user)
    assert answer.status_code == (200 if path == "/" else 403)
    assert not re.search("the-|nbjob-[0-9a-f]|run_1<", answer.text)
    assert told.service.asked == []


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("host", ["evil.test", "evil.test:1@airflow.test", '"><script>', "127.0.0.1.evil.test"])
def test_the_host_header_is_in_no_link_and_no_redirect(told, path, host):
    honest = told.get(url(path))
    answer = told.get(url(path), headers={"host": host, "x-forwarded-host": host, "x-forwarded-prefix": "//evil.test"})
    assert (answer.status_code, answer.text) == (honest.status_code, honest.text)
    assert "evil" not in str(answer.headers)
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", [*ROUTES, "/nothing", "/task/x"])
@pytest.mark.parametrize("user", [None, "admin"])
def test_no_path_with_another_slash_leads_elsewhere(told, path, user):
    plain = url(path).partition("?")[0]
    for changed in (f"{plain}/", f"/{plain}", f"{plain}//"):
        answer = told.get(changed, user=user, headers={"host": "evil.test"})
        assert answer.status_code in (200, 400, 401, 404)
        assert "location" not in answer.headers
        assert "evil" not in answer.text + str(answer.headers)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("origin", ["https://evil.test", "null", "http://airflow.test.evil.test"])
def test_no_other_site_may_read_an_answer(told, path, origin):
    answer = told.get(url(path), headers={"origin": origin, "sec-fetch-site": "cross-site"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    preflight = told.client.options(
        f"/notebook-jobs/{url(path)}", headers={"origin": origin, "access-control-request-method": "GET"}
    )
    assert preflight.status_code in (401, 405)
    assert not [name for name in preflight.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "HEAD"])
def test_nothing_can_be_sent(told, path, method):
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        headers = {"x-user": "admin", "content-type": content_type}
        answer = told.client.request(method, f"/notebook-jobs/{url(path)}", content=b"{}", headers=headers)
        assert answer.status_code == 405
        assert not re.search("the-|nbjob-[0-9a-f]", answer.text)
    assert told.service.asked == []


@pytest.mark.parametrize("path", [path for path in ROUTES if NEEDS[path] is not None])
def test_no_answer_about_a_dag_is_kept(told, path):
    assert "no-store" in told.get(url(path)).headers["cache-control"]
    assert "no-store" in told.get(url(path), user=None).headers["cache-control"]


# --- what of the tab who may see ---


def test_who_may_read_no_xcoms_sees_neither_results_nor_the_record(told):
    everybody = told.shown()
    assert RESULT in everybody
    assert RAISED in everybody
    page = told.shown(user=told.people.add("no-xcoms", "TASK_INSTANCE", "TASK_LOGS"))
    assert RESULT not in page
    assert RECORDED not in page
    assert RAISED in page
    assert "may not read XComs" in page


def test_who_may_read_no_logs_sees_neither_errors_nor_the_notebook(told):
    page = told.shown(user=told.people.add("no-logs", "TASK_INSTANCE", "XCOM"))
    assert RAISED not in page
    assert RECORDED not in page
    assert "<iframe" not in page
    assert RESULT in page
    assert "may not read logs" in page
    told.service.fail("get", ConnectionError("x"))  # what was recorded is shown in place of it
    told.task(
        record_of(told.name(told.job_id(map_index=1)), failed_cell={"number": 1, "evalue": RECORDED}), map_index=1
    )
    assert RECORDED not in told.shown(query=f"{QUERY}&map_index=1", user="no-logs")


def test_who_may_read_task_instances_alone_sees_the_state(told):
    page = told.shown(user=told.people.add("neither", "TASK_INSTANCE"))
    assert 'data-state="JOB_STATE_FAILED"' in page
    assert not re.search("the-", page)


def test_what_one_may_see_is_not_shown_to_another_who_asks_next(told):
    for user, reads in (("all", ("XCOM", "TASK_LOGS")), ("none", ()), ("logs", ("TASK_LOGS",)), ("xcoms", ("XCOM",))):
        told.people.add(user, "TASK_INSTANCE", *reads)
    for user in ("all", "none", "xcoms", "logs", "none", "all", "xcoms"):
        page = told.shown(user=user)
        assert (RESULT in page) == (user in ("all", "xcoms"))
        assert (RAISED in page) == (user in ("all", "logs"))


def test_the_page_of_the_jobs_needs_xcoms_and_shows_errors_with_logs_alone(told):
    assert RECORDED in told.shown("")
    without_logs = told.shown("", user=told.people.add("no-logs", "TASK_INSTANCE", "XCOM"))
    assert told.job_id() in without_logs
    assert RECORDED not in without_logs
    assert "errors of DAGs whose logs you may not read are left out" in without_logs
    for user, *reads in (("no-xcoms", "TASK_INSTANCE", "TASK_LOGS"), ("no-instances", "XCOM", "TASK_LOGS")):
        told.people.add(user, *reads)
        answer = told.get("", user=user)
        assert told.job_id() not in answer.text
        assert f"{QUERY.replace('&', '&amp;')}" not in answer.text


def test_links_are_to_google_alone_and_hold_no_markup(told):
    links = re.findall(r'href="([^"]*)" target="_blank"', told.get(url("/task")).text)
    assert len(links) == 3
    for link in links:
        assert urlsplit(link).netloc == "console.cloud.google.com"
        assert not re.search("[<>'\\s]", link)
