"""Notebooks that start processes and tell their ids, to see that none outlives its job."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.patience import wait_until

_CELL = """
import json, os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleeper)
apart = subprocess.Popen(sleeper, start_new_session=True)
pids = {{"kernel": os.getpid(), "runner": os.getppid(), "child": child.pid, "apart": apart.pid}}
with open({path!r} + ".partial", "w") as file:
    json.dump(pids, file)
os.replace({path!r} + ".partial", {path!r})
time.sleep({seconds})
"""


@dataclass
class Family:
    """A notebook's kernel and the processes that it started.

    :param path: where the notebook writes their ids
    """

    path: Path

    def cell(self, seconds: float = 600) -> str:
        """A cell that starts them, writes their ids and sleeps."""
        return _CELL.format(path=str(self.path), seconds=seconds)

    def processes(self, timeout: float = 40) -> dict[str, psutil.Process]:
        """Wait for the file; those that have not ended, of kernel, runner, a child, and one in its own session."""
        wait_until(self.path.exists, timeout=timeout, what="the notebook's processes", interval=0.05)
        found = {}
        for name, pid in json.loads(self.path.read_text()).items():
            with suppress(psutil.NoSuchProcess):
                found[name] = psutil.Process(pid)
        return found


def living(processes: dict[str, psutil.Process]) -> list[str]:
    """Those that have not ended."""
    return [name for name, process in processes.items() if _is_living(process)]


def _is_living(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
