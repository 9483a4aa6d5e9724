"""What a real kernel leaves in a notebook, as it is read."""

from __future__ import annotations

import io
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from airflow_provider_nbjob.notebook.executed import ExecutedNotebook, read_executed
from airflow_provider_nbjob.notebook.report import failure_report, output_lines
from airflow_provider_nbjob.notebook.results import collect_results
from tests.support.notebooks import KERNEL_LIMITS

# As scrapbook's `glue` does it.
GLUE = """
from IPython.display import display
def glue(name, data, encoder="json"):
    payload = {"name": name, "data": data, "encoder": encoder, "version": 1}
    scrapbook = {"name": name, "data": True, "display": False}
    display({f"application/scrapbook.scrap.{encoder}+json": payload}, metadata={"scrapbook": scrapbook}, raw=True)
"""


def cell(source: str, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def run(folder: Path, *cells: nbformat.NotebookNode) -> ExecutedNotebook:
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    client = NotebookClient(
        notebook,
        **KERNEL_LIMITS,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except CellExecutionError:
        assert any("raise" in cell.source for cell in cells)
    return read_executed(io.BytesIO(nbformat.writes(notebook).encode()), keep_outputs=True)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> ExecutedNotebook:
    return run(
        tmp_path_factory.mktemp("notebook"),
        cell(GLUE),
        cell("glue('accuracy', 0.75); glue('note', '007', 'text'); print('::endgroup::', end='')"),
        cell("{'rows': 3, 'loss': float('nan'), 'shape': (1, 2)}", "result"),
        cell("'007'", "result:agent"),
        cell("raise ValueError('allowed')", "raises-exception"),
        cell("def deep(n):\n    return deep(n - 1) if n else {}['day']\ndeep(3)  # raises"),
        cell("print('never')"),
    )


def test_the_failing_cell_is_shown_with_what_it_raised(executed: ExecutedNotebook):
    failing = executed.failing_cell
    assert failing is not None
    assert failing.error is not None
    assert (failing.number, failing.error.ename, failing.error.evalue) == (6, "KeyError", "'day'")
    assert "\x1b" not in failing.error.traceback
    assert "in deep(n)" in failing.error.traceback
    lines = failure_report(executed, failing)
    assert lines[:2] == ["::group::Cell 6 failed: KeyError: 'day'", "Cell 6 of 7, execution 6:"]
    assert "  | deep(3)  # raises" in lines
    assert lines[-2:] == ["  KeyError: 'day'", "::endgroup::"]


def test_what_it_handed_out_comes_back(executed: ExecutedNotebook):
    assert collect_results(executed).values == {
        "accuracy": 0.75,
        "note": "007",
        "result": {"rows": 3, "loss": None, "shape": [1, 2]},
        "agent": "007",
    }


def test_all_outputs_can_be_shown(executed: ExecutedNotebook):
    lines = list(output_lines(executed))
    assert [line for line in lines if line.startswith("::group::")] == [
        f"::group::Output of cell {number}" for number in (2, 3, 4, 5, 6)
    ]
    assert "  : :endgroup::" in lines
    assert "  ValueError: allowed" in lines
