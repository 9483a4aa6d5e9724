"""The job of one try of a task: submitted once or taken over from an earlier try, and stopped if the task is ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_nbjob import metrics
from airflow_provider_nbjob.airflow_compat import runs_in_process
from airflow_provider_nbjob.exceptions import (
    ApiError,
    CreateUnanswered,
    InvalidJob,
    JobLost,
    JobTimeout,
    JobUnwatched,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.job import JobName, JobResult, JobState, state_of
from airflow_provider_nbjob.job.mark import Mark
from airflow_provider_nbjob.job.record import JobSteps
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
from airflow_provider_nbjob.lifecycle.recovery import EarlierTries, answer_to
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.masking import redact

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

_STOPPED = (JobState.CANCELLING, JobState.CANCELLED)


@dataclass
class Submission:
    """The one job of a try of a task, from its submit to its end.

    :param get_hook: returns the hook; it loads Google's clients, so it is called only when the hook is needed
    :param ti: the task instance
    :param tries: its tries
    :param location: region of the job
    :param project_id: None for the connection's
    :param display_name: of the task's jobs
    :param gcs_output_uri: of the job
    :param log: of the task
    :param is_durable: the operator's `durable`
    :param cancel_on_kill: the operator's
    :param is_workbench: whether it is a Workbench job, which needs another command to stop it
    :param name: of the job; None until it is submitted
    :param steps: the states that it was seen in
    """

    get_hook: Callable[[], NotebookExecutionJobHook]
    ti: Any
    tries: Tries
    location: str
    project_id: str | None
    display_name: str
    gcs_output_uri: str
    log: Any
    is_durable: bool = True
    cancel_on_kill: bool = True
    is_workbench: bool = False
    name: JobName | None = None
    steps: JobSteps = field(default_factory=JobSteps)
    _unanswered: Mark | None = None  # of a create that has had no answer yet

    @property
    def hook(self) -> NotebookExecutionJobHook:
        """The hook."""
        return self.get_hook()

    @property
    def project(self) -> str:
        """The project's id."""
        return self.hook.get_project_id(self.project_id, self.location)

    @property
    def job(self) -> JobName:
        """Return the name of the job, once there is one.

        :raises RuntimeError: if none was submitted
        """
        if self.name is None:
            raise RuntimeError("No notebook job was submitted")
        return self.name

    @property
    def own_name(self) -> JobName:
        """The name of the job that this try submits, unless the API mints its id."""
        return JobName(self.project, self.location, self.tries.job_id())

    @property
    def has_own_id(self) -> bool:
        """Return whether the job's id is known before it is submitted."""
        return self.is_durable or self.tries.own_id is not None

    @property
    def is_adopted(self) -> bool:
        """Return whether an earlier try submitted the job."""
        return self.is_durable and self.name is not None and self.tries.is_earlier(self.name.job_id)

    # --- a job of an earlier try ---------------------------------------------------------------------------

    def adopt(self, is_success: Callable[[Any], bool]) -> bool:
        """Go on with a job that an earlier try left, and stop any other that was left; return whether there is one.

        :param is_success: whether an ended job is what the task would return
        """
        if self._earlier is None:
            return False
        self.name = self._earlier.find_adoptable(is_success, display_name=self.display_name)
        self.stop_others()
        if self.name:
            metrics.send(metrics.JOBS_ADOPTED)
            self.log.info("Going on with notebook job %s, which an earlier try submitted", self.name)
        return self.name is not None

    def stop_others(self) -> None:
        """Stop what earlier tries left active, but this job."""
        if self._earlier and self.cancel_on_kill:
            self._earlier.stop_others(self.name, display_name=self.display_name)

    @cached_property
    def _earlier(self) -> EarlierTries | None:
        """The jobs that earlier tries may have left, or None if there were no such tries or their jobs cannot be found.

        `airflow tasks test` on a date that has a run must touch none of the run's jobs.
        """
        if not self.is_durable or self.tries.current == 1 or self.tries.test:
            return None
        return EarlierTries(self.hook, self.tries, self.own_name)

    # --- a new job -----------------------------------------------------------------------------------------

    def submit(self, job: Mapping[str, Any], mark: Mark) -> None:
        """Submit a new job.

        :param job: in the field names of the API's message
        :param mark: of this create; the job has it as a label, unless it is to have no labels of ours
        :raises InvalidJob: if the id is of the user's choice, and taken by somebody else's job; see the hook too
        """
        if self.tries.test:
            self._say_what_the_run_has()
        job_id = self.tries.job_id() if self.has_own_id else None
        try:
            self._send(job, job_id, mark)
        except ApiError as error:
            if job_id is None or error.code != "ALREADY_EXISTS":
                raise
            self.name = self._shared()
            if self.name is None:
                self._send(job, self._id_beside_the_taken_one(mark), mark)

    def _send(self, job: Mapping[str, Any], job_id: str | None, mark: Mark) -> None:
        """Send a create, and keep account of whether there may be a job."""
        project = self.project
        self._unanswered = mark
        self.name = JobName(project, self.location, job_id) if job_id else None
        self.steps = JobSteps()
        try:
            name = self.hook.create_notebook_execution_job(
                job=job,
                location=self.location,
                project_id=project,
                notebook_execution_job_id=job_id,
                default_labels=False,  # it has the mark already, if it is to have one
            )
        except CreateUnanswered:
            raise
        except (ApiError, InvalidJob):
            self._unanswered = self.name = None  # nothing was submitted: there is nothing to stop
            raise
        self.name, self._unanswered = JobName.parse(name), None
        self.log.info("Submitted notebook job %s", name)

    def _taken_by(self) -> Any:
        """Return the job that has this try's id, or None if it was deleted: its id may stay taken for a while."""
        return self.hook.find_notebook_execution_job(name=str(self.own_name))

    def _shared(self) -> JobName | None:
        """Return the name of the job that another process of this same try submitted, if it was not stopped since.

        An Airflow that is overloaded may run a try again from its beginning; the job may even have ended by then.
        """
        job = self._taken_by()
        mark = job and Mark.of(job.labels)
        if not mark or not self.tries.is_of_this_try(mark) or state_of(job) in _STOPPED:
            return None
        self.log.warning("Going on with notebook job %s, which another process of this try submitted", job.name)
        return JobName.parse(job.name)

    def _id_beside_the_taken_one(self, mark: Mark) -> str:
        """Return an id to use in place of this try's own one, which a job has that this try did not submit.

        :raises InvalidJob: if the id is of the user's choice, and the job of somebody else
        """
        tries, job = self.tries, self._taken_by()
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

    def _say_what_the_run_has(self) -> None:
        """Log the job of the run that `airflow tasks test` was given. It is left alone."""
        name = JobName(self.project, self.location, replace(self.tries, test="").job_id())
        try:
            job = self.hook.get_notebook_execution_job(name=str(name), retry=False)
        except NotebookExecutionJobError:  # there is none, or nothing can be said
            return
        self.log.warning(
            "The run that `airflow tasks test` was given has notebook job %s already, which is %s. It is left as it is;"
            " the test submits a job of its own.",
            *(name.job_id, state_of(job).description),
        )

    # --- its end -------------------------------------------------------------------------------------------

    def look(self) -> JobResult:
        """Return the job as it is now. If the API does not show it, its state is unspecified."""
        from airflow_provider_nbjob.hooks.notebook_execution_job import masked_result

        try:
            job = self.hook.get_notebook_execution_job(name=str(self.job))
        except JobLost:
            raise
        except NotebookExecutionJobError as error:
            self.log.warning("Notebook job %s was submitted, and its state is not known: %s", self.name, error)
            job = self._as_known(JobState.UNSPECIFIED)
        return masked_result(job)

    def wait(self, *, poll_interval: float, end_time: float | None, seen: JobState | None = None) -> Any:
        """Poll the job until it has ended, and return it.

        Return None if the job was adopted and then stopped, by a worker that Airflow had given up but that lived on.
        The caller then replaces it.

        :param poll_interval: seconds between polls
        :param end_time: deadline in POSIX seconds; None for no end
        :param seen: the state in which the trigger saw the job end; it stands if the job was deleted since
        """
        job = None
        try:
            job = self.hook.wait_for_notebook_execution_job(
                name=str(self.job), poll_interval=poll_interval, end_time=end_time, steps=self.steps
            )
        except JobLost:
            if seen is not None and seen.is_terminal:
                self.log.warning("Notebook job %s was deleted after it had ended as %s", self.name, seen)
                job = self._as_known(seen)
            elif not self.is_adopted:
                raise
        if job is not None and seen is None:  # else the triggerer has counted it
            metrics.send(metrics.JOBS_ENDED, state=metrics.state_tag(state_of(job)))
        if job is not None and not (self.is_adopted and state_of(job) is JobState.CANCELLED):
            return job
        self.log.warning("Notebook job %s was stopped after it had been taken over from an earlier try", self.name)
        return None

    def _as_known(self, state: JobState) -> Any:
        return self.hook.job_as_known(
            name=str(self.job),
            job_state=state,
            display_name=self.display_name,
            gcs_output_uri=self.gcs_output_uri,
        )

    # --- its stop ------------------------------------------------------------------------------------------

    @property
    def _may_exist(self) -> bool:
        return self.name is not None or self._unanswered is not None

    @property
    def _stop_command(self) -> str:
        if self.name:
            return stop_command(self.name, is_workbench=self.is_workbench)
        return list_command(self.project, self.location, self.display_name)

    def say_how_to_stop(self) -> None:
        """Log the command that stops the job, if the end of the task does not."""
        if not self.cancel_on_kill:
            self.log.info("The job goes on if this task is ended. This command stops it: %s", self._stop_command)

    def defer(self) -> None:
        """Have the job stopped if this command, such as `airflow dags test`, is ended before its trigger runs."""
        if runs_in_process():
            at_the_end(str(self.name), self._stop_interrupted)

    def kill(self) -> None:
        """Stop the job as Airflow ends the task on a worker, unless a later try goes on with it."""
        if not self.name or not self.cancel_on_kill:
            return
        if self.is_durable:
            stop_unless_tried_again(self.ti, self.name, stop=self._stop, log=self.log)
        else:
            self._stop(grace=KILL_SECONDS)

    @contextmanager
    def stopped_on_error(self, execution_timeout: timedelta | None) -> Iterator[None]:
        """Leave no job behind if the submit or the wait fails or is interrupted; bad input is not tried again.

        :param execution_timeout: Airflow's, for the error that tells that it is over
        """
        try:
            yield
        except (TaskDeferred, JobLost, JobUnwatched):  # there is nothing to stop, or nothing says that it should be
            raise
        except InvalidJob as error:
            self._stop()
            raise never_retried(error) from error
        except AirflowTaskTimeout as error:
            self._stop()
            what = f"Notebook job {self.name}" if self.name else "Submitting the notebook job"
            raise JobTimeout(f"{what} exceeded {execution_timeout}") from error
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
        if not self._may_exist or not self.cancel_on_kill:
            return
        try:
            self._stop_what_there_is(**options)
        except AirflowTaskTimeout:  # Airflow's alarm rings once, and did so in the midst of this
            self._stop_what_there_is(**options)
        except Exception as error:  # of the connection: no hook can be made
            told = f"\nThis command stops it: {self._stop_command}" if self.name else ""
            self.log.error("Could not stop the notebook job, which may run and cost: %s%s", error, told)

    def _stop_interrupted(self) -> None:
        """Stop the job in a bounded time, or log the command that does."""
        if not self._may_exist:
            return
        taken_over(str(self.name))
        what = f"notebook job {self.name or repr(self.display_name)}"
        if self.cancel_on_kill:
            stop_interrupted(self._stop_what_there_is, self.log, what=what, command=self._stop_command)
        else:
            self.log.warning("Interrupted: %s goes on. This command stops it: %s", what, self._stop_command)

    def _stop_what_there_is(self, **options: Any) -> bool:
        """Stop the job, or what a create made that got no answer; return whether nothing is left to stop."""
        name = self.name
        if self._unanswered:
            try:
                job = answer_to(
                    self.hook,
                    self._unanswered,
                    name=name,
                    location=self.location,
                    project_id=self.project,
                    display_name=self.display_name,
                )
            except NotebookExecutionJobError as error:
                self.log.error(
                    "The notebook job may have been submitted, and then runs and costs: %s\nThis command %s it: %s",
                    *(error, "stops" if name else "shows", self._stop_command),
                )
                return False
            if job is None:
                self.log.info("No notebook job was submitted")
                return True
            name = JobName.parse(job.name)
        return name is None or stop_quietly(self.hook, name, is_workbench=self.is_workbench, **options)
