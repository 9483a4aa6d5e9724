"""Submit notebook jobs and wait for them; read, list and delete them.

Importing this module loads nothing of Google's: parsing a DAG costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred, conf

from airflow_provider_nbjob.airflow_compat import is_tasks_test, runs_in_process
from airflow_provider_nbjob.arguments.checked_task import END_RULES
from airflow_provider_nbjob.exceptions import (
    ApiError,
    CreateUnanswered,
    InvalidJob,
    JobExpired,
    JobLost,
    JobTimeout,
    JobUnwatched,
    NotebookExecutionJobError,
    OutputUnavailable,
)
from airflow_provider_nbjob.job import JobName, JobState, checks, state_of
from airflow_provider_nbjob.job.checks import is_nothing
from airflow_provider_nbjob.job.intervals import POLL_SECONDS
from airflow_provider_nbjob.job.mark import MARK_LABEL, Mark, new_nonce, problems_of_mapped_id
from airflow_provider_nbjob.job.record import JobEnd, JobSteps
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.lifecycle.cancellation import (
    KILL_SECONDS,
    list_command,
    stop_command,
    stop_interrupted,
    stop_quietly,
    stop_unless_tried_again,
)
from airflow_provider_nbjob.lifecycle.command_end import CommandInterrupted, at_the_end, taken_over
from airflow_provider_nbjob.lifecycle.final_errors import never_retried
from airflow_provider_nbjob.lifecycle.recovery import EarlierTries, answer_to, existing
from airflow_provider_nbjob.lifecycle.task_output import HasResults, push_results
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.links.notebook_execution_job import LINKS, push_job
from airflow_provider_nbjob.masking import mask_parameters, redact
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, RESULT_MAX_BYTES
from airflow_provider_nbjob.notebook.unknown import UNKNOWN
from airflow_provider_nbjob.operators.base import JobOperator
from airflow_provider_nbjob.operators.existing_jobs import (
    DeleteNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.operators.notebook_argument import problems_of_source, warn_if_serialized
from airflow_provider_nbjob.operators.templating import untemplated, without_nothing
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = [
    "CreateNotebookExecutionJobOperator",
    "DeleteNotebookExecutionJobOperator",
    "GetNotebookExecutionJobOperator",
    "ListNotebookExecutionJobsOperator",
]

_JOB_FIELDS = tuple(field.name for field in fields(NotebookExecutionJobSpec))


STOPPED = (JobState.CANCELLING, JobState.CANCELLED)


class CreateNotebookExecutionJobOperator(HasResults, JobOperator):
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
        renamed because every operator has an `execution_timeout` of Airflow's; default: that one, where the task waits
        for the job. The API's default is 24 h
    :param notebook_execution_job_id: id of the job. Default: computed for this try of this task. The first try has it
        as it is, a later one adds its number: ``{id}-2``. A job's id can be used once, so it must have something of
        the run in it, and of the index if the task is mapped
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``
    :param wait_for_completion: false: return as soon as the job is submitted
    :param poll_interval: seconds between looks at the job, or a timedelta
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
    :param multiple_outputs: push each part of the result, and each of the `results`, under an XCom key of its own too.
        ``task.output["output_notebook_uri"]`` and ``task.output["results"]["auc"]`` work either way; after `expand`,
        and in `xcom_pull`, they need these keys
    :return: the result, see `JobResult.to_xcom`
    :raises InvalidJob: for bad input; never retried
    :raises JobFailed: with `cell`, `ename`, `evalue` and `traceback` where a cell failed; and `JobCancelled`,
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
        **dict.fromkeys(("wait_for_completion", "cancel_on_kill", "durable", "default_labels"), checks.boolean),
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
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
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
        self._job_name: str | None = None
        self._unanswered: Mark | None = None  # of a create that has had no answer yet
        self._sent_display_name = ""
        self._tries_here: Tries | None = None
        self._ti: Any = None
        self._steps = JobSteps()
        self.check_known()

    def perform(self, context: Context) -> dict[str, Any]:
        """Submit the job, then wait for it: here, or in the triggerer."""
        self._ti, self._tries_here = context["ti"], None
        mask_parameters(self.parameters)
        with self._stopping_the_job_on_error():
            self._check_mapped_id(context)
            self._job_name = self._adopt(context) or self._create(context)
            self._say_how_to_stop()
            self._push_job(context)
            if not self.wait_for_completion:
                return self._submitted(context)
            job = self._wait(context, self._end_time(context))
        return self._conclude(context, job)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None, end_time: float | None = None
    ) -> dict[str, Any]:
        """Go on after the trigger's event.

        :param end_time: the deadline, which Airflow 3.1 cannot tell again: it has forgotten when this try started
        """
        if not event or not JobName.is_one(event.get("name")):
            raise NotebookExecutionJobError(f"The trigger returned no usable event: {event!r}")
        self._ti, self._tries_here = context["ti"], None
        mask_parameters(self.parameters)  # this is another process than that which submitted the job
        self._job_name = event["name"]
        self._steps = JobSteps.from_xcom(event.get("states"))
        outcome, message = event.get("outcome"), redact(event.get("message"))
        with self._stopping_the_job_on_error():
            if outcome == "timeout":
                raise JobTimeout(message)
            if outcome not in ("finished", "lost"):
                raise JobUnwatched(f"Waiting for notebook job {event['name']} failed: {message}", "UNKNOWN")
            job = self._ended_job(context, end_time or self._end_time(context), seen=event.get("job_state"))
        return self._conclude(context, job)

    def on_kill(self) -> None:
        """Stop the job when Airflow ends this task on the worker; a deferred one is stopped by its trigger.

        A worker that is shut down, while its task is to be tried again, leaves the job to the next try.
        """
        if not self._job_name or not self.cancel_on_kill:
            return
        if self.durable:
            stop_unless_tried_again(self._ti, self._job_name, stop=self._stop, log=self.log)
        else:
            self._stop(grace=KILL_SECONDS)

    # --- inside --------------------------------------------------------------------------------------------

    @classmethod
    def argument_names(cls) -> set[str]:
        """Return the names of the arguments that `problems_in` judges."""
        return {*super().argument_names(), *_JOB_FIELDS, "parameters", "secret_parameters", "dag"}

    @classmethod
    def problems_in(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with arguments; see `CheckedTask`. No notebook is read."""
        job = without_nothing({name: values[name] for name in _JOB_FIELDS})
        if job["display_name"] is None:
            job["display_name"] = UNKNOWN  # the default one, which the run gives
        return [
            *NotebookExecutionJobSpec(**job).problems(reading=False),
            *super().problems_in(values),
            *problems_of_source(job["direct_notebook_source"], values["dag"]),
            *_problems_of_parameters(values["parameters"], values["secret_parameters"]),
        ]

    @classmethod
    def check_expanded(cls, given: Mapping[str, Any], mapped: Mapping[str, Any]) -> None:
        """Refuse what is wrong with a mapped task, such as a job id that all its instances share."""
        super().check_expanded(given, mapped)
        _refuse_shared_id({**given, **mapped})

    @classmethod
    def check_expanded_kwargs(cls, given: Mapping[str, Any], mapped: Iterable[Mapping[str, Any]]) -> None:
        """Refuse what is wrong with a mapped task; see `check_expanded`."""
        instances = list(mapped)
        super().check_expanded_kwargs(given, instances)
        if not any("notebook_execution_job_id" in instance for instance in instances):
            _refuse_shared_id(given)

    @classmethod
    def warn_about(cls, arguments: Mapping[str, Any]) -> None:
        """Warn about a notebook that stands in the DAG."""
        warn_if_serialized(arguments.get("direct_notebook_source"))

    def check_rendered(self) -> None:
        """Refuse what is wrong with the way to the API; the job is checked when one is to be submitted.

        A job that an earlier try left is gone on with, whatever has become of the arguments of a new one.
        """
        if problems := checks.problems_of({name: getattr(self, name) for name in self.rules}, self.rules):
            raise InvalidJob(problems)

    def _spec(self, **changes: Any) -> NotebookExecutionJobSpec:
        values = without_nothing({name: getattr(self, name) for name in _JOB_FIELDS})
        return NotebookExecutionJobSpec(**{**values, **changes})

    def _tries(self, context: Context) -> Tries:
        if self._tries_here is None:
            test = new_nonce()[:6] if is_tasks_test() else ""
            self._tries_here = Tries.from_context(context, own_id=self._own_id, test=test)
        return self._tries_here

    @property
    def _own_id(self) -> str | None:
        """The job id that the arguments name, or None if they name none or a template came out as nothing."""
        own_id = self.notebook_execution_job_id
        return None if is_nothing(own_id) else str(own_id)

    def _project(self) -> str:
        return self.hook.get_project_id(self.project_id, str(self.location))

    def _own_name(self, context: Context) -> JobName:
        """Return the name of the job that this try submits, unless the API mints its id."""
        return JobName(self._project(), str(self.location), self._tries(context).job_id())

    def _check_mapped_id(self, context: Context) -> None:
        """Refuse an id of the user's that all instances of a mapped task would share.

        :raises InvalidJob: if so
        """
        is_mapped = context["ti"].map_index not in (None, -1)
        if self._own_id is None or not is_mapped or not self.has_dag():
            return
        unrendered = self.dag.get_task(self.task_id)
        arguments = getattr(unrendered, "partial_kwargs", None) or vars(unrendered)
        if problems := problems_of_mapped_id(arguments.get("notebook_execution_job_id")):
            raise InvalidJob(problems)

    def _earlier_tries(self, context: Context) -> EarlierTries | None:
        """Return what may be left of earlier tries, or None if there were none or their jobs cannot be told.

        `airflow tasks test` on a date that has a run must touch none of the run's jobs.
        """
        if not self.durable or context["ti"].try_number == 1 or is_tasks_test():
            return None
        return EarlierTries(self.hook, self._tries(context), self._own_name(context))

    def _adopt(self, context: Context) -> str | None:
        """Return the name of a job that an earlier try left, to go on with; any other that was left is stopped."""
        earlier = self._earlier_tries(context)
        if earlier is None:
            return None
        from airflow_provider_nbjob.lifecycle.outcome import conclusion_for

        conclusion = conclusion_for(self)
        adopted = earlier.find_adoptable(
            lambda job: conclusion.is_success(self.hook, job, self.log), display_name=self._display_name(context)
        )
        self._stop_others(context, keep=adopted)
        if adopted:
            self.log.info("Going on with notebook job %s, which an earlier try submitted", adopted)
        return adopted

    def _stop_others(self, context: Context, keep: str | None) -> None:
        """Stop what earlier tries left active, but one job."""
        earlier = self._earlier_tries(context)
        if earlier and self.cancel_on_kill:
            earlier.stop_others(keep, display_name=self._display_name(context))

    def _create(self, context: Context) -> str:
        """Submit a new job."""
        from airflow_provider_nbjob.lifecycle.notebook_source import resolve_source
        from airflow_provider_nbjob.notebook.secrets import full_names

        tries = self._tries(context)
        has_id = self.durable or self._own_id is not None
        spec = self._spec(
            display_name=self._display_name(context),
            direct_notebook_source=self._direct_notebook_source(),
            notebook_execution_job_id=tries.job_id() if has_id else None,
            job_timeout=self._job_timeout,
        )
        if problems := spec.problems() + _problems_of_parameters(self.parameters, self.secret_parameters):
            raise InvalidJob(problems)
        project = self._project()
        secrets = self.secret_parameters and full_names(self.secret_parameters, project)
        spec = resolve_source(self.hook, spec, self.parameters, self.log, secrets=secrets)
        if tries.test:
            self._say_what_the_run_has(context)
        mark = tries.new_mark()
        job = spec.to_api(project)  # validated above: the hook would read and check the notebook again
        job["labels"] = self._labels(context, spec.labels, mark)
        if not has_id:
            return self._send(job, None, mark)
        try:
            return self._send(job, tries.job_id(), mark)
        except ApiError as error:
            if error.code != "ALREADY_EXISTS":
                raise
            return self._shared(context) or self._send(job, self._id_beside_the_taken_one(context, mark), mark)

    def _send(self, job: Mapping[str, Any], job_id: str | None, mark: Mark) -> str:
        """Send a create, and keep account of whether there may be a job."""
        project, location = self._project(), str(self.location)
        self._unanswered, self._sent_display_name = mark, job["display_name"]
        self._job_name = str(JobName(project, location, job_id)) if job_id else None
        try:
            name = self.hook.create_notebook_execution_job(
                job=job,
                location=location,
                project_id=project,
                notebook_execution_job_id=job_id,
                default_labels=self.default_labels,
            )
        except CreateUnanswered:
            raise
        except (ApiError, InvalidJob):
            self._unanswered = self._job_name = None  # nothing was submitted: there is nothing to stop
            raise
        self._job_name, self._unanswered = name, None
        self.log.info("Submitted notebook job %s", name)
        return name

    def _labels(self, context: Context, labels: Mapping[str, str] | None, mark: Mark) -> Mapping[str, str]:
        """Return the given labels with the default ones, unless they are not wanted."""
        if not self.default_labels:
            return labels or {}
        from airflow import __version__

        from airflow_provider_nbjob.job.labels import default_labels, merged

        ti = context["ti"]
        defaults = default_labels(dag_id=ti.dag_id, task_id=ti.task_id, airflow_version=__version__)
        return merged(labels, {MARK_LABEL: mark.label, **defaults})

    def _taken_by(self, context: Context) -> Any:
        """Return the job that has this try's id, or None if it was deleted: its id may stay taken for a while."""
        return existing(self.hook, str(self._own_name(context)))

    def _shared(self, context: Context) -> str | None:
        """Return the name of the job that another process of this same try submitted, if it was not stopped since.

        An Airflow that is overloaded may run a try again from its beginning; the job may even have ended by then.
        """
        job = self._taken_by(context)
        mark = job and Mark.of(job.labels)
        if not mark or not self._tries(context).is_of_this_try(mark) or state_of(job) in STOPPED:
            return None
        self.log.warning("Going on with notebook job %s, which another process of this try submitted", job.name)
        return str(job.name)

    def _id_beside_the_taken_one(self, context: Context, mark: Mark) -> str:
        """Return an id to use in place of this try's own one, which a job has that this try did not submit.

        :raises InvalidJob: if the id is of the user's choice, and the job of somebody else
        """
        tries, job = self._tries(context), self._taken_by(context)
        found = f"a job that was deleted has the id {tries.job_id()}"
        if job:
            created = job.create_time.isoformat() if job.create_time else "at an unknown time"
            found = (
                f"{job.name} has this try's id, but this try did not submit it: it is {redact(job.display_name)!r},"
                f" created {created}, and {state_of(job).description}"
            )
        holder = job and Mark.of(job.labels)
        if tries.own_id and job and not (holder and tries.is_of_this_task(holder)):
            raise InvalidJob(
                f"notebook_execution_job_id: {tries.own_id!r} is taken: {found}. It is left as it is. A job's id can be"
                " used once only: put something of the run into it, such as 'train-{{ ts_nodash | lower }}'"
            )
        other = tries.other_job_id(mark)
        self.log.warning(
            "The id is taken: %s. It is left as it is; this try submits a job of its own, %s", found, other
        )
        return other

    def _say_what_the_run_has(self, context: Context) -> None:
        """Log which job the run has that `airflow tasks test` was given, and that it is left alone."""
        tries = replace(self._tries(context), test="")
        name = JobName(self._project(), str(self.location), tries.job_id())
        try:
            job = self.hook.get_notebook_execution_job(name=str(name), retry=False)
        except NotebookExecutionJobError:  # there is none, or nothing can be said
            return
        self.log.warning(
            "The run that `airflow tasks test` was given has notebook job %s already, which is %s. It is left as it is;"
            " the test submits a job of its own.",
            *(name.job_id, state_of(job).description),
        )

    def _say_how_to_stop(self) -> None:
        if not self.cancel_on_kill:
            self.log.info("The job goes on if this task is ended. This command stops it: %s", self._stop_command())

    def _stop_command(self) -> str:
        if self._job_name:
            return stop_command(self._job_name, is_workbench=self.workbench_runtime is not None)
        return list_command(self._project(), str(self.location), self._sent_display_name)

    @property
    def _job_timeout(self) -> timedelta | float | str | None:
        """The API's own limit: what was given, else the task's, should Airflow be in no state to keep that."""
        given: timedelta | float | str | None = self._spec().job_timeout
        return self.execution_timeout if given is None and self.wait_for_completion else given

    def _display_name(self, context: Context) -> str:
        return self.display_name or self._tries(context).default_display_name

    def _direct_notebook_source(self) -> bytes | Path | None:
        # Again: an XComArg may have come out as a notebook, or as nothing.
        source = untemplated(self._spec().direct_notebook_source)
        if not isinstance(source, str):
            return source
        folder = Path(self.dag.fileloc).parent if self.has_dag() else Path()
        return folder / source

    def _push_job(self, context: Context, end: JobEnd | None = None) -> None:
        push_job(
            context,
            name=str(self._job_name),
            project_id=self._project(),
            gcs_output_uri=str(self.gcs_output_uri),
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
            api_endpoint=self.api_endpoint,
            steps=self._steps,
            end=end,
        )

    def _wait(self, context: Context, end_time: float | None) -> Any:
        """Wait until the job has ended, here or in the triggerer, and return it."""
        if self.deferrable:
            if runs_in_process():
                at_the_end(str(self._job_name), self._stop_interrupted)
            self.defer(
                trigger=NotebookExecutionJobTrigger(
                    name=str(self._job_name),
                    gcp_conn_id=self.gcp_conn_id,
                    impersonation_chain=self.impersonation_chain,
                    api_endpoint=self.api_endpoint,
                    poll_interval=self.poll_interval,
                    end_time=end_time,
                    cancel_on_kill=self.cancel_on_kill,
                ),
                method_name="execute_complete",
                kwargs={"end_time": end_time},
            )
        return self._ended_job(context, end_time)

    def _ended_job(self, context: Context, end_time: float | None, *, seen: str | None = None) -> Any:
        """Look at the job until it has ended, and return it.

        One that was taken over and then stopped, by a former owner that Airflow had given up but that lived on, is
        replaced by a new one: once, as that is this try's own.

        :param seen: the state in which the trigger saw it end: it stands, should the job have been deleted since
        """
        name = str(self._job_name)
        is_adopted = self.durable and self._tries(context).is_earlier(JobName.parse(name).job_id)
        try:
            job = self.hook.wait_for_notebook_execution_job(
                name=name, poll_interval=self.poll_interval, end_time=end_time, steps=self._steps
            )
        except JobLost:
            if seen is not None and JobState(seen).is_terminal:
                self.log.warning("Notebook job %s was deleted after it had ended as %s", name, seen)
                job = self._job_as_known(context, JobState(seen))
            elif is_adopted:
                job = None
            else:
                raise
        if job is not None and not (is_adopted and state_of(job) is JobState.CANCELLED):
            return job
        self.log.warning("Notebook job %s was stopped after it had been taken over from an earlier try", name)
        self._job_name = self._create(context)
        self._say_how_to_stop()
        self._steps = JobSteps()
        self._push_job(context)
        return self._wait(context, end_time)

    def _end_time(self, context: Context) -> float | None:
        """Airflow's `execution_timeout` from the start of this try: Airflow 3.3 ignores it while a task is deferred."""
        started = context["ti"].start_date
        if self.execution_timeout is None or started is None:
            return None
        return float(started.timestamp() + self.execution_timeout.total_seconds())

    def _submitted(self, context: Context) -> dict[str, Any]:
        """Return the job of a task that does not wait, as it is; that it cannot be looked at is no failure."""
        from airflow_provider_nbjob.hooks.notebook_execution_job import masked_result

        name = str(self._job_name)
        try:
            job = self.hook.get_notebook_execution_job(name=name)
        except JobLost:
            raise
        except NotebookExecutionJobError as error:
            self.log.warning("Notebook job %s was submitted, and its state is not known: %s", name, error)
            job = self._job_as_known(context, JobState.UNSPECIFIED)
        return masked_result(job).to_xcom()

    def _job_as_known(self, context: Context, state: JobState) -> Any:
        return self.hook.job_as_known(
            name=str(self._job_name),
            job_state=state,
            display_name=self._display_name(context),
            gcs_output_uri=str(self.gcs_output_uri),
        )

    def _conclude(self, context: Context, job: Any) -> dict[str, Any]:
        from airflow_provider_nbjob.lifecycle.outcome import conclusion_for

        # A create of an earlier try may have been on its way when this one looked for jobs left behind.
        self._stop_others(context, keep=job.name)
        try:
            result = conclusion_for(self).of(self.hook, job, self.log, note=lambda end: self._push_job(context, end))
        except JobExpired as error:
            if self.job_timeout is None and self.execution_timeout:
                raise JobTimeout(f"Notebook job {job.name} exceeded {self.execution_timeout}.\n{error}") from None
            raise
        except OutputUnavailable as error:
            if self.durable:
                raise  # another try finds the job that succeeded, and reads its notebook again
            raise never_retried(error) from None  # another try would run the notebook again
        self.log.info("Notebook job %s ended as %s", result.job_id, result.job_state)
        self.log.info("%s", result.output_line)
        push_results(self, context["ti"], result.results, self.log)
        return result.to_xcom()

    @contextmanager
    def _stopping_the_job_on_error(self) -> Iterator[None]:
        """Leave no job behind if the submit or the wait fails or is interrupted; bad input is not tried again."""
        try:
            yield
        except (TaskDeferred, JobLost, JobUnwatched):  # there is nothing to stop, or nothing says that it should be
            raise
        except InvalidJob as error:
            self._stop()
            raise never_retried(error) from error
        except AirflowTaskTimeout as error:
            self._stop()
            what = f"Notebook job {self._job_name}" if self._job_name else "Submitting the notebook job"
            raise JobTimeout(f"{what} exceeded {self.execution_timeout}") from error
        except Exception:
            self._stop()
            raise
        except BaseException as error:  # Ctrl-C in `dags test`, sys.exit, the end of a generator: no on_kill is called
            is_of_a_command = runs_in_process()  # asked before the stop, whose requests change the answer for a moment
            self._stop_interrupted()
            if isinstance(error, KeyboardInterrupt) and is_of_a_command:
                raise CommandInterrupted("Interrupted: the task is not tried again") from error
            raise

    def _stop(self, **options: Any) -> None:
        """Stop the job, unless `cancel_on_kill` is off; never raises, so that the first error is the one seen."""
        if not self._may_have_a_job or not self.cancel_on_kill:
            return
        try:
            self._stop_what_there_is(**options)
        except AirflowTaskTimeout:  # Airflow's alarm rings once, and did so in the midst of this
            self._stop_what_there_is(**options)

    def _stop_interrupted(self) -> None:
        """Stop the job in a bounded time, or log the command that does."""
        if not self._may_have_a_job:
            return
        taken_over(str(self._job_name))
        what = f"notebook job {self._job_name or repr(self._sent_display_name)}"
        if self.cancel_on_kill:
            stop_interrupted(self._stop_what_there_is, self.log, what=what, command=self._stop_command())
        else:
            self.log.warning("Interrupted: %s goes on. This command stops it: %s", what, self._stop_command())

    @property
    def _may_have_a_job(self) -> bool:
        return self._job_name is not None or self._unanswered is not None

    def _stop_what_there_is(self, **options: Any) -> bool:
        """Stop the job, or what a create made that got no answer; return whether nothing is left to stop."""
        name = self._job_name
        if self._unanswered:
            try:
                job = answer_to(
                    self.hook,
                    self._unanswered,
                    name=name,
                    location=str(self.location),
                    project_id=self._project(),
                    display_name=self._sent_display_name,
                )
            except NotebookExecutionJobError as error:
                self.log.error(
                    "The notebook job may have been submitted, and then runs and costs: %s\nThis command %s it: %s",
                    *(error, "stops" if name else "shows", self._stop_command()),
                )
                return False
            if job is None:
                self.log.info("No notebook job was submitted")
                return True
            name = job.name
        return stop_quietly(self.hook, str(name), is_workbench=self.workbench_runtime is not None, **options)


def _refuse_shared_id(arguments: Mapping[str, Any]) -> None:
    if problems := problems_of_mapped_id(arguments.get("notebook_execution_job_id")):
        raise never_retried(InvalidJob(problems))


def _problems_of_parameters(parameters: Any, secrets: Any) -> list[str]:
    """Return what is wrong with parameters, but with those that only the run knows."""
    problems = []
    if parameters is not None and parameters is not UNKNOWN:
        from airflow_provider_nbjob.notebook.parameters import problems_of

        problems += problems_of(parameters)
    if secrets is not None and secrets is not UNKNOWN:
        from airflow_provider_nbjob.notebook.secrets import problems_of_secrets

        problems += problems_of_secrets(secrets, parameters)
    return problems
