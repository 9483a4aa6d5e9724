"""`make demo`, as a person runs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

from tests.conftest import CHECKOUT


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the demo needs, so that these tests leave the checkout's own `.demo/` alone."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("scripts", "example_dags"):
        shutil.copytree(CHECKOUT / folder, copy / folder)
    return copy


def start(checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "scripts/demo.py", *arguments],
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
    """The processes that still run out of this copy."""
    processes = [(p, p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    return [" ".join(command) for _, command in processes if str(checkout) in " ".join(command)]


def test_it_runs_a_notebook(checkout):
    demo = start(checkout)
    printed, _ = demo.communicate(timeout=150)
    assert demo.returncode == 0, printed
    assert "JOB_STATE_SUCCEEDED" in printed
    path = checkout / re.search(r"executed notebook: (\S+)", printed)[1]
    executed = nbformat.read(path, as_version=4)
    assert any("image/png" in o.get("data", {}) for cell in executed.cells for o in cell.get("outputs", []))
    assert (checkout / re.search(r"its plot: +(\S+)", printed)[1]).read_bytes().startswith(b"\x89PNG")
    assert '"job_state": "JOB_STATE_SUCCEEDED"' in printed
    assert not left_behind(checkout)


def test_a_notebook_whose_third_cell_raises_ends_it_non_zero(checkout):
    demo = start(checkout, "failing.ipynb")
    printed, _ = demo.communicate(timeout=150)
    assert demo.returncode == 1, printed
    assert "JOB_STATE_FAILED" in printed
    assert "Cell 3 raised KeyError: 'west'" in printed
    assert not left_behind(checkout)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_what_it_started_when_it_is_interrupted(checkout, how):
    demo = start(checkout)
    assert demo.stdout
    for line in demo.stdout:
        if "Submitted" in line or "running DAG" in line:
            break
    os.kill(demo.pid, how)
    printed, _ = demo.communicate(timeout=60)
    assert demo.returncode not in (0, None), printed
    assert not left_behind(checkout)
