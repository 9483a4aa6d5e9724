"""Jobs and operations in SQLite, so that they survive a restart of the emulator."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api_core.exceptions import ResourceExhausted
from google.cloud.aiplatform_v1.types import NotebookExecutionJob

from airflow_provider_nbjob.emulator.data_dir import make_private_file
from airflow_provider_nbjob.emulator.patterns import compile_pattern
from airflow_provider_nbjob.job import JobName, JobState

JobMessage: Any = NotebookExecutionJob.meta.pb  # the plain protobuf class, without the wrapper of the client library

PAGE_BYTES = 16 * 2**20  # of the jobs on a page, after which it ends; the one that exceeds it is still on it
LIST_SECONDS = 0.5  # of processor time for a page
_STEPS = 10_000  # of SQLite's virtual machine, between two looks at that time

_STATES = JobMessage.DESCRIPTOR.fields_by_name["job_state"].enum_type
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    name TEXT PRIMARY KEY, parent TEXT, job_id TEXT, display_name TEXT, schedule TEXT,
    create_time INTEGER, update_time INTEGER, is_terminal INTEGER, message BLOB
);
CREATE INDEX IF NOT EXISTS jobs_by_create_time ON jobs (parent, create_time, job_id);
CREATE INDEX IF NOT EXISTS jobs_by_update_time ON jobs (parent, update_time, job_id);
CREATE TABLE IF NOT EXISTS contents (name TEXT PRIMARY KEY, content BLOB);
CREATE TABLE IF NOT EXISTS operations (
    name TEXT PRIMARY KEY, job_name TEXT, kind TEXT, create_time REAL, ready_at REAL
);
CREATE INDEX IF NOT EXISTS operations_by_job ON operations (job_name);
"""


# Columns are those of `_CONTENT`, and more.
_SELECT = "SELECT message, {} FROM jobs"
_CONTENT = {True: "(SELECT content FROM contents WHERE contents.name = jobs.name)", False: "NULL"}


def _job(message: bytes, content: bytes | None) -> Any:
    job = JobMessage.FromString(message)
    if content is not None:
        job.direct_notebook_source.content = content
    return job


def state_of(job: Any) -> JobState:
    """The state of a job message."""
    value = _STATES.values_by_number.get(job.job_state)
    return JobState(value.name if value else f"JOB_STATE_{job.job_state}")


def set_state(job: Any, state: JobState, code: int = 0, message: str = "") -> None:
    """Set the state of a job message, with its status where it has ended."""
    job.job_state = _STATES.values_by_name[state.value].number
    if state.is_terminal:
        job.status.code, job.status.message = code, message


@dataclass(frozen=True)
class Operation:
    """A long-running operation.

    :param kind: ``"create"`` or ``"delete"``
    :param create_time: POSIX seconds
    :param ready_at: POSIX seconds from which on it is done; `None` while the job has not ended
    """

    name: str
    job_name: str
    kind: str
    create_time: float
    ready_at: float | None

    @property
    def is_done(self) -> bool:
        """Whether it is done by now."""
        return self.ready_at is not None and time.time() >= self.ready_at


