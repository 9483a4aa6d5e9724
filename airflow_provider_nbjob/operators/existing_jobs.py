"""Operators on jobs that there are: read one, list them, delete one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import InvalidJob, JobLost
from airflow_provider_nbjob.failures import bad_input_is_not_retried
from airflow_provider_nbjob.operators.base import JobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class GetNotebookExecutionJobOperator(JobOperator):
    """Read a job, whatever its state; not its notebook, so `results` is empty.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param multiple_outputs: as for `CreateNotebookExecutionJobOperator`
    :return: the result, see `JobResult.to_xcom`
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "notebook_execution_job")

    def __init__(self, *, notebook_execution_job: str, multiple_outputs: bool = True, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.notebook_execution_job = notebook_execution_job

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the job."""
        with bad_input_is_not_retried():
            job = self.hook.get_notebook_execution_job(
                name=self.notebook_execution_job, location=self.location, project_id=self.project_id
            )
            return self.hook.get_result(job).to_xcom()


class ListNotebookExecutionJobsOperator(JobOperator):
    """List the jobs of a location.

    :param filter: on `notebookExecutionJob`, `displayName` or `schedule`; the API rejects any on state or time
    :param order_by: fields display_name, create_time and update_time, each with `` desc`` or without
    :param max_results: at most so many jobs
    :return: a list of results, see `JobResult.to_xcom`; their `output_notebook_uri` is not looked for, and null
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "filter", "order_by")

    def __init__(
        self,
        *,
        filter: str | None = None,
        order_by: str | None = "create_time desc",
        max_results: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filter = filter
        self.order_by = order_by
        self.max_results = max_results

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the jobs."""
        with bad_input_is_not_retried():
            if not self.location:
                raise InvalidJob("location: required, but not given")
            jobs = self.hook.list_notebook_execution_jobs(
                location=self.location,
                project_id=self.project_id,
                filter=self.filter,
                order_by=self.order_by,
                page_size=self.max_results,
            )
            from airflow_provider_nbjob.hooks.notebook_execution_job import masked_result

            return [masked_result(job).to_xcom() for job in islice(jobs, self.max_results)]


class DeleteNotebookExecutionJobOperator(JobOperator):
    """Delete a job; one that runs is stopped by it. Its output in Cloud Storage stays.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param ignore_if_missing: succeed where there is no such job
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "notebook_execution_job")

    def __init__(self, *, notebook_execution_job: str, ignore_if_missing: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notebook_execution_job = notebook_execution_job
        self.ignore_if_missing = ignore_if_missing

    def execute(self, context: Context) -> None:
        """Delete the job."""
        try:
            with bad_input_is_not_retried():
                self.hook.delete_notebook_execution_job(
                    name=self.notebook_execution_job, location=self.location, project_id=self.project_id
                )
        except JobLost:
            if not self.ignore_if_missing:
                raise
            self.log.info("Notebook job %s does not exist", self.notebook_execution_job)
