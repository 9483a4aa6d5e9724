"""Submit notebook jobs and wait for them; read, list and delete them.

Importing this module loads nothing of Google's: parsing a DAG costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_nbjob.airflow_compat import TRIGGER_FAILED
from airflow_provider_nbjob.arguments.checked_task import END_RULES
from airflow_provider_nbjob.arguments.from_trigger import StartsInTriggerer
from airflow_provider_nbjob.arguments.job_arguments import HasJobArguments, check_unrendered, new_job, submission_of
from airflow_provider_nbjob.arguments.templating import untemplated
from airflow_provider_nbjob.exceptions import InvalidJob, JobExpired, JobTimeout, OutputUnavailable
from airflow_provider_nbjob.job import JobName, JobResult, JobState, checks
from airflow_provider_nbjob.job.intervals import POLL_SECONDS
from airflow_provider_nbjob.job.record import JobEnd
from airflow_provider_nbjob.lifecycle.few_requests import FewRequests
from airflow_provider_nbjob.lifecycle.final_errors import never_retried
from airflow_provider_nbjob.lifecycle.submission import Submission
from airflow_provider_nbjob.lifecycle.task_output import HasResults, forget_earlier
from airflow_provider_nbjob.lifecycle.tries import end_time_of_try
from airflow_provider_nbjob.lineage.reporting import ReportsLineage
from airflow_provider_nbjob.links.notebook_execution_job import LINKS, push_job
from airflow_provider_nbjob.masking import mask_parameters
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, RESULT_MAX_BYTES
from airflow_provider_nbjob.operators.base import JobOperator
from airflow_provider_nbjob.operators.existing_jobs import (
    DeleteNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.triggers.event import START, TIMEOUT, JobEvent
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = [
    "CreateNotebookExecutionJobOperator",
    "DeleteNotebookExecutionJobOperator",
    "GetNotebookExecutionJobOperator",
    "ListNotebookExecutionJobsOperator",
]


class CreateNotebookExecutionJobOperator(  # type: ignore[override]  # what Airflow reads of it depends on its arguments
    StartsInTriggerer, ReportsLineage, FewRequests, HasResults, HasJobArguments, JobOperator
):
    """Run a notebook as a `NotebookExecutionJob` and, by default, wait until it has ended.

    The names of what is to run are the API's; `NotebookExecutionJobSpec` has the rules for each. Exactly one
    source, one environment and one identity are needed. What is wrong is reported all at once: when the DAG is
    parsed for values without templates, else before anything is sent.

    :param location: region, such as ``us-central1``
    :param gcs_notebook_source: ``"gs://bucket/notebook.ipynb"``, or ``{"uri": ..., "generation": ...}``
    :param direct_notebook_source: path of an ``.ipynb``, relative to the DAG's file, or of a ``.py`` in jupytext's
        percent format (extra `scripts`); or the notebook itself as dict, JSON text or bytes. Braces in a notebook's
        cells are no templates and stay as they are
    :param dataform_repository_source: ``"projects/.../locations/.../repositories/..."``, or
        ``{"dataform_repository_resource_name": ..., "commit_sha": ...}``
    :param parameters: values by name, passed to the notebook by papermill's convention: a cell after the one tagged
        ``parameters`` assigns them. Templates are rendered in nested lists and dicts too. A source in Cloud Storage or
        Dataform is then read by the worker, and submitted as direct content. Needs the extra `parameters`
    :param secret_parameters: secrets by name: ``{"token": "projects/my-project/secrets/my-secret/versions/latest"}``,
        or short ``"my-secret"`` or ``"my-secret/versions/3"`` for one of the job's project. A cell after the parameters
        reads them from Secret Manager as the notebook runs: their values stand in no notebook, log or XCom, while those
        of `parameters` stand in the executed notebook. Python only. The account that the notebook runs as needs
        ``roles/secretmanager.secretAccessor`` on each secret
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
    :param default_labels: label the job with `airflow-dag`, `airflow-task` and `airflow-version` too, so that its cost
        can be attributed. Labels of the same names in `labels` win
    :param encryption_spec: name of a KMS key, or ``{"kms_key_name": ...}``
    :param job_timeout: time limit of the run, as timedelta, seconds, or ``"3600s"``: the API's `execution_timeout`,
        renamed because every operator has an `execution_timeout` of Airflow's. Default: that one, if the task waits for
        the job. The API's default is 24 h
    :param notebook_execution_job_id: id of the job. Default: computed for this try of this task. The first try has it
        as it is, a later one adds its number: ``{id}-2``. A job's id can be used once, so it must have something of
        the run in it, and of the index if the task is mapped
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``
    :param start_from_trigger: with `deferrable`: submit, wait, and end the task if it succeeds, in the triggerer. A
        worker is needed only after a failure, and for what Airflow or this operator does on a worker only; see
        docs/behaviour.md. Before Airflow 3.3 the task starts on a worker
    :param wait_for_completion: false: return as soon as the job is submitted
    :param poll_interval: seconds between looks at the job, or a timedelta; in the triggerer an upper bound, which looks
        more often while an end is likely, within ``[nbjob] max_requests_per_minute``
    :param cancel_on_kill: stop the job when the task is killed, times out, is interrupted by Ctrl-C, or is ended or
        cleared by a user. A worker or triggerer that is restarted stops nothing if the task goes on. False: the log has
        the command that stops the job
    :param durable: submit once: a create whose answer was lost is not performed twice, and a retry goes on with the job
        that a try before it left active, or that succeeded without being returned. A cleared task gets a new job. False
        lets the API mint the id, unless you give one, and each try submits anew
    :param accept_partial_success: take PARTIALLY_SUCCEEDED for a success
    :param collect_results: return what the notebook handed out, with scrapbook's `glue` or as the last expression of a
        cell tagged ``result``, under `results`. True: the task needs them, see `on_output_error`. Default: they are
        collected if the executed notebook can be read. False: the executed notebook of a success is not read
    :param result_max_bytes: size of all results as JSON; the largest become null if they are larger. Default: 48 KiB
    :param log_output: show the outputs of all cells in the task's log
    :param fail_on_cell_error: fail if a job SUCCEEDED but a cell raised, and is not tagged ``raises-exception``
    :param on_output_error: what to do if the job is a success, but its executed notebook was not written or cannot be
        read. ``"fail"``: fail if anything is read of it; ``"warn"``: only warn. Default: fail if
        `fail_on_cell_error`, `log_output` or ``collect_results=True`` was given, else warn. `output_error` of the
        result says what happened. A retry reads the notebook of the same job again and runs no new one
    :param max_output_bytes: a larger executed notebook is not read. Default: 256 MiB
    :param multiple_outputs: push `output_notebook_uri`, `job_state` and `results` under XCom keys of their own too.
        ``task.output["results"]["auc"]`` works either way; after `expand`, and in `xcom_pull`, it needs a key
    :param xcom_keys: names of further parts of the result, or of results, that get an XCom key. Default: none
    :return: the result, see `JobResult.to_xcom`
    :raises InvalidJob: for bad input; never retried
    :raises JobFailed: with `cell`, `ename`, `evalue` and `traceback` if a cell failed; and `JobCancelled`,
        `JobExpired`, `JobTimeout`, `JobLost`, by the way the job ended
    :raises JobUnwatched: if the wait ended and nothing says that the job did; the job is not stopped
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "gcs_notebook_source",
        "direct_notebook_source",
        "dataform_repository_source",
        "parameters",
        "secret_parameters",
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
    template_fields_renderers = dict.fromkeys(
        ("custom_environment_spec", "labels", "parameters", "secret_parameters"), "json"
    )
    rules = {
        **{name: rule for name, rule in JobOperator.rules.items() if name != "location"},  # which the job's rules judge
        **END_RULES,
        **dict.fromkeys(
            ("wait_for_completion", "cancel_on_kill", "durable", "default_labels", "starts_in_triggerer"),
            checks.boolean,
        ),
        "poll_interval": checks.poll_interval,
    }
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        gcs_notebook_source: str | Mapping[str, Any] | None = None,
        direct_notebook_source: str | Path | bytes | Mapping[str, Any] | None = None,
        dataform_repository_source: str | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        secret_parameters: Mapping[str, str] | None = None,
        notebook_runtime_template_resource_name: str | None = None,
        custom_environment_spec: Mapping[str, Any] | None = None,
        workbench_runtime: Mapping[str, Any] | None = None,
        kernel_name: str | None = None,
        gcs_output_uri: str | None = None,
        service_account: str | None = None,
        execution_user: str | None = None,
        display_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        default_labels: bool = True,
        encryption_spec: str | Mapping[str, str] | None = None,
        job_timeout: timedelta | float | str | None = None,
        notebook_execution_job_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        wait_for_completion: bool = True,
        poll_interval: float | timedelta = POLL_SECONDS,
        cancel_on_kill: bool = True,
        durable: bool = True,
        accept_partial_success: bool = False,
        collect_results: bool | None = None,
        result_max_bytes: int = RESULT_MAX_BYTES,
        log_output: bool = False,
        fail_on_cell_error: bool = False,
        on_output_error: str | None = None,
        max_output_bytes: int = OUTPUT_MAX_BYTES,
        multiple_outputs: bool = True,
        xcom_keys: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            start_from_trigger=start_from_trigger, multiple_outputs=multiple_outputs, xcom_keys=xcom_keys, **kwargs
        )
        self.gcs_notebook_source = gcs_notebook_source
        self.direct_notebook_source = untemplated(direct_notebook_source)
        self.dataform_repository_source = dataform_repository_source
        self.parameters = parameters
        self.secret_parameters = secret_parameters
        self.notebook_runtime_template_resource_name = notebook_runtime_template_resource_name
        self.custom_environment_spec = custom_environment_spec
        self.workbench_runtime = workbench_runtime
        self.kernel_name = kernel_name
        self.gcs_output_uri = gcs_output_uri
        self.service_account = service_account
        self.execution_user = execution_user
        self.display_name = display_name
        self.labels = labels
        self.default_labels = default_labels
        self.encryption_spec = encryption_spec
        self.job_timeout = job_timeout
        self.notebook_execution_job_id = notebook_execution_job_id
        self.deferrable = deferrable
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval.total_seconds() if isinstance(poll_interval, timedelta) else poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.durable = durable
        self.accept_partial_success = accept_partial_success
        self.collect_results = collect_results
        self.result_max_bytes = result_max_bytes
        self.log_output = log_output
        self.fail_on_cell_error = fail_on_cell_error
        self.on_output_error = on_output_error
        self.max_output_bytes = max_output_bytes
        self._submission: Submission | None = None  # of the try that runs
        self.check_known()

    def perform(self, context: Context) -> dict[str, Any]:
        """Submit the job, then wait for it: here, or in the triggerer."""
        mask_parameters(self.parameters)
        submission = self._begin(context)
        job = None
        with submission.stopped_on_error(self.execution_timeout):
            check_unrendered(self, submission.tries)
            if not submission.adopt(self._is_success):
                submission.submit(*new_job(self, submission))
            submission.say_how_to_stop()
            self._push_job(submission)
            if self.wait_for_completion:
                job = self._wait(submission, end_time_of_try(context["ti"], self.execution_timeout))
        if job is None:
            return self.push_keys(submission.ti, submission.look(), self.log)
        return self._conclude(submission, job)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None, end_time: float | None = None
    ) -> dict[str, Any]:
        """Go on after the trigger's event.

        :param end_time: the deadline, which Airflow 3.1 cannot tell again: it has forgotten when this try started
        """
        end = JobEvent.from_payload(event)
        if end.outcome == START:
            self.log.info("The triggerer left it to a worker to start this task: %s", end.message)
            forget_earlier(context["ti"], self.pushed_keys, self.log)
            self.check_rendered()
            return self.perform(context)
        if not JobName.is_one(end.name):
            raise JobEvent.unusable(event)
        mask_parameters(self.parameters)  # this is another process than that which submitted the job
        submission = self._begin(context, name=JobName.parse(end.name), steps=end.steps)
        with submission.stopped_on_error(self.execution_timeout):
            end.check_watched()
            if end.outcome == TIMEOUT:
                raise JobTimeout(end.message)
            if end_time is None:
                end_time = end_time_of_try(context["ti"], self.execution_timeout)
            job = None if end.result else self._ended_job(submission, end_time, seen=end.job_state)
        return self._conclude(submission, job, end.result)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a trigger's event; stop the job if Airflow gave up the trigger that has submitted it."""
        if not (self.starts_in_triggerer and next_method == TRIGGER_FAILED):
            return super().resume_execution(next_method, next_kwargs, context)
        submission = self._begin(context)
        with submission.stopped_on_error(self.execution_timeout):
            submission.name = submission.own_name
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Stop the job when Airflow ends this task on the worker; a deferred one is stopped by its trigger.

        A worker that is shut down, while its task is to be tried again, leaves the job to the next try.
        """
        if self._submission:
            self._submission.kill()

    def check_rendered(self) -> None:
        """Refuse wrong arguments of the connection; those of the job are checked when one is submitted.

        A job that an earlier try left is adopted even if the arguments of a new one have become wrong.
        """
        if problems := checks.problems_of({name: getattr(self, name) for name in self.rules}, self.rules):
            raise InvalidJob(problems)

    def _begin(self, context: Context, **known: Any) -> Submission:
        self._submission = submission_of(self, context, **known)
        return self._submission

    def _is_success(self, job: Any) -> bool:
        from airflow_provider_nbjob.lifecycle.outcome import conclusion_for

        return conclusion_for(self).is_success(self.hook, job, self.log)

    def _push_job(self, submission: Submission, end: JobEnd | None = None) -> None:
        self.job_end = end
        push_job(
            self,
            submission.ti,
            job=submission.job,
            project_id=submission.project,
            gcs_output_uri=submission.gcs_output_uri,
            connection=self.connection_arguments(),
            steps=submission.steps,
            end=end,
        )

    def _wait(self, submission: Submission, end_time: float | None) -> Any:
        """Wait until the job has ended, here or in the triggerer, and return it."""
        if self.deferrable:
            from airflow_provider_nbjob.lifecycle.outcome import conclusion_arguments

            submission.defer()
            self.defer(
                trigger=NotebookExecutionJobTrigger(
                    name=str(submission.job),
                    **self.connection_arguments(),
                    poll_interval=self.poll_interval,
                    end_time=end_time,
                    cancel_on_kill=self.cancel_on_kill,
                    project_id=self.project_id,
                    conclusion=conclusion_arguments(self),
                ),
                method_name="execute_complete",
                kwargs={"end_time": end_time},
            )
        return self._ended_job(submission, end_time)

    def _ended_job(self, submission: Submission, end_time: float | None, *, seen: JobState | None = None) -> Any:
        """Poll the job until it has ended, and return it.

        A job that was adopted and then stopped is replaced by a new one: once, as that is this try's own.

        :param seen: the state in which the trigger saw the job end
        """
        if job := submission.wait(poll_interval=self.poll_interval, end_time=end_time, seen=seen):
            return job
        submission.submit(*new_job(self, submission))
        submission.say_how_to_stop()
        self._push_job(submission)
        return self._wait(submission, end_time)

    def _conclude(self, submission: Submission, job: Any, result: JobResult | None = None) -> dict[str, Any]:
        """Return what the task returns of a job that has ended.

        :param result: what the triggerer found out of it
        """
        # A create of an earlier try may have been on its way when this one looked for jobs left behind.
        submission.stop_others()
        result = result or self._result_of(submission, job)
        self.log.info("Notebook job %s ended as %s", result.job_id, result.job_state)
        self.log.info("%s", result.output_line)
        return self.push_keys(submission.ti, result, self.log)

    def _result_of(self, submission: Submission, job: Any) -> JobResult:
        from airflow_provider_nbjob.lifecycle.outcome import conclusion_for

        try:
            return conclusion_for(self).of(self.hook, job, self.log, note=lambda end: self._push_job(submission, end))
        except JobExpired as error:
            if self.job_timeout is None and self.execution_timeout:
                raise JobTimeout(f"Notebook job {job.name} exceeded {self.execution_timeout}.\n{error}") from None
            raise
        except OutputUnavailable as error:
            if self.durable:
                raise  # another try finds the job that succeeded, and reads its notebook again
            raise never_retried(error) from None  # another try would run the notebook again
