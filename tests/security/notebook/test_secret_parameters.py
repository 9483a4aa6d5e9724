"""`secret_parameters`: the notebook has the value as it runs, and nothing that is left of the run has it."""

from __future__ import annotations

import ast
import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import nbformat
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.notebook.parameters import parameterize
from airflow_provider_nbjob.notebook.secrets import FIELD, TAG, full_names, problems_of_secrets, secrets_cell
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.fake_google import REPOSITORY, FakeGoogle
from tests.support.fake_service import OUTPUT
from tests.support.notebooks import code, notebook
from tests.support.patience import patient
from tests.support.tasks import make_context

VALUE = "canary-'\"\\-\u00e4\n-4711"
NAME = "projects/p/secrets/s/versions/latest"
SECRETS = {
    NAME: VALUE.encode(),
    "projects/p/secrets/other/versions/3": b"another-canary",
    "projects/p/secrets/binary/versions/1": b"\xffbinary-canary",
}


class SecretManager:
    """Secret Manager's one method, on loopback, below a token."""

    def __init__(self, secrets: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/the-token/v1/").removesuffix(":access")
                outer.asked.append(name)
                assert "Authorization" not in self.headers
                found = name in secrets
                data = base64.b64encode(secrets.get(name, b"")).decode()
                body = json.dumps({"name": name, "payload": {"data": data}} if found else {"error": "no such secret"})
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/the-token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def manager(monkeypatch) -> Iterator[SecretManager]:
    manager = SecretManager(SECRETS)
    monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", manager.url)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # secrets of the emulator go through no proxy
    yield manager
    manager.close()


def run(cell: str, namespace: dict | None = None) -> dict:
    namespace = {} if namespace is None else namespace
    exec(cell, namespace)
    return {name: value for name, value in namespace.items() if name != "__builtins__"}


# --- the cell ---


@pytest.mark.parametrize("times", [1, 2])
def test_the_cell_binds_the_wanted_names_and_leaves_no_other(manager, capsys, times):
    cell = secrets_cell({"token": NAME, "\uff4bey": "projects/p/secrets/other/versions/3"})
    namespace: dict = {}
    for _ in range(times):
        assert run(cell, namespace) == {"token": VALUE, "key": "another-canary"}
    assert capsys.readouterr() == ("", "")
    ast.parse(cell, feature_version=(3, 7))  # kernels are older than workers


@pytest.mark.parametrize(
    ("secrets", "kind"),
    [
        ({"token": NAME, "x": "projects/p/secrets/missing/versions/1"}, "HTTPError 404"),
        ({"token": NAME, "x": "projects/p/secrets/binary/versions/1"}, "UnicodeDecodeError"),
    ],
)
def test_an_error_shows_no_secret_and_leaves_nothing(manager, secrets, kind):
    namespace: dict = {}
    with pytest.raises(RuntimeError) as raised:
        run(secrets_cell(secrets), namespace)
    assert f"{secrets['x']}, {kind}" in str(raised.value)
    assert "roles/secretmanager.secretAccessor" in str(raised.value)
    assert raised.value.__suppress_context__
    shown = [str(raised.value), *(repr(entry.frame.f_locals) for entry in raised.traceback[2:])]
    for canary in ("canary", "the-token"):
        assert not [text for text in shown if canary in text]
    assert set(namespace) == {"__builtins__"}


def test_credentials_go_to_secret_manager_alone(monkeypatch):
    import google.auth
    import google.auth.transport.requests as transport

    asked = []

    class Session:
        def __init__(self, credentials: object) -> None:
            assert credentials == "credentials"

        def get(self, url: str, **options: object) -> SimpleNamespace:
            asked.append((url, options["allow_redirects"]))
            data = {"payload": {"data": base64.b64encode(b"x").decode()}}
            return SimpleNamespace(raise_for_status=lambda: None, json=lambda: data)

    monkeypatch.delenv("SECRET_MANAGER_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", lambda scopes: ("credentials", "p"))
    monkeypatch.setattr(transport, "AuthorizedSession", Session)
    assert run(secrets_cell({"token": NAME})) == {"token": "x"}
    assert asked == [(f"https://secretmanager.googleapis.com/v1/{NAME}:access", False)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("is_missing", [False, True])
def test_no_executed_notebook_has_a_secret(manager, is_missing):
    """In a kernel whose tracebacks show all variables."""
    source = notebook(
        code("%xmode Verbose"),
        code("day = None", tags=("parameters",)),
        code(f"assert len(token) == {len(VALUE)} and other == 'another-canary', day"),
        code("sorted(name for name in dir() if 'nbjob' in name or 'secret' in name)"),
    )
    missing = {"x": "projects/p/secrets/missing/versions/1"} if is_missing else {}
    secrets = {"token": NAME, "other": "projects/p/secrets/other/versions/3", **missing}
    content = parameterize(source, {"day": "2026-01-01"}, secrets=secrets).content
    document = nbformat.reads(content.decode(), as_version=4)
    client = NotebookClient(document, kernel_name="python3", timeout=int(patient(60)))
    if is_missing:
        with pytest.raises(CellExecutionError, match="HTTPError 404"):
            client.execute()
    else:
        client.execute()
        assert document.cells[-1].outputs[0].data["text/plain"] == "[]"
    executed = nbformat.writes(document)
    assert "canary" not in executed.replace("'another-canary'", "")
    assert "the-token" not in executed


# --- where it stands ---


def tags_of(content: bytes) -> list[list[str]]:
    return [cell["metadata"].get("tags", []) for cell in json.loads(content)["cells"]]


def test_the_cell_comes_after_the_parameters_and_once(manager):
    source = notebook(code("import x"), code("day = None", tags=("parameters",)), code("use(day)"))
    content = parameterize(source, {"day": 1}, secrets={"token": NAME}).content
    expected = [[], ["parameters"], ["injected-parameters"], [TAG], []]
    assert tags_of(content) == expected
    again = parameterize(content, {"day": 1}, secrets={"token": NAME}).content
    assert again == content
    assert tags_of(parameterize(source, {}, secrets={"token": NAME}).content) == [[], ["parameters"], [TAG], []]
    assert tags_of(parameterize(notebook(code("1")), {}, secrets={"token": NAME}).content) == [[TAG], []]
    nbformat.validate(nbformat.reads(content.decode(), as_version=4))
    assert json.loads(content)["metadata"]["nbjob"][FIELD] == {"token": NAME}


def test_secrets_alone_need_no_papermill(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "airflow_provider_nbjob.notebook.languages", None)
    assert NAME.encode() in parameterize(notebook(code("1")), {}, secrets={"token": NAME}).content


@pytest.mark.parametrize("language", ["R", "bash", "julia", "scala"])
def test_another_language_is_refused(language):
    document = json.loads(notebook(code("1")))
    document["metadata"] = {"language_info": {"name": language}}
    with pytest.raises(InvalidJob, match=rf"^secret_parameters: the notebook's language is {language}; .*python only"):
        parameterize(json.dumps(document).encode(), {}, secrets={"token": NAME})


# --- names ---


@pytest.mark.parametrize(
    ("given", "full"),
    [
        (NAME, NAME),
        ("s", NAME),
        ("s/versions/3", "projects/p/secrets/s/versions/3"),
        ("s/versions/stable", "projects/p/secrets/s/versions/stable"),
        ("projects/123/secrets/S_1-x", "projects/123/secrets/S_1-x/versions/latest"),
        ("projects/example.com:q/secrets/s/versions/1", "projects/example.com:q/secrets/s/versions/1"),
    ],
)
def test_short_forms_are_completed(given, full):
    assert problems_of_secrets({"token": given}) == []
    assert full_names({"token": given}, "p") == {"token": full}


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "s/3",
        "../x",
        "s/versions/1/../2",
        "s?x",
        "s#",
        "s\n",
        "s/versions/1:access?x",
        "projects/p/locations/us-central1/secrets/s/versions/1",
        "projects/p?/secrets/s/versions/1",
        "//evil.example/s",
        "s%2f..",
        "s" * 256,
        "'; import os; '",
        7,
        None,
        {"name": "s"},
    ],
)
def test_what_is_no_secret_is_refused(secret):
    (problem,) = problems_of_secrets({"token": secret})
    assert problem.startswith("secret_parameters['token']: ")


