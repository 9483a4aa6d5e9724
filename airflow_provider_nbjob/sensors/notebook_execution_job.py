"""Wait for a job that something else started."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    conf,
)
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_nbjob import metrics
from airflow_provider_nbjob.arguments.checked_task import END_RULES, CheckedTask
from airflow_provider_nbjob.connection import DEFAULT_CONN_ID
from airflow_provider_nbjob.exceptions import (
    ApiError,
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
)
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.job.checks import Rule, is_nothing, optional
from airflow_provider_nbjob.job.record import JobEnd, JobSteps
from airflow_provider_nbjob.job.schedule_window import ScheduleWindow
from airflow_provider_nbjob.lifecycle.few_requests import FewRequests
from airflow_provider_nbjob.lifecycle.final_errors import FinalError, never_retried
from airflow_provider_nbjob.lifecycle.task_output import HasResults
from airflow_provider_nbjob.lifecycle.tries import end_time_of_try
from airflow_provider_nbjob.links.notebook_execution_job import LINKS, push_job
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, RESULT_MAX_BYTES
from airflow_provider_nbjob.sensors.target import problems_of_interval, problems_of_target
from airflow_provider_nbjob.sensors.window import moment, window_of
from airflow_provider_nbjob.triggers.event import LOST, TIMEOUT, JobEvent
from airflow_provider_nbjob.triggers.notebook_execution_job import (
    NotebookExecutionJobTrigger,
    ScheduledNotebookExecutionJobTrigger,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_nbjob.hooks.polling import Poller

REFUSED_PAUSE = 60.0  # seconds at most between looks in `reschedule` mode, while they are refused


def _moment(field: str) -> Rule:
    def rule(value: Any) -> Iterator[str]:
        try:
            moment(value, field)
        except InvalidJob as error:
            yield from (problem.removeprefix(f"{field}: ") for problem in error.problems)

    return rule


class NotebookExecutionJobSensor(FewRequests, HasResults, CheckedTask, BaseSensorOperator):
    """Wait until a job has ended, and fail if it is no success. The job is never stopped from here.

    Exactly one of `notebook_execution_job` and `schedule` is given. A job that ended without success fails the
    sensor without a retry, as looking again would find the same; with `soft_fail` or `never_fail` it is skipped. The
    sensor's `timeout` and Airflow's `execution_timeout` hold while it waits in the triggerer too.

    :param notebook_execution_job: resource name, or bare id with `location`
    :param schedule: resource name or bare id of a schedule: wait for the job that it launched for this run
    :param created_after: with `schedule`: jobs launched earlier do not count. An ISO 8601 time, a datetime or a date;
        one without a zone is in Airflow's default time zone. If this or `created_before` is given, the newest job that
        counts is waited for. Default: by the run. A run that a timetable made waits for a job launched in the last
        three quarters of the time since the run before it, or in the first quarter of the time until the next one: the
        newest up to the run's time (`run_after`), else the first after it. Any other run waits for the newest job up to
        its `logical_date` (else `run_after`) but no older than the DAG's period, else the first after it within that
        period. The period of a DAG without a timetable is a day
    :param created_before: with `schedule`: jobs launched at this time or later do not count. Default: see
        `created_after`. Five minutes later the sensor times out if there is no job, as none can come any more
    :param location: region; required with a bare id and with `schedule`
    :param project_id: default: the connection's project
    :param accept_partial_success: take PARTIALLY_SUCCEEDED for a success
    :param collect_results: as in `CreateNotebookExecutionJobOperator`, like `result_max_bytes`, `log_output`,
        `fail_on_cell_error`, `on_output_error` and `max_output_bytes`
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``
    :param gcp_conn_id: see `NotebookExecutionJobHook`, as for `impersonation_chain` and `api_endpoint`
    :param multiple_outputs: as in `CreateNotebookExecutionJobOperator`, like `xcom_keys`
    :return: the result, see `JobResult.to_xcom`
    """

    template_fields: Sequence[str] = (
        "notebook_execution_job",
        "schedule",
        "created_after",
        "created_before",
        "location",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
        "api_endpoint",
    )
    rules = {
        **CheckedTask.rules,
        **END_RULES,
        "created_after": optional(_moment("created_after")),
        "created_before": optional(_moment("created_before")),
    }
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        notebook_execution_job: str | None = None,
        schedule: str | None = None,
        created_after: str | date | None = None,
        created_before: str | date | None = None,
        location: str | None = None,
        project_id: str | None = None,
        accept_partial_success: bool = False,
        collect_results: bool | None = None,
        result_max_bytes: int = RESULT_MAX_BYTES,
        log_output: bool = False,
        fail_on_cell_error: bool = False,
        on_output_error: str | None = None,
        max_output_bytes: int = OUTPUT_MAX_BYTES,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        gcp_conn_id: str = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        multiple_outputs: bool = True,
        xcom_keys: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, xcom_keys=xcom_keys, **kwargs)
        self.notebook_execution_job = notebook_execution_job
        self.schedule = schedule
        self.created_after = created_after
        self.created_before = created_before
        self.location = location
        self.project_id = project_id
        self.accept_partial_success = accept_partial_success
        self.collect_results = collect_results
        self.result_max_bytes = result_max_bytes
        self.log_output = log_output
        self.fail_on_cell_error = fail_on_cell_error
        self.on_output_error = on_output_error
        self.max_output_bytes = max_output_bytes
        self.deferrable = deferrable
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.api_endpoint = api_endpoint
        self._pushed: str | None = None
        self._is_over = False  # no job can come any more
        self._steps = JobSteps()
        self.check_known()

    @classmethod
    def argument_names(cls) -> set[str]:
        """Return the names of the arguments that `problems_in` judges."""
        return {*super().argument_names(), "notebook_execution_job", "schedule", "poke_interval"}

    @classmethod
    def problems_in(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with arguments; see `CheckedTask`."""
        return [*super().problems_in(values), *problems_of_target(values), *problems_of_interval(values)]

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the job once, and go on in the triggerer if it has not ended and the sensor is deferrable.

        `BaseSensorOperator.execute` calls it, and takes `soft_fail`, `never_fail` and `silent_fail` into account.
        """
        try:
            with self._failing_for_good():
                look = self._look(context)
        except Exception as error:
            if not self.deferrable or not self.silent_fail or isinstance(error, AirflowException):
                raise
            self.log.exception("Looking failed, and silent_fail is set")
            look = PokeReturnValue(is_done=False)
        if self.deferrable and not look.is_done and not self._is_over:
            self._defer(context)
        return look

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None, deadline: str = "timeout"
    ) -> dict[str, Any]:
        """Go on after the trigger's event.

        `resume_execution` takes `soft_fail` and `never_fail` into account for errors of Airflow's own kinds.

        :param deadline: the argument that gave the trigger its deadline
        """
        try:
            with self._failing_for_good():
                return self._complete(context, event, deadline)
        except AirflowTaskTimeout as error:
            self._skip_if_asked_for(error, soft=True)
            raise
        except AirflowException:
            raise
        except Exception as error:
            self._skip_if_asked_for(error, soft=False)
            raise

    # --- inside --------------------------------------------------------------------------------------------

    @contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """Have those errors end the task that another try would only meet again."""
        try:
            yield
        except (InvalidJob, JobLost, JobFailed, JobCancelled, JobExpired) as error:
            if isinstance(error, FinalError):
                raise
            raise never_retried(error) from error.__cause__

    def _skip_if_asked_for(self, error: BaseException, *, soft: bool) -> None:
        if self.soft_fail and soft:
            raise AirflowSkipException("Skipping due to soft_fail is set to True.") from error
        if self.never_fail:
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from error

    def _look(self, context: Context) -> PokeReturnValue:
        self.check_rendered()
        window = self._window(context) if self._waits_for_schedule else None
        has_answer, job = self._poller.poll(lambda: self._find(window))
        while not has_answer and (pause := self._pause_before_next_look()) is not None:
            time.sleep(pause)
            has_answer, job = self._poller.poll(lambda: self._find(window))
        if not has_answer:
            return PokeReturnValue(is_done=False)
        if job is None:
            if window:  # else there would have been an error
                self._tell_of_no_job(window)
            return PokeReturnValue(is_done=False)
        state = state_of(job)
        self.log.info("Notebook job %s is %s", job.name, state)
        if not state.is_terminal and self._pushed != job.name:
            self._push_job(context, job)
        self._steps.look(job)
        if not state.is_terminal:
            return PokeReturnValue(is_done=False)
        metrics.send(metrics.JOBS_ENDED, state=metrics.state_tag(state))
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, job))

    def _tell_of_no_job(self, window: ScheduleWindow) -> None:
        """Say what is waited for; if nothing can come any more, have `BaseSensorOperator.execute` time out."""
        if window.is_over(time.time()):
            self.log.error("Schedule %s launched no job %s, and none can come any more", self.schedule, window)
            self._is_over, self.timeout = True, 0
        else:
            self.log.info("Schedule %s has launched no job yet; one counts that is launched %s", self.schedule, window)

    def _complete(self, context: Context, event: Mapping[str, Any] | None, deadline: str) -> dict[str, Any]:
        end = JobEvent.from_payload(event)
        end.check_watched()
        if end.outcome == TIMEOUT:
            raise (AirflowTaskTimeout if deadline == "execution_timeout" else AirflowSensorTimeout)(end.message)
        if end.outcome == LOST:
            raise JobLost(end.message)
        if end.result:
            return self.push_keys(context["ti"], end.result, self.log)
        self._steps = end.steps
        job = self.hook.get_notebook_execution_job(name=end.name)
        return self._conclude(context, job)

    def _pause_before_next_look(self) -> float | None:
        """Return the seconds after which this poke looks again, or None if the next one does."""
        from airflow_provider_nbjob.hooks.polling import CONFIRM_SECONDS

        if self._poller.failed_looks.awaits_confirmation:
            return CONFIRM_SECONDS
        if self._poller.failed_looks.is_refused and self.reschedule and not self.deferrable:
            # The next poke is another process, which would know nothing of the refusals before it.
            return min(self.poke_interval, REFUSED_PAUSE)
        return None

    @cached_property
    def _poller(self) -> Poller:
        from airflow_provider_nbjob.hooks.polling import Poller

        what = f"The job of schedule {self.schedule}"
        if not self._waits_for_schedule:
            what = f"Notebook job {self.notebook_execution_job}"
        return Poller(self.log, what, lambda: self.hook.reread_connection(), is_known=False)

    def _find(self, window: ScheduleWindow | None) -> Any:
        """Look for the job: the one that is named, or, within a window, what the schedule launched."""
        if window is None:
            return self.hook.get_notebook_execution_job(
                name=str(self.notebook_execution_job),
                location=self.location,
                project_id=self.project_id,
                retry=False,
                renew=True,
            )
        return self.hook.find_scheduled_job(
            schedule=str(self.schedule),
            created_after=window.after,
            created_before=window.before,
            run_time=window.run_time,
            location=str(self.location),
            project_id=self.project_id,
        )

    @property
    def _waits_for_schedule(self) -> bool:
        """Return whether the sensor waits for the job of a schedule; of two templates, one came out as nothing."""
        return self.notebook_execution_job is None or (
            is_nothing(self.notebook_execution_job) and not is_nothing(self.schedule)
        )

    def _window(self, context: Context) -> ScheduleWindow:
        return window_of(
            context["dag_run"],
            self.dag if self.has_dag() else None,  # type: ignore[no-untyped-call]
            created_after=self.created_after,
            created_before=self.created_before,
        )

    def _defer(self, context: Context) -> None:
        """Go on in the triggerer, up to the sooner of the two deadlines; in an outage of the connection, here.

        Airflow 3.3 ignores `execution_timeout` while a task is deferred; in `poke` mode it ends this try, as here.
        """
        deadlines = {"timeout": time.time() + self.timeout}
        if (end_time := end_time_of_try(context["ti"], self.execution_timeout)) is not None:
            deadlines["execution_timeout"] = end_time
        deadline = min(deadlines, key=lambda name: deadlines[name])
        try:
            trigger = self._trigger(context, deadlines[deadline])
        except ApiError as error:  # the connection, which completes the job's name, cannot be read
            self.log.warning("The task polls here once more, as it cannot be deferred: %s", error)
            return
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"deadline": deadline},
        )

    def _trigger(self, context: Context, end_time: float) -> NotebookExecutionJobTrigger:
        from airflow_provider_nbjob.lifecycle.outcome import conclusion_arguments

        shared: dict[str, Any] = {
            **self.connection_arguments(),
            "poll_interval": self.poke_interval,
            "end_time": end_time,
            "project_id": self.project_id,
            "conclusion": conclusion_arguments(self),
        }
        if not self._waits_for_schedule:
            name = self.hook.get_job_name(str(self.notebook_execution_job), self.location, self.project_id)
            return NotebookExecutionJobTrigger(str(name), cancel_on_kill=False, **shared)
        window = self._window(context)
        return ScheduledNotebookExecutionJobTrigger(
            str(self.schedule),
            created_after=window.after,
            created_before=window.before,
            run_time=window.run_time,
            location=str(self.location),
            **shared,
        )

    def _push_job(self, context: Context, job: Any, end: JobEnd | None = None) -> None:
        self._pushed = job.name
        name = JobName.parse(job.name)
        push_job(
            self,
            context["ti"],
            job=name,
            project_id=self.hook.get_project_id(self.project_id, name.location),
            gcs_output_uri=job.gcs_output_uri,
            connection=self.connection_arguments(),
            steps=self._steps,
            end=end,
        )

    def _conclude(self, context: Context, job: Any) -> dict[str, Any]:
        from airflow_provider_nbjob.lifecycle.outcome import conclusion_for

        result = conclusion_for(self).of(self.hook, job, self.log, note=lambda end: self._push_job(context, job, end))
        return self.push_keys(context["ti"], result, self.log)
