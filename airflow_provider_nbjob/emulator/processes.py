"""Ending a process with everything that it started, wherever that has gone: other sessions, process groups, daemons.

A kernel is started in a session of its own, so a process group is not enough to kill by. On Linux a runner also adopts
the orphans below it (`adopt_orphans`), so that what a notebook leaves behind stays findable as its descendant. On
other systems a notebook's daemon, one that has given up its parent, can outlive the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 200
_PAUSE = 0.01


def adopt_orphans() -> None:
    """Have descendants of this process whose parent dies become its children (Linux only, elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(pid: int) -> None:
    """Kill everything below a process, again until nothing lives there; the process itself stays.

    It has to be one that starts nothing meanwhile: the own one, or one that is stopped.
    """
    for _ in range(_ROUNDS):
        alive = descendants(pid)
        if not alive:
            return
        for process in alive:
            _signal(process, signal.SIGKILL)
        time.sleep(_PAUSE)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a child process and everything below it, and reap it."""
    if process.poll() is None:
        _signal(process.pid, signal.SIGSTOP)  # from here on it starts nothing
        for _ in range(_ROUNDS):
            if _states().get(process.pid, (0, "Z"))[1][0] in "TtZ":
                break
            time.sleep(_PAUSE)
        kill_descendants(process.pid)
        process.kill()
    process.wait()


def kill_group(pgid: int) -> None:
    """Kill a process group; nothing where there is none."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The living processes below a process, parents first."""
    states = _states()
    children = defaultdict(list)
    for child, (parent, _) in states.items():
        children[parent].append(child)
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children[pending.pop(0)]
        pending += below
        found += [child for child in below if states[child][1][0] not in "ZX"]
    return found


def _states() -> dict[int, tuple[int, str]]:
    """Of each process its parent and its state, such as S, T (stopped) or Z (dead, but not reaped)."""
    if sys.platform == "linux":
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    # The name, in brackets, may hold anything.
                    fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    found[int(folder.name)] = (int(fields[1]), fields[0])
        return found
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    lines = [line.split() for line in listed.stdout.splitlines()]
    return {int(pid): (int(parent), state) for pid, parent, state, *_ in lines}


def _signal(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)
