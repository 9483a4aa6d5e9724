"""Ending a process with all that it started.

A kernel runs in a session of its own, and what a notebook starts may leave its parents: signalling a process group
is not enough. Descendants are found by walking the process table; on Linux a subreaper keeps those whose parent has
ended below it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from contextlib import suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(pid: int, *, timeout: float = 10.0) -> None:
    """Kill all that a process started; those that they start meanwhile too.

    :param timeout: seconds after which to give up on what does not die
    """
    end_time = time.monotonic() + timeout
    while time.monotonic() < end_time:
        living = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        living.append(process)
        if not living:
            return
        for process in living:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started. It is stopped first, so that it starts nothing more."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()
        kill_descendants(pid)
        process.kill()


def end_with_parent(interval: float = 1.0) -> None:
    """Wait until the parent of this process has ended, then kill all that this one started, and itself."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(interval)
    kill_descendants(os.getpid())
    os._exit(1)
