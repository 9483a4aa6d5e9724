"""Submit notebook jobs and wait for them; read, list and delete them.

Importing this module loads nothing of Google's: parsing a DAG costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, conf
from airflow.sdk import BaseOperator

from airflow_provider_nbjob.exceptions import (
    ApiError,
    InvalidJob,
    JobLost,
    JobTimeout,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.failures import never_retried
from airflow_provider_nbjob.job import JobName, JobResult, job_id_for
from airflow_provider_nbjob.lazy_hook import LazyHook
from airflow_provider_nbjob.links.notebook_execution_job import LINKS, push_job
from airflow_provider_nbjob.spec import DISPLAY_NAME_MAX, NotebookExecutionJobSpec
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

# Airflow kills a worker 5 s after it asked it to stop; a cancelled job gets less than that before it is deleted.
KILL_GRACE = 2.0


class _JobOperator(LazyHook, BaseOperator):
    """What all operators of this module share: the way to the API.

    :param location: region, such as ``us-central1``
    :param project_id: default: the connection's project
    :param gcp_conn_id: see `NotebookExecutionJobHook`, as for the two below
    :param impersonation_chain: service account, or chain of accounts, to impersonate
    :param api_endpoint: host of the API
    """

    template_fields: Sequence[str] = (
        "location",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
        "api_endpoint",
    )

    def __init__(
        self,
        *,
        location: str | None = None,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.location = location
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.api_endpoint = api_endpoint


class CreateNotebookExecutionJobOperator(_JobOperator):
    """Run a notebook as a `NotebookExecutionJob` and, by default, wait until it has ended.

    The names of what is to run are the API's; `NotebookExecutionJobSpec` has the rules for each. Exactly one
    source, one environment and one identity are needed. What is wrong is reported all at once: when the DAG is
    parsed for values without templates, else before anything is sent.

    :param location: region, such as ``us-central1``
    :param gcs_notebook_source: ``"gs://bucket/notebook.ipynb"``, or ``{"uri": ..., "generation": ...}``
    :param direct_notebook_source: path of an ``.ipynb``, relative to the DAG's file; or the notebook itself as dict,
        JSON text or bytes. Braces in a notebook's cells are no templates and stay as they are
    :param dataform_repository_source: ``"projects/.../locations/.../repositories/..."``, or
        ``{"dataform_repository_resource_name": ..., "commit_sha": ...}``
    :param notebook_runtime_template_resource_name: full name, or the bare id of a template in `location`
    :param custom_environment_spec: ``{"machine_spec": ..., "persistent_disk_spec": ..., "network_spec": ...}``
    :param workbench_runtime: makes it a Workbench job, ``{}`` will do; absent means Colab Enterprise
    :param kernel_name: kernel of a Workbench job
    :param gcs_output_uri: ``gs://bucket`` or a folder in it; the executed notebook is written below it, in a folder
        named by the job's id
    :param service_account: email of the account to run as
    :param execution_user: email of the person to run as (Colab Enterprise only)
    :param display_name: at most 128 characters. Default: DAG, task and run, cut to that
    :param labels: keys and values of at most 64 lowercase letters, digits, ``_`` and ``-``
    :param encryption_spec: name of a KMS key, or ``{"kms_key_name": ...}``
    :param job_timeout: time limit of the run, as timedelta, seconds, or ``"3600s"``: the API's `execution_timeout`,
        renamed because every operator has an `execution_timeout` of Airflow's. The API's default is 24 h
    :param notebook_execution_job_id: id of the job. Default: computed for this try of this task
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``
    :param wait_for_completion: false: return as soon as the job is submitted
    :param poll_interval: seconds between looks at the job
    :param cancel_on_kill: stop the job when the task is killed, times out, or is ended or cleared by a user
    :param durable: compute the job's id, so that a create whose answer was lost is not performed twice; false lets
        the API mint the id
    :param accept_partial_success: take PARTIALLY_SUCCEEDED for a success
    :param multiple_outputs: push each part of the result under a key of its own too, so that
        ``task.output["output_notebook_uri"]`` works
    :return: the result, see `JobResult.to_xcom`
    :raises InvalidJob: for bad input; never retried
    :raises JobFailed: and `JobCancelled`, `JobExpired`, `JobTimeout`, `JobLost`, by the way the job ended
    """

    template_fields: Sequence[str] = (
        *_JobOperator.template_fields,
        "gcs_notebook_source",
        "direct_notebook_source",
        "dataform_repository_source",
        "notebook_runtime_template_resource_name",
        "custom_environment_spec",
        "workbench_runtime",
        "kernel_name",
        "gcs_output_uri",
        "service_account",
        "execution_user",
        "display_name",
        "labels",
        "encryption_spec",
        "job_timeout",
        "notebook_execution_job_id",
    )
    template_fields_renderers = {"custom_environment_spec": "json", "labels": "json"}
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        gcs_notebook_source: str | Mapping[str, Any] | None = None,
        direct_notebook_source: str | bytes | Mapping[str, Any] | None = None,
        dataform_repository_source: str | Mapping[str, Any] | None = None,
        notebook_runtime_template_resource_name: str | None = None,
        custom_environment_spec: Mapping[str, Any] | None = None,
        workbench_runtime: Mapping[str, Any] | None = None,
        kernel_name: str | None = None,
        gcs_output_uri: str | None = None,
        service_account: str | None = None,
        execution_user: str | None = None,
        display_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        encryption_spec: str | Mapping[str, str] | None = None,
        job_timeout: timedelta | float | str | None = None,
        notebook_execution_job_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        wait_for_completion: bool = True,
        poll_interval: float = 10.0,
        cancel_on_kill: bool = True,
        durable: bool = True,
        accept_partial_success: bool = False,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.gcs_notebook_source = gcs_notebook_source
        self.direct_notebook_source = _untemplated(direct_notebook_source)
        self.dataform_repository_source = dataform_repository_source
        self.notebook_runtime_template_resource_name = notebook_runtime_template_resource_name
        self.custom_environment_spec = custom_environment_spec
        self.workbench_runtime = workbench_runtime
        self.kernel_name = kernel_name
        self.gcs_output_uri = gcs_output_uri
        self.service_account = service_account
        self.execution_user = execution_user
        self.display_name = display_name
        self.labels = labels
        self.encryption_spec = encryption_spec
        self.job_timeout = job_timeout
        self.notebook_execution_job_id = notebook_execution_job_id
        self.deferrable = deferrable
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.durable = durable
        self.accept_partial_success = accept_partial_success
        self._job_name: str | None = None
        self._check_what_is_known()

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the job, then wait for it: here, or in the triggerer."""
        try:
            self._job_name = self._submit(context)
        except InvalidJob as error:
            raise never_retried(error) from error
        try:
            self._push_job(context)
            if not self.wait_for_completion:
                job = self.hook.get_notebook_execution_job(name=self._job_name)
                return JobResult.from_job(job).to_xcom()
            if self.deferrable:
                self._defer(context)
            job = self.hook.wait_for_notebook_execution_job(
                name=self._job_name, poll_interval=self.poll_interval, end_time=self._end_time(context)
            )
        except AirflowTaskTimeout as error:
            self._stop()
            raise JobTimeout(f"Notebook job {self._job_name} exceeded {self.execution_timeout}") from error
        except Exception:
            self._stop()
            raise
        return self._conclude(job)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None) -> dict[str, Any]:
        """Go on after the trigger's event; all that is needed is in the event."""
        if not event or not event.get("name"):
            raise NotebookExecutionJobError(f"The trigger returned no usable event: {event!r}")
        self._job_name = event["name"]
        outcome, message = event.get("outcome"), event.get("message")
        if outcome == "finished":
            return self._conclude(self.hook.get_notebook_execution_job(name=event["name"]))
        if outcome == "lost":
            raise JobLost(message)
        self._stop()
        if outcome == "timeout":
            raise JobTimeout(message)
        raise NotebookExecutionJobError(f"Waiting for notebook job {event['name']} failed: {message}")

    def on_kill(self) -> None:
        """Stop the job when Airflow ends this task on the worker; a deferred one is stopped by its trigger."""
        if self._job_name:
            self._stop(grace=KILL_GRACE)

    # --- inside --------------------------------------------------------------------------------------------

    def _check_what_is_known(self) -> None:
        """Refuse, while the DAG is parsed, what can be known to be wrong without rendering a template."""
        spec = self._spec()
        unknown = {f.name for f in fields(spec) if _is_templated(getattr(spec, f.name))}
        if self.display_name is None:
            unknown.add("display_name")
        if problems := spec.problems(unknown=unknown, reading=False):  # parsing a DAG reads no files
            raise InvalidJob(problems)

    def _spec(self, **changes: Any) -> NotebookExecutionJobSpec:
        values = {f.name: getattr(self, f.name) for f in fields(NotebookExecutionJobSpec)}
        return NotebookExecutionJobSpec(**{**values, **changes})

    def _submit(self, context: Context) -> str:
        is_computed = self.durable and not self.notebook_execution_job_id
        spec = self._spec(
            display_name=self.display_name or _default_display_name(context),
            direct_notebook_source=self._direct_notebook_source(),
            notebook_execution_job_id=_computed_job_id(context) if is_computed else self.notebook_execution_job_id,
        )
        spec.validate()
        project = self.hook.get_project_id(self.project_id, spec.location)
        if is_computed:
            # Nobody else computes this id: whatever has it was submitted by this try, and is ours to stop from here on.
            self._job_name = str(JobName(project, spec.location, spec.notebook_execution_job_id))
        try:
            name = self.hook.create_notebook_execution_job(
                job=spec.to_api(project),  # validated above: the hook would read and check the notebook again
                location=spec.location,
                project_id=project,
                notebook_execution_job_id=spec.notebook_execution_job_id,
            )
        except ApiError as error:
            if error.code != "ALREADY_EXISTS" or not is_computed:
                raise
            name = str(self._job_name)
        self.log.info("Submitted notebook job %s", name)
        return name

    def _direct_notebook_source(self) -> bytes | Path | None:
        source = _untemplated(self.direct_notebook_source)  # again: an XComArg may have come out as a notebook
        if not isinstance(source, str):
            return source
        folder = Path(self.dag.fileloc).parent if self.has_dag() else Path()
        return folder / source

    def _push_job(self, context: Context) -> None:
        push_job(
            context,
            name=str(self._job_name),
            project_id=self.hook.get_project_id(self.project_id, str(self.location)),
            gcs_output_uri=str(self.gcs_output_uri),
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
            api_endpoint=self.api_endpoint,
        )

    def _defer(self, context: Context) -> None:
        self.defer(
            trigger=NotebookExecutionJobTrigger(
                name=str(self._job_name),
                gcp_conn_id=self.gcp_conn_id,
                impersonation_chain=self.impersonation_chain,
                api_endpoint=self.api_endpoint,
                poll_interval=self.poll_interval,
                end_time=self._end_time(context),
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
        )

    def _end_time(self, context: Context) -> float | None:
        """Airflow's `execution_timeout` from the start of this try: Airflow 3.3 ignores it while a task is deferred."""
        started = context["ti"].start_date
        if self.execution_timeout is None or started is None:
            return None
        return float(started.timestamp() + self.execution_timeout.total_seconds())

    def _conclude(self, job: Any) -> dict[str, Any]:
        result = self.hook.get_result(job)
        if not result.succeeded(accept_partial_success=self.accept_partial_success):
            raise result.error()
        self.log.info("Notebook job %s ended as %s", result.job_id, result.job_state)
        self.log.info("Executed notebook: %s", result.output_notebook_uri or "none was written")
        return result.to_xcom()

    def _stop(self, **kwargs: Any) -> None:
        """Stop the job, unless `cancel_on_kill` is off; never raises, so that the first error is the one seen."""
        if not self.cancel_on_kill or not self._job_name:
            return
        try:
            self.hook.cancel_notebook_execution_job(name=self._job_name, **kwargs)
        except Exception as error:
            self.log.error("Could not stop notebook job %s, which may still run and cost: %s", self._job_name, error)


class GetNotebookExecutionJobOperator(_JobOperator):
    """Read a job, whatever its state.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param multiple_outputs: as for `CreateNotebookExecutionJobOperator`
    :return: the result, see `JobResult.to_xcom`
    """

    template_fields: Sequence[str] = (*_JobOperator.template_fields, "notebook_execution_job")

    def __init__(self, *, notebook_execution_job: str, multiple_outputs: bool = True, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.notebook_execution_job = notebook_execution_job

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the job."""
        job = self.hook.get_notebook_execution_job(
            name=self.notebook_execution_job, location=self.location, project_id=self.project_id
        )
        return self.hook.get_result(job).to_xcom()


class ListNotebookExecutionJobsOperator(_JobOperator):
    """List the jobs of a location.

    :param filter: on `notebookExecutionJob`, `displayName` or `schedule`; the API rejects any on state or time
    :param order_by: fields display_name, create_time and update_time, each with `` desc`` or without
    :param max_results: at most so many jobs
    :return: a list of results, see `JobResult.to_xcom`; their `output_notebook_uri` is not looked for, and null
    """

    template_fields: Sequence[str] = (*_JobOperator.template_fields, "filter", "order_by")

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
        if not self.location:
            raise never_retried(InvalidJob("location: required, but not given"))
        jobs = self.hook.list_notebook_execution_jobs(
            location=self.location,
            project_id=self.project_id,
            filter=self.filter,
            order_by=self.order_by,
            page_size=self.max_results,
        )
        return [JobResult.from_job(job).to_xcom() for job in islice(jobs, self.max_results)]


class DeleteNotebookExecutionJobOperator(_JobOperator):
    """Delete a job; one that runs is stopped by it. Its output in Cloud Storage stays.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param ignore_if_missing: succeed where there is no such job
    """

    template_fields: Sequence[str] = (*_JobOperator.template_fields, "notebook_execution_job")

    def __init__(self, *, notebook_execution_job: str, ignore_if_missing: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notebook_execution_job = notebook_execution_job
        self.ignore_if_missing = ignore_if_missing

    def execute(self, context: Context) -> None:
        """Delete the job."""
        try:
            self.hook.delete_notebook_execution_job(
                name=self.notebook_execution_job, location=self.location, project_id=self.project_id
            )
        except JobLost:
            if not self.ignore_if_missing:
                raise
            self.log.info("Notebook job %s does not exist", self.notebook_execution_job)


def _untemplated(source: Any) -> Any:
    """A notebook's content as bytes, which Airflow does not render; a path, or an XComArg, as it is."""
    if isinstance(source, Mapping):
        return json.dumps(source).encode()
    if isinstance(source, str) and source.lstrip().startswith("{") and not source.lstrip().startswith("{{"):
        return source.encode()
    return source


def _is_templated(value: Any) -> bool:
    """Whether a value is known only when the task runs: a Jinja template, an XComArg, or holding one."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(_is_templated(part) for part in value.values())  # Airflow renders no keys
    if isinstance(value, (list, tuple)):
        return any(_is_templated(part) for part in value)
    return not isinstance(value, (int, float, bytes, timedelta, type(None)))


def _default_display_name(context: Context) -> str:
    ti = context["ti"]
    mapped = "" if ti.map_index in (None, -1) else f" [{ti.map_index}]"
    return f"{ti.dag_id}.{ti.task_id}{mapped} {ti.run_id}"[:DISPLAY_NAME_MAX]


def _computed_job_id(context: Context) -> str:
    ti = context["ti"]
    return job_id_for(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        run_start=context["dag_run"].start_date,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
    )
