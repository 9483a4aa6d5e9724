"""Notebooks in Cloud Storage and Dataform: what is read and written, and what is said when that fails."""

from __future__ import annotations

import gzip
import random
from types import SimpleNamespace

import pytest
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, NotebookExecutionJobError, NotebookUnreadable
from airflow_provider_nbjob.hooks.files import StoredNotebook
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.support.fake_google import REPOSITORY, FakeGoogle, patch_pauses
from tests.support.fake_service import EXECUTED, OUTPUT, ended_job
from tests.support.notebooks import code, error, notebook, stream

URI = "gs://bucket/reports/daily.ipynb"
CONTENT = notebook(code("x = 1"))
SHA = "0123abcd"


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    return FakeGoogle(monkeypatch)


@pytest.fixture
def hook(google) -> NotebookExecutionJobHook:
    return NotebookExecutionJobHook()


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses that the storage library makes between its attempts, none of which is waited for."""
    seconds: list[float] = []
    patch_pauses(monkeypatch, seconds.append)
    return seconds


# --- sources in Cloud Storage ---


def test_the_live_generation_of_a_source_is_read(google, hook):
    google.storage.put(URI, b"old")
    google.storage.put(URI, CONTENT)
    assert hook.files.read_gcs_notebook(URI) == CONTENT


def test_a_generation_of_a_source_is_read(google, hook):
    old = google.storage.put(URI, b"old")
    google.storage.put(URI, CONTENT)
    assert hook.files.read_gcs_notebook(URI, old) == b"old"


@pytest.mark.parametrize("path", ["a b/ü?#&=%2F.ipynb", "a//b.ipynb", "日本/x.ipynb", "..//x.ipynb"])
def test_a_source_may_have_any_name(google, hook, path):
    google.storage.put(f"gs://bucket/{path}", CONTENT)
    assert hook.files.read_gcs_notebook(f"gs://bucket/{path}") == CONTENT


def test_a_source_that_is_stored_with_gzip_encoding_comes_unpacked(google, hook):
    google.storage.put(URI, gzip.compress(CONTENT), content_encoding="gzip")
    assert hook.files.read_gcs_notebook(URI) == CONTENT


@pytest.mark.parametrize("uri", [URI, "gs://no-such-bucket/n.ipynb"])
def test_a_source_that_is_missing_is_bad_input(hook, uri):
    with pytest.raises(InvalidJob) as raised:
        hook.files.read_gcs_notebook(uri)
    assert raised.value.problems == [f"gcs_notebook_source: there is no object {uri!r} to put parameters into"]


def test_a_generation_that_is_missing_is_named(google, hook):
    google.storage.put(URI, CONTENT)
    with pytest.raises(InvalidJob, match=f"there is no object '{URI}', generation 7, to put parameters into"):
        hook.files.read_gcs_notebook(URI, 7)


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (403, "notebooks@p has no storage.objects.get access"),
        (401, "Invalid Credentials"),
        (RefreshError("the key was revoked"), "the key was revoked"),
        (400, "Bucket is a requester pays bucket but no user project provided."),
    ],
)
def test_a_source_that_cannot_be_read_is_no_bad_input(google, hook, failure, answer):
    google.storage.put(URI, CONTENT)
    google.storage.fail("read", failure, answer)
    with pytest.raises(NotebookExecutionJobError) as raised:
        hook.files.read_gcs_notebook(URI)
    assert not isinstance(raised.value, InvalidJob)
    assert str(raised.value).startswith(f"Could not read {URI} to put parameters into: ")
    assert answer in str(raised.value)


def test_a_source_that_comes_damaged_is_not_used(google, hook):
    google.storage.put(URI, CONTENT, sent=CONTENT.replace(b"x = 1", b"x = 2"))
    with pytest.raises(NotebookExecutionJobError, match=f"Could not read {URI} to put parameters into: "):
        hook.files.read_gcs_notebook(URI)


def test_a_source_that_comes_truncated_is_completed(google, hook, pauses):
    google.storage.put(URI, CONTENT, sent=CONTENT[:-10])
    assert hook.files.read_gcs_notebook(URI) == CONTENT
    assert len(pauses) == 1


def test_an_outage_is_waited_for_when_a_source_is_read(google, hook, pauses):
    google.storage.put(URI, CONTENT)
    google.storage.fail("read", 503, times=2)
    assert hook.files.read_gcs_notebook(URI) == CONTENT
    assert len(pauses) == 2


# --- sources in Dataform ---


def test_the_notebook_of_a_repository_is_read_from_its_head(google, hook):
    google.dataform.commits = {"": {"report.ipynb": CONTENT, "README.md": b"", "folder/": b""}}
    assert hook.files.read_dataform_notebook(REPOSITORY) == CONTENT


def test_the_notebook_of_a_commit_is_read(google, hook):
    google.dataform.commits = {"": {"content.ipynb": b"head"}, SHA: {"content.ipynb": CONTENT}}
    assert hook.files.read_dataform_notebook(REPOSITORY, SHA) == CONTENT


def test_the_api_of_the_repositorys_location_is_asked(google, hook, monkeypatch):
    monkeypatch.delenv("NBJOB_EMULATOR_HOST")
    google.dataform.commits = {"": {"content.ipynb": CONTENT}}
    hook.files.read_dataform_notebook(REPOSITORY)
    assert set(google.dataform.endpoints) == {"us-central1-aiplatform.googleapis.com"}


def test_the_apis_own_name_is_preferred_among_several_notebooks(google, hook):
    google.dataform.commits = {"": {"a.ipynb": b"a", "content.ipynb": CONTENT, "z.ipynb": b"z"}}
    assert hook.files.read_dataform_notebook(REPOSITORY) == CONTENT


@pytest.mark.parametrize("files", [[], ["README.md"], ["folder.ipynb/"], ["a.ipynb", "b.ipynb"]])
def test_a_repository_without_one_notebook_is_bad_input(google, hook, files):
    google.dataform.commits = {"": dict.fromkeys(files, b"")}
    with pytest.raises(InvalidJob) as raised:
        hook.files.read_dataform_notebook(REPOSITORY)
    count = len([name for name in files if name.endswith(".ipynb")])
    assert raised.value.problems == [
        f"dataform_repository_source: {REPOSITORY!r} is to hold a single notebook; it has {count}"
    ]
    assert google.dataform.calls == ["query"]


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (api.NotFound("no such repository"), InvalidJob, "no such repository"),
        (api.InvalidArgument("no such commit"), InvalidJob, "no such commit"),
        (api.PermissionDenied("not yours"), ApiError, "PERMISSION_DENIED: not yours"),
    ],
)
def test_a_repository_that_cannot_be_read(google, hook, failure, expected, message):
    google.dataform.failures = [failure]
    with pytest.raises(expected) as raised:
        hook.files.read_dataform_notebook(REPOSITORY)
    assert f"query_repository_directory_contents of {REPOSITORY}" in str(raised.value)
    assert message in str(raised.value)


def test_an_outage_of_dataform_is_waited_for(google, hook, monkeypatch):
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))
    google.dataform.commits = {"": {"content.ipynb": CONTENT}}
    google.dataform.failures = [api.ServiceUnavailable("down"), api.DeadlineExceeded("hung")]
    assert hook.files.read_dataform_notebook(REPOSITORY) == CONTENT
    assert google.dataform.forgotten == 1  # a call that hung gets a new connection


# --- uploads ---


def test_a_notebook_is_written(google, hook):
    hook.files.upload_notebook(CONTENT, URI)
    stored = google.storage.stored(URI)
    assert (stored.content, stored.content_type) == (CONTENT, "application/x-ipynb+json")


@pytest.mark.parametrize(
    ("uri", "failure", "answer"),
    [
        (URI, 403, "no storage.objects.create access"),
        ("gs://no-such-bucket/n.ipynb", None, "The specified bucket does not exist."),
    ],
)
def test_a_notebook_that_cannot_be_written(google, hook, uri, failure, answer):
    if failure:
        google.storage.fail("write", failure, answer)
    with pytest.raises(NotebookExecutionJobError) as raised:
        hook.files.upload_notebook(CONTENT, uri)
    assert str(raised.value).startswith(f"Could not write the notebook that is to run to {uri}: ")
    assert answer in str(raised.value)
    assert google.storage.uris() == []


@pytest.mark.parametrize(("configured", "expected"), [(None, 4_000_000), ("17", 17)])
def test_the_size_that_a_request_takes_is_configurable(hook, monkeypatch, configured, expected):
    monkeypatch.delenv("AIRFLOW__NBJOB__DIRECT_CONTENT_MAX_BYTES", raising=False)
    if configured:
        monkeypatch.setenv("AIRFLOW__NBJOB__DIRECT_CONTENT_MAX_BYTES", configured)
    assert hook.files.direct_content_max_bytes == expected


# --- finding what was run ---


def test_the_executed_notebook_is_found_in_the_jobs_folder(google, hook):
    google.storage.put(f"{OUTPUT}/j10/content.ipynb", b"of another job")
    generation = google.storage.put(EXECUTED, CONTENT)
    assert hook.files.find_output_notebook(ended_job()) == EXECUTED
    assert hook.files.stat_output_notebook(ended_job()) == StoredNotebook(EXECUTED, generation, len(CONTENT))


@pytest.mark.parametrize("output", ["gs://bucket", "gs://bucket/", "gs://bucket/a/b", "gs://bucket/a/b/"])
def test_every_form_of_an_output_folder_is_understood(google, hook, output):
    uri = f"{output.rstrip('/')}/j1/content.ipynb"
    google.storage.put(uri, CONTENT)
    assert hook.files.find_output_notebook(ended_job(gcs_output_uri=output)) == uri


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"gcs_notebook_source": {"uri": "gs://bucket/n/daily.ipynb"}}, "daily.ipynb"),
        ({}, "content.ipynb"),
        ({"gcs_notebook_source": {"uri": "gs://bucket/n/other.ipynb"}}, "a.ipynb"),  # none of that name: the first
    ],
)
def test_the_notebook_with_the_sources_name_is_preferred(google, hook, source, expected):
    for name in ("a.ipynb", "content.ipynb", "daily.ipynb", "log.txt"):
        google.storage.put(f"{OUTPUT}/j1/{name}", b"")
    assert hook.files.find_output_notebook(ended_job(**source)) == f"{OUTPUT}/j1/{expected}"


def test_a_folder_without_a_notebook_has_none(google, hook):
    google.storage.put(f"{OUTPUT}/j1/log.txt", b"")
    google.storage.put(f"{OUTPUT}/j2/content.ipynb", CONTENT)
    assert hook.files.find_output_notebook(ended_job()) is None


def test_a_bucket_that_is_gone_is_no_folder_without_a_notebook(google, hook):
    google.storage.buckets.clear()
    for look in (hook.files.stat_output_notebook, hook.files.find_output_notebook):
        with pytest.raises(ApiError, match="The specified bucket does not exist") as raised:
            look(ended_job())
        assert raised.value.code == "NOT_FOUND"


def test_a_job_without_an_output_folder_has_no_notebook(google, hook):
    assert hook.files.find_output_notebook(ended_job(gcs_output_uri="")) is None
    assert google.storage.requests == []


def test_a_bucket_that_cannot_be_listed_is_told(google, hook, capsys):
    google.storage.put(EXECUTED, CONTENT)
    google.storage.fail("list", 403, "no storage.objects.list access")
    for look in (hook.files.stat_output_notebook, hook.files.find_output_notebook):
        with pytest.raises(ApiError, match=f"Could not look for the executed notebook in {OUTPUT}/j1/: ") as raised:
            look(ended_job())
        assert raised.value.code == "PERMISSION_DENIED"
    result = hook.get_result(ended_job())
    assert result.output_notebook_uri is None
    assert result.output_error == raised.value.public
    lines = [line for line in capsys.readouterr().out.splitlines() if "no storage.objects.list access" in line]
    assert len(lines) == 1
    assert "warning" in lines[0]


def test_a_result_tells_a_job_without_output_from_one_that_has_nowhere_to_write(google, hook):
    written_none = hook.get_result(ended_job())
    assert (written_none.output_notebook_uri, written_none.output_error) == (None, None)
    nowhere = hook.get_result(ended_job(gcs_output_uri=""))
    assert nowhere.output_notebook_uri is None
    assert "no gcs_output_uri" in nowhere.output_error
    google.storage.put(EXECUTED, CONTENT)
    written = hook.get_result(ended_job())
    assert (written.output_notebook_uri, written.output_error) == (EXECUTED, None)


def test_an_outage_is_waited_for_when_an_executed_notebook_is_looked_for(google, hook, pauses):
    google.storage.put(EXECUTED, CONTENT)
    google.storage.fail("list", 503, times=2)
    assert hook.files.find_output_notebook(ended_job()) == EXECUTED
    assert len(pauses) == 2


def test_who_does_not_wait_makes_one_attempt_to_find_a_notebook(google, hook):
    google.storage.put(EXECUTED, CONTENT)
    google.storage.fail("list", 503, "down", times=1)
    with pytest.raises(NotebookExecutionJobError, match="down"):
        hook.files.stat_output_notebook(ended_job(), retry=False)
    assert len(google.storage.requests) == 1


def test_a_notebook_is_looked_at(google, hook):
    old = google.storage.put(URI, b"old")
    new = google.storage.put(URI, CONTENT)
    assert hook.files.stat_notebook(URI) == StoredNotebook(URI, new, len(CONTENT))
    assert hook.files.stat_notebook(URI, old) == StoredNotebook(URI, old, 3)


@pytest.mark.parametrize("uri", [URI, "gs://no-such-bucket/n.ipynb"])
def test_a_notebook_that_is_missing_is_none(hook, uri):
    assert hook.files.stat_notebook(uri) is None


def test_an_empty_object_has_a_size(google, hook):
    generation = google.storage.put(URI, b"")
    assert hook.files.stat_notebook(URI) == (URI, generation, 0)


@pytest.mark.parametrize("status", [403, 503])
def test_a_notebook_that_cannot_be_looked_at_is_asked_for_once(google, hook, status):
    google.storage.put(URI, CONTENT)
    google.storage.fail("get", status, "try later")
    with pytest.raises(NotebookExecutionJobError, match=rf"Could not look for {URI}: .*try later"):
        hook.files.stat_notebook(URI)
    assert len(google.storage.requests) == 1


# --- reading what was run ---


def test_the_generation_that_was_looked_at_is_read(google, hook):
    google.storage.put(URI, b"looked at")
    stored = hook.files.stat_notebook(URI)
    google.storage.put(URI, b"newer")
    assert hook.files.read_stored_notebook(stored) == b"looked at"
    assert hook.files.read_stored_notebook(stored._replace(generation=0)) == b"newer"  # of none in particular


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_stored_notebook_that_cannot_be_read_is_asked_for_once(google, hook, status):
    google.storage.put(URI, CONTENT)
    stored = hook.files.stat_notebook(URI)
    google.storage.fail("read", status)
    with pytest.raises(NotebookExecutionJobError, match=f"Could not read {URI}: "):
        hook.files.read_stored_notebook(stored)
    assert [request for request in google.storage.requests if request.startswith("read")] == [f"read {URI}"]


def test_an_executed_notebook_is_read_whole(google, hook):
    google.storage.put(EXECUTED, CONTENT)
    assert hook.files.read_output_notebook(EXECUTED) == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_an_executed_notebook_that_cannot_be_read_whole(google, hook, status):
    google.storage.fail("read", status, "not for you")
    with pytest.raises(NotebookExecutionJobError, match=f"Could not read {EXECUTED}: .*not for you"):
        hook.files.read_output_notebook(EXECUTED)


FAILED = notebook(code("1/0", stream("before\n"), error("ZeroDivisionError", "division by zero")))


@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize("keep_outputs", [False, True])
def test_an_executed_notebook_tells_its_failing_cell(google, hook, encoding, keep_outputs):
    content = gzip.compress(FAILED) if encoding else FAILED
    google.storage.put(EXECUTED, content, content_encoding=encoding)
    cell = hook.files.read_executed_notebook(EXECUTED, keep_outputs=keep_outputs).failing_cell
    assert (cell.number, cell.error.ename) == (1, "ZeroDivisionError")
    assert cell.outputs == ("before\n" if keep_outputs else "")


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_an_executed_notebook_larger_than_a_chunk_is_read_in_parts(google, hook, monkeypatch, encoding):
    monkeypatch.setattr("airflow_provider_nbjob.hooks.files.CHUNK", 100_000)
    noise = random.Random(0).randbytes(1_300_000).hex()  # as large when it is packed
    content = notebook(code(noise), code("2", error("ValueError")))
    google.storage.put(EXECUTED, gzip.compress(content) if encoding else content, content_encoding=encoding)
    assert hook.files.read_executed_notebook(EXECUTED).failing_cell.number == 2
    assert google.storage.requests.count(f"read {EXECUTED}") > 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "a page of HTML or XML"),
        (FAILED[:-20], "its JSON is truncated"),
        (b"\x89PNG\r\n\x1a\n", "it is not JSON"),
        (b"[]", "it is no object"),
        (b"{}", "it has no list of cells"),
        (b'{"nbformat": 3, "worksheets": [], "cells": []}', "it is of notebook format 3"),
        (gzip.compress(FAILED, mtime=0)[:-20], "its gzip compression is broken"),
    ],
)
def test_what_is_no_executed_notebook_is_named(google, hook, content, why):
    google.storage.put(EXECUTED, content)
    with pytest.raises(NotebookUnreadable) as raised:
        hook.files.read_executed_notebook(EXECUTED)
    assert str(raised.value).startswith(f"The executed notebook {EXECUTED} cannot be read: ")
    assert why in str(raised.value)


def test_an_executed_notebook_that_is_too_large_is_not_fetched(google, hook):
    google.storage.put(EXECUTED, FAILED)
    with pytest.raises(NotebookUnreadable, match=f"it has {len(FAILED)} bytes; at most 10 are read"):
        hook.files.read_executed_notebook(EXECUTED, max_bytes=10)
    assert google.storage.requests == [f"get {EXECUTED}"]
    assert hook.files.read_executed_notebook(EXECUTED, max_bytes=len(FAILED)).failing_cell


def test_a_small_object_that_unpacks_to_too_much_is_refused(google, hook):
    bomb = gzip.compress(b'{"cells": ["' + b"x" * 1_000_000 + b'"]}')
    google.storage.put(EXECUTED, bomb, content_encoding="gzip")
    with pytest.raises(NotebookUnreadable, match="it has more than 100000 bytes"):
        hook.files.read_executed_notebook(EXECUTED, max_bytes=100_000)


@pytest.mark.parametrize("uri", [EXECUTED, "gs://no-such-bucket/n.ipynb"])
def test_an_executed_notebook_that_is_gone_says_so(hook, uri):
    with pytest.raises(NotebookUnreadable, match="it is gone"):
        hook.files.read_executed_notebook(uri)


@pytest.mark.parametrize("operation", ["get", "read"])
def test_an_executed_notebook_that_is_not_ours_to_read(google, hook, operation):
    google.storage.put(EXECUTED, FAILED)
    google.storage.fail(operation, 403, "no storage.objects.get access")
    with pytest.raises(
        NotebookExecutionJobError, match=f"Could not read {EXECUTED}: .*no storage.objects.get"
    ) as raised:
        hook.files.read_executed_notebook(EXECUTED)
    assert not isinstance(raised.value, NotebookUnreadable)