class Store:
    """The jobs and the operations of one data directory; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        make_private_file(path)  # SQLite gives the files beside it the same mode
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    # --- jobs ---

    def insert(self, job: Any) -> bool:
        """Keep a new job, and stamp its times; false where there is one of its name."""
        name = JobName.parse(job.name)
        with self._lock:
            if self.get(job.name) is not None:
                return False
            job.create_time.GetCurrentTime()
            job.update_time.CopyFrom(job.create_time)
            created = job.create_time.ToMicroseconds()
            stored = JobMessage()
            stored.CopyFrom(job)
            if stored.WhichOneof("notebook_source") == "direct_notebook_source":
                # Apart from the message, which is written anew at each change.
                content, stored.direct_notebook_source.content = stored.direct_notebook_source.content, b""
                stored.direct_notebook_source.SetInParent()
                self._db.execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", (job.name, content))
            row = (job.name, name.parent, name.job_id, job.display_name, job.schedule_resource_name)
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, created, created, 0, stored.SerializeToString()),
            )
        return True

    def get(self, name: str, *, with_content: bool = False) -> Any:
        """Return a job by its name (with the project's number), or `None`.

        :param with_content: with its direct content, where it has one
        """
        with self._lock:
            row = self._db.execute(_SELECT.format(_CONTENT[with_content]) + " WHERE name = ?", (name,)).fetchone()
        return _job(*row) if row else None

    def update(self, name: str, change: Callable[[Any], bool | None]) -> None:
        """Change a job in place and stamp its update time; nothing where there is none of the name.

        :param change: changes the message; returns false to leave the job as it was
        """
        with self._lock:
            job = self.get(name)
            if job is None or change(job) is False:
                return
            job.update_time.GetCurrentTime()
            self._db.execute(
                "UPDATE jobs SET update_time = ?, is_terminal = ?, message = ? WHERE name = ?",
                (job.update_time.ToMicroseconds(), state_of(job).is_terminal, job.SerializeToString(), name),
            )

    def delete(self, name: str) -> None:
        """Remove a job."""
        with self._lock:
            self._db.execute("DELETE FROM jobs WHERE name = ?", (name,))
            self._db.execute("DELETE FROM contents WHERE name = ?", (name,))

    def page(
        self,
        parent: str,
        conditions: list[tuple[str, str, str]],
        order: list[tuple[str, bool]],
        after: list[Any] | None,
        size: int,
        *,
        with_content: bool = False,
    ) -> tuple[list[Any], list[Any] | None]:
        """A page of the jobs of a location.

        :param conditions: from `listing.parse_filter`
        :param order: from `listing.parse_order`
        :param after: sort key of the row before the page
        :return: the jobs, and the sort key of the last where there are more
        """
        keys = [*order, ("job_id", order[0][1])]
        clauses = [("parent = ?", [parent]), *(_condition(*condition) for condition in conditions)]
        if after is not None:
            clauses.append(_after(keys, after))
        columns = ", ".join(column for column, _ in keys)
        where = " AND ".join(clause for clause, _ in clauses)
        by = ", ".join(f"{column} {'DESC' if descending else 'ASC'}" for column, descending in keys)
        values = [value for _, of_clause in clauses for value in of_clause]
        # Columns are this module's own, values are bound.
        select = _SELECT.format(f"{_CONTENT[with_content]}, {columns}")
        sql = f"{select} WHERE {where} ORDER BY {by} LIMIT ?"
        jobs: list[Any] = []
        last: list[Any] = []
        room = PAGE_BYTES
        with self._reader() as db:
            for message, content, *key in db.execute(sql, [*values, size + 1]):
                if len(jobs) == size or room <= 0:
                    return jobs, last
                jobs.append(_job(message, content))
                last = key
                room -= len(message) + len(content or b"")
        return jobs, None

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Open a connection of its own for a list: a slow one keeps nobody from the store, and ends in time.

        :raises ResourceExhausted: after `LIST_SECONDS` of processor time
        """
        end_time = time.thread_time() + LIST_SECONDS
        with closing(sqlite3.connect(self._path)) as db:
            db.create_function("regexp", 2, lambda pattern, text: bool(compile_pattern(pattern).search(text or "")))
            db.set_progress_handler(lambda: time.thread_time() > end_time, _STEPS)
            try:
                yield db
            except sqlite3.OperationalError as error:
                if time.thread_time() <= end_time:
                    raise
                raise ResourceExhausted(f"The list takes more than {LIST_SECONDS:g} s: ask for less.") from error

    def unfinished(self) -> list[str]:
        """The names of the jobs that have not ended."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT name FROM jobs WHERE NOT is_terminal")]

    def find(self, job_id: str) -> list[str]:
        """The names of the jobs of an id, in whatever location."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT name FROM jobs WHERE job_id = ?", (job_id,))]

    # --- operations ---

    def put_operation(self, operation: Operation) -> None:
        """Keep a new operation."""
        row = (operation.name, operation.job_name, operation.kind, operation.create_time, operation.ready_at)
        with self._lock:
            self._db.execute("INSERT INTO operations VALUES (?, ?, ?, ?, ?)", row)

    def finish_operations(self, job_name: str, ready_at: float) -> None:
        """Have the operations of a job be done from a time on."""
        with self._lock:
            self._db.execute(
                "UPDATE operations SET ready_at = ? WHERE job_name = ? AND ready_at IS NULL", (ready_at, job_name)
            )

    def operation(self, name: str) -> Operation | None:
        """The operation of a name, or `None`."""
        with self._lock:
            row = self._db.execute("SELECT * FROM operations WHERE name = ?", (name,)).fetchone()
        return Operation(*row) if row else None

    def operations_of(self, job_name: str) -> list[Operation]:
        """The operations of a job."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM operations WHERE job_name = ?", (job_name,)).fetchall()
        return [Operation(*row) for row in rows]

    def delete_operation(self, name: str) -> None:
        """Forget an operation."""
        with self._lock:
            self._db.execute("DELETE FROM operations WHERE name = ?", (name,))


def _condition(column: str, operator: str, value: str) -> tuple[str, list[Any]]:
    if operator == "=~":
        return f"regexp(?, {column})", [value]
    if column == "schedule":  # by its id or by its name
        tail = f"/schedules/{value}"
        clause, values = "(schedule = ? OR substr(schedule, -length(?)) = ?)", [value, tail, tail]
    else:
        clause, values = f"{column} = ?", [value]
    return (clause if operator == "=" else f"NOT {clause}"), list(values)


def _after(keys: list[tuple[str, bool]], last: list[Any]) -> tuple[str, list[Any]]:
    """The rows that come after a sort key: the first column differs, or it is equal and the second differs, ..."""
    clauses: list[str] = []
    values: list[Any] = []
    for index, (column, descending) in enumerate(keys):
        equal = [f"{earlier} = ?" for earlier, _ in keys[:index]]
        clauses.append(" AND ".join([*equal, f"{column} {'<' if descending else '>'} ?"]))
        values += [*last[:index], last[index]]
    return "(" + " OR ".join(f"({clause})" for clause in clauses) + ")", values
