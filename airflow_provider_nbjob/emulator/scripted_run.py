"""Run a notebook as a script says: no kernel is started, and no cell is executed."""

from __future__ import annotations

import json
import threading
from typing import Any

from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.runner import Outcome
from airflow_provider_nbjob.emulator.scripts import Script, Scripts
from airflow_provider_nbjob.job import JobState

_CODES = {
    JobState.SUCCEEDED: code_pb2.OK,
    JobState.CANCELLED: code_pb2.CANCELLED,
    JobState.EXPIRED: code_pb2.DEADLINE_EXCEEDED,
}
# The cells of a job that ends in one of these states have not run, but for one that raises and those before it.
_UNFINISHED = (JobState.CANCELLED, JobState.EXPIRED)
# The output by which scrapbook's `glue` keeps a value in a notebook (scrapbook 0.5, `scrapbook/schemas`).
_SCRAP_TYPE = "application/scrapbook.scrap.json+json"


class Unplayable(Exception):
    """The script cannot be used for the notebook; the message says why."""


class ScriptedRun:
    """A run of a notebook that a script describes; see `runner.NotebookRun`.

    :param scripts: is informed if the script cannot be used for the notebook
    """

    def __init__(self, script: Script, scripts: Scripts) -> None:
        self._script, self._scripts = script, scripts
        self._killed = threading.Event()
        self._output: bytes | None = None
        self._problem: str | None = None
        self._failing = 0

    def begin(self, notebook: bytes, kernel_name: str) -> None:
        """Make the executed notebook; no kernel is needed."""
        if not self._script.has_notebook:
            return
        try:
            self._output, self._failing = executed(notebook, self._script)
        except Unplayable as error:
            self._problem = str(error)
            self._scripts.report(self._script, self._problem)

    def wait(self, seconds: float) -> bool:
        """Wait until the run has ended; return False if it has not after so many seconds."""
        needed = 0.0 if self._problem else self._script.seconds
        return self._killed.wait(min(needed, seconds)) or needed <= seconds

    def kill(self) -> None:
        """End the run."""
        self._killed.set()

    def end(self) -> None:
        """Leave nothing behind."""

    def output(self) -> bytes | None:
        """Return the executed notebook, or None if there is none."""
        return self._output

    def outcome(self) -> Outcome:
        """Return the end of the run."""
        if self._problem:
            message = f"The script of this job cannot be used: {self._problem}"
            return Outcome(JobState.FAILED, code_pb2.INVALID_ARGUMENT, message)
        state = self._script.end
        message = self._script.message or ""
        if not message and self._failing and state is not JobState.SUCCEEDED:
            ename, evalue = self._script.exception
            message = f"Cell {self._failing} raised {ename}: {evalue}"
        return Outcome(state, _CODES.get(state, code_pb2.UNKNOWN), message)


def executed(source: bytes, script: Script) -> tuple[bytes, int]:
    """Return the executed notebook, and the number of the cell that raises; 0 if none does.

    :param source: the notebook that is run
    :raises Unplayable: if the source is no notebook, or has no cell that could raise or hand out results
    """
    notebook = _read(source)
    cells = notebook["cells"]
    code = [number for number, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    failing = 0
    if script.has_failing_cell:
        failing = _failing(script, code, len(cells))
    for count, number in enumerate(code, 1):
        has_run = number <= failing or (not failing and script.end not in _UNFINISHED)
        cells[number - 1].update(execution_count=count if has_run else None, outputs=[])
    if script.results:
        if not code:
            raise Unplayable("results: the notebook has no code cell that could hand them out")
        cells[(failing or code[-1]) - 1]["outputs"] += [_scrap(name, value) for name, value in script.results.items()]
    if failing:
        cells[failing - 1]["outputs"].append(_error(failing, *script.exception))
    return json.dumps(notebook, indent=1).encode(), failing


def _read(source: bytes) -> dict[str, Any]:
    try:
        notebook = json.loads(source)
        is_notebook = isinstance(notebook, dict) and isinstance(notebook.get("cells"), list)
    except (ValueError, RecursionError):
        is_notebook = False
    if not is_notebook or not all(isinstance(cell, dict) and "cell_type" in cell for cell in notebook["cells"]):
        raise Unplayable("the source of the job is not a notebook of version 4, in JSON")
    result: dict[str, Any] = notebook
    return result


def _failing(script: Script, code: list[int], total: int) -> int:
    """Return the number of the cell that raises."""
    if script.cell is None and code:
        return code[-1]
    if script.cell in code:
        return script.cell
    cells = f"the notebook that is run has {total} cells, and code in {', '.join(map(str, code)) or 'none of them'}"
    raise Unplayable(f"cell: {script.cell} is no code cell: {cells}")


def _error(cell: int, ename: str, evalue: str) -> dict[str, Any]:
    said = f"{ename}: {evalue}" if evalue else ename
    traceback = ["Traceback (most recent call last)", f"Cell {cell}, as a script says", said]
    return {"output_type": "error", "ename": ename, "evalue": evalue, "traceback": traceback}


def _scrap(name: str, value: Any) -> dict[str, Any]:
    scrap = {"name": name, "data": value, "encoder": "json", "version": 1}
    metadata = {"scrapbook": {"name": name, "data": True, "display": False}}
    return {"output_type": "display_data", "data": {_SCRAP_TYPE: scrap}, "metadata": metadata}
