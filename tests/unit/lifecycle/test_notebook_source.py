"""The source that a job is submitted with: as it was given, with parameters in it, or uploaded because of its size."""

from __future__ import annotations

import gzip
import json
import logging
import math
from datetime import date, datetime, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from google.api_core.exceptions import PermissionDenied

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job.spec import SOURCES, NotebookExecutionJobSpec
from airflow_provider_nbjob.lifecycle.notebook_source import resolve_source
from airflow_provider_nbjob.notebook.source import read_notebook
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.fake_google import REPOSITORY, FakeGoogle
from tests.support.fake_service import OUTPUT
from tests.support.notebooks import code, notebook
from tests.support.paths import NOTEBOOKS
from tests.support.tasks import arguments, make_context

URI = "gs://bucket/reports/daily.ipynb"
SHA = "0123abcd"
LOG = logging.getLogger("task")  # what others log at the same time, such as Airflow, is no concern of these tests
CONTENT = notebook(code("x = 0", tags=("parameters",)), code("x"))


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    monkeypatch.delenv("AIRFLOW__NBJOB__DIRECT_CONTENT_MAX_BYTES", raising=False)
    return FakeGoogle(monkeypatch)


@pytest.fixture
def small_requests(monkeypatch):
    """Requests take no notebook that is larger than nothing."""
    monkeypatch.setenv("AIRFLOW__NBJOB__DIRECT_CONTENT_MAX_BYTES", "0")


def job(**source: Any) -> NotebookExecutionJobSpec:
    values = {"gcs_output_uri": OUTPUT, "notebook_execution_job_id": "j1", "display_name": "a report", **source}
    return NotebookExecutionJobSpec(**values)


def resolved(spec: NotebookExecutionJobSpec, parameters: Any = None) -> NotebookExecutionJobSpec:
    return resolve_source(NotebookExecutionJobHook(), spec, parameters, LOG)


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET) -> list[str]:
    """What the task's log shows."""
    return [record.getMessage() for record in caplog.records if record.name == LOG.name and record.levelno >= level]


def sources_of(spec: NotebookExecutionJobSpec) -> dict[str, Any]:
    """The sources that a job has; one, where it is fit to be submitted."""
    return {name: value for name in SOURCES if (value := getattr(spec, name)) is not None}


def injected(content: bytes) -> str:
    """The source of the cell that assigns parameters."""
    (cell,) = [
        cell for cell in json.loads(content)["cells"] if "injected-parameters" in cell["metadata"].get("tags", [])
    ]
    return cell["source"]


def assigned(content: bytes) -> dict[str, Any]:
    """The variables that a Python notebook has after the cell that assigns parameters."""
    names: dict[str, Any] = {}
    exec(injected(content), names)
    return {name: value for name, value in names.items() if name != "__builtins__"}


def told_source(content: bytes) -> str | None:
    """Where a notebook says that it was read."""
    return json.loads(content)["metadata"]["nbjob"].get("source")


# --- without parameters ---


@pytest.mark.parametrize("parameters", [None, {}])
@pytest.mark.parametrize(
    "source",
    [
        {"gcs_notebook_source": URI},
        {"gcs_notebook_source": {"uri": URI, "generation": 7}},
        {"dataform_repository_source": REPOSITORY},
        {"dataform_repository_source": {"dataform_repository_resource_name": REPOSITORY, "commit_sha": SHA}},
    ],
)
def test_a_source_without_parameters_is_neither_read_nor_changed(google, source, parameters):
    spec = job(**source)
    assert resolved(spec, parameters) == spec
    assert google.storage.requests == []
    assert google.dataform.calls == []


def test_a_notebook_at_hand_is_submitted_as_it_is(google):
    assert sources_of(resolved(job(direct_notebook_source=CONTENT))) == {"direct_notebook_source": CONTENT}


