"""Who may see what, asked of the API server as anybody can ask it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi.routing import APIRoute

from airflow_provider_nbjob.plugins.notebook_jobs.app import STATIC, app
from tests.support.patience import patient
from tests.support.routes import routes_of
from tests.system.settings import SECRETS, USERS
from tests.system.ui.airflow_ui import task_query
from tests.system.ui.runs import FINISHED

PATHS = [re.sub(r"\{.*\}", "notebook-jobs.css", route.path) for route in routes_of(app)]
REPORT = task_query(*FINISHED["report"][:2], "notebook")
PRIVATE = task_query(*FINISHED["private"][:2], "notebook")


class Client(httpx.Client):
    """Somebody's; every answer is an answer of this provider, with the headers that protect it."""

    def asks(self, path: str, status: int = 200, **options: Any) -> str:
        answer = self.get(f"/notebook-jobs/{path}", **options)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert not {"unsafe-eval", "*", "http:", "https:"} & set(re.split("[ ;']+", policy))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"].startswith("private, no-")
        return answer.text


@pytest.fixture(scope="module")
def clients(airflow, finished) -> Iterator[dict[str, Client]]:
    """A client of each user, who signed in by password, and one of nobody."""
    opened = {
        user: Client(
            base_url=airflow.url, headers={"authorization": f"Bearer {airflow.token(user)}"}, timeout=patient(30)
        )
        for user in USERS
    }
    opened["nobody"] = Client(base_url=airflow.url, timeout=patient(30))
    yield opened
    for client in opened.values():
        client.close()


@pytest.fixture
def admin(clients) -> Client:
    return clients["admin"]


@pytest.fixture
def viewer(clients) -> Client:
    return clients["viewer"]


@pytest.fixture
def nobody(clients) -> Client:
    return clients["nobody"]


def shown(page: str) -> tuple[int, set[str]]:
    """How many jobs there are by the page's own count, and all texts in which it names a DAG."""
    return int(re.findall(r"of ([\d,]+)</span></p>", page)[0]), set(re.findall(r"\w*report\w*", page))


@pytest.mark.parametrize("path", PATHS)
def test_every_route_wants_a_user(admin, nobody, path):
    asked = f"{path.lstrip('/')}?{REPORT}"
    admin.asks(asked)
    refused = nobody.asks(asked, 401)
    assert "Not authenticated" in refused
    assert not re.search("report|a_success|succeeded", refused)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert nobody.request(method, f"/notebook-jobs/{asked}").status_code in (401, 405)


def test_there_is_nothing_but_routes():
    """Something mounted, or a websocket, would not come by the user that the application asks for."""
    assert {type(route) for route in routes_of(app)} == {APIRoute}
    assert {"/", "/task", "/notebook", "/static/{name}"} <= {route.path for route in routes_of(app)}
    assert {method for route in routes_of(app) for method in route.methods} == {"GET"}


def test_the_cookie_of_a_session_is_as_good_as_a_token(airflow, airflow_ui, nobody):
    cookies = {cookie["name"]: cookie["value"] for cookie in airflow_ui.new_page("viewer").context.cookies()}
    with Client(base_url=airflow.url, cookies=cookies, timeout=patient(30)) as session:
        session.asks(f"task?{REPORT}")
        session.asks(f"task?{PRIVATE}", 403)
        session.cookies.clear()
        session.asks(f"task?{REPORT}", 401)


def test_tokens_that_are_no_good(airflow, nobody):
    secret = airflow.environment["AIRFLOW__API_AUTH__JWT_SECRET"]
    header = jwt.get_unverified_header(airflow.token("admin"))
    claims = jwt.decode(airflow.token("admin"), options={"verify_signature": False})

    def token(secret: str = secret, algorithm: str = header["alg"], **changes: Any) -> str:
        return jwt.encode({**claims, **changes}, secret, algorithm, headers=header | {"alg": algorithm})

    tokens = {
        "as issued": token(),
        "expired": token(exp=int(time.time()) - 3600),
        "of another": token(secret="x" * 64),
        "unsigned": token(secret="", algorithm="none"),
        "for another": token(aud="somebody else"),
        "of nobody": token(sub="nobody", role=None),
        "none at all": "x",
    }
    for name, value in tokens.items():
        for sent in ({"headers": {"authorization": f"Bearer {value}"}}, {"cookies": {"_token": value}}):
            with Client(base_url=airflow.url, timeout=patient(30), **sent) as client:
                answer = client.get(f"/notebook-jobs/task?{REPORT}")
                assert (name, answer.is_success) == (name, name == "as issued")
                assert ("revenue" in answer.text) == answer.is_success


