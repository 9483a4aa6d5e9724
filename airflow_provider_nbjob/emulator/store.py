"""Keep jobs and operations in SQLite, so that they survive a restart of the emulator.

A job has a uid beside its name: the name may belong to another job once the job is deleted. A run, or the cancel of an
operation, acts some time after it read the job. It therefore uses the uid, and finds nothing if its own job is gone.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from google.api_core.exceptions import ResourceExhausted
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import DecodeError

from airflow_provider_nbjob.emulator.database import Database, SqlValue
from airflow_provider_nbjob.emulator.messages import JobMessage
from airflow_provider_nbjob.emulator.patterns import compile_pattern
from airflow_provider_nbjob.job import JobName, JobState, state_of

log = logging.getLogger(__name__)

PAGE_BYTES = 16 * 2**20  # of jobs, after which a page ends; the job that exceeds the limit is still on the page
LIST_SECONDS = 0.5  # of processor time for a page
_STEPS = 10_000  # of SQLite's virtual machine, between two checks of that time

_STATES: EnumDescriptor = JobMessage.DESCRIPTOR.fields_by_name["job_state"].enum_type  # type: ignore[assignment]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    name TEXT PRIMARY KEY, parent TEXT, job_id TEXT, display_name TEXT, schedule TEXT,
    create_time INTEGER, update_time INTEGER, is_terminal INTEGER, message BLOB, uid TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_create_time ON jobs (parent, create_time, job_id);
CREATE INDEX IF NOT EXISTS jobs_by_update_time ON jobs (parent, update_time, job_id);
CREATE TABLE IF NOT EXISTS contents (name TEXT PRIMARY KEY, content BLOB);
CREATE TABLE IF NOT EXISTS operations (
    name TEXT PRIMARY KEY, job_name TEXT, kind TEXT, create_time REAL, ready_at REAL, uid TEXT, version TEXT
);
"""
# Columns that came after the first version of the emulator, and their values in rows of that version.
_ADDED = (("jobs", "uid", "name"), ("operations", "uid", "job_name"), ("operations", "version", "'v1'"))
_INDEXES = """
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_uid ON jobs (uid);
CREATE INDEX IF NOT EXISTS operations_by_uid ON operations (uid);
"""
_Clause = tuple[str, list[SqlValue]]  # a condition in SQL, and its values
_OPERATION_COLUMNS = "name, job_name, kind, create_time, ready_at, uid, version"


# The placeholder is for a value of `_CONTENT`, and more columns.
_SELECT = "SELECT uid, message, {} FROM jobs"
_CONTENT = {True: "(SELECT content FROM contents WHERE contents.name = jobs.name)", False: "NULL"}