def test_a_script_becomes_a_notebook(google, tmp_path):
    (tmp_path / "train.py").write_text('# %% tags=["parameters"]\nx = 1\n# %%\nprint(x)\n')
    content = read_notebook(tmp_path / "train.py")
    content = resolved(job(direct_notebook_source=content), {"x": 2}).direct_notebook_source
    assert [cell["source"] for cell in json.loads(content)["cells"]][::2] == ["x = 1", "print(x)"]
    assert assigned(content) == {"x": 2}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no such file"),
        (b"", "is not JSON"),
        (CONTENT[:-5], "is not JSON"),
        (gzip.compress(CONTENT, mtime=0), "is gzip-compressed"),
    ],
)
def test_a_file_that_is_no_notebook_is_named(tmp_path, content, problem):
    path = tmp_path / "n.ipynb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidJob) as raised:
        job(direct_notebook_source=path).validated()
    assert f"direct_notebook_source: {str(path)!r}" in str(raised.value)
    assert problem in str(raised.value)


# --- parameters ---


@pytest.mark.parametrize("form", ["short", "long", "without a generation"])
def test_a_source_in_cloud_storage_gets_parameters(google, caplog, form):
    caplog.set_level(logging.INFO)
    google.storage.put(URI, CONTENT)
    source = {"short": URI, "long": {"uri": URI}, "without a generation": {"uri": URI, "generation": None}}[form]
    spec = resolved(job(gcs_notebook_source=source), {"x": 5})
    assert list(sources_of(spec)) == ["direct_notebook_source"]
    assert assigned(spec.direct_notebook_source) == {"x": 5}
    assert told_source(spec.direct_notebook_source) == URI
    assert logged(caplog) == [
        "Passing parameters in python: x",
        f"The notebook was read from {URI}, and is submitted with its parameters as direct content",
    ]


@pytest.mark.parametrize("kind", [int, str])
def test_the_generation_that_was_asked_for_gets_the_parameters(google, kind):
    old = google.storage.put(URI, notebook(code("'old'")))
    google.storage.put(URI, CONTENT)
    spec = resolved(job(gcs_notebook_source={"uri": URI, "generation": kind(old)}), {"x": 5})
    assert b"'old'" in spec.direct_notebook_source
    assert told_source(spec.direct_notebook_source) == f"{URI}#{old}"


@pytest.mark.parametrize(
    ("source", "read", "told"),
    [
        (REPOSITORY, b"head", REPOSITORY),
        ({"dataform_repository_resource_name": REPOSITORY}, b"head", REPOSITORY),
        (
            {"dataform_repository_resource_name": REPOSITORY, "commit_sha": SHA},
            b"commit",
            f"{REPOSITORY}@{SHA}",
        ),
    ],
)
def test_a_source_in_dataform_gets_parameters(google, source, read, told):
    google.dataform.commits = {
        "": {"content.ipynb": notebook(code("'head'"))},
        SHA: {"content.ipynb": notebook(code("'commit'"))},
    }
    spec = resolved(job(dataform_repository_source=source), {"x": [1, 2]})
    assert list(sources_of(spec)) == ["direct_notebook_source"]
    assert read in spec.direct_notebook_source
    assert assigned(spec.direct_notebook_source) == {"x": [1, 2]}
    assert told_source(spec.direct_notebook_source) == told


def test_a_notebook_at_hand_gets_parameters(google, caplog):
    caplog.set_level(logging.INFO)
    spec = resolved(job(direct_notebook_source=CONTENT), {"x": 5})
    assert assigned(spec.direct_notebook_source) == {"x": 5}
    assert told_source(spec.direct_notebook_source) is None
    assert logged(caplog) == ["Passing parameters in python: x"]  # it was read from nowhere


def test_a_source_with_gzip_encoding_gets_parameters(google):
    google.storage.put(URI, gzip.compress(CONTENT), content_encoding="gzip")
    spec = resolved(job(gcs_notebook_source=URI), {"x": 5})
    assert assigned(spec.direct_notebook_source) == {"x": 5}


