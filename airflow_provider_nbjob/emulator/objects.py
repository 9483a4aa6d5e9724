"""Keep buckets and objects: their contents in `ObjectFiles`, their metadata in `ObjectRows`, and both in step.

A plain file that somebody puts into a bucket's folder, changes or removes by hand is an object that was written or
deleted. It has no checksums, because reading it whole at once could take long.

Only the live generation of an object is kept.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from google.api_core.exceptions import BadRequest, Conflict, NotFound

from airflow_provider_nbjob.emulator.object_files import ObjectFiles
from airflow_provider_nbjob.emulator.object_rows import ObjectRows, stored_of
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
SKIPPED = 32  # rows that are read at once if a delimiter may skip most of them

_BUCKET = re.compile(r"[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]")


class Objects:
    """The buckets and objects of one folder; safe to use from several threads.

    :param folder: as for `ObjectFiles`. No other process uses it, see `data_dir.locked`
    :param makes_buckets: make a bucket when it is first named, if it can have the name; default False
    """

    def __init__(self, folder: Path, *, makes_buckets: bool = False) -> None:
        self._files = ObjectFiles(folder)
        self._makes_buckets = makes_buckets
        self._rows = ObjectRows(self._files.private / "objects.sqlite")

    def close(self) -> None:
        """Close the database."""
        self._rows.close()

    # --- buckets ---

    def create_bucket(self, bucket: str) -> int:
        """Make a bucket, and return the time in microseconds since 1970.

        :raises BadRequest: if a bucket cannot have the name
        :raises Conflict: if there is one of the name
        """
        if not _BUCKET.fullmatch(bucket):
            raise BadRequest(f"Invalid bucket name: {bucket!r}")
        with self._rows.transaction():
            try:
                self._files.make_bucket(bucket)
            except FileExistsError:
                raise Conflict(f"The bucket {bucket} exists already.") from None
            return self._rows.add_bucket(bucket)

    def has_bucket(self, bucket: str) -> bool:
        """Return whether there is a bucket of the name, which may be any text; see `makes_buckets`."""
        if not _BUCKET.fullmatch(bucket):
            return False
        if self._makes_buckets and not self._files.has_bucket(bucket):
            with suppress(Conflict):  # of another thread that was faster
                self.create_bucket(bucket)
        return self._files.has_bucket(bucket)

    def buckets(self) -> dict[str, int]:
        """Return the names of all buckets, sorted, and when each was made, in microseconds since 1970."""
        with self._rows.lock:
            created = self._rows.buckets()
        return {name: created.get(name, 0) for name in self._files.names() if self.has_bucket(name)}

    def bucket_created(self, bucket: str) -> int:
        """Return when a bucket was made, in microseconds since 1970; 0 if its folder was made by hand.

        :raises NotFound: if there is no such bucket
        """
        self._require(bucket)
        with self._rows.lock:
            return self._rows.bucket_created(bucket)

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket.

        :raises NotFound: if there is no such bucket
        :raises Conflict: if there is anything in it, such as files that are no objects
        """
        self._require(bucket)
        self.refresh(bucket)
        with self._rows.transaction():
            try:
                if self._rows.has_objects(bucket):
                    raise FileExistsError
                self._files.remove_bucket(bucket)
            except OSError:
                raise Conflict(f"The bucket {bucket} you tried to delete is not empty.") from None
            self._rows.remove_bucket(bucket)

    def _require(self, bucket: str) -> None:
        if not self.has_bucket(bucket):
            raise NotFound("The specified bucket does not exist.")

    # --- one object ---

    def draft(self) -> Draft:
        """Begin to write content."""
        return self._files.draft()

    def check_writable(self, bucket: str, name: str, fields: Mapping[str, Any]) -> None:
        """Refuse an object that `put` would refuse, before its content is sent.

        :raises BadRequest: if an object cannot have the name or the fields
        :raises NotFound: if there is no such bucket
        """
        if (fault := name_fault(name) or fields_fault(fields)) is not None:
            raise BadRequest(fault)
        self._require(bucket)

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
        :raises PreconditionFailed: if the object does not meet `conditions`
        """
        self.check_writable(bucket, name, fields)
        with self._rows.transaction():
            self._require(bucket)
            old = self._current(bucket, name)
            conditions.check(old)
            is_plain = self._files.place(bucket, name, draft, partial(self._is_of_another, bucket, name))
            if old and not old.is_plain and is_plain:
                self._files.remove(bucket, name, is_plain=False)
            file = self._files.stat(bucket, name, is_plain=is_plain)
            if file is None:
                raise Conflict(f"The file of gs://{bucket}/{name} was removed while it was written.")
            md5 = "" if is_composed else draft.md5
            return self._rows.insert(bucket, name, file, fields, is_plain=is_plain, md5=md5, crc32c=draft.crc32c)

    def find(self, bucket: str, name: str) -> Stored | None:
        """Return an object, or None if there is none of the name, which may be any text.

        :raises NotFound: if there is no such bucket
        """
        self._require(bucket)
        with self._rows.transaction():
            return self._current(bucket, name)

    def stat(self, bucket: str, name: str, generation: int | None = None) -> Stored:
        """Return an object. The names may be any text.

        :param generation: of the object; None for the live one
        :raises NotFound: if there is no such bucket, object or generation
        """
        stored = self.find(bucket, name)
        if stored is None or generation not in (None, stored.generation):
            which = "" if generation is None else f"#{generation}"
            raise NotFound(f"No such object: gs://{bucket}/{name}{which}")
        return stored

    def open(self, bucket: str, name: str, generation: int | None = None) -> tuple[Stored, BinaryIO]:
        """Return an object, and its content open for reading, which does not change if the object is replaced.

        :raises NotFound: as `stat`
        """
        with self._rows.lock:
            stored = self.stat(bucket, name, generation)
            try:
                return stored, self._files.open(bucket, name, is_plain=stored.is_plain)
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
        :raises PreconditionFailed: if the object does not meet `conditions`
        """
        with self._rows.lock:
            stored = self.stat(bucket, name, generation)
            conditions.check(stored)
            fields = change(stored.fields)
            if (fault := fields_fault(fields)) is not None:
                raise BadRequest(fault)
            self._rows.replace_fields(bucket, name, fields)
            return self.stat(bucket, name)

    def delete(self, bucket: str, name: str, generation: int | None = None, conditions: Conditions = ANY) -> None:
        """Delete an object.

        :raises NotFound: as `stat`
        :raises PreconditionFailed: if the object does not meet `conditions`
        """
        with self._rows.lock:
            stored = self.stat(bucket, name, generation)
            conditions.check(stored)
            self._files.remove(bucket, name, is_plain=stored.is_plain)
            self._rows.forget(bucket, name)

    # --- lists ---

    def refresh(self, bucket: str, prefix: str = "") -> None:
        """Record changes that were made by hand to the plain files of a bucket.

        :param prefix: only files of names that begin with it need be compared
        :raises NotFound: if there is no such bucket
        """
        self._require(bucket)
        above = plain_parts(prefix.rpartition("/")[0]) or []
        found = self._files.plain_files(bucket, above)
        with self._rows.lock:
            known = self._rows.plain_files(bucket, "".join(f"{part}/" for part in above))
        for name in {name for name, _ in found.items() ^ known.items()}:
            with self._rows.transaction():
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
        :param delimiter: names that have it after `prefix` are listed as one prefix, up to and with the delimiter
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
            with self._rows.lock:
                rows = self._rows.rows(bucket, cursor, last, wanted)
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
                    page.items.append(stored_of(row))
                    cursor = f"{name}\0"
                else:
                    cursor = after_prefix(folder) or ""
                    break
            is_last = len(rows) < wanted and (not rows or cursor > rows[-1][1])
            if is_last or not cursor:
                return page

    # --- files and rows in step, inside a transaction ---

    def _current(self, bucket: str, name: str) -> Stored | None:
        """Return an object as its file is now: record changes that were made to the file by hand."""
        if name_fault(name):
            return None
        stored = self._rows.find(bucket, name)
        is_plain = stored.is_plain if stored else True
        file = self._files.stat(bucket, name, is_plain=is_plain)
        if stored and file and (file.st_size, file.st_mtime_ns) == (stored.size, stored.modified):
            return stored
        if stored and file is None:
            self._rows.forget(bucket, name)
        if file is None or self._is_of_another(bucket, name, file.st_ino):
            return None
        fields = {"contentType": mimetypes.guess_type(name)[0] or "application/octet-stream"}
        return self._rows.insert(bucket, name, file, fields, is_plain=is_plain)

    def _is_of_another(self, bucket: str, name: str, inode: int) -> bool:
        """Return whether a file is another object's: a file system that ignores case has one for ``A`` and ``a``."""
        for other in self._rows.with_inode(inode):
            if (other.bucket, other.name) != (bucket, name):
                file = self._files.stat(other.bucket, other.name, is_plain=True)
                if file and file.st_ino == inode:
                    return True
        return False
