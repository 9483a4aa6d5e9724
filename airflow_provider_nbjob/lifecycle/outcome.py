"""Turn a finished job into the task's result, or into an error that names the failed cell."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import (
    JobCancelled,
    JobExpired,
    JobFailed,
    NotebookExecutionJobError,
    OutputUnavailable,
)
from airflow_provider_nbjob.job import JobName, JobResult, JobState
from airflow_provider_nbjob.job.record import JobEnd
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, OUTPUT_SECONDS, RESULT_MAX_BYTES
from airflow_provider_nbjob.notebook.executed import ExecutedCell, ExecutedNotebook
from airflow_provider_nbjob.notebook.report import failure_report, output_lines
from airflow_provider_nbjob.notebook.results import collect_results
from airflow_provider_nbjob.notebook.text import one_line, without_ansi

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


REASON_MAX = 16 * 1024  # characters of the API's `status.message` in an error, which Airflow hands on to listeners

# Messages by argument, for a warning or an error if the executed notebook could not be read.
_UNDONE = {
    "fail_on_cell_error": "cells that raised could not be looked for (fail_on_cell_error)",
    "log_output": "its outputs could not be shown (log_output)",
    "collect_results": "its results could not be collected (collect_results)",
}


@dataclass(frozen=True)
class Conclusion:
    """Options for the end of a job: what counts as a success, and what is read of the executed notebook.

    `CreateNotebookExecutionJobOperator` describes its arguments of the same names.

    :param accept_partial_success: whether PARTIALLY_SUCCEEDED counts as a success; default False
    :param collect_results: True requires the results, False reads none, None collects them if the notebook can be read
    :param result_max_bytes: maximum size of all results as JSON, in bytes; default 48 KiB
    :param log_output: whether to log the outputs of all cells; default False
    :param fail_on_cell_error: whether a cell that raised in a job that succeeded fails the task; default False
    :param on_output_error: the reaction to an executed notebook that cannot be read. None fails the task if
        `fail_on_cell_error`, `log_output` or ``collect_results=True`` needs the notebook. ``"fail"`` fails it for the
        default of `collect_results` too. ``"warn"`` never fails it
    :param max_output_bytes: maximum size of the executed notebook in bytes; default 256 MiB
    """

    accept_partial_success: bool = False
    collect_results: bool | None = None
    result_max_bytes: int = RESULT_MAX_BYTES
    log_output: bool = False
    fail_on_cell_error: bool = False
    on_output_error: str | None = None
    max_output_bytes: int = OUTPUT_MAX_BYTES

    def of(
        self, hook: NotebookExecutionJobHook, job: Any, log: Any, *, note: Callable[[JobEnd], None] = lambda _: None
    ) -> JobResult:
        """Return the result of a successful job, or raise the error of any other. Read the notebook at most once.

        :param hook: hook that finds and reads the notebook
        :param job: a `NotebookExecutionJob` message whose state is terminal
        :param log: the task's logger, which shows the failing cell
        :param note: function that is called with the end of any job, successful or not
        :raises JobFailed: if the job failed
        :raises JobCancelled: if the job was cancelled
        :raises JobExpired: if the job reached the API's time limit
        :raises OutputUnavailable: if the job succeeded, but an option needs the notebook, which could not be read
        """
        end_time = time.monotonic() + OUTPUT_SECONDS
        result = hook.get_result(job, timeout=OUTPUT_SECONDS)
        has_succeeded = result.succeeded(accept_partial_success=self.accept_partial_success)
        notebook = None
        if not has_succeeded or self._wanted:
            notebook, result = self._read(hook, result, log, end_time)
        if notebook and self.log_output:
            _write(output_lines(notebook), log)
        cell = notebook.failing_cell if notebook else None
        if notebook and cell:
            _write(failure_report(notebook, cell), log)
        note(JobEnd(result, cell))
        if not has_succeeded or (cell and self.fail_on_cell_error):
            raise error_of(result, cell)
        if notebook is None:
            self._check_undone(result, log)
            return result
        if cell and cell.error:
            log.warning("The job ended as %s, but cell %s raised %s", result.job_state, cell.number, cell.error.ename)
        if self.collect_results is not False:
            collected = collect_results(notebook, max_bytes=self.result_max_bytes)
            for dropped in collected.notes:
                log.warning("%s; hook.files.read_output_notebook(%r) has it", dropped, result.output_notebook_uri)
            result = replace(result, results=collected.values)
        return result

    def of_small(self, hook: NotebookExecutionJobHook, job: Any, *, max_bytes: int, timeout: float) -> JobResult | None:
        """Return the result of a success about which there is nothing to tell; None for any other job, see `of`.

        :param hook: hook that finds and reads the notebook
        :param job: a `NotebookExecutionJob` message whose state is terminal
        :param max_bytes: maximum size of the notebook in bytes; a larger one is not read
        :param timeout: seconds that looking for the notebook, and reading it, may take
        :raises ApiError: if the notebook cannot be looked for
        :raises NotebookUnreadable: if it cannot be read
        """
        end_time = time.monotonic() + timeout
        if not JobResult.from_job(job).succeeded(accept_partial_success=self.accept_partial_success) or self.log_output:
            return None
        stored = hook.files.stat_output_notebook(job, timeout=timeout)
        if stored is None:
            return None
        result = JobResult.from_job(job, output_notebook_uri=stored.uri).with_texts(redact)
        if not self._wanted:
            return result
        limit = min(max_bytes, self.max_output_bytes)
        if stored.size > limit:
            return None
        left = max(0.0, end_time - time.monotonic())
        notebook = hook.files.read_executed_notebook(stored.uri, max_bytes=limit, timeout=left, stored=stored)
        if notebook.failing_cell:
            return None
        if self.collect_results is False:
            return result
        collected = collect_results(notebook, max_bytes=self.result_max_bytes)
        return None if collected.notes else replace(result, results=collected.values)

    def is_success(self, hook: NotebookExecutionJobHook, job: Any, log: Any) -> bool:
        """Return whether a job is a success. Read its notebook only if `fail_on_cell_error` is set.

        A job whose notebook cannot be read counts as a success: it is not run again for that reason.
        """
        if not JobResult.from_job(job).succeeded(accept_partial_success=self.accept_partial_success):
            return False
        if not self.fail_on_cell_error:
            return True
        end_time = time.monotonic() + OUTPUT_SECONDS
        notebook, _ = self._read(hook, hook.get_result(job, timeout=OUTPUT_SECONDS), log, end_time)
        return notebook is None or notebook.failing_cell is None

    @property
    def _wanted(self) -> list[str]:
        """Return the names of the arguments that need the executed notebook of a successful job."""
        collects = ["collect_results"] if self.collect_results is not False else []
        return [name for name in ("fail_on_cell_error", "log_output") if getattr(self, name)] + collects

    def _check_undone(self, result: JobResult, log: Any) -> None:
        """Warn of each argument that could not be fulfilled without the notebook, or raise.

        :raises OutputUnavailable: if `on_output_error` requires an error
        """
        wanted = self._wanted
        expected = wanted if self.on_output_error == "fail" else [name for name in wanted if getattr(self, name)]
        if not expected and not (wanted and result.output_error):
            return  # a job that wrote no notebook has no results, which is not an error
        undone = " and ".join(_UNDONE[name] for name in wanted)
        message = f"Notebook job {result.job_id} ended as {result.job_state}, but {undone}."
        if expected and self.on_output_error != "warn":
            raise OutputUnavailable(
                f"{message}\n{result.output_line}\nThe job need not run again for that."
                ' on_output_error="warn" makes this a warning.'
            )
        log.warning("%s", message if result.output_error else f"{message} {result.output_line}")

    def _read(
        self, hook: NotebookExecutionJobHook, result: JobResult, log: Any, end_time: float
    ) -> tuple[ExecutedNotebook | None, JobResult]:
        """Return the executed notebook, or None if it cannot be read, and the result with the reason."""
        if result.output_notebook_uri is None:
            return None, result
        try:
            notebook = hook.files.read_executed_notebook(
                result.output_notebook_uri,
                keep_outputs=self.log_output,
                max_bytes=self.max_output_bytes,
                timeout=max(0.0, end_time - time.monotonic()),
            )
        except NotebookExecutionJobError as error:
            log.warning("%s", error)
            return None, result.with_output_error(error.public)
        return _masked(notebook), result


def conclusion_for(task: Any) -> Conclusion:
    """Return the options of an operator or a sensor, from its attributes of the same names."""
    return Conclusion(**{part.name: getattr(task, part.name) for part in fields(Conclusion)})


def conclusion_arguments(task: Any) -> dict[str, Any]:
    """Return the options of `conclusion_for` that are not the default, as a trigger carries them."""
    default = Conclusion()
    return {name: value for name, value in vars(conclusion_for(task)).items() if value != getattr(default, name)}


def _masked(notebook: ExecutedNotebook) -> ExecutedNotebook:
    """Mask Airflow's secrets in all text that is logged or raised, before it is split into lines; not in results."""
    return replace(notebook, cells=tuple(_masked_cell(cell) for cell in notebook.cells))


