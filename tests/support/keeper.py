"""End the processes that a test run started, however the run itself ended.

pytest-xdist kills a worker that has not ended 10 s after Ctrl-C (`EXIT_TIMEOUT` in `xdist/workermanage.py`, 3.8), and a
killed worker stops nothing. So each test process starts a keeper in a session of its own. The keeper reads a pipe that
the operating system closes when the test process ends, and then ends what still carries the run's mark in its
environment: emulators, kernels, Airflow's components, browsers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import suppress

import psutil

MARK = "NBJOB_TEST_RUN"
GRACE_SECONDS = 15

_keepers: list[subprocess.Popen[bytes]] = []


def start() -> None:
    """Mark this process's environment, and start its keeper."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    os.environ["SPT_NOENV"] = (
        "1"  # else setproctitle, which Airflow uses, writes over the environment that is read here
    )
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    command = [sys.executable, __file__, mark, str(os.getpid())]
    # The pipe ends with this process: nobody else closes it, and no child inherits its writing end. The list holds
    # the object, whose collection would close the pipe.
    _keepers.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=environment))


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that carry a run's mark, but for zombies."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(mark: str, owner: int) -> None:
    """End what carries the mark, by SIGKILL if it does not end within `GRACE_SECONDS`.

    :param mark: the run's mark
    :param owner: the process that was kept, which may still be ending by itself
    """
    left = [process for process in marked(mark) if process.pid != owner]
    for process in left:
        with suppress(psutil.Error):
            print(f"left by the tests, and ended: {process.pid} {' '.join(process.cmdline())[:150]}", file=sys.stderr)
            process.terminate()
    psutil.wait_procs(left, timeout=GRACE_SECONDS)
    for process in marked(mark):  # again: what was started meanwhile is among them
        with suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    sys.stdin.read()
    end(sys.argv[1], int(sys.argv[2]))
