"""A database of the data directory that is damaged is set aside, and one of an earlier version goes on."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud.aiplatform_v1.types import NotebookExecutionJob

from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.store import Operation, Store

PARENT = "projects/1/locations/us-central1"
ORDER = [("create_time", True)]

# The tables of the emulator before jobs had uids.
EARLIER = """
CREATE TABLE jobs (
    name TEXT PRIMARY KEY, parent TEXT, job_id TEXT, display_name TEXT, schedule TEXT,
    create_time INTEGER, update_time INTEGER, is_terminal INTEGER, message BLOB
);
CREATE TABLE contents (name TEXT PRIMARY KEY, content BLOB);
CREATE TABLE operations (
    name TEXT PRIMARY KEY, job_name TEXT, kind TEXT, create_time REAL, ready_at REAL
);
CREATE INDEX operations_by_job ON operations (job_name);
"""


def name_of(job_id: str) -> str:
    return f"{PARENT}/notebookExecutionJobs/{job_id}"


def insert(store: Store, job_id: str, uid: str) -> bool:
    job = NotebookExecutionJob.pb(NotebookExecutionJob(name=name_of(job_id), display_name=job_id))
    operation = Operation(f"{job.name}/operations/{uid}", job.name, "create", 0.0, None, uid, "v1")
    return store.insert(job, operation)


def listed(store: Store) -> list[str]:
    return [job.display_name for job in store.page(PARENT, [], ORDER, None, 100)[0]]


def fill(path: Path) -> None:
    """Make a database of several pages."""
    store = Store(path)
    for number in range(50):
        insert(store, f"job-{number}", str(number))
    store.close()


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("no database"),
    "long text": lambda path: path.write_text("no database" * 10_000),
    "header": lambda path: overwrite(path, 0, b"\0" * 100),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "pages": lambda path: overwrite(path, 4096, b"\xff" * 8192),
    "one byte": lambda path: overwrite(path, 4096, b"\x03"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_database_of_jobs_is_set_aside(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jobs.sqlite"
    fill(path)
    damage(path)
    damaged = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        store = Store(path)
    assert listed(store) == []
    assert insert(store, "new", "1")
    assert listed(store) == ["new"]
    store.close()
    (kept,) = [file for file in tmp_path.glob("jobs.sqlite.damaged-*") if file.suffix not in ("-wal", "-shm")]
    assert kept.read_bytes() == damaged
    assert f"it is kept as {kept.name}, and a new one is begun" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("damage", [DAMAGES["text"], DAMAGES["header"]], ids=["text", "header"])
def test_damaged_metadata_of_objects_costs_no_content(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    objects = Objects(tmp_path)
    objects.create_bucket("bucket")
    draft = objects.draft()
    draft.write(b"content")
    objects.put("bucket", "a/b", draft, {})
    objects.close()
    damage(tmp_path / ".nbjob" / "objects.sqlite")
    objects = Objects(tmp_path)
    with objects.open("bucket", "a/b")[1] as file:
        assert file.read() == b"content"
    objects.close()


@pytest.mark.parametrize("fields", ["{", "[]", "7", b"\xff", None, "[" * 10_000])
def test_an_object_with_damaged_metadata_can_be_read(tmp_path: Path, fields: object) -> None:
    objects = Objects(tmp_path)
    objects.create_bucket("bucket")
    draft = objects.draft()
    draft.write(b"content")
    objects.put("bucket", "a", draft, {"contentType": "text/plain"})
    with sqlite3.connect(tmp_path / ".nbjob" / "objects.sqlite") as db:
        db.execute("UPDATE objects SET fields = ?", (fields,))
    db.close()
    stored, file = objects.open("bucket", "a")
    with file:
        assert (stored.fields, file.read()) == ({}, b"content")
    assert [each.name for each in objects.page("bucket").items] == ["a"]
    objects.close()


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").touch()
    Store(tmp_path / "jobs.sqlite").close()
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.parametrize("kind", ["other tables", "folder", "link", "in use"])
def test_what_cannot_be_used_is_refused_in_plain_words(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jobs.sqlite"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE jobs (a)")
        other.commit()
        if kind == "in use":
            connect = sqlite3.connect
            monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0}))
            other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OSError, match=r"jobs\.sqlite"):
        Store(path)
    assert not list(tmp_path.glob("*damaged*"))


def test_jobs_and_operations_of_an_earlier_version_go_on(tmp_path: Path) -> None:
    path, name = tmp_path / "jobs.sqlite", name_of("old")
    message = NotebookExecutionJob.pb(NotebookExecutionJob(name=name, display_name="old")).SerializeToString()
    with sqlite3.connect(path) as db:
        db.executescript(EARLIER)
        row = (name, PARENT, "old", "old", "", 1, 1, 0, message)
        db.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO operations VALUES (?, ?, 'create', 1.0, NULL)", (f"{name}/operations/1", name))
    db.close()
    for _ in range(2):
        store = Store(path)
        operation = store.operation(f"{name}/operations/1")
        kept = store.get(name)
        assert operation
        assert kept
        assert (operation.uid, operation.version) == (kept.uid, "v1")
        assert [each.job.display_name for each in store.jobs(unfinished=True)] == ["old"]
        store.close()
    store = Store(path)
    assert store.delete(kept.uid)
    assert insert(store, "old", "2")
    assert store.get_by_uid(operation.uid) is None
    store.close()


def test_one_damaged_job_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "jobs.sqlite"
    fill(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE jobs SET message = x'ffffff' WHERE job_id = 'job-7'")
    db.close()
    store = Store(path)
    assert len(listed(store)) == 49
    assert "job-7" not in [each.job.display_name for each in store.jobs(unfinished=True)]
    pages: list[object] = []
    after = None
    while True:
        jobs, after = store.page(PARENT, [], ORDER, after, 5)
        pages += jobs
        if after is None:
            break
    assert len(pages) == 49
    store.close()