def test_a_dag_that_a_user_may_not_see(admin, viewer):
    for route in ("task", "notebook"):
        assert "revenue" in admin.asks(f"{route}?{PRIVATE}")
        refused = viewer.asks(f"{route}?{PRIVATE}", 403)
        assert "You may not read the task instances of this DAG." in refused
        assert "private" not in refused
        assert "revenue" in viewer.asks(f"{route}?{REPORT}")


def test_the_page_leaves_out_what_a_user_may_not_see(admin, viewer):
    (all_of_them, named), (visible, named_to_viewer) = shown(admin.asks("")), shown(viewer.asks(""))
    assert visible == all_of_them - 1
    assert named - named_to_viewer == {"private_report"}
    for query in ("text=a_secret", "text=private", "dag_id=private_report", "task_id=notebook&text=a_secret"):
        assert "a_secret" in admin.asks(f"?{query}").partition('id="jobs"')[2]
        refused = viewer.asks(f"?{query}")
        assert "No job matches" in refused
        assert not re.search(r"a_secret|private_report", re.sub('value="[^"]*"', "", refused))


@pytest.mark.parametrize("route", ["task", "notebook"])
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("dag_id=report&run_id=a_secret&task_id=notebook", 404),  # a DAG that may be seen, and a run of the other
        ("dag_id=~&run_id=a_secret&task_id=notebook", 404),  # "any DAG" to Airflow's own API
        ("dag_id=~&run_id=~&task_id=~", 404),
        ("dag_id=%25report&run_id=a_secret&task_id=notebook", 404),
        ("dag_id=private_report%20&run_id=a_secret&task_id=notebook", 403),
        ("dag_id=report&dag_id=private_report&run_id=a_secret&task_id=notebook", 400),
        ("dag_id=private_report&dag_id=report&run_id=a_secret&task_id=notebook", 400),
        ("dag_id=report&run_id=a_success&run_id=a_secret&task_id=notebook", 400),
        ("dag_id=report&run_id=a_success&task_id=notebook%00", 400),
        ("run_id=a_secret&task_id=notebook", 400),
        ("dag_id=&run_id=a_secret&task_id=notebook", 400),
        (f"{REPORT}x", 404),
        ("dag_id=report&run_id=no_run&task_id=notebook", 404),
        (f"{REPORT}&map_index=0", 404),
        (f"{REPORT}&map_index=x", 400),
        ("dag_id=mapped&run_id=three&task_id=notebook", 404),
        ("dag_id=mapped&run_id=three&task_id=notebook&map_index=3", 404),
        (f"{REPORT}&try_number=2", 404),
        (f"{REPORT}&try_number=-1", 400),
        ("dag_id=retried&run_id=two_tries&task_id=notebook&try_number=3", 404),
    ],
)
def test_what_is_forged(viewer, route, query, status):
    refused = viewer.asks(f"{route}?{query}", status)
    assert not re.search("revenue|succeeded|nbjob-[0-9a-f]|gs://", refused)


@pytest.mark.parametrize(
    "name",
    [
        "..%2fapp.py",
        "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/app.py",
        "%2fetc%2fpasswd",
        "..%5capp.py",
        "task.css%00.js",
        "../app.py",
        "nothing.css",
    ],
)
def test_static_files_are_those_that_are_named(admin, name):
    answer = admin.get(f"/notebook-jobs/static/{name}")
    assert answer.status_code == 404
    assert not re.search("import|root:", answer.text)
    for known in STATIC:
        assert len(admin.asks(f"static/{known}")) > 500


def test_no_page_tells_of_connections_or_secrets(admin, airflow):
    secrets = [
        *SECRETS,
        *airflow.passwords.values(),
        *(value for name, value in airflow.environment.items() if name.endswith("SECRET_KEY") or "JWT" in name),
        admin.headers["authorization"].partition(" ")[2],
        str(airflow.home),
    ]
    texts = [admin.asks("")]
    for dag_id, run_id, _ in FINISHED.values():
        task = "shell" if dag_id == "another" else "notebook"
        query = task_query(dag_id, run_id, task, **({"map_index": 1} if dag_id == "mapped" else {}))
        texts += [admin.get(f"/notebook-jobs/{route}?{query}").text for route in ("task", "notebook")]
    assert any("no credentials that can be used" in text for text in texts)
    assert [secret for secret in secrets for text in texts if secret in text] == []
