"""Keep the data directory to one user and to one emulator at a time, and keep the token in it."""

from __future__ import annotations

import fcntl
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_provider_nbjob.emulator.guard import TOKEN

TOKEN_FILE = "token"  # noqa: S105
LOCK_FILE = "lock"  # holds the process id and the host of the emulator that uses the directory
LOCK_MAX = 300  # bytes


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a data directory private, and keep other emulators from it until the block ends.

    The kernel releases the lock when this process ends, however it ends. Processes that this one starts do not inherit
    the open file (`O_CLOEXEC`); one that was forked without an exec loses the lock when the block ends.

    :raises OSError: if another emulator uses the directory, or if it cannot be written or locked
    """
    try:
        make_private(folder)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{folder} cannot be used ({reason}): choose another folder with --data-dir") from None
    try:
        _lock(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {platform.node()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, _, host = os.pread(descriptor, LOCK_MAX, 0).decode(errors="replace").strip().partition(" ")
        process = f"process {pid}" if pid.isdecimal() else "a process that is starting"
        elsewhere = f" on {host}" if host and host != platform.node() else ""
        raise OSError(
            f"{folder} is used by another emulator, {process}{elsewhere}: stop that one, or choose another folder with"
            " --data-dir"
        ) from None
    except OSError as error:  # such as ENOLCK of NFS
        raise OSError(
            f"{folder} cannot be locked ({error.strerror}): choose a folder on a local disk with --data-dir"
        ) from None


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter. If it exists, restrict it and the entries directly in it.

    :raises OSError: if it belongs to another user, or cannot be made
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user, who could read and change what is kept in it")
    folder.chmod(0o700)
    for entry in os.scandir(folder):
        if not entry.is_symlink():
            os.chmod(entry.path, stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode) & 0o700)


def make_private_file(path: Path) -> None:
    """Make an empty file that only its owner may read; if it exists, restrict it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


def read_regular(path: Path, most: int, *, private: bool = False) -> bytes:
    """Read a regular file. It follows no symbolic link, and a pipe does not block it.

    :param most: the bytes that the file may have
    :param private: refuse a file that another user could have read or written
    :raises OSError: if it is something else, or larger
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no regular file")
        if private and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
            raise PermissionError(f"{path} could have been read by another user")
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"{path} has more than {most} bytes")
    return content


def read_or_make_token(data_dir: Path) -> str:
    """Return the token of a data directory. Make a new one if the file is missing or another user could read it.

    The token stays the same over restarts, so that clients can keep the variables that an earlier start printed.

    :raises OSError: if the token cannot be written
    """
    path = data_dir / TOKEN_FILE
    with suppress(OSError, ValueError):
        kept = read_regular(path, 200, private=True).decode().strip()
        if TOKEN.fullmatch(kept):
            return kept
    token = secrets.token_urlsafe(24)
    partial = data_dir / f"{TOKEN_FILE}.{secrets.token_hex(4)}"
    make_private_file(partial)
    partial.write_text(f"{token}\n")
    partial.replace(path)
    return token
