"""Report the lineage of a task that runs a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.job.record import JobEnd
from airflow_provider_nbjob.lineage.assets import describe_outlets
from airflow_provider_nbjob.lineage.datasets import source_of
from airflow_provider_nbjob.lineage.hidden_parameters import HidesParameters
from airflow_provider_nbjob.lineage.task_run import TaskRun
from airflow_provider_nbjob.masking import redact

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_nbjob.job import JobResult
    from airflow_provider_nbjob.lifecycle.submission import Submission


class ReportsLineage(HidesParameters):
    """Mixin of an operator that runs a job: reports its lineage to OpenLineage, and its result to the task's outlets.

    OpenLineage's provider calls the methods `get_openlineage_facets_on_...` in the task's process, or in a fork of it:
    the first one when the task begins, and again when it goes on after a wait in the triggerer; one of the other two at
    its end. An operator that goes on is a new one, which knows of the job what the trigger's event says.
    """

    job_end: JobEnd | None = None  # of the job that this process saw the end of
    _submission: Submission | None
    _result: JobResult | None = None
    _error: BaseException | None = None

    def execute(self, context: Context) -> Any:
        """Perform the task, and keep what there is to report."""
        return self._kept(super().execute, context, context=context)  # type: ignore[misc]

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a trigger's event, and keep what there is to report; see Airflow."""
        return self._kept(super().resume_execution, next_method, next_kwargs, context, context=context)  # type: ignore[misc]

    def push_keys(self, ti: Any, result: JobResult, log: Any) -> dict[str, Any]:
        """Push what has an XCom key of its own; see `HasResults`."""
        self._result = result
        return super().push_keys(ti, result, log)  # type: ignore[misc, no-any-return]

    def _kept(self, act: Any, *arguments: Any, context: Context) -> Any:
        try:
            with self.shown_parameters():
                returned = act(*arguments)
        except Exception as error:
            self._error = error
            raise
        if self._result:
            describe_outlets(context, self.outlets, self._result, self.log)  # type: ignore[attr-defined]
        return returned

    # --- for OpenLineage ---

    def get_openlineage_facets_on_start(self) -> Any:
        """Return what the task reads, and its parameters."""
        return self._lineage(self.log.debug)  # type: ignore[attr-defined]

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return what the task read and wrote, and its job."""
        return self._lineage(self.log.warning)  # type: ignore[attr-defined]

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Return what is known of the task's job, and the error; see `get_openlineage_facets_on_complete`."""
        return self._lineage(self.log.warning)  # type: ignore[attr-defined]

    def _lineage(self, tell: Any) -> Any:
        """Return the lineage in OpenLineage's types; an empty one if that fails, of which the log has one line.

        :param tell: writes this line to the log
        """
        try:
            from airflow_provider_nbjob.lineage.events import lineage_of

            return lineage_of(self._task_run())
        except Exception as error:  # of any kind: the task has nothing to do with it
            tell("Nothing is reported to OpenLineage of what this task read and wrote: %r", error)
            return _nothing()

    def _task_run(self) -> TaskRun:
        end, submission = self.job_end, self._submission
        return TaskRun(
            source=source_of(self),
            parameters=_described(self.parameters),
            job=submission.name if submission else None,
            result=self._result or (end.result if end else None),
            failed_cell=end.failed_cell if end else None,
            error=self._error,
            inlets=self.inlets,  # type: ignore[attr-defined]
            outlets=self.outlets,  # type: ignore[attr-defined]
        )


def _nothing() -> Any:
    """Return an empty lineage; None, of which OpenLineage's provider warns, if not even that can be had."""
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    return OperatorLineage()


def _described(parameters: Any) -> Mapping[str, Any]:
    """Return parameters by name, as JSON values of which long ones are cut, without secrets."""
    if not parameters:
        return {}
    from airflow_provider_nbjob.notebook.parameters import described_parameters

    return described_parameters(redact(parameters))
