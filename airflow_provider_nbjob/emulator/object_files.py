"""Keep the contents of objects in files.

An object is the plain file ``BUCKET/NAME`` if that is possible: if each part of its name, split at slashes, is an
ordinary file name (not empty, not beginning with a dot, printable, without a backslash, in Unicode's normal form C, at
most 255 bytes), if there are at most 32 parts, and if nothing else is in the way, as when both ``a`` and ``a/b`` are
objects. The content of any other object is in ``.nbjob/objects/``, in a file named by a hash of bucket and name. The
later object gives way: ``a/b`` if ``a`` was there first.

Links are never followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from airflow_provider_nbjob.emulator import folders
from airflow_provider_nbjob.emulator.stored_object import Draft, plain_parts

MAX_FILES = 200_000  # files of one bucket that a list compares with the database
PRIVATE = ".nbjob"  # beside the buckets, whose names begin with a letter or a digit

# Errors of the file system if something is in the way of a plain file
_BLOCKED = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ}


class ObjectFiles:
    """The files of the buckets and objects of one folder.

    :ivar private: the folder of all that is no bucket
    :param folder: holds a folder for each bucket; is made, and made private to its owner
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.private = folder / PRIVATE
        self._uploads = self.private / "uploads"
        for each in (folder, self.private, self.private / "objects", self._uploads):
            each.mkdir(mode=folders.FOLDER_MODE, parents=True, exist_ok=True)
        folders.make_private(folder)
        for left in self._uploads.iterdir():
            with suppress(OSError):
                left.unlink()

    # --- buckets ---

    def has_bucket(self, bucket: str) -> bool:
        """Return whether a bucket has a folder.

        :param bucket: a valid name
        """
        try:
            with folders.opened(self._folder, [bucket]):
                return True
        except OSError:
            return False

    def names(self) -> list[str]:
        """Return the names in the folder, sorted: those of the buckets and others."""
        return sorted(path.name for path in self._folder.iterdir())

    def make_bucket(self, bucket: str) -> None:
        """Make the folder of a bucket.

        :param bucket: a valid name
        :raises FileExistsError: if there is a file or a folder of the name
        """
        (self._folder / bucket).mkdir(mode=folders.FOLDER_MODE)

    def remove_bucket(self, bucket: str) -> None:
        """Remove the folder of a bucket, and empty folders in it.

        :raises OSError: if anything else is in it
        """
        with folders.opened(self._folder, [bucket]) as folder:
            folders.remove_all_empty(folder)
        (self._folder / bucket).rmdir()

    def plain_files(self, bucket: str, above: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the size and the time of change, in nanoseconds since 1970, of each plain file by its object's name.

        :param above: only files below this path in the bucket
        """
        found: dict[str, tuple[int, int]] = {}
        with suppress(OSError), folders.opened(self._folder, [bucket, *above]) as folder:
            for parts, stat in islice(folders.walk(folder, parts=tuple(above)), MAX_FILES):
                if plain_parts(name := "/".join(parts)):
                    found[name] = (stat.st_size, stat.st_mtime_ns)
        return found

    # --- objects ---

    def draft(self) -> Draft:
        """Begin to write content."""
        return Draft(self._uploads / secrets.token_hex(16))

    def place(self, bucket: str, name: str, draft: Draft, is_of_another: Callable[[int], bool]) -> bool:
        """Move a draft to where the object's file belongs; return whether that is the plain file.

        :param is_of_another: returns whether the file with an inode belongs to another object
        """
        parts = plain_parts(name)
        try:
            if parts:
                *above, last = parts
                with folders.opened(self._folder, [bucket, *above], create=True) as folder:
                    inode = _inode(last, folder)
                    if inode is None or not is_of_another(inode):
                        os.rename(draft.path, last, dst_dir_fd=folder)
                        return True
        except OSError as error:
            if error.errno not in _BLOCKED:
                raise
        os.rename(draft.path, self._hidden(bucket, name))
        return False

    def stat(self, bucket: str, name: str, *, is_plain: bool) -> os.stat_result | None:
        """Return the file system's data on the file of an object, or None if there is no such file."""
        if not is_plain:
            return folders.stat_file(self.private, ["objects", self._hidden(bucket, name).name])
        parts = plain_parts(name)
        return folders.stat_file(self._folder, [bucket, *parts]) if parts else None

    def open(self, bucket: str, name: str, *, is_plain: bool) -> BinaryIO:
        """Open the file of an object for reading.

        :raises OSError: if there is none
        """
        if is_plain:
            return folders.open_file(self._folder, [bucket, *name.split("/")])
        return folders.open_file(self.private, ["objects", self._hidden(bucket, name).name])

    def remove(self, bucket: str, name: str, *, is_plain: bool) -> None:
        """Remove the file of an object if there is one, and the folders that it leaves empty."""
        if not is_plain:
            self._hidden(bucket, name).unlink(missing_ok=True)
            return
        *above, last = name.split("/")
        with suppress(OSError), folders.opened(self._folder, [bucket, *above]) as folder:
            os.unlink(last, dir_fd=folder)
        with suppress(OSError), folders.opened(self._folder, [bucket]) as folder:
            folders.remove_empty(folder, above)

    def _hidden(self, bucket: str, name: str) -> Path:
        return self.private / "objects" / hashlib.sha256(f"{bucket}/{name}".encode()).hexdigest()


def _inode(name: str, folder: int) -> int | None:
    """Return the inode of a name in an open folder, or None if the name is free."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None
