"""The project's scripts as a person starts them, out of a copy of the checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil


def start(checkout: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, f"scripts/{name}", *arguments],
        cwd=checkout,
        env={**os.environ, "AIRFLOW__CORE__PARALLELISM": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # As a terminal starts it: below a shell's background job, as CI may be, SIGINT is ignored from the start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def left_behind(checkout: Path) -> list[str]:
    """The processes that still run out of this copy, by their command or by the AIRFLOW_HOME that they have."""
    processes = ((p, " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cmdline", "environ"]))
    return [
        command
        for process, command in processes
        if str(checkout) in command or str(checkout) in (process.info["environ"] or {}).get("AIRFLOW_HOME", "")
    ]
