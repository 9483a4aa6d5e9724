"""Buckets and objects on disk: content in files, what is known of it in SQLite.

An object is the plain file ``BUCKET/NAME`` if that is possible: if each part of its name, split at slashes, is an
ordinary file name (not empty, not beginning with a dot, printable, without a backslash, in Unicode's normal form C, at
most 255 bytes), if there are at most 32 parts, and if nothing else is in the way, as when both ``a`` and ``a/b`` are
objects. The content of any other object is in ``.nbjob/objects/``, in a file named by a hash of bucket and name. What
comes later gives way: ``a/b`` if ``a`` was there first.

A plain file that somebody puts into a bucket's folder, changes or removes by hand is an object that was written or
deleted. It has no checksums, because reading it whole at once could take long. Links are never followed.

Nothing but the live generation of an object is kept.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import mimetypes
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from google.api_core.exceptions import BadRequest, Conflict, NotFound

from airflow_provider_nbjob.emulator import folders
from airflow_provider_nbjob.emulator.database import Database
from airflow_provider_nbjob.emulator.stored_object import (
    ANY,
    Conditions,
    Draft,
    Page,
    Stored,
    after_prefix,
    fields_fault,
    name_fault,
    plain_parts,
)

MAX_PAGE = 1000  # objects and prefixes of one page of a list, as in Cloud Storage
SKIPPED = 32  # rows that are read at once where a delimiter may skip most of them
MAX_FILES = 200_000  # files of one bucket that a list compares with what is known
PRIVATE = ".nbjob"  # beside the buckets, whose names begin with a letter or a digit

_COLUMNS = [each.name for each in dataclasses.fields(Stored)]  # those of the table, in its order
_BUCKET = re.compile(r"[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]")
# What the file system answers if something is in the way of a plain file
_BLOCKED = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ}
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


class Objects:
    """The buckets and objects of one folder; safe to use from several threads.

    :param folder: holds a folder for each bucket; is made, and made private to its owner. No other process uses it,
        see `data_dir.locked`
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._private = folder / PRIVATE
        for each in (folder, self._private, self._private / "objects", self._private / "uploads"):
            each.mkdir(mode=folders.FOLDER_MODE, parents=True, exist_ok=True)
        folders.make_private(folder)
        for left in (self._private / "uploads").iterdir():
            with suppress(OSError):
                left.unlink()
        self._db = Database(self._private / "objects.sqlite", lambda db: db.executescript(_SCHEMA))
        (self._generation,) = self._db.execute("SELECT coalesce(max(generation), 0) FROM objects").fetchone()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # --- buckets ---

    def create_bucket(self, bucket: str) -> int:
        """Make a bucket, and return the microseconds since 1970.

        :raises BadRequest: if a bucket cannot have the name
        :raises Conflict: if there is one of the name
        """
        if not _BUCKET.fullmatch(bucket):
            raise BadRequest(f"Invalid bucket name: {bucket!r}")
        with self._db.transaction():
            try:
                (self._folder / bucket).mkdir(mode=folders.FOLDER_MODE)
            except FileExistsError:
                raise Conflict(f"The bucket {bucket} exists already.") from None
            created = time.time_ns() // 1000
            self._db.execute("REPLACE INTO buckets VALUES (?, ?)", (bucket, created))
            self._db.execute("DELETE FROM objects WHERE bucket = ?", (bucket,))  # of one that was removed by hand
        return created

    def has_bucket(self, bucket: str) -> bool:
        """Return whether there is a bucket of the name, whatever the name is."""
        if not _BUCKET.fullmatch(bucket):
            return False
        try:
            with folders.opened(self._folder, [bucket]):
                return True
        except OSError:
            return False

    def buckets(self) -> dict[str, int]:
        """Return the names of all buckets, sorted, and when each was made, in microseconds since 1970."""
        with self._db.lock:
            created = dict(self._db.execute("SELECT name, created FROM buckets").fetchall())
        names = sorted(path.name for path in self._folder.iterdir() if self.has_bucket(path.name))
        return {name: created.get(name, 0) for name in names}

    def bucket_created(self, bucket: str) -> int:
        """Return when a bucket was made, in microseconds since 1970; 0 if its folder was made by hand.

        :raises NotFound: if there is no such bucket
        """
        self._require(bucket)
        with self._db.lock:
            row = self._db.execute("SELECT created FROM buckets WHERE name = ?", (bucket,)).fetchone()
        return row[0] if row else 0

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket.

        :raises NotFound: if there is no such bucket
        :raises Conflict: if there is anything in it, such as files that are no objects
        """
        self._require(bucket)
        self.refresh(bucket)
        with self._db.transaction():
            try:
                if self._db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone():
                    raise FileExistsError
                with folders.opened(self._folder, [bucket]) as folder:
                    folders.remove_all_empty(folder)
                (self._folder / bucket).rmdir()
            except OSError:
                raise Conflict(f"The bucket {bucket} you tried to delete is not empty.") from None
            self._db.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

    def _require(self, bucket: str) -> None:
        if not self.has_bucket(bucket):
            raise NotFound("The specified bucket does not exist.")

    # --- objects ---

    def draft(self) -> Draft:
        """Begin to write content."""
        return Draft(self._private / "uploads" / secrets.token_hex(16))

    def put(
        self,
        bucket: str,
        name: str,
        draft: Draft,
        fields: Mapping[str, Any],
        conditions: Conditions = ANY,
        *,
        is_composed: bool = False,
    ) -> Stored:
        """Make a draft the content of an object, as a new generation.

        :param fields: as in `Stored`
        :param is_composed: Cloud Storage has no MD5 of such an object
        :raises BadRequest: if an object cannot have the name or the fields
        :raises NotFound: if there is no such bucket
        :raises PreconditionFailed: if the object is not as `conditions` ask
        """
        self.check_writable(bucket, name, fields)
        with self._db.transaction():
            self._require(bucket)
            old = self._current(bucket, name)
            conditions.check(old)
            is_plain = self._place(bucket, name, draft)
            if old and not old.is_plain and is_plain:
                self._hidden(bucket, name).unlink(missing_ok=True)
            found = self._stat(bucket, name, is_plain)
            if found is None:
                raise Conflict(f"The file of gs://{bucket}/{name} was removed while it was written.")
            return self._insert(bucket, name, is_plain, found, "" if is_composed else draft.md5, draft.crc32c, fields)

    def check_writable(self, bucket: str, name: str, fields: Mapping[str, Any]) -> None:
        """Refuse what `put` would refuse, before content is sent.

        :raises BadRequest: if an object cannot have the name or the fields
        :raises NotFound: if there is no such bucket
        """
        if (fault := name_fault(name) or fields_fault(fields)) is not None:
            raise BadRequest(fault)
        self._require(bucket)

    def find(self, bucket: str, name: str) -> Stored | None:
        """Return an object, or None if there is none of the name, whatever the name is.

        :raises NotFound: if there is no such bucket
        """
        self._require(bucket)
        with self._db.transaction():
            return self._current(bucket, name)

    def stat(self, bucket: str, name: str, generation: int | None = None) -> Stored:
        """Return an object.

        :param generation: the one that is wanted; default: the live one
        :raises NotFound: if there is no such bucket, object or generation, whatever the names are
        """
        stored = self.find(bucket, name)
        if stored is None or generation not in (None, stored.generation):
            which = "" if generation is None else f"#{generation}"
            raise NotFound(f"No such object: gs://{bucket}/{name}{which}")
        return stored

    def open(self, bucket: str, name: str, generation: int | None = None) -> tuple[Stored, BinaryIO]:
        """Return an object, and its content open for reading, which stays what it is if the object is replaced.

        :raises NotFound: as `stat`
        """
        with self._db.lock:
            stored = self.stat(bucket, name, generation)
            try:
                if stored.is_plain:
                    return stored, folders.open_file(self._folder, [bucket, *name.split("/")])
                return stored, folders.open_file(self._private, ["objects", self._hidden(bucket, name).name])
            except OSError:
                raise NotFound(f"No such object: {stored.uri}") from None

    def change_fields(
        self,
        bucket: str,
        name: str,
        change: Callable[[Mapping[str, Any]], dict[str, Any]],
        generation: int | None = None,
        conditions: Conditions = ANY,
    ) -> Stored:
        """Change the metadata of an object.

        :param change: takes the fields, and returns the new ones
        :raises BadRequest: if an object cannot have the new fields
        :raises NotFound: as `stat`
        :raises PreconditionFailed: if the object is not as `conditions` ask
        """
        with self._db.lock:
            stored = self.stat(bucket, name, generation)
            conditions.check(stored)
            fields = change(stored.fields)
            if (fault := fields_fault(fields)) is not None:
                raise BadRequest(fault)
            self._db.execute(
                "UPDATE objects SET fields = ?, metageneration = metageneration + 1, updated = ?"
                " WHERE bucket = ? AND name = ?",
                (json.dumps(fields), time.time_ns() // 1000, bucket, name),
            )
            return self.stat(bucket, name)

    def delete(self, bucket: str, name: str, generation: int | None = None, conditions: Conditions = ANY) -> None:
        """Delete an object.

        :raises NotFound: as `stat`
        :raises PreconditionFailed: if the object is not as `conditions` ask
        """
        with self._db.lock:
            stored = self.stat(bucket, name, generation)
            conditions.check(stored)
            if stored.is_plain:
                *above, last = name.split("/")
                with suppress(OSError), folders.opened(self._folder, [bucket, *above]) as folder:
                    os.unlink(last, dir_fd=folder)
                with suppress(OSError), folders.opened(self._folder, [bucket]) as folder:
                    folders.remove_empty(folder, above)
            else:
                self._hidden(bucket, name).unlink(missing_ok=True)
            self._forget(bucket, name)

    def refresh(self, bucket: str, prefix: str = "") -> None:
        """Take in what was done by hand to the plain files of a bucket.

        :param prefix: only names that begin with it need be looked at
        :raises NotFound: if there is no such bucket
        """
        self._require(bucket)
        above = plain_parts(prefix.rpartition("/")[0]) or ()
        below = "".join(f"{part}/" for part in above)
        found: dict[str, tuple[int, int]] = {}
        with suppress(OSError), folders.opened(self._folder, [bucket, *above]) as folder:
            for parts, stat in islice(folders.walk(folder, parts=tuple(above)), MAX_FILES):
                if plain_parts(name := "/".join(parts)):
                    found[name] = (stat.st_size, stat.st_mtime_ns)
        with self._db.lock:
            rows = self._range("name, size, modified", bucket, below, after_prefix(below), "AND is_plain")
            known = {name: (size, modified) for name, size, modified in rows}
        for name in {name for name, _ in found.items() ^ known.items()}:
            with self._db.transaction():
                self._current(bucket, name)

    def page(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: str = "",
        end: str = "",
        is_trailing: bool = False,
        limit: int = MAX_PAGE,
    ) -> Page:
        """Return a page of the objects of a bucket, in the order of their names in UTF-8.

        :param prefix: of all names
        :param delimiter: names that have it after `prefix` are told by what they begin with, up to it
        :param start: the first name, or the first after it
        :param end: names from it on are left out, if it is not empty
        :param is_trailing: an object whose name ends with the first delimiter is an item too
        :raises NotFound: if there is no such bucket
        """
        self._require(bucket)
        page, last = Page(), after_prefix(prefix)
        if end and (last is None or end < last):
            last = end
        cursor = max(start, prefix)
        while True:
            # With a delimiter most rows of a query may be below one prefix, which the next query skips.
            wanted = min(limit - len(page) + 1, SKIPPED if delimiter else limit + 1)
            rows = self._range("*", bucket, cursor, last, "LIMIT ?", wanted)
            for row in rows:
                name = row[1]
                head, found, tail = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                folder = f"{prefix}{head}{found}" if found else ""
                is_item = not found or (is_trailing and not tail)
                is_new = bool(found) and page.prefixes[-1:] != [folder]
                if len(page) and len(page) + is_item + is_new > limit:
                    page.next_name = name
                    return page
                if is_new:
                    page.prefixes.append(folder)
                if is_item:
                    page.items.append(_stored(row))
                    cursor = f"{name}\0"
                else:
                    cursor = after_prefix(folder) or ""
                    break
            is_last = len(rows) < wanted and (not rows or cursor > rows[-1][1])
            if is_last or not cursor:
                return page

    # --- rows and files, inside a transaction ---

    def _current(self, bucket: str, name: str) -> Stored | None:
        """Return an object as its file is now: what was done to the file by hand is taken in."""
        if name_fault(name):
            return None
        row = self._db.execute("SELECT * FROM objects WHERE bucket = ? AND name = ?", (bucket, name)).fetchone()
        stored = _stored(row) if row else None
        found = self._stat(bucket, name, stored.is_plain if stored else True)
        if stored and found and (found.st_size, found.st_mtime_ns) == (stored.size, stored.modified):
            return stored
        if stored and found is None:
            self._forget(bucket, name)
        if found is None or self._is_of_another(bucket, name, found.st_ino):
            return None
        fields = {"contentType": mimetypes.guess_type(name)[0] or "application/octet-stream"}
        return self._insert(bucket, name, stored.is_plain if stored else True, found, "", "", fields)

    def _stat(self, bucket: str, name: str, is_plain: bool) -> os.stat_result | None:
        if not is_plain:
            return folders.stat_file(self._private, ["objects", self._hidden(bucket, name).name])
        parts = plain_parts(name)
        return folders.stat_file(self._folder, [bucket, *parts]) if parts else None

    def _hidden(self, bucket: str, name: str) -> Path:
        return self._private / "objects" / hashlib.sha256(f"{bucket}/{name}".encode()).hexdigest()

    def _place(self, bucket: str, name: str, draft: Draft) -> bool:
        """Move a draft to where the object's file belongs; return whether that is the plain one."""
        parts = plain_parts(name)
        try:
            if parts:
                with folders.opened(self._folder, [bucket, *parts[:-1]], create=True) as folder:
                    if not self._is_taken(bucket, name, parts[-1], folder):
                        os.rename(draft.path, parts[-1], dst_dir_fd=folder)
                        return True
        except OSError as error:
            if error.errno not in _BLOCKED:
                raise
        os.rename(draft.path, self._hidden(bucket, name))
        return False

    def _is_taken(self, bucket: str, name: str, last: str, folder: int) -> bool:
        try:
            inode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return False
        return self._is_of_another(bucket, name, inode)

    def _is_of_another(self, bucket: str, name: str, inode: int) -> bool:
        """Return whether a file is another object's, as ``A`` may be that of ``a`` where case does not count."""
        rows = self._db.execute("SELECT * FROM objects WHERE inode = ? AND is_plain", (inode,)).fetchall()
        for other in map(_stored, rows):
            if (other.bucket, other.name) != (bucket, name):
                found = self._stat(other.bucket, other.name, is_plain=True)
                if found and found.st_ino == inode:
                    return True
        return False

    def _insert(
        self,
        bucket: str,
        name: str,
        is_plain: bool,
        found: os.stat_result,
        md5: str,
        crc32c: str,
        fields: Mapping[str, Any],
    ) -> Stored:
        now = time.time_ns() // 1000
        self._generation = max(now, self._generation + 1)
        stored = Stored(
            bucket=bucket,
            name=name,
            is_plain=is_plain,
            inode=found.st_ino,
            modified=found.st_mtime_ns,
            size=found.st_size,
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
        self._db.execute(f"REPLACE INTO objects VALUES ({marks})", tuple(values.values()))  # noqa: S608
        return stored

    def _forget(self, bucket: str, name: str) -> None:
        self._db.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (bucket, name))

    def _range(
        self, columns: str, bucket: str, first: str, last: str | None, rest: str, *values: int
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a bucket from one name to before another, in order; `last` None for no end."""
        until = "" if last is None else "AND name < ?"
        query = f"SELECT {columns} FROM objects WHERE bucket = ? AND name >= ? {until} "  # noqa: S608
        query += f"ORDER BY name {rest}" if rest.startswith("LIMIT") else f"{rest} ORDER BY name"
        with self._db.lock:
            return self._db.execute(query, (bucket, first, *([] if last is None else [last]), *values)).fetchall()


def _stored(row: tuple[Any, ...]) -> Stored:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Stored(**{**values, "is_plain": bool(values["is_plain"]), "fields": _fields(values["fields"])})


def _fields(text: Any) -> dict[str, Any]:
    """Return the metadata of a row; empty if it is damaged, so that the content can still be read."""
    try:
        fields = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
