"""The project's scripts as a person starts them, out of a copy of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil


def start(checkout: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a script whose home directory, and folder of temporary files, are seen by `written_elsewhere`."""
    environment = {**os.environ, "AIRFLOW__CORE__PARALLELISM": "2"}
    for variable, folder in _elsewhere(checkout).items():
        folder.mkdir(exist_ok=True)
        environment[variable] = str(folder)
    return subprocess.Popen(
        [sys.executable, f"scripts/{name}", *arguments],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def written_elsewhere(checkout: Path) -> list[str]:
    """Return the files that scripts left in the home directory and where temporary files go."""
    return [str(path) for folder in _elsewhere(checkout).values() for path in folder.rglob("*") if not path.is_dir()]


def _elsewhere(checkout: Path) -> dict[str, Path]:
    return {variable: checkout.with_name(f"{checkout.name}-{variable}") for variable in ("HOME", "TMPDIR")}


def left_behind(checkout: Path) -> list[str]:
    """The processes that still run out of this copy, by their command or by the AIRFLOW_HOME that they have."""
    processes = ((p, " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cmdline", "environ"]))
    return [
        command
        for process, command in processes
        if str(checkout) in command or str(checkout) in (process.info["environ"] or {}).get("AIRFLOW_HOME", "")
    ]