HOSTILE = {
    "text": "\"\"\"'''\\\n\r\t\0\x1b[31m\u2028 {{ jinja }} {% raw %} %magic !ls ünï 日本 \U0001f600",
    "ending": "backslash\\",
    "nan": math.nan,
    "infinite": [math.inf, -math.inf],
    "nothing": None,
    "truth": [True, False],
    "large": 10**4000,
    "tiny": 5e-324,
    "nested": {"a b": [{"": (1, "2")}], "x; import os": {}},
    "day": date(2024, 2, 29),
    "moment": datetime(2024, 2, 29, 12, tzinfo=timezone.utc),
    "ünï": "a name that is no ASCII",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_comes_through_as_it_is(google, name):
    google.storage.put(URI, CONTENT)
    value = HOSTILE[name]
    spec = resolved(job(gcs_notebook_source=URI), {name: value})
    outcome = assigned(spec.direct_notebook_source)[name]
    assert math.isnan(outcome) if name == "nan" else (type(outcome), outcome) == (type(value), value)


def test_values_are_not_logged(google, caplog):
    caplog.set_level(logging.DEBUG)
    google.storage.put(URI, CONTENT)
    resolved(job(gcs_notebook_source=URI), {"x": "s3cret", "y": "s3cret"})
    assert "Passing parameters in python: x, y" in logged(caplog)
    assert "s3cret" not in caplog.text


def test_a_parameter_that_the_notebook_does_not_know_is_a_warning(google, caplog):
    resolved(job(direct_notebook_source=CONTENT), {"x": 5, "limt": 6, "y": 7})
    (warning,) = logged(caplog, logging.WARNING)
    assert warning == "Not assigned in the notebook's cell tagged 'parameters', so perhaps misspelt: limt, y"


def test_the_kernel_that_runs_a_notebook_decides_the_language(google):
    spec = resolved(job(direct_notebook_source=CONTENT, workbench_runtime={}, kernel_name="ir"), {"x": [True, None]})
    assert "x = list(TRUE, NULL)" in injected(spec.direct_notebook_source)


@pytest.mark.parametrize("name", ["tagged", "r_language", "bash_language", "injected", "colab"])
def test_parameters_are_told_in_the_notebook_that_runs(google, name):
    google.storage.put(URI, (NOTEBOOKS / f"{name}.ipynb").read_bytes())
    spec = resolved(job(gcs_notebook_source=URI), {"limit": 3})
    assert json.loads(spec.direct_notebook_source)["metadata"]["nbjob"] == {"source": URI, "parameters": {"limit": 3}}
    assert "3" in injected(spec.direct_notebook_source)


# --- bad sources, bad parameters, bad luck ---


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON"),
        (b"<!DOCTYPE html><html>", "is not JSON but a page of HTML"),
        (CONTENT[:-5], "is not JSON"),
        (gzip.compress(CONTENT, mtime=0), "is gzip-compressed; give it uncompressed"),
        (b'{"nbformat": 3, "nbformat_minor": 0, "worksheets": []}', "is of notebook format 3"),
        (b"[" * 100_000, "nested too deep"),
        (notebook(metadata=[]), "its metadata is no object"),
    ],
)
@pytest.mark.parametrize(
    ("field", "source", "where"),
    [
        ("gcs_notebook_source", URI, URI),
        ("dataform_repository_source", REPOSITORY, REPOSITORY),
        ("direct_notebook_source", None, "it"),
    ],
)
def test_a_source_that_is_no_notebook_is_named_with_its_field(google, content, problem, field, source, where):
    google.storage.put(URI, content)
    google.dataform.commits = {"": {"content.ipynb": content}}
    with pytest.raises(InvalidJob, match=problem) as raised:
        resolved(job(**{field: source or content}), {"x": 1})
    assert str(raised.value).startswith(f"{field}: {where}: ")
    assert google.storage.uris() == [URI]


def test_a_parameter_that_cannot_be_passed_is_not_blamed_on_the_source(google):
    google.storage.put(URI, CONTENT)
    with pytest.raises(InvalidJob) as raised:
        resolved(job(gcs_notebook_source=URI), {"x": {1}, "not a name": 1})
    assert len(raised.value.problems) == 2
    assert all(problem.startswith("parameters['") for problem in raised.value.problems)


def test_a_language_without_parameters_is_bad_input(google):
    with pytest.raises(InvalidJob, match=r"^parameters: the notebook's language or kernel is 'cobol'"):
        resolved(job(direct_notebook_source=notebook(metadata={"language_info": {"name": "cobol"}})), {"x": 1})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (URI, f"gcs_notebook_source: there is no object '{URI}' to put parameters into"),
        (
            {"uri": URI, "generation": "7"},
            f"gcs_notebook_source: there is no object '{URI}', generation 7, to put parameters into",
        ),
    ],
)
def test_a_source_that_is_missing_is_bad_input(google, source, message):
    with pytest.raises(InvalidJob) as raised:
        resolved(job(gcs_notebook_source=source), {"x": 1})
    assert str(raised.value) == message


