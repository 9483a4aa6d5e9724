"""`make demo`, as a person runs it."""

from __future__ import annotations

import os
import re
import signal

import nbformat
import pytest

from tests.support.paths import CHECKOUT
from tests.support.patience import patient
from tests.support.promises import code_blocks
from tests.system.script import left_behind, start, written_elsewhere


def lines(printed: str) -> list[str]:
    """Return the lines of what the demo printed, without what differs from run to run."""
    printed = re.sub(r"nbjob-\w{12}-\w{8}-1|(?<=projects/)\d+|(?<=after )\d+(?= s$)", "*", printed, flags=re.MULTILINE)
    return [line.strip() for line in printed.splitlines()]


def test_it_runs_a_notebook(checkout):
    demo = start(checkout, "demo.py")
    printed, _ = demo.communicate(timeout=patient(150))
    assert demo.returncode == 0, printed
    assert "JOB_STATE_SUCCEEDED" in printed
    path = checkout / re.search(r"executed notebook: (\S+)", printed)[1]
    executed = nbformat.read(path, as_version=4)
    assert any("image/png" in o.get("data", {}) for cell in executed.cells for o in cell.get("outputs", []))
    assert (checkout / re.search(r"its plot: +(\S+)", printed)[1]).read_bytes().startswith(b"\x89PNG")
    page = (CHECKOUT / "docs" / "development.md").read_text()
    (shown,) = [block for block in code_blocks(page) if block.startswith("== starting the emulator")]
    rest = iter(lines(printed))
    assert not [line for line in lines(shown) if line not in ("...", "}") and line not in rest]
    assert not left_behind(checkout)
    assert not written_elsewhere(checkout)


def test_a_notebook_whose_third_cell_raises_ends_it_non_zero(checkout):
    demo = start(checkout, "demo.py", "failing.ipynb")
    printed, _ = demo.communicate(timeout=patient(150))
    assert demo.returncode == 1, printed
    assert "JOB_STATE_FAILED" in printed
    assert "Cell 3 raised KeyError: 'west'" in printed
    assert not left_behind(checkout)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_what_it_started_when_it_is_interrupted(checkout, how):
    demo = start(checkout, "demo.py")
    assert demo.stdout
    for line in demo.stdout:
        if "Submitted" in line or "running DAG" in line:
            break
    os.kill(demo.pid, how)
    printed, _ = demo.communicate(timeout=patient(60))
    assert demo.returncode not in (0, None), printed
    assert not left_behind(checkout)
