"""Open files below a folder without following a symbolic link.

A notebook on the emulator can put a link where the emulator reads and writes. Each part of a path is therefore opened
relative to the folder before it, with `O_NOFOLLOW`: between a check and its use nothing can be exchanged.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE, FILE_MODE = 0o700, 0o600
MAX_DEPTH = 32  # folders below the top one; deeper ones are not looked into

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # without O_NONBLOCK, opening a FIFO waits for its writer


@contextmanager
def opened(top: Path, parts: Sequence[str] = (), *, create: bool = False) -> Iterator[int]:
    """Open a folder, as a file descriptor that `dir_fd` takes.

    :param top: is no link; the folders above it may be
    :param parts: names of the folders that lead from `top` to it
    :param create: make those of `parts` that are missing
    :raises OSError: if one of them is missing, is a link, or is no folder
    """
    descriptor = os.open(top, _FOLDER)
    try:
        for part in parts:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, FOLDER_MODE, dir_fd=descriptor)
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def stat_file(top: Path, parts: Sequence[str]) -> os.stat_result | None:
    """Return the file system's data on a regular file, or None if there is none."""
    try:
        with opened(top, parts[:-1]) as folder:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def open_file(top: Path, parts: Sequence[str]) -> BinaryIO:
    """Open a regular file for reading.

    :raises OSError: if it is missing or is no regular file, or if a link leads to it
    """
    with opened(top, parts[:-1]) as folder:
        file = os.fdopen(os.open(parts[-1], _FILE, dir_fd=folder), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{parts[-1]} is no regular file")
    return file


def walk(
    folder: int, skipped: Callable[[str, str], None] = lambda path, reason: None, parts: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
    """Yield the regular files below an open folder: the parts of each path, and the file system's data on it.

    :param skipped: is called with the path of each hidden name, link and special file, and with the reason
    :param parts: of the path of `folder`, which each yielded path begins with
    """
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = (*parts, entry.name)
            if entry.name.startswith("."):
                skipped("/".join(path), "hidden")
            elif entry.is_symlink():
                skipped("/".join(path), "symbolic link")
            elif entry.is_dir(follow_symlinks=False) and len(path) <= MAX_DEPTH:
                with suppress(OSError):  # it was removed or exchanged in the meantime
                    below = os.open(entry.name, _FOLDER, dir_fd=folder)
                    try:
                        yield from walk(below, skipped, path)
                    finally:
                        os.close(below)
            elif entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    yield path, os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
            else:
                skipped("/".join(path), "not a regular file")


def make_private(top: Path) -> None:
    """Restrict a folder and all that is in it to its owner."""
    with opened(top) as folder:
        _make_private(folder, depth=0)


def _make_private(folder: int, depth: int) -> None:
    os.fchmod(folder, FOLDER_MODE)
    with os.scandir(folder) as entries:
        for entry in entries:
            flags = _FOLDER if entry.is_dir(follow_symlinks=False) else _FILE
            if entry.is_symlink() or depth > 2 * MAX_DEPTH:
                continue
            with suppress(OSError):
                descriptor = os.open(entry.name, flags, dir_fd=folder)
                try:
                    if flags == _FOLDER:
                        _make_private(descriptor, depth + 1)
                    else:
                        os.fchmod(descriptor, FILE_MODE)
                finally:
                    os.close(descriptor)


def remove_empty(folder: int, parts: Sequence[str]) -> None:
    """Remove a folder below an open one, and then the folders that lead to it, as far as they are empty."""
    if not parts:
        return
    with suppress(OSError):
        below = os.open(parts[0], _FOLDER, dir_fd=folder)
        try:
            remove_empty(below, parts[1:])
        finally:
            os.close(below)
        os.rmdir(parts[0], dir_fd=folder)


def remove_all_empty(folder: int) -> None:
    """Remove the folders below an open one that hold nothing but such folders."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        with suppress(OSError):
            below = os.open(name, _FOLDER, dir_fd=folder)
            try:
                remove_all_empty(below)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=folder)
