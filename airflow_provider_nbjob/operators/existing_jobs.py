"""Operators on jobs that there are: read one, list them, delete one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.arguments.checked_task import problems_of_job_name
from airflow_provider_nbjob.exceptions import JobLost
from airflow_provider_nbjob.job import checks
from airflow_provider_nbjob.job.checks import optional
from airflow_provider_nbjob.lifecycle.task_output import HasResults, valid_xcom_keys
from airflow_provider_nbjob.operators.base import JobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class _ExistingJobOperator(JobOperator):
    """Base of the operators on one job that there is."""

    template_fields: Sequence[str] = (*JobOperator.template_fields, "notebook_execution_job")

    @classmethod
    def argument_names(cls) -> set[str]:
        """Return the names of the arguments that `problems_in` judges."""
        return {*super().argument_names(), "notebook_execution_job"}

    @classmethod
    def problems_in(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with arguments; see `CheckedTask`."""
        return super().problems_in(values) + problems_of_job_name(values)


class GetNotebookExecutionJobOperator(HasResults, _ExistingJobOperator):
    """Read a job in any state; not its notebook, so `results` is empty.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param multiple_outputs: as for `CreateNotebookExecutionJobOperator`, like `xcom_keys`
    :return: the result, see `JobResult.to_xcom`
    """

    rules = {**JobOperator.rules, "xcom_keys": valid_xcom_keys}

    def __init__(
        self,
        *,
        notebook_execution_job: str,
        multiple_outputs: bool = True,
        xcom_keys: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, xcom_keys=xcom_keys, **kwargs)
        self.notebook_execution_job = notebook_execution_job
        self.check_known()

    def perform(self, context: Context) -> dict[str, Any]:
        """Read the job."""
        job = self.hook.get_notebook_execution_job(
            name=self.notebook_execution_job, location=self.location, project_id=self.project_id
        )
        return self.push_keys(context["ti"], self.hook.get_result(job), self.log)


class ListNotebookExecutionJobsOperator(JobOperator):
    """List the jobs of a location.

    :param filter: on `notebookExecutionJob`, `displayName` or `schedule`; the API rejects any on state or time
    :param order_by: fields display_name, create_time and update_time, each with `` desc`` or without
    :param max_results: at most so many jobs
    :return: a list of results, see `JobResult.to_xcom`; their `output_notebook_uri` is not looked for, and null
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "filter", "order_by")
    rules = {
        **JobOperator.rules,
        "filter": optional(checks.text),
        "order_by": optional(checks.text),
        "max_results": checks.whole_number(1, "jobs"),
    }

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
        self.check_known()

    @classmethod
    def problems_in(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with arguments; see `CheckedTask`."""
        missing = ["location: required, but not given"] if checks.is_missing(values["location"]) else []
        return super().problems_in(values) + missing

    def perform(self, context: Context) -> list[dict[str, Any]]:
        """List the jobs."""
        from airflow_provider_nbjob.hooks.notebook_execution_job import masked_result

        jobs = self.hook.list_notebook_execution_jobs(
            location=str(self.location),
            project_id=self.project_id,
            filter=self.filter,
            order_by=self.order_by,
            page_size=self.max_results,
        )
        return [masked_result(job).to_xcom() for job in islice(jobs, self.max_results)]


class DeleteNotebookExecutionJobOperator(_ExistingJobOperator):
    """Delete a job; one that runs is stopped by it. Its output in Cloud Storage stays.

    A job that does not exist is no error, as it is none for Google's own operators that delete Vertex AI resources.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param ignore_if_missing: false: fail with `JobLost` if there is no such job
    :raises ApiError: if the delete, or its long-running operation, fails
    """

    rules = {**JobOperator.rules, "ignore_if_missing": checks.boolean}

    def __init__(self, *, notebook_execution_job: str, ignore_if_missing: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notebook_execution_job = notebook_execution_job
        self.ignore_if_missing = ignore_if_missing
        self.check_known()

    def perform(self, context: Context) -> None:
        """Delete the job."""
        try:
            self.hook.delete_notebook_execution_job(
                name=self.notebook_execution_job, location=self.location, project_id=self.project_id
            )
        except JobLost:
            if not self.ignore_if_missing:
                raise
            self.log.info("Notebook job %s does not exist", self.notebook_execution_job)
