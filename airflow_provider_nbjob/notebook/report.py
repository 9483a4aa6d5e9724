"""Show an executed notebook in the task's log. Its text is not trusted: no line of it can begin or end a log group."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_nbjob.notebook.executed import ExecutedCell, ExecutedNotebook
from airflow_provider_nbjob.notebook.text import log_lines, one_line

LOG_MAX = 1024 * 1024  # characters of all outputs in the log


def failure_report(notebook: ExecutedNotebook, cell: ExecutedCell) -> list[str]:
    """Return the lines of a log group that shows a cell and the exception that it raised.

    :param cell: a cell of the notebook; if it has no error, there are no lines
    """
    if cell.error is None:
        return []
    problem = f"{cell.error.ename}: {cell.error.evalue}"
    count = "" if cell.execution_count is None else f", execution {cell.execution_count}"
    return [
        f"::group::Cell {cell.number} failed: {one_line(problem)}",
        f"Cell {cell.number} of {len(notebook.cells)}{count}:",
        *(f"  | {line}" for line in log_lines(cell.source)),
        "It raised:",
        *(f"  {line}" for line in log_lines(problem)),
        "Traceback:",
        *(f"  {line}" for line in log_lines(cell.error.traceback)),
        "::endgroup::",
    ]


def output_lines(notebook: ExecutedNotebook, *, max_chars: int = LOG_MAX) -> Iterator[str]:
    """Yield lines with the text of all cells' outputs, one log group for each cell.

    :param notebook: a notebook that was read with `keep_outputs`
    :param max_chars: maximum number of characters, default 1 Mi; a last line says how many cells are left out
    """
    shown = [cell for cell in notebook.cells if cell.outputs]
    for index, cell in enumerate(shown):
        if len(cell.outputs) > max_chars:
            yield f"The outputs of {len(shown) - index} more cells are left out; they are in the output notebook."
            return
        max_chars -= len(cell.outputs)
        yield f"::group::Output of cell {cell.number}"
        yield from (f"  {line}" for line in log_lines(cell.outputs))
        yield "::endgroup::"