def _prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or upgrade those of an earlier version of the emulator."""
    db.executescript(_SCHEMA)
    for table, column, value in _ADDED:
        if column not in [row[1] for row in db.execute(f"PRAGMA table_info({table})")]:
            db.executescript(
                f"BEGIN; ALTER TABLE {table} ADD COLUMN {column} TEXT; UPDATE {table} SET {column} = {value}; COMMIT;"  # noqa: S608
            )
    db.executescript(_INDEXES)


def _job(message: bytes, content: bytes | None) -> JobMessage:
    job = JobMessage.FromString(message)
    if content is not None:
        job.direct_notebook_source.content = content
    return job


def set_state(job: JobMessage, state: JobState, code: int = 0, message: str = "") -> None:
    """Set the state of a job message, and its status if the state is terminal."""
    job.job_state = _STATES.values_by_name[state.value].number
    if state.is_terminal:
        job.status.code, job.status.message = code, message


@dataclass(frozen=True)
class Operation:
    """A long-running operation.

    :param kind: ``"create"`` or ``"delete"``
    :param create_time: POSIX seconds
    :param ready_at: POSIX seconds from which on it is done; None while the job has not ended
    :param uid: of its job, which may be gone
    :param version: of the API by which it was made, ``"v1"`` or ``"v1beta1"``
    """

    name: str
    job_name: str
    kind: str
    create_time: float
    ready_at: float | None
    uid: str
    version: str

    @property
    def is_done(self) -> bool:
        """Return whether it is done by now."""
        return self.ready_at is not None and time.time() >= self.ready_at


class Kept(NamedTuple):
    """A job of the store.

    :param uid: differs from those of other jobs that have or had its name
    """

    uid: str
    job: JobMessage


class Store:
    """The jobs and the operations of one data directory; safe to use from several threads.

    :raises OSError: if the database cannot be used
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = Database(path, _prepare)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # --- jobs ---

    def insert(self, job: JobMessage, operation: Operation) -> bool:
        """Keep a new job with its operation, and set its times; return False if there is a job of its name."""
        name = JobName.parse(job.name)
        with self._db.transaction():
            if self._db.execute("SELECT 1 FROM jobs WHERE name = ?", (job.name,)).fetchone():
                return False
            job.create_time.GetCurrentTime()
            job.update_time.CopyFrom(job.create_time)
            created = job.create_time.ToMicroseconds()
            stored = JobMessage()
            stored.CopyFrom(job)
            if stored.WhichOneof("notebook_source") == "direct_notebook_source":
                # The content is apart from the message, which is written anew at each change.
                content, stored.direct_notebook_source.content = stored.direct_notebook_source.content, b""
                stored.direct_notebook_source.SetInParent()
                self._db.execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", (job.name, content))
            row = (job.name, name.parent, name.job_id, job.display_name, job.schedule_resource_name)
            self._db.execute(
                "INSERT INTO jobs (name, parent, job_id, display_name, schedule, create_time, update_time, is_terminal,"
                " message, uid) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, created, created, 0, stored.SerializeToString(), operation.uid),
            )
            self.put_operation(operation)
        return True

    def get(self, name: str, *, with_content: bool = False) -> Kept | None:
        """Return the job of a name (with the project's number), or None.

        :param with_content: with its direct content, if it has one
        """
        return self._get("name", name, with_content)

    def get_by_uid(self, uid: str, *, with_content: bool = False) -> JobMessage | None:
        """Return the job of a uid, or None if there is none any more."""
        kept = self._get("uid", uid, with_content)
        return kept.job if kept else None

    def _get(self, column: str, value: str, with_content: bool) -> Kept | None:
        select = f"{_SELECT.format(_CONTENT[with_content])} WHERE {column} = ?"
        with self._db.lock:
            row = self._db.execute(select, (value,)).fetchone()
        return Kept(row[0], _job(*row[1:])) if row else None

    def update(self, uid: str, change: Callable[[JobMessage], bool | None]) -> None:
        """Change a job and set its update time; do nothing if there is no job of the uid.

        :param change: changes the message; returns False to leave the job as it was
        """
        with self._db.lock:
            job = self.get_by_uid(uid)
            if job is None or change(job) is False:
                return
            job.update_time.GetCurrentTime()
            self._db.execute(
                "UPDATE jobs SET update_time = ?, is_terminal = ?, message = ? WHERE uid = ?",
                (job.update_time.ToMicroseconds(), state_of(job).is_terminal, job.SerializeToString(), uid),
            )

    def delete(self, uid: str) -> bool:
        """Remove a job; return whether it was there."""
        with self._db.transaction():
            self._db.execute("DELETE FROM contents WHERE name = (SELECT name FROM jobs WHERE uid = ?)", (uid,))
            return self._db.execute("DELETE FROM jobs WHERE uid = ?", (uid,)).rowcount > 0

    def page(
        self,
        parent: str,
        conditions: list[tuple[str, str, str]],
        order: list[tuple[str, bool]],
        after: list[SqlValue] | None,
        size: int,
        *,
        with_content: bool = False,
    ) -> tuple[list[JobMessage], list[SqlValue] | None]:
        """Return a page of the jobs of a location.

        :param conditions: from `listing.parse_filter`
        :param order: from `listing.parse_order`
        :param after: sort key of the row before the page
        :return: the jobs, and the sort key of the last one if there are more
        """
        keys = [*order, ("job_id", order[0][1])]
        clauses: list[_Clause] = [("parent = ?", [parent]), *(_condition(*condition) for condition in conditions)]
        if after is not None:
            clauses.append(_after(keys, after))
        columns = ", ".join(column for column, _ in keys)
        where = " AND ".join(clause for clause, _ in clauses)
        by = ", ".join(f"{column} {'DESC' if descending else 'ASC'}" for column, descending in keys)
        values = [value for _, of_clause in clauses for value in of_clause]
        # The columns are from this module and the operators from `listing`; values are bound.
        select = _SELECT.format(f"{_CONTENT[with_content]}, {columns}")
        sql = f"{select} WHERE {where} ORDER BY {by} LIMIT ?"
        jobs: list[JobMessage] = []
        last: list[SqlValue] = []
        room = PAGE_BYTES
        with self._reader() as db:
            for number, (uid, message, content, *key) in enumerate(db.execute(sql, [*values, size + 1])):
                if number == size or room <= 0:
                    return jobs, last
                last = key
                try:
                    jobs.append(_job(message, content))
                except DecodeError as error:  # one such job does not hide all others
                    log.error("Job %s is damaged in %s, and is not listed: %s", uid, self._path, error)
                room -= len(message) + len(content or b"")
        return jobs, None

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for a list: a slow list does not keep the store locked, and ends in time.

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

    def jobs(self, *, unfinished: bool = False) -> list[Kept]:
        """Return the jobs of all locations, in the order that they came.

        :param unfinished: leave out those that have ended; default False
        """
        where = "NOT is_terminal" if unfinished else "TRUE"
        with self._db.lock:
            rows = self._db.execute(f"SELECT uid FROM jobs WHERE {where} ORDER BY create_time, rowid").fetchall()  # noqa: S608
        found = []
        for (uid,) in rows:
            try:
                if (job := self.get_by_uid(uid)) is not None:
                    found.append(Kept(uid, job))
            except DecodeError as error:
                log.error("Job %s is damaged in %s, and is left out: %s", uid, self._path, error)
        return found

    def find(self, job_id: str) -> list[str]:
        """Return the uids of the jobs of an id, in all locations."""
        with self._db.lock:
            return [row[0] for row in self._db.execute("SELECT uid FROM jobs WHERE job_id = ?", (job_id,))]

    # --- operations ---

    def put_operation(self, operation: Operation) -> None:
        """Keep a new operation.

        :raises sqlite3.IntegrityError: if there is one of its name
        """
        values = tuple(getattr(operation, column) for column in _OPERATION_COLUMNS.split(", "))
        marks = ", ".join("?" * len(values))
        with self._db.lock:
            self._db.execute(f"INSERT INTO operations ({_OPERATION_COLUMNS}) VALUES ({marks})", values)  # noqa: S608

    def finish_operations(self, uid: str, ready_at: float) -> None:
        """Set the time at which the operations of a job are done, for those that have none."""
        with self._db.lock:
            self._db.execute("UPDATE operations SET ready_at = ? WHERE uid = ? AND ready_at IS NULL", (ready_at, uid))

    def operation(self, name: str) -> Operation | None:
        """Return the operation of a name, or None."""
        with self._db.lock:
            row = self._db.execute(f"SELECT {_OPERATION_COLUMNS} FROM operations WHERE name = ?", (name,)).fetchone()  # noqa: S608
        return Operation(*row) if row else None

    def operations(
        self,
        below: str,
        uid: str | None,
        conditions: list[tuple[str, str, str]],
        after: list[SqlValue] | None,
        size: int,
    ) -> tuple[list[Operation], list[SqlValue] | None]:
        """Return a page of operations, the newest first.

        :param below: the name of a job or of a location
        :param uid: of the job that they belong to, None for all jobs
        :param conditions: from `listing.parse_operation_filter`
        :param after: sort key of the row before the page
        :return: the operations, and the sort key of the last one if there are more
        """
        keys = [("create_time", True), ("name", True)]
        # All names that begin with `below` and a slash: 0 is the character after the slash.
        clauses: list[_Clause] = [("name > ? AND name < ?", [f"{below}/", f"{below}0"])]
        if uid is not None:
            clauses.append(("uid = ?", [uid]))
        for column, operator, value in conditions:
            held = f"{column} = ?" if column == "name" else "coalesce(ready_at <= ?, 0)"
            is_wanted = (operator != "!=") == (column == "name" or value == "true")
            clauses.append((held if is_wanted else f"NOT {held}", [value if column == "name" else time.time()]))
        if after is not None:
            clauses.append(_after(keys, after))
        where = " AND ".join(clause for clause, _ in clauses)
        values = [value for _, of_clause in clauses for value in of_clause]
        sql = f"SELECT {_OPERATION_COLUMNS} FROM operations WHERE {where} ORDER BY create_time DESC, name DESC LIMIT ?"  # noqa: S608
        with self._db.lock:
            rows = self._db.execute(sql, [*values, size + 1]).fetchall()
        found = [Operation(*row) for row in rows[:size]]
        return found, [found[-1].create_time, found[-1].name] if len(rows) > size else None

    def delete_operation(self, name: str) -> None:
        """Forget an operation."""
        with self._db.lock:
            self._db.execute("DELETE FROM operations WHERE name = ?", (name,))


def _condition(column: str, operator: str, value: str) -> _Clause:
    if operator == "=~":
        return f"regexp(?, {column})", [value]
    if column == "schedule":  # by its id or by its name
        tail = f"/schedules/{value}"
        clause, values = "(schedule = ? OR substr(schedule, -length(?)) = ?)", [value, tail, tail]
    else:
        clause, values = f"{column} = ?", [value]
    return (clause if operator == "=" else f"NOT {clause}"), list(values)


def _after(keys: list[tuple[str, bool]], last: list[SqlValue]) -> _Clause:
    """Return the clause of the rows after a sort key: the first column is after it, or equal and the second is, ..."""
    clauses: list[str] = []
    values: list[SqlValue] = []
    for index, (column, descending) in enumerate(keys):
        equal = [f"{earlier} = ?" for earlier, _ in keys[:index]]
        clauses.append(" AND ".join([*equal, f"{column} {'<' if descending else '>'} ?"]))
        values += [*last[:index], last[index]]
    return "(" + " OR ".join(f"({clause})" for clause in clauses) + ")", values
