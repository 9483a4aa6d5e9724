"""Wait for a job that something else started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_nbjob.exceptions import (
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.failures import never_retried
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.lazy_hook import LazyHook
from airflow_provider_nbjob.links.notebook_execution_job import LINKS, push_job
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, RESULT_MAX_BYTES
from airflow_provider_nbjob.record import JobEnd, JobSteps
from airflow_provider_nbjob.triggers.notebook_execution_job import (
    NotebookExecutionJobTrigger,
    ScheduledNotebookExecutionJobTrigger,
)
from airflow_provider_nbjob.weather import Weather

if TYPE_CHECKING:
    from airflow.sdk import Context


class NotebookExecutionJobSensor(LazyHook, BaseSensorOperator):
    """Wait until a job has ended, and fail where it is no success. The job is never stopped from here.

    Exactly one of `notebook_execution_job` and `schedule` is given. A job that ended without success fails the
    sensor without a retry, as looking again would find the same; with `soft_fail` it is skipped.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param schedule: resource name or bare id of a schedule: wait for the newest job that it launched
    :param created_after: with `schedule`: jobs launched earlier do not count. An ISO 8601 time or a datetime; default:
        the start of the run's data interval, or of the run where it has none
    :param location: region; required with a bare id and with `schedule`
    :param project_id: default: the connection's project
    :param accept_partial_success: take PARTIALLY_SUCCEEDED for a success
    :param collect_results: as in `CreateNotebookExecutionJobOperator`, like `result_max_bytes`, `log_output`,
        `fail_on_cell_error` and `max_output_bytes`
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``
    :param gcp_conn_id: see `NotebookExecutionJobHook`, as for `impersonation_chain` and `api_endpoint`
    :param multiple_outputs: push each part of the result under a key of its own too
    :return: the result, see `JobResult.to_xcom`
    """

    template_fields: Sequence[str] = (
        "notebook_execution_job",
        "schedule",
        "created_after",
        "location",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
        "api_endpoint",
    )
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        notebook_execution_job: str | None = None,
        schedule: str | None = None,
        created_after: Any = None,
        location: str | None = None,
        project_id: str | None = None,
        accept_partial_success: bool = False,
        collect_results: bool = True,
        result_max_bytes: int = RESULT_MAX_BYTES,
        log_output: bool = False,
        fail_on_cell_error: bool = False,
        max_output_bytes: int = OUTPUT_MAX_BYTES,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.notebook_execution_job = notebook_execution_job
        self.schedule = schedule
        self.created_after = created_after
        self.location = location
        self.project_id = project_id
        self.accept_partial_success = accept_partial_success
        self.collect_results = collect_results
        self.result_max_bytes = result_max_bytes
        self.log_output = log_output
        self.fail_on_cell_error = fail_on_cell_error
        self.max_output_bytes = max_output_bytes
        self.deferrable = deferrable
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.api_endpoint = api_endpoint
        self._pushed: str | None = None
        self._steps = JobSteps()
        if (notebook_execution_job is None) == (schedule is None):
            raise InvalidJob("notebook_execution_job, schedule: exactly one is required")
        if schedule is not None and location is None:
            raise InvalidJob("location: required with schedule")

    def execute(self, context: Context) -> Any:
        """Poke until the job has ended; or look once, and wait in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        look = self.poke(context)
        if not look.is_done:
            self.defer(trigger=self._trigger(context), method_name="execute_complete")
        return look.xcom_value

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the job once."""
        job, has_looked = None, False
        try:
            with self._weather:
                job, has_looked = self._find(context), True
        except (InvalidJob, JobLost) as error:
            raise never_retried(error) from error
        if not has_looked:
            return PokeReturnValue(is_done=False)
        if job is None:
            self.log.info("Schedule %s has launched no job yet", self.schedule)
            return PokeReturnValue(is_done=False)
        if self._pushed != job.name:
            self._push_job(context, job)
        self._steps.look(job)
        state = state_of(job)
        self.log.info("Notebook job %s is %s", job.name, state)
        if not state.is_terminal:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, job))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None) -> dict[str, Any]:
        """Go on after the trigger's event; all that is needed is in the event."""
        if not event or not event.get("name"):
            raise NotebookExecutionJobError(f"The trigger returned no usable event: {event!r}")
        outcome, message = event.get("outcome"), redact(event.get("message"))
        if outcome == "timeout":
            raise AirflowSensorTimeout(message)
        if outcome == "lost":
            raise never_retried(JobLost(message))
        if outcome != "finished":
            raise NotebookExecutionJobError(f"Waiting for notebook job {event['name']} failed: {message}")
        self._steps = JobSteps.from_xcom(event.get("states"))
        job = self.hook.get_notebook_execution_job(name=event["name"])
        self._push_job(context, job)
        return self._conclude(context, job)

    @cached_property
    def _weather(self) -> Weather:
        return Weather(self.log)

    def _find(self, context: Context) -> Any:
        if self.schedule is None:
            return self.hook.get_notebook_execution_job(
                name=str(self.notebook_execution_job),
                location=self.location,
                project_id=self.project_id,
                retry=False,
                renew=True,
            )
        return self.hook.find_scheduled_job(
            schedule=self.schedule,
            created_after=self._created_after(context),
            location=str(self.location),
            project_id=self.project_id,
        )

    def _trigger(self, context: Context) -> NotebookExecutionJobTrigger:
        shared: dict[str, Any] = {
            "gcp_conn_id": self.gcp_conn_id,
            "impersonation_chain": self.impersonation_chain,
            "api_endpoint": self.api_endpoint,
            "poll_interval": self.poke_interval,
            "end_time": time.time() + self.timeout,
        }
        if self.schedule is None:
            name = self.hook.get_job_name(str(self.notebook_execution_job), self.location, self.project_id)
            return NotebookExecutionJobTrigger(str(name), cancel_on_kill=False, **shared)
        return ScheduledNotebookExecutionJobTrigger(
            self.schedule,
            created_after=self._created_after(context),
            location=str(self.location),
            project_id=self.project_id,
            **shared,
        )

    def _created_after(self, context: Context) -> float:
        """POSIX seconds from `created_after`, or from the run."""
        from airflow.sdk import timezone

        run = context["dag_run"]
        value = self.created_after or run.data_interval_start or run.start_date
        moment = timezone.parse(value) if isinstance(value, str) else value
        return float(moment.timestamp())

    def _push_job(self, context: Context, job: Any, end: JobEnd | None = None) -> None:
        self._pushed = job.name
        location = JobName.parse(job.name).location
        push_job(
            context,
            name=job.name,
            project_id=self.hook.get_project_id(self.project_id, location),
            gcs_output_uri=job.gcs_output_uri,
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
            api_endpoint=self.api_endpoint,
            steps=self._steps,
            end=end,
        )

    def _conclude(self, context: Context, job: Any) -> dict[str, Any]:
        from airflow_provider_nbjob.conclusion import conclusion_for

        try:
            conclusion = conclusion_for(self)
            return conclusion.of(self.hook, job, self.log, note=lambda end: self._push_job(context, job, end)).to_xcom()
        except (JobFailed, JobCancelled, JobExpired) as error:
            raise never_retried(error) from None
