"""Open the SQLite files of the data directory, private to its user, and set a damaged one aside."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_nbjob.emulator.data_dir import make_private_file

log = logging.getLogger(__name__)
SqlValue = str | bytes | int | float | None


class Database:
    """A database that several threads use in turn.

    If SQLite finds the file damaged, the file is renamed and a new one begins.

    :param prepare: makes the tables if there are none
    :raises OSError: if the file cannot be opened, or has other tables
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], object]) -> None:
        self.lock = threading.RLock()  # to be held from a statement until its rows were read
        self._connection = _open_or_replace(path, prepare)

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._connection.close()

    def execute(self, sql: str, values: Sequence[SqlValue] = ()) -> sqlite3.Cursor:
        """Execute a statement."""
        return self._connection.execute(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock, and commit at the end of the block; if the block raises, roll back."""
        with self.lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def _open_or_replace(path: Path, prepare: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
    make_private_file(path)  # SQLite gives the files beside it the same mode
    try:
        try:
            return _open(path, prepare)
        except sqlite3.OperationalError:  # a kind of DatabaseError: the file itself may be whole
            raise
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged (%s): it is kept as %s, and a new one is begun", path, error, _set_aside(path))
        make_private_file(path)
        return _open(path, prepare)
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be used ({error}): remove it, or choose another folder with --data-dir") from None


def _open(path: Path, prepare: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found.splitlines()[-1])
        prepare(db)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _set_aside(path: Path) -> str:
    """Rename a database and the files that belong to it; return its new name."""
    name = f"{path.name}.damaged-{time.time_ns()}"
    for suffix in ("-wal", "-shm", ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(path.with_name(name + suffix))
    return name