def test_a_source_that_may_not_be_read_is_an_error_that_may_pass(google):
    google.storage.put(URI, CONTENT)
    google.storage.fail("read", 403, "no storage.objects.get access")
    with pytest.raises(NotebookExecutionJobError, match=f"Could not read {URI}") as raised:
        resolved(job(gcs_notebook_source=URI), {"x": 1})
    assert not isinstance(raised.value, InvalidJob)


# --- sources that are too large for a request ---


def test_content_up_to_the_limit_is_sent_in_the_request(google, monkeypatch):
    monkeypatch.setenv("AIRFLOW__NBJOB__DIRECT_CONTENT_MAX_BYTES", str(len(CONTENT)))
    assert sources_of(resolved(job(direct_notebook_source=CONTENT))) == {"direct_notebook_source": CONTENT}
    assert google.storage.uris() == []
    uri = f"{OUTPUT}/j1-source/content.ipynb"
    assert sources_of(resolved(job(direct_notebook_source=CONTENT + b" "))) == {"gcs_notebook_source": uri}
    assert google.storage.stored(uri).content == CONTENT + b" "


def test_a_limit_of_its_own_stands_without_configuration(google):
    large = notebook(code("#" * 4_000_000))
    assert list(sources_of(resolved(job(direct_notebook_source=large)))) == ["gcs_notebook_source"]


@pytest.mark.parametrize("output", ["gs://bucket", "gs://bucket/", "gs://bucket/runs", "gs://bucket/runs/"])
def test_a_large_notebook_is_uploaded_beside_the_output(google, small_requests, caplog, output):
    caplog.set_level(logging.INFO)
    spec = resolved(job(direct_notebook_source=CONTENT, gcs_output_uri=output))
    uri = f"{output.rstrip('/')}/j1-source/content.ipynb"
    assert sources_of(spec) == {"gcs_notebook_source": uri}
    assert google.storage.uris() == [uri]
    assert google.storage.stored(uri).content_type == "application/x-ipynb+json"
    assert f"{len(CONTENT)} bytes, too many for a request: it was uploaded to {uri}" in caplog.text


def test_jobs_without_an_id_do_not_overwrite_each_others_source(google, small_requests):
    spec = job(direct_notebook_source=CONTENT, notebook_execution_job_id=None)
    uris = {resolved(spec).gcs_notebook_source for _ in range(3)}
    assert sorted(uris) == google.storage.uris()
    assert len(uris) == 3


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (URI, "daily.ipynb"),
        ("gs://bucket/a b#1/ünï?.ipynb", "ünï?.ipynb"),
        ("gs://bucket/n.json", "content.ipynb"),
        ("gs://bucket/n", "content.ipynb"),
    ],
)
def test_a_large_notebook_keeps_its_name(google, small_requests, source, name):
    google.storage.put(source, CONTENT)
    spec = resolved(job(gcs_notebook_source=source), {"x": 5})
    uri = f"{OUTPUT}/j1-source/{name}"
    assert sources_of(spec) == {"gcs_notebook_source": uri}
    assert assigned(google.storage.stored(uri).content) == {"x": 5}
    assert google.storage.stored(source).content == CONTENT  # the source itself stays as it is


def test_a_large_notebook_of_a_generation_keeps_its_name(google, small_requests):
    generation = google.storage.put(URI, CONTENT)
    spec = resolved(job(gcs_notebook_source={"uri": URI, "generation": generation}), {"x": 5})
    assert spec.gcs_notebook_source == f"{OUTPUT}/j1-source/daily.ipynb"


def test_a_large_notebook_of_a_commit_has_the_apis_name(google, small_requests):
    google.dataform.commits = {SHA: {"report.ipynb": CONTENT}}
    source = {"dataform_repository_resource_name": REPOSITORY, "commit_sha": SHA}
    spec = resolved(job(dataform_repository_source=source), {"x": 5})
    assert sources_of(spec) == {"gcs_notebook_source": f"{OUTPUT}/j1-source/content.ipynb"}


