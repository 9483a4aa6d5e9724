"""What is read of Cloud Storage, Dataform and the disk is bounded, also after it is unpacked."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from contextlib import suppress

import pytest
from google.cloud.dataform_v1 import types as dataform
from google.cloud.dataform_v1.services.dataform.pagers import QueryRepositoryDirectoryContentsPager

from airflow_provider_nbjob.exceptions import InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.hooks import dataform as dataform_reads
from airflow_provider_nbjob.hooks import files
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.notebook import source
from airflow_provider_nbjob.notebook.source import read_notebook
from tests.support.fake_google import REPOSITORY, FakeGoogle
from tests.support.fake_service import EXECUTED

MIB = 2**20
LIMIT = MIB
UNPACKED = 80 * MIB
MEMORY_MAX = 40 * MIB  # a chunk of an executed notebook is 8 MiB
URI = "gs://bucket/n.ipynb"


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gzip.compress(bytes(UNPACKED), compresslevel=1)


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    for module in (files, source):
        monkeypatch.setattr(module, "SOURCE_MAX_BYTES", LIMIT, raising=False)
    return FakeGoogle(monkeypatch)


@pytest.fixture
def hook(google) -> NotebookExecutionJobHook:
    return NotebookExecutionJobHook()


def packed(variant: str, bomb: bytes) -> bytes:
    """Return what unpacks to too much, or pretends to."""
    small = gzip.compress(b'{"cells": []}')
    return {
        "one member": bomb,
        "many members": gzip.compress(bytes(MIB // 2)) * 100,
        "small members first": small * 1000 + bomb,
        "truncated": bomb[:-100_000],
        "packed twice": gzip.compress(bomb),
    }[variant]


VARIANTS = ["one member", "many members", "small members first", "truncated"]
READERS = {
    "read_gcs_notebook": lambda hook: hook.files.read_gcs_notebook(URI),
    "read_stored_notebook": lambda hook: hook.files.read_stored_notebook(
        hook.files.stat_notebook(URI), max_bytes=LIMIT
    ),
    "read_output_notebook": lambda hook: hook.files.read_output_notebook(URI, max_bytes=LIMIT),
    "read_executed_notebook": lambda hook: hook.files.read_executed_notebook(URI, max_bytes=LIMIT),
}


def memory_of(call) -> int:
    """Return the most bytes that Python's memory grew by during a call, which may fail."""
    tracemalloc.start()
    try:
        with suppress(NotebookExecutionJobError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_small_object_that_unpacks_to_much_is_refused_without_unpacking_it(google, hook, bomb, reader, variant):
    google.storage.put(URI, packed(variant, bomb), content_encoding="gzip")
    assert memory_of(lambda: READERS[reader](hook)) < MEMORY_MAX
    with pytest.raises(NotebookExecutionJobError, match=rf"{LIMIT} bytes|compression is broken|not JSON") as refused:
        READERS[reader](hook)
    assert URI in str(refused.value)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_packed_twice_is_unpacked_once(google, hook, bomb, reader):
    google.storage.put(URI, packed("packed twice", bomb), content_encoding="gzip")
    assert memory_of(lambda: READERS[reader](hook)) < MEMORY_MAX


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_an_object_that_is_large_as_it_is_stored_is_not_fetched_whole(google, hook, reader, encoding):
    google.storage.put(URI, os.urandom(8 * MIB), content_encoding=encoding)
    with pytest.raises(NotebookExecutionJobError, match=f"{LIMIT}"):
        READERS[reader](hook)


@pytest.mark.parametrize("content", [b'{"cells": [], "nbformat": 4}', gzip.compress(b'{"cells": [], "nbformat": 4}')])
@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize("reader", ["read_gcs_notebook", "read_stored_notebook", "read_output_notebook"])
def test_an_encoding_that_is_a_lie_is_no_error_of_ours(google, hook, reader, encoding, content):
    google.storage.put(URI, content, content_encoding=encoding)
    is_packed = content.startswith(b"\x1f\x8b")
    expected = gzip.decompress(content) if is_packed and encoding else content
    assert READERS[reader](hook) == expected


def test_the_limits_that_users_have_let_notebooks_through(hook, google, monkeypatch):
    monkeypatch.undo()
    assert files.SOURCE_MAX_BYTES >= 32 * MIB
    assert files.STORED_MAX_BYTES >= 32 * MIB
    assert files.OUTPUT_MAX_BYTES >= 128 * MIB


def test_so_many_objects_are_listed_at_most(google, hook):
    from tests.support.fake_service import ended_job

    for number in range(files.LISTED_MAX + 10):
        google.storage.put(f"{EXECUTED.rpartition('/')[0]}/{number:05}.txt", b"")
    google.storage.put(EXECUTED.replace("content", "zzz"), b"{}")
    assert hook.files.stat_output_notebook(ended_job()) is None


# --- files of the worker ---


@pytest.mark.parametrize("kind", ["large", "large script", "pipe", "device", "NUL"])
def test_a_file_without_an_end_is_refused(google, tmp_path, kind):
    path = tmp_path / ("n.py" if kind == "large script" else "n.ipynb")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "NUL":
        path = tmp_path / "n\0.ipynb"
    else:
        with path.open("wb") as file:
            file.truncate(500 * MIB)  # sparse
    with pytest.raises(InvalidJob, match=r"cannot be read|is larger than|no such file"):
        read_notebook(path)


# --- Dataform ---


class Pages:
    """A repository whose files come in pages; the last one leads to the first if it is endless."""

    def __init__(self, google: FakeGoogle, pages: list[list[str]], *, is_endless: bool = False) -> None:
        self.asked: list[str] = []
        self._pages, self._is_endless = pages, is_endless
        google.dataform.query_repository_directory_contents = self.query
        google.dataform.commits = {"": {"content.ipynb": b"{}", "report.ipynb": b"{}"}}

    def query(self, request, **_):
        request = dataform.QueryRepositoryDirectoryContentsRequest(request)
        self.asked.append(request.page_token)
        number = int(request.page_token or 0)
        following = (number + 1) % len(self._pages)
        response = dataform.QueryRepositoryDirectoryContentsResponse(
            directory_entries=[{"file": name} for name in self._pages[number]],
            next_page_token=str(following) if following or self._is_endless else "",
        )
        return QueryRepositoryDirectoryContentsPager(lambda *_, **__: pytest.fail("not ours"), request, response)


def test_all_pages_of_a_repository_are_read(google, hook):
    pages = Pages(google, [["a.sqlx"], [], ["content.ipynb"]])
    assert hook.files.read_dataform_notebook(REPOSITORY) == b"{}"
    assert pages.asked == ["", "1", "2"]


def test_a_second_notebook_on_a_later_page_counts(google, hook):
    Pages(google, [["report.ipynb"], ["other.ipynb"]])
    with pytest.raises(InvalidJob, match="is to hold a single notebook; it has 2"):
        hook.files.read_dataform_notebook(REPOSITORY)


def test_a_repository_without_an_end_is_refused(google, hook):
    pages = Pages(google, [["a.sqlx"], ["b.sqlx"]], is_endless=True)
    with pytest.raises(InvalidJob, match="too many files"):
        hook.files.read_dataform_notebook(REPOSITORY)
    assert len(pages.asked) == dataform_reads.DIRECTORY_PAGES_MAX


@pytest.mark.parametrize("size", [LIMIT + 1, 10 * LIMIT])
def test_a_large_notebook_of_a_repository_is_refused(google, hook, size):
    google.dataform.commits = {"": {"content.ipynb": bytes(size)}}
    with pytest.raises(InvalidJob, match=rf"^dataform_repository_source: .*{size} bytes; at most {LIMIT}"):
        hook.files.read_dataform_notebook(REPOSITORY, max_bytes=LIMIT)


@pytest.mark.parametrize(
    "commit",
    ["HEAD", "--upload-pack=x", "0123abcd\n", "0123ABCD", "../x", "0" * 65, "main", "0123abc\0", "\uff10123abcd"],
)
def test_what_is_no_commit_is_refused_before_anything_is_asked(google, hook, commit):
    with pytest.raises(InvalidJob, match=r"^dataform_repository_source: commit_sha: "):
        hook.files.read_dataform_notebook(REPOSITORY, commit)
    assert google.dataform.calls == []


@pytest.mark.parametrize(
    "repository",
    [
        "projects/p/locations/evil.example#/repositories/r",
        "projects/p/locations/us-central1/repositories/../x",
        "projects/p?/locations/us-central1/repositories/r",
        "projects/p/locations/us-central1/repositories/r\n",
        "r",
        "",
    ],
)
def test_what_is_no_repository_is_refused_before_anything_is_asked(google, hook, repository):
    with pytest.raises(InvalidJob, match=r"^dataform_repository_source: "):
        hook.files.read_dataform_notebook(repository)
    assert google.dataform.calls == []
