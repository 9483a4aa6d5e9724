"""What an ended job came to: its result, or the error that says which cell failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import NotebookExecutionJobError
from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, RESULT_MAX_BYTES
from airflow_provider_nbjob.notebook.executed import ExecutedCell, ExecutedNotebook
from airflow_provider_nbjob.notebook.report import failure_report, output_lines
from airflow_provider_nbjob.notebook.results import collect_results
from airflow_provider_nbjob.notebook.text import without_ansi
from airflow_provider_nbjob.record import JobEnd

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


@dataclass(frozen=True)
class Conclusion:
    """How the end of a job is judged, and what is read of its executed notebook; the operator has the descriptions."""

    accept_partial_success: bool = False
    collect_results: bool = True
    result_max_bytes: int = RESULT_MAX_BYTES
    log_output: bool = False
    fail_on_cell_error: bool = False
    max_output_bytes: int = OUTPUT_MAX_BYTES

    def of(
        self, hook: NotebookExecutionJobHook, job: Any, log: Any, *, note: Callable[[JobEnd], None] = lambda _: None
    ) -> JobResult:
        """The result of a job that is a success; the notebook is read at most once.

        :param log: of the task, which shows the failing cell
        :param note: told of the end, success or not
        :raises JobFailed: and `JobCancelled` and `JobExpired`, where it is none
        """
        result = hook.get_result(job)
        has_succeeded = result.succeeded(accept_partial_success=self.accept_partial_success)
        notebook = None
        if not has_succeeded or self.collect_results or self.log_output or self.fail_on_cell_error:
            notebook = self._read(hook, result, log)
        if notebook and self.log_output:
            _write(output_lines(notebook), log)
        cell = notebook.failing_cell if notebook else None
        if notebook and cell:
            _write(failure_report(notebook, cell), log)
        note(JobEnd(result, cell))
        if not has_succeeded or (cell and self.fail_on_cell_error):
            raise result.error(cell)
        if cell and cell.error:
            log.warning("The job ended as %s, but cell %s raised %s", result.job_state, cell.number, cell.error.ename)
        if notebook and self.collect_results:
            collected = collect_results(notebook, max_bytes=self.result_max_bytes)
            for dropped in collected.notes:
                log.warning("%s; hook.read_output_notebook(%r) has it", dropped, result.output_notebook_uri)
            result = replace(result, results=collected.values)
        return result

    def is_success(self, hook: NotebookExecutionJobHook, job: Any, log: Any) -> bool:
        """Whether a job is a success; to tell that, its notebook is read only where a cell decides it."""
        if not JobResult.from_job(job).succeeded(accept_partial_success=self.accept_partial_success):
            return False
        notebook = self._read(hook, hook.get_result(job), log) if self.fail_on_cell_error else None
        return notebook is None or notebook.failing_cell is None

    def _read(self, hook: NotebookExecutionJobHook, result: JobResult, log: Any) -> ExecutedNotebook | None:
        """The executed notebook; None where it cannot be read, which decides nothing about the job."""
        if result.output_notebook_uri is None:
            return None
        try:
            return _masked(
                hook.read_executed_notebook(
                    result.output_notebook_uri, keep_outputs=self.log_output, max_bytes=self.max_output_bytes
                )
            )
        except NotebookExecutionJobError as error:
            log.warning("%s", error)
            return None


def conclusion_for(task: Any) -> Conclusion:
    """As an operator or a sensor asks for it, in attributes of the same names."""
    return Conclusion(**{part.name: getattr(task, part.name) for part in fields(Conclusion)})


def _masked(notebook: ExecutedNotebook) -> ExecutedNotebook:
    """Mask what Airflow masks in all that is logged and raised, before it is cut into lines; not what is returned."""
    return replace(notebook, cells=tuple(_masked_cell(cell) for cell in notebook.cells))


def _masked_cell(cell: ExecutedCell) -> ExecutedCell:
    error = cell.error and replace(cell.error, **{name: redact(text) for name, text in vars(cell.error).items()})
    return replace(cell, source=redact(cell.source), error=error, outputs=redact(without_ansi(cell.outputs)))


def _write(lines: Any, log: Any) -> None:
    for line in lines:
        log.info("%s", line)