@pytest.mark.parametrize(
    "name", ["", "a b", "class", "__builtins__", "get_ipython", "_", "a\n", "x'", 7, "\uff3f\uff3fbuiltins\uff3f\uff3f"]
)
def test_what_is_no_name_is_refused(name):
    (problem,) = problems_of_secrets({name: "s"})
    assert problem.startswith("secret_parameters[")


@pytest.mark.parametrize(
    ("secrets", "parameters", "said"),
    [
        ({"day": "s"}, {"day": 1}, "is given twice"),
        ({"\uff44ay": "s"}, {"day": 1}, "is given twice"),
        ({"a": "s", "\uff41": "s"}, None, "is given twice"),
        (["s"], None, "is not a mapping"),
        ({f"n{number}": "s" for number in range(101)}, None, "at most 100"),
    ],
)
def test_other_faults_are_told(secrets, parameters, said):
    (problem,) = problems_of_secrets(secrets, parameters)
    assert problem.startswith("secret_parameters")
    assert said in problem


# --- the operator ---


def operator(**changes):
    arguments = {
        "task_id": "t",
        "location": "us-central1",
        "gcs_notebook_source": "gs://bucket/n.ipynb",
        "gcs_output_uri": OUTPUT,
        "notebook_runtime_template_resource_name": "t",
        "service_account": "sa@p.iam.gserviceaccount.com",
        "secret_parameters": {"token": "s"},
        "wait_for_completion": False,
    }
    return CreateNotebookExecutionJobOperator(**{**arguments, **changes})


