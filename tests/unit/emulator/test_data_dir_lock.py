"""One emulator at a time uses a data directory, and the lock does not outlive it."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_provider_nbjob.emulator import data_dir
from airflow_provider_nbjob.emulator.data_dir import locked

# Locks a folder, starts a process that keeps all open files that it may, and is killed.
CRASHING = """
import os, signal, subprocess, sys
from pathlib import Path
from airflow_provider_nbjob.emulator.data_dir import locked
with locked(Path(sys.argv[1])):
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    child = subprocess.Popen(["sleep", "600"], close_fds=False, start_new_session=True, **nowhere)
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_free(folder: Path) -> bool:
    try:
        with locked(folder):
            return True
    except OSError:
        return False


def test_a_second_one_is_told_the_process_and_the_option(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with locked(folder):
        for _ in range(2):  # to be refused changes nothing
            with pytest.raises(
                OSError, match=rf"data is used by another emulator, process {os.getpid()}: .*--data-dir"
            ):
                ExitStack().enter_context(locked(folder))
    assert is_free(folder)


@pytest.mark.parametrize("way", ["link", "relative", "through a folder"])
def test_the_same_folder_is_told_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    folder = tmp_path / "data"
    with locked(folder):
        (tmp_path / "link").symlink_to(folder)
        monkeypatch.chdir(tmp_path)
        path = {"link": tmp_path / "link", "relative": Path("data"), "through a folder": folder / ".." / "data"}[way]
        with pytest.raises(OSError, match="is used by another emulator"):
            ExitStack().enter_context(locked(path))


def test_another_folder_is_free(tmp_path: Path) -> None:
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


def test_a_lock_ends_with_its_process_though_a_child_of_it_lives(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", CRASHING, str(tmp_path)], capture_output=True, text=True)
    child = int(run.stdout)
    try:
        assert (tmp_path / "lock").read_text().split()[0].isdigit()  # what the crash left says nothing
        os.kill(child, 0)
        with locked(tmp_path), pytest.raises(OSError, match=f"process {os.getpid()}:"):
            ExitStack().enter_context(locked(tmp_path))
    finally:
        os.kill(child, 9)


def test_a_process_that_was_forked_does_not_keep_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
    try:
        assert is_free(tmp_path)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_process_of_another_host_is_told_with_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path):
        (tmp_path / "lock").write_text("17 elsewhere\n")
        with pytest.raises(OSError, match="another emulator, process 17 on elsewhere: "):
            ExitStack().enter_context(locked(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 1000, b"-1 a", b"\n"])
def test_a_lock_file_that_says_nothing_is_no_problem(tmp_path: Path, content: bytes) -> None:
    with locked(tmp_path):
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(OSError, match="a process that is starting"):
            ExitStack().enter_context(locked(tmp_path))
    (tmp_path / "lock").write_bytes(content)
    assert is_free(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EIO])
def test_a_file_system_without_locks_is_refused_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(data_dir.fcntl, "flock", fail)
    with pytest.raises(OSError, match=rf"cannot be locked \({re.escape(os.strerror(number))}\): .*--data-dir"):
        ExitStack().enter_context(locked(tmp_path))


@pytest.mark.parametrize("kind", ["file", "below a file", "proc", "link", "lock is a folder", "lock is a link"])
def test_a_folder_that_cannot_be_used_is_refused_in_plain_words(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    if kind == "file":
        folder.touch()
    elif kind == "below a file":
        (tmp_path / "file").touch()
        folder = tmp_path / "file" / "data"
    elif kind == "proc":
        folder = Path("/proc/nbjob-no-such-folder/data")
    elif kind == "link":
        folder.symlink_to(tmp_path / "nowhere" / "deep")
    else:
        folder.mkdir()
        if kind == "lock is a folder":
            (folder / "lock").mkdir()
        else:
            (tmp_path / "outside").write_text("1 a")
            (folder / "lock").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match=r"cannot be used \(.+\): choose another folder with --data-dir"):
        ExitStack().enter_context(locked(folder))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_refused_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(data_dir.os, "open", fail)
    with pytest.raises(OSError, match=rf"cannot be used \({os.strerror(number)}\): .*--data-dir"):
        ExitStack().enter_context(locked(tmp_path))