@pytest.mark.parametrize("output", [OUTPUT, "gs://no-such-bucket"])
def test_a_large_notebook_that_cannot_be_uploaded(google, small_requests, output):
    if output == OUTPUT:
        google.storage.fail("write", 403)
    with pytest.raises(NotebookExecutionJobError, match="Could not write the notebook that is to run to gs://"):
        resolved(job(direct_notebook_source=CONTENT, gcs_output_uri=output))


# --- what the operator submits ---


def operator(**changes: Any) -> CreateNotebookExecutionJobOperator:
    """One that submits, and does not wait."""
    values = {"gcs_notebook_source": None, "gcs_output_uri": OUTPUT, "wait_for_completion": False, **changes}
    return CreateNotebookExecutionJobOperator(**arguments(**values))


@pytest.mark.parametrize(
    ("field", "source"),
    [
        ("gcs_notebook_source", URI),
        ("dataform_repository_source", REPOSITORY),
        ("direct_notebook_source", CONTENT),
        ("direct_notebook_source", json.loads(CONTENT)),
        ("direct_notebook_source", CONTENT.decode()),
    ],
)
def test_the_job_is_submitted_with_the_parameters(google, field, source):
    google.storage.put(URI, CONTENT)
    google.dataform.commits = {"": {"content.ipynb": CONTENT}}
    operator(**{field: source}, parameters={"x": 5}).execute(make_context("r"))
    (submitted,) = google.service.submitted
    assert assigned(submitted.direct_notebook_source.content) == {"x": 5}
    assert not submitted.gcs_notebook_source.uri
    assert not submitted.dataform_repository_source.dataform_repository_resource_name


def test_a_source_without_parameters_is_submitted_by_its_name(google):
    source = {"uri": URI, "generation": 7}
    operator(gcs_notebook_source=source).execute(make_context("r"))
    source = {"dataform_repository_resource_name": REPOSITORY, "commit_sha": SHA}
    operator(dataform_repository_source=source).execute(make_context("s"))
    stored, versioned = google.service.submitted
    assert (stored.gcs_notebook_source.uri, stored.gcs_notebook_source.generation) == (URI, "7")
    assert versioned.dataform_repository_source.commit_sha == SHA
    assert google.storage.requests == []
    assert google.dataform.calls == []


def test_a_large_source_is_submitted_from_where_it_was_uploaded(google, small_requests):
    context = make_context("r")
    result = operator(direct_notebook_source=CONTENT).execute(context)
    (submitted,) = google.service.submitted
    assert submitted.gcs_notebook_source.uri == f"{OUTPUT}/{result['job_id']}-source/content.ipynb"
    assert not submitted.direct_notebook_source.content
    assert context["ti"].pushed["notebook_execution_job"]["name"] == result["name"]


@pytest.mark.parametrize(
    ("changes", "expected", "is_retried"),
    [
        ({"gcs_notebook_source": "gs://bucket/none.ipynb"}, InvalidJob, False),
        ({"dataform_repository_source": REPOSITORY}, InvalidJob, False),
        ({"gcs_notebook_source": URI}, NotebookExecutionJobError, True),
        ({"direct_notebook_source": CONTENT, "kernel_name": "cobol", "workbench_runtime": {}}, InvalidJob, False),
    ],
)
def test_nothing_is_submitted_with_a_bad_source(google, changes, expected, is_retried):
    google.dataform.commits = {"": {}}
    if is_retried:
        google.storage.fail("read", 403)
    with pytest.raises(expected) as raised:
        operator(**changes, parameters={"x": 1}).execute(make_context("r"))
    assert isinstance(raised.value, AirflowFailException) is not is_retried
    assert google.service.submitted == []


def test_nothing_is_submitted_where_a_repository_may_not_be_read(google):
    google.dataform.failures = [PermissionDenied("not yours")]
    with pytest.raises(ApiError, match="not yours") as raised:
        operator(dataform_repository_source=REPOSITORY, parameters={"x": 1}).execute(make_context("r"))
    assert raised.value.code == "PERMISSION_DENIED"
    assert google.service.submitted == []