@pytest.mark.parametrize(
    "source",
    [
        {"gcs_notebook_source": "gs://bucket/n.ipynb"},
        {"gcs_notebook_source": None, "direct_notebook_source": notebook(code("1"))},
        {"gcs_notebook_source": None, "dataform_repository_source": REPOSITORY},
    ],
    ids=["gcs", "direct", "dataform"],
)
@pytest.mark.parametrize("parameters", [None, {"day": 1}])
def test_every_source_gets_the_cell_and_no_value(monkeypatch, source, parameters):
    google = FakeGoogle(monkeypatch)
    google.storage.put("gs://bucket/n.ipynb", notebook(code("1")))
    google.dataform.commits = {"": {"content.ipynb": notebook(code("1"))}}
    operator(**source, parameters=parameters).execute(make_context("r"))
    (job,) = google.service.submitted
    assert [TAG] in tags_of(job.direct_notebook_source.content)
    assert f"'token': '{NAME}'" in job.direct_notebook_source.content.decode()


def test_bad_secrets_are_told_when_the_dag_is_parsed():
    with pytest.raises(InvalidJob, match=r"secret_parameters\['token'\]: '\.\./x' is not of the form"):
        operator(secret_parameters={"token": "../x"})


def test_bad_secrets_from_a_template_are_never_retried(monkeypatch):
    google = FakeGoogle(monkeypatch)
    task = operator(secret_parameters={"token": "{{ dag_run.conf.secret }}"})
    task.secret_parameters = {"token": "s/versions/1:access?x="}
    with pytest.raises(InvalidJob, match=r"secret_parameters\['token'\]: ") as refused:
        task.execute(make_context("r"))
    assert isinstance(refused.value, AirflowFailException)
    assert google.service.submitted == []
