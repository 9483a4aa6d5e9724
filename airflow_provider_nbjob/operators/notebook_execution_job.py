"""Submit notebook jobs and wait for them; read, list and delete them.

Importing this module loads nothing of Google's: parsing a DAG costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, conf

from airflow_provider_nbjob import names
from airflow_provider_nbjob.adoption import EarlierTries
from airflow_provider_nbjob.exceptions import (
    ApiError,
    InvalidJob,
    JobExpired,
    JobLost,
    JobTimeout,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.failures import never_retried
from airflow_provider_nbjob.job import JobName, JobState, state_of
from airflow_provider_nbjob.links.notebook_execution_job import LINKS, push_job
from airflow_provider_nbjob.masking import mask_parameters, redact
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, RESULT_MAX_BYTES
from airflow_provider_nbjob.operators.base import JobOperator
from airflow_provider_nbjob.operators.existing_jobs import (
    DeleteNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.operators.templating import is_templated, untemplated
from airflow_provider_nbjob.record import JobEnd, JobSteps
from airflow_provider_nbjob.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.stopping import KILL_SECONDS, stop_quietly, stop_unless_tried_again
from airflow_provider_nbjob.tries import Tries
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = [
    "CreateNotebookExecutionJobOperator",
    "DeleteNotebookExecutionJobOperator",
    "GetNotebookExecutionJobOperator",
    "ListNotebookExecutionJobsOperator",
]


class CreateNotebookExecutionJobOperator(JobOperator):
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
    :param encryption_spec: name of a KMS key, or ``{"kms_key_name": ...}``
    :param job_timeout: time limit of the run, as timedelta, seconds, or ``"3600s"``: the API's `execution_timeout`,
        renamed because every operator has an `execution_timeout` of Airflow's; default: that one, where the task waits
        for the job. The API's default is 24 h
    :param notebook_execution_job_id: id of the job. Default: computed for this try of this task
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``
    :param wait_for_completion: false: return as soon as the job is submitted
    :param poll_interval: seconds between looks at the job
    :param cancel_on_kill: stop the job when the task is killed, times out, or is ended or cleared by a user. A worker
        or triggerer that is restarted stops nothing where the task goes on
    :param durable: compute the job's id, so that it is submitted once: a create whose answer was lost is not performed
        twice, and a retry goes on with the job that a try before it left active, or succeeded without being returned.
        A cleared task gets a new job. False lets the API mint the id; that, or an id of your own, is submitted anew
    :param accept_partial_success: take PARTIALLY_SUCCEEDED for a success
    :param collect_results: return what the notebook handed out, with scrapbook's `glue` or as the last expression of a
        cell tagged ``result``, under `results`. False: the executed notebook of a success is not read
    :param result_max_bytes: size of all results as JSON; the largest become null where they are larger. Default: 48 KiB
    :param log_output: show the outputs of all cells in the task's log
    :param fail_on_cell_error: fail where a job SUCCEEDED but a cell raised, and is not tagged ``raises-exception``
    :param max_output_bytes: a larger executed notebook is not read. Default: 256 MiB
    :param multiple_outputs: push each part of the result under a key of its own too, so that
        ``task.output["output_notebook_uri"]`` works
    :return: the result, see `JobResult.to_xcom`
    :raises InvalidJob: for bad input; never retried
    :raises JobFailed: with `cell`, `ename`, `evalue` and `traceback` where a cell failed; and `JobCancelled`,
        `JobExpired`, `JobTimeout`, `JobLost`, by the way the job ended
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
    operator_extra_links = LINKS
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        gcs_notebook_source: str | Mapping[str, Any] | None = None,
        direct_notebook_source: str | bytes | Mapping[str, Any] | None = None,
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
        encryption_spec: str | Mapping[str, str] | None = None,
        job_timeout: timedelta | float | str | None = None,
        notebook_execution_job_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        wait_for_completion: bool = True,
        poll_interval: float = 10.0,
        cancel_on_kill: bool = True,
        durable: bool = True,
        accept_partial_success: bool = False,
        collect_results: bool = True,
        result_max_bytes: int = RESULT_MAX_BYTES,
        log_output: bool = False,
        fail_on_cell_error: bool = False,
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
        self.encryption_spec = encryption_spec
        self.job_timeout = job_timeout
        self.notebook_execution_job_id = notebook_execution_job_id
        self.deferrable = deferrable
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.durable = durable
        self.accept_partial_success = accept_partial_success
        self.collect_results = collect_results
        self.result_max_bytes = result_max_bytes
        self.log_output = log_output
        self.fail_on_cell_error = fail_on_cell_error
        self.max_output_bytes = max_output_bytes
        self._job_name: str | None = None
        self._ti: Any = None
        self._steps = JobSteps()
        self._check_what_is_known()

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the job, then wait for it: here, or in the triggerer."""
        self._ti = context["ti"]
        mask_parameters(self.parameters)
        with self._stopping_the_job_on_error():
            self._job_name = self._adopt(context) or self._create(context)
            self._push_job(context)
            if not self.wait_for_completion:
                from airflow_provider_nbjob.hooks.notebook_execution_job import masked_result

                return masked_result(self.hook.get_notebook_execution_job(name=self._job_name)).to_xcom()
            job = self._wait(context, self._end_time(context))
        return self._conclude(context, job)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None, end_time: float | None = None
    ) -> dict[str, Any]:
        """Go on after the trigger's event.

        :param end_time: the deadline, which Airflow 3.1 cannot tell again: it has forgotten when this try started
        """
        if not event or not event.get("name"):
            raise NotebookExecutionJobError(f"The trigger returned no usable event: {event!r}")
        self._ti = context["ti"]
        mask_parameters(self.parameters)  # this is another process than that which submitted the job
        self._job_name = event["name"]
        self._steps = JobSteps.from_xcom(event.get("states"))
        outcome, message = event.get("outcome"), redact(event.get("message"))
        with self._stopping_the_job_on_error():
            if outcome == "timeout":
                raise JobTimeout(message)
            if outcome not in ("finished", "lost"):
                raise NotebookExecutionJobError(f"Waiting for notebook job {event['name']} failed: {message}")
            job = self._ended_job(context, end_time or self._end_time(context))
        return self._conclude(context, job)

    def on_kill(self) -> None:
        """Stop the job when Airflow ends this task on the worker; a deferred one is stopped by its trigger.

        A worker that is shut down, while its task is to be tried again, leaves the job to the next try.
        """
        if not self._job_name or not self.cancel_on_kill:
            return
        if self._has_computed_id:
            stop_unless_tried_again(self._ti, self._job_name, stop=self._stop, log=self.log)
        else:
            self._stop(grace=KILL_SECONDS)

    # --- inside --------------------------------------------------------------------------------------------

    def _check_what_is_known(self) -> None:
        """Refuse, while the DAG is parsed, what can be known to be wrong without rendering a template."""
        spec = self._spec()
        unknown = {f.name for f in fields(spec) if is_templated(getattr(spec, f.name))}
        if self.display_name is None:
            unknown.add("display_name")
        problems = spec.problems(unknown=unknown, reading=False)  # parsing a DAG reads no files
        problems += self._problems_of_project()
        if not is_templated(self.parameters):
            problems += self._problems_of_parameters()
        if not is_templated(self.secret_parameters):
            problems += self._problems_of_secrets()
        if problems:
            raise InvalidJob(problems)

    def _problems_of_project(self) -> list[str]:
        if self.project_id is None or is_templated(self.project_id):
            return []
        try:
            names.check_project(str(self.project_id))
        except InvalidJob as error:
            return error.problems
        return []

    def _problems_of_parameters(self) -> list[str]:
        if self.parameters is None:
            return []
        from airflow_provider_nbjob.notebook.parameters import problems_of

        return problems_of(self.parameters)

    def _problems_of_secrets(self) -> list[str]:
        if self.secret_parameters is None:
            return []
        from airflow_provider_nbjob.notebook.secrets import problems_of_secrets

        return problems_of_secrets(self.secret_parameters, self.parameters)

    def _spec(self, **changes: Any) -> NotebookExecutionJobSpec:
        values = {f.name: getattr(self, f.name) for f in fields(NotebookExecutionJobSpec)}
        return NotebookExecutionJobSpec(**{**values, **changes})

    @property
    def _has_computed_id(self) -> bool:
        return self.durable and not self.notebook_execution_job_id

    def _own_name(self, context: Context) -> JobName:
        """The name of the job that this try submits, where its id is computed."""
        location = str(self.location)
        return JobName(
            self.hook.get_project_id(self.project_id, location), location, Tries.from_context(context).job_id()
        )

    def _earlier_tries(self, context: Context) -> EarlierTries | None:
        """What may be left of earlier tries; None where there were none, or their jobs cannot be told."""
        if not self._has_computed_id or context["ti"].try_number == 1:
            return None
        return EarlierTries(self.hook, Tries.from_context(context), self._own_name(context))

    def _adopt(self, context: Context) -> str | None:
        """The name of a job that an earlier try left, to go on with; any other that was left is stopped."""
        earlier = self._earlier_tries(context)
        if earlier is None:
            return None
        from airflow_provider_nbjob.conclusion import conclusion_for

        conclusion = conclusion_for(self)
        adopted = earlier.find_adoptable(lambda job: conclusion.is_success(self.hook, job, self.log))
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
        from airflow_provider_nbjob.notebook.secrets import full_names
        from airflow_provider_nbjob.operators.sources import resolve_source

        is_computed = self._has_computed_id
        spec = self._spec(
            display_name=self._display_name(context),
            direct_notebook_source=self._direct_notebook_source(),
            notebook_execution_job_id=(
                Tries.from_context(context).job_id() if is_computed else self.notebook_execution_job_id
            ),
            job_timeout=self._job_timeout,
        )
        problems = spec.problems() + self._problems_of_project()
        if problems := problems + self._problems_of_parameters() + self._problems_of_secrets():
            raise InvalidJob(problems)
        project = self.hook.get_project_id(self.project_id, spec.location)
        secrets = self.secret_parameters and full_names(self.secret_parameters, project)
        spec = resolve_source(self.hook, spec, self.parameters, self.log, secrets=secrets)
        # Nobody else computes this id: whatever has it was submitted by this try, and is ours to stop from here on.
        self._job_name = str(self._own_name(context)) if is_computed else None
        try:
            name = self.hook.create_notebook_execution_job(
                job=spec.to_api(project),  # validated above: the hook would read and check the notebook again
                location=spec.location,
                project_id=project,
                notebook_execution_job_id=spec.notebook_execution_job_id,
            )
        except (ApiError, InvalidJob) as error:
            if isinstance(error, ApiError) and error.code == "ALREADY_EXISTS" and self._job_name:
                return self._job_name
            if not error.is_transient:
                self._job_name = None  # refused: there is nothing to stop
            raise
        self.log.info("Submitted notebook job %s", name)
        return name

    @property
    def _job_timeout(self) -> timedelta | float | str | None:
        """The API's own limit: what was given, else the task's, should Airflow be in no state to keep that."""
        if self.job_timeout is None and self.wait_for_completion:
            return self.execution_timeout
        return self.job_timeout

    def _display_name(self, context: Context) -> str:
        return self.display_name or Tries.from_context(context).default_display_name

    def _direct_notebook_source(self) -> bytes | Path | None:
        source = untemplated(self.direct_notebook_source)  # again: an XComArg may have come out as a notebook
        if not isinstance(source, str):
            return source
        folder = Path(self.dag.fileloc).parent if self.has_dag() else Path()
        return folder / source

    def _push_job(self, context: Context, end: JobEnd | None = None) -> None:
        push_job(
            context,
            name=str(self._job_name),
            project_id=self.hook.get_project_id(self.project_id, str(self.location)),
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

    def _ended_job(self, context: Context, end_time: float | None) -> Any:
        """Look at the job until it has ended, and return it.

        One that was taken over and then stopped, by a former owner that Airflow had given up but that lived on, is
        replaced by a new one: once, as that is this try's own.
        """
        name = str(self._job_name)
        is_adopted = self._has_computed_id and JobName.parse(name).job_id != self._own_name(context).job_id
        try:
            job = self.hook.wait_for_notebook_execution_job(
                name=name, poll_interval=self.poll_interval, end_time=end_time, steps=self._steps
            )
            if not (is_adopted and state_of(job) is JobState.CANCELLED):
                return job
        except JobLost:
            if not is_adopted:
                raise
        self.log.warning("Notebook job %s was stopped after it had been taken over from an earlier try", name)
        self._job_name = self._create(context)
        self._steps = JobSteps()
        self._push_job(context)
        return self._wait(context, end_time)

    def _end_time(self, context: Context) -> float | None:
        """Airflow's `execution_timeout` from the start of this try: Airflow 3.3 ignores it while a task is deferred."""
        started = context["ti"].start_date
        if self.execution_timeout is None or started is None:
            return None
        return float(started.timestamp() + self.execution_timeout.total_seconds())

    def _conclude(self, context: Context, job: Any) -> dict[str, Any]:
        from airflow_provider_nbjob.conclusion import conclusion_for

        # A create of an earlier try may have been on its way when this one looked for jobs left behind.
        self._stop_others(context, keep=job.name)
        try:
            result = conclusion_for(self).of(self.hook, job, self.log, note=lambda end: self._push_job(context, end))
        except JobExpired as error:
            if self.job_timeout is None and self.execution_timeout:
                raise JobTimeout(f"Notebook job {job.name} exceeded {self.execution_timeout}.\n{error}") from None
            raise
        self.log.info("Notebook job %s ended as %s", result.job_id, result.job_state)
        self.log.info("Executed notebook: %s", result.output_notebook_uri or "none was written")
        return result.to_xcom()

    @contextmanager
    def _stopping_the_job_on_error(self) -> Iterator[None]:
        """Leave no job behind where the submit or the wait fails; bad input is not tried again."""
        try:
            yield
        except InvalidJob as error:
            self._stop()
            raise never_retried(error) from error
        except JobLost:
            raise
        except AirflowTaskTimeout as error:
            self._stop()
            what = f"Notebook job {self._job_name}" if self._job_name else "Submitting the notebook job"
            raise JobTimeout(f"{what} exceeded {self.execution_timeout}") from error
        except Exception:
            self._stop()
            raise

    def _stop(self, **options: Any) -> None:
        """Stop the job, unless `cancel_on_kill` is off; never raises, so that the first error is the one seen."""
        if not self.cancel_on_kill or not self._job_name:
            return
        try:
            stop_quietly(self.hook, self._job_name, **options)
        except AirflowTaskTimeout:  # Airflow's alarm rings once, and did so in the midst of this
            stop_quietly(self.hook, self._job_name, **options)