def _masked_cell(cell: ExecutedCell) -> ExecutedCell:
    error = cell.error and replace(cell.error, **{name: redact(text) for name, text in vars(cell.error).items()})
    return replace(cell, source=redact(cell.source), error=error, outputs=redact(without_ansi(cell.outputs)))


def _write(lines: Any, log: Any) -> None:
    for line in lines:
        log.info("%s", line)


def error_of(result: JobResult, cell: ExecutedCell | None = None) -> NotebookExecutionJobError:
    """Return the error of a job that did not succeed, with the reason, the notebook and the logs in its message.

    :param cell: the cell that failed, or None if it is not known
    :return: `JobCancelled`, `JobExpired`, or `JobFailed` with the cell's number, exception and traceback
    """
    lines = [f"Notebook job {result.job_id} ended as {result.job_state}."]
    failed = cell.error if cell else None
    if cell and failed:
        lines.append(f"Cell {cell.number} raised {failed.ename}: {one_line(failed.evalue)}")
    if result.status.get("message"):
        lines.append(f"Reason: {_cut(result.status['message'])} (code {result.status['code']})")
    is_read = result.output_notebook_uri and not result.output_error
    lines.append(f"The executed notebook shows where: {result.output_notebook_uri}" if is_read else result.output_line)
    lines.append(f"Logs: {JobName.parse(result.name).logs_url}")
    message = "\n".join(lines)
    if result.job_state is JobState.CANCELLED:
        return JobCancelled(message)
    if result.job_state is JobState.EXPIRED:
        return JobExpired(message)
    if cell is None or failed is None:
        return JobFailed(message)
    return JobFailed(message, cell=cell.number, ename=failed.ename, evalue=failed.evalue, traceback=failed.traceback)


def _cut(reason: str) -> str:
    return reason if len(reason) <= REASON_MAX else f"{reason[:REASON_MAX]}..."
