"""Keep the metadata of buckets and objects in SQLite."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_nbjob.emulator.database import Database
from airflow_provider_nbjob.emulator.stored_object import Stored, after_prefix

Row = tuple[Any, ...]  # of the table `objects`: bucket, name and so on

_COLUMNS = [each.name for each in dataclasses.fields(Stored)]  # those of the table, in its order
_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT, name TEXT, is_plain INTEGER, inode INTEGER, modified INTEGER, size INTEGER, generation INTEGER,
    metageneration INTEGER, created INTEGER, updated INTEGER, md5 TEXT, crc32c TEXT, fields TEXT,
    PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_inode ON objects (inode);
CREATE INDEX IF NOT EXISTS objects_by_generation ON objects (generation);
"""


class ObjectRows(Database):
    """A database with a row for each bucket, and one for the live generation of each object.

    Its user holds `lock`, or is in a `transaction`, while it calls a method.

    :raises OSError: as for `Database`
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, lambda db: db.executescript(_SCHEMA))
        (self._generation,) = self.execute("SELECT coalesce(max(generation), 0) FROM objects").fetchone()

    # --- buckets ---

    def add_bucket(self, bucket: str) -> int:
        """Record that a bucket was made now, and return the time in microseconds since 1970."""
        created = time.time_ns() // 1000
        self.execute("REPLACE INTO buckets VALUES (?, ?)", (bucket, created))
        self.execute("DELETE FROM objects WHERE bucket = ?", (bucket,))  # of one that was removed by hand
        return created

    def remove_bucket(self, bucket: str) -> None:
        """Remove the row of a bucket without objects."""
        self.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

    def buckets(self) -> dict[str, int]:
        """Return the names of the buckets, and when each was made, in microseconds since 1970."""
        return dict(self.execute("SELECT name, created FROM buckets").fetchall())

    def bucket_created(self, bucket: str) -> int:
        """Return when a bucket was made, in microseconds since 1970; 0 if it has no row."""
        row = self.execute("SELECT created FROM buckets WHERE name = ?", (bucket,)).fetchone()
        return row[0] if row else 0

    def has_objects(self, bucket: str) -> bool:
        """Return whether a bucket has objects."""
        return self.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone() is not None

    # --- objects ---

    def find(self, bucket: str, name: str) -> Stored | None:
        """Return an object as it was recorded, or None if it has no row."""
        row = self.execute("SELECT * FROM objects WHERE bucket = ? AND name = ?", (bucket, name)).fetchone()
        return stored_of(row) if row else None

    def with_inode(self, inode: int) -> list[Stored]:
        """Return the objects whose plain file had an inode when they were recorded."""
        rows = self.execute("SELECT * FROM objects WHERE inode = ? AND is_plain", (inode,)).fetchall()
        return [stored_of(row) for row in rows]

    def plain_files(self, bucket: str, prefix: str) -> dict[str, tuple[int, int]]:
        """Return the recorded size and time of change, in nanoseconds since 1970, of the plain files by object name.

        :param prefix: of the names
        """
        rows = self._range("name, size, modified", bucket, prefix, after_prefix(prefix), "AND is_plain ORDER BY name")
        return {name: (size, modified) for name, size, modified in rows}

    def rows(self, bucket: str, first: str, end: str | None, limit: int) -> list[Row]:
        """Return rows of a bucket's objects in the order of their names.

        :param first: the first name, or the first after it
        :param end: names from it on are left out; None for no end
        """
        return self._range("*", bucket, first, end, "ORDER BY name LIMIT ?", limit)

    def _range(self, columns: str, bucket: str, first: str, end: str | None, rest: str, *values: int) -> list[Row]:
        until, last = ("", []) if end is None else ("AND name < ?", [end])
        query = f"SELECT {columns} FROM objects WHERE bucket = ? AND name >= ? {until} {rest}"  # noqa: S608
        return self.execute(query, (bucket, first, *last, *values)).fetchall()

    def insert(
        self,
        bucket: str,
        name: str,
        file: os.stat_result,
        fields: Mapping[str, Any],
        *,
        is_plain: bool,
        md5: str = "",
        crc32c: str = "",
    ) -> Stored:
        """Record a new generation of an object, in place of the one before.

        :param file: the file system's data on its file
        """
        now = time.time_ns() // 1000
        self._generation = max(now, self._generation + 1)
        stored = Stored(
            bucket=bucket,
            name=name,
            is_plain=is_plain,
            inode=file.st_ino,
            modified=file.st_mtime_ns,
            size=file.st_size,
            generation=self._generation,
            metageneration=1,
            created=now,
            updated=now,
            md5=md5,
            crc32c=crc32c,
            fields=dict(fields),
        )
        values = {**vars(stored), "fields": json.dumps(stored.fields)}
        marks = ", ".join("?" * len(values))
        self.execute(f"REPLACE INTO objects VALUES ({marks})", tuple(values.values()))  # noqa: S608
        return stored

    def replace_fields(self, bucket: str, name: str, fields: Mapping[str, Any]) -> None:
        """Record a new metageneration of an object."""
        self.execute(
            "UPDATE objects SET fields = ?, metageneration = metageneration + 1, updated = ?"
            " WHERE bucket = ? AND name = ?",
            (json.dumps(fields), time.time_ns() // 1000, bucket, name),
        )

    def forget(self, bucket: str, name: str) -> None:
        """Remove the row of an object."""
        self.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (bucket, name))


def stored_of(row: Row) -> Stored:
    """Return the object of a row."""
    values = dict(zip(_COLUMNS, row, strict=True))
    return Stored(**{**values, "is_plain": bool(values["is_plain"]), "fields": _fields(values["fields"])})


def _fields(text: str | bytes | None) -> dict[str, Any]:
    """Return the metadata of a row; empty if it is damaged, so that the content can still be read."""
    try:
        fields = json.loads(text)  # type: ignore[arg-type]  # None raises TypeError
    except (TypeError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
