"""End a process with all that it started.

A kernel runs in a session of its own, and processes that a notebook starts may outlive their parents: signalling a
process group is not enough. Descendants are found in two ways, so that one finds those that the other does not:

- In the process table. On Linux a subreaper adopts descendants whose parent has ended; `supervised` has two
  subreapers, so that either may be killed. On other systems, descendants whose parent has ended are not found in this
  way.
- By a variable of their environment, `MARK`. It is read of processes of this user only. On macOS it does not show for
  programs that System Integrity Protection protects. A notebook may have removed it from a process; such a process is
  found if an ancestor of it has the variable.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

MARK = "NBJOB_EMULATOR_RUN"  # the folder of the run that a process belongs to
KILL_SECONDS = 10.0  # after which processes that do not die are given up
POLL_SECONDS = 0.02
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends. Do nothing on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_tree(root: psutil.Process) -> None:
    """Kill a process and all that it started. It is stopped first, so that it starts nothing more.

    :param root: made when the process was started, so that it does not mean a later process with the same id
    """
    with suppress(psutil.NoSuchProcess):
        root.suspend()
        kill_descendants(root)
        root.kill()


def kill_descendants(root: psutil.Process) -> None:
    """Kill all descendants of a process, also those that start in the meantime."""

    def descendants() -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            children: list[psutil.Process] = root.children(recursive=True)
            return children
        return []

    _kill_all(descendants)


def kill_marked(folder: str) -> None:
    """Kill the processes of this user whose `MARK` begins with the name of a folder, and all that they started.

    This process is left alone.
    """
    _kill_all(lambda: [process for process in _marked(folder) if process.pid != os.getpid()])


def _marked(folder: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Errors: the process has ended, belongs to another user, or does not show its environment.
        with suppress(psutil.Error, OSError):
            is_ours = process.uids().real == os.getuid()
            if is_ours and process.environ().get(MARK, "").startswith(folder):
                yield from process.children(recursive=True)  # some of them may not have the mark
                yield process


def _kill_all(find: Callable[[], list[psutil.Process]]) -> None:
    """Kill processes until no more of them are found, or for `KILL_SECONDS`."""
    end_time = time.monotonic() + KILL_SECONDS
    while time.monotonic() < end_time:
        living = [process for process in find() if _is_living(process)]
        if not living:
            return
        for process in living:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(POLL_SECONDS)


def _is_living(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def supervised(call: Callable[[], None]) -> None:
    """Call a function in a child process, and return when that and all that it started have ended.

    It returns in both processes. If one of them is killed, the other one ends all that was started.
    """
    grandparent, parent = os.getppid(), os.getpid()
    child = os.fork()  # before there are threads
    threading.Thread(target=end_with_parent, args=(parent if child == 0 else grandparent,), daemon=True).start()
    adopt_orphans()
    try:
        if child == 0:
            call()
        else:
            while os.wait()[0] != child:  # another one is an orphan that was adopted
                pass
    finally:
        kill_descendants(psutil.Process())


def end_with_parent(parent: int, interval: float = 1.0) -> None:
    """Wait until the parent of this process has ended, then kill all that this one started, and itself.

    :param parent: process id
    :param interval: seconds between two polls
    """
    while os.getppid() == parent:
        time.sleep(interval)
    kill_descendants(psutil.Process())
    os._exit(1)
