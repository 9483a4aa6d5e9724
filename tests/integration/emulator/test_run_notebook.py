"""The process that runs one notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.support.patience import patient

# A kernel that dies so many times before it starts, as one does whose port another kernel took.
FLAKY = """
import pathlib, runpy, sys
starts = pathlib.Path({starts!r})
starts.write_text(starts.read_text() + ".")
if len(starts.read_text()) <= {failures}:
    sys.exit("no port")
sys.argv = ["ipykernel_launcher", "-f", sys.argv[1]]
runpy.run_module("ipykernel_launcher", run_name="__main__")
"""


@pytest.mark.test_all
@pytest.mark.parametrize(
    ("failures", "succeeded", "message"), [(2, True, ""), (3, False, "The kernel 'flaky' did not start.")]
)
def test_a_kernel_that_does_not_start_is_tried_again(tmp_path: Path, failures, succeeded, message):
    starts = tmp_path / "starts"
    starts.touch()
    spec = tmp_path / "share" / "kernels" / "flaky"
    spec.mkdir(parents=True)
    script = FLAKY.format(starts=str(starts), failures=failures)
    kernel = {"argv": [sys.executable, "-c", script, "{connection_file}"], "display_name": "f", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    folder = tmp_path / "job"
    (folder / "work").mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), folder / "input.ipynb")
    environment = {**os.environ, "JUPYTER_PATH": str(tmp_path / "share"), "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-m", "airflow_provider_nbjob.emulator.run_notebook", str(folder)]
    subprocess.run(command, env=environment, input=b'"flaky"\n', check=True, timeout=patient(100))
    assert json.loads((folder / "outcome.json").read_text()) == {"succeeded": succeeded, "message": message}
    assert len(starts.read_text()) == 3
    (cell,) = nbformat.read(folder / "output.ipynb", as_version=4).cells
    assert bool(cell.outputs) == succeeded
