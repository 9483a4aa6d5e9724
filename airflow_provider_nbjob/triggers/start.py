"""Run a task in the triggerer from its start: submit its job, wait, and end the task if the job succeeded.

A worker takes over if there is more to do, or if anything fails: it starts the task from its beginning, or goes on
after the wait. So errors, retries and callbacks are Airflow's own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Hashable
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from airflow.triggers.base import TriggerEvent

from airflow_provider_nbjob.airflow_compat import success_event, why_end_on_worker, xcom_of_task
from airflow_provider_nbjob.arguments.from_trigger import OnWorker
from airflow_provider_nbjob.connection import Connection
from airflow_provider_nbjob.job import JobName, JobResult
from airflow_provider_nbjob.job.deadlines import Deadline
from airflow_provider_nbjob.job.mark import Mark
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, parse_record
from airflow_provider_nbjob.lifecycle.cancellation import is_awaited
from airflow_provider_nbjob.masking import mask_parameters, redact
from airflow_provider_nbjob.triggers.bounded_waits import within
from airflow_provider_nbjob.triggers.event import START, TIMEOUT, JobEvent
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
    from airflow_provider_nbjob.lifecycle.submission import Submission
    from airflow_provider_nbjob.triggers.api_calls import ApiCalls
    from airflow_provider_nbjob.triggers.job_watch import JobWatch
    from airflow_provider_nbjob.triggers.sweeps import Seen

RENDER_SECONDS = 60.0  # that templates may take, such as to look up a variable; then a worker starts the task
SUBMITTERS = 2  # at once, for one connection and location
# A job is given up so long before Airflow gives up its trigger, as only the former stops the job.
TIMEOUT_MARGIN = 5.0
TIMEOUT_MARGIN_PART = 0.2  # of the task's whole time, if that is shorter


class NotebookExecutionJobStartTrigger(NotebookExecutionJobTrigger):
    """Runs a task of `CreateNotebookExecutionJobOperator` with `start_from_trigger`, from its start.

    Fires once: `TaskSuccessEvent` with the task's XComs, if the job succeeded and no worker has anything to do; else
    the event of `NotebookExecutionJobTrigger`, whose `outcome` may be ``"start"`` too: a worker is to start the task.

    :param arguments: of the operator, before templates are rendered; see `start_arguments`
    """

    def __init__(self, arguments: str) -> None:
        given = json.loads(arguments)
        super().__init__("", poll_interval=given["poll_interval"], cancel_on_kill=given["cancel_on_kill"])
        self.arguments = arguments
        self._task_arguments: dict[str, Any] = given
        self._context: Any = None
        self._task: Any = None  # the operator, as far as a submit needs it, with rendered arguments
        self._submission: Submission | None = None
        self._is_submitting = threading.Lock()
        self._is_submitted = False
        self._is_over = False  # a thread that has not sent a create by then sends none
        self._is_timed_out = False  # nobody goes on with the job
        self._why_on_worker: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"arguments": self.arguments}

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Keep the context: Airflow calls this on the event loop, which rendering would block."""
        self._context = context

    @property
    def _settle_seconds(self) -> float:
        return 0.0  # no worker has deferred the task

    async def _wait(self) -> JobEvent:
        deadline = Deadline(self._end_time())
        try:
            self.name = await within(deadline.remaining if deadline.is_finite else None, self._start())
        except asyncio.CancelledError:
            self._is_over = True
            raise
        except Exception as error:  # of any kind: the worker meets it again, or what is behind it
            self._is_over = True
            if deadline.remaining <= 0 and self._submission and self._submission.name:
                return self._too_late(str(self._submission.name))
            self.log.info("A worker starts the task, as the triggerer could not: %r", error)
            return JobEvent(START, START, message=redact(str(error) or repr(error)))
        return await super()._wait()

    def _too_late(self, name: str) -> JobEvent:
        """Return the event of a task whose time was over before its create was answered; stop the job if it comes."""
        self.name, self._is_timed_out = name, True
        if self.cancel_on_kill:
            self._begin_to_stop()
        return JobEvent(name, TIMEOUT, message=f"Notebook job {name} had not been submitted at the deadline")

    async def _start(self) -> str:
        """Submit the job, or find the one that a triggerer before this one submitted; return its name."""
        from airflow_provider_nbjob.triggers.api_calls import in_thread

        self._use(await within(RENDER_SECONDS, in_thread(self._rendered)))
        self.end_time = self._end_time()
        # Without the connection, which may be out of reach while a job runs; see `outages`.
        if name := await in_thread(self._submitted_before):
            self.log.info("Going on with notebook job %s, which another triggerer submitted", name)
            return name
        submitters, calls = _submitters_of(self.connection, str(self._task.location), self.connection.make_hook)
        async with submitters:
            return await calls(self._submit)

    def _use(self, task: Any) -> None:
        self._task = task
        self.gcp_conn_id, self.impersonation_chain = task.gcp_conn_id, task.impersonation_chain
        self.api_endpoint, self.project_id = task.api_endpoint, task.project_id
        self.conclusion = _conclusion_of(task)

    def _is_awaited(self) -> bool:
        if self._is_timed_out:
            return False
        return is_awaited(self.task_instance, JobName.parse(self.name), self.log, by_worker=True)

    def _end_time(self) -> float | None:
        """Return the deadline: somewhat before Airflow's own, by which it would fail the task and leave the job."""
        ends, task = getattr(self, "timeout_after", None), getattr(self.task_instance, "task", None)
        execution_timeout = getattr(task, "execution_timeout", None)
        if ends is None or execution_timeout is None:
            return None
        margin = min(TIMEOUT_MARGIN, TIMEOUT_MARGIN_PART * execution_timeout.total_seconds())
        return float(ends.timestamp() - margin)

    # --- in a thread ---

    def _rendered(self) -> Any:
        """Return what the functions that submit a job need of an operator, with rendered arguments."""
        from airflow_provider_nbjob.arguments.rendering import context_in_triggerer, mapped_arguments, rendered

        context, ti = self._context, cast(Any, self.task_instance)
        if context is None or ti is None:
            raise OnWorker("Airflow gave the trigger no context")
        given = {**self._task_arguments, **mapped_arguments(ti, self._task_arguments.get("mapped_names"))}
        values = rendered(given, context_in_triggerer(context), self.get_template_env())
        mask_parameters(values["parameters"])
        return SimpleNamespace(
            **values,
            log=self.log,
            durable=True,
            wait_for_completion=True,
            execution_timeout=ti.task.execution_timeout,
            retries=ti.task.retries or 0,
            has_dag=lambda: False,
        )

    def _submitted_before(self) -> str | None:
        """Return the name of the job that a triggerer before this one submitted and put on record."""
        from airflow_provider_nbjob.arguments.job_arguments import submission_of

        submission = submission_of(self._task, self._context)
        if submission.tries.current > 1:
            # Airflow gives a trigger neither the number of allowed tries nor that of clears.
            raise OnWorker("what an earlier try left is for a worker to find out")
        submission.tries = replace(submission.tries, first=1, max_tries=self._task.retries)
        record = parse_record(xcom_of_task(self.task_instance, JOB_XCOM_KEY))
        found = record.name if record and record.name.location == submission.location else None
        if found and submission.tries.try_of(found.job_id) is not None:
            submission.name, self._is_submitted = found, True
        self._submission = submission
        return str(submission.name) if submission.name else None

    def _submit(self, hook: NotebookExecutionJobHook) -> str:
        from airflow_provider_nbjob.arguments.job_arguments import new_job

        with self._is_submitting:
            if self._is_over:
                raise RuntimeError("The trigger was taken away before it submitted the job")
            self._task.hook, submission = hook, cast("Submission", self._submission)
            submission.submit(*new_job(self._task, submission))
            self._is_submitted = True
            submission.say_how_to_stop()
            if not self._is_over:  # else the record may be that of the task's next job
                self._put_on_record_if_possible(submission)
            return str(submission.job)

    def _put_on_record_if_possible(self, submission: Submission) -> None:
        """Put the job on record. Without a record another triggerer finds it by its id, and a stop by its mark."""
        try:
            self._put_on_record(submission.job, submission.project, submission.gcs_output_uri)
        except Exception as error:  # of any kind: the job runs
            self.log.warning("Notebook job %s is not on record, as Airflow did not take it: %s", submission.job, error)

    # --- the end ---

    async def _result_of(self, watch: JobWatch, seen: Seen) -> JobResult | None:
        from airflow_provider_nbjob.triggers.api_calls import in_thread

        result = await super()._result_of(watch, seen)
        if result:
            try:
                self._why_on_worker = await in_thread(why_end_on_worker, self.task_instance)
            except Exception as error:
                self._why_on_worker = f"Airflow cannot be asked: {error}"
        return result

    def _event(self, event: JobEvent) -> TriggerEvent:
        if event.result is None:
            return super()._event(event)
        if self._why_on_worker:
            self.log.info("A worker ends the task: %s", self._why_on_worker)
            return super()._event(event)
        self.log.info("Notebook job %s ended as %s", event.result.job_id, event.result.job_state)
        self.log.info("%s", event.result.output_line)
        return cast(TriggerEvent, success_event(self._xcoms(event.result)))

    def _xcoms(self, result: JobResult) -> dict[str, Any] | None:
        keys = self._task_arguments["pushed_keys"]
        return None if keys is None else {**result.keyed(keys), "return_value": result.to_xcom()}

    def _try_to_stop(self) -> bool:
        """Return whether there is nothing left to try; a submit that is under way ends before."""
        from jinja2 import TemplateError  # already imported by Airflow

        try:
            with self._is_submitting:
                self.name = self._name_to_stop()
        except (OnWorker, TemplateError):  # no triggerer has submitted a job
            return True
        except Exception as error:
            self.log.error("Could not find out if there is a notebook job to stop, which would cost: %s", error)
            return False
        return super()._try_to_stop() if self.name else True

    def _name_to_stop(self) -> str:
        """Return the name of this try's job, which another triggerer may have submitted; nothing if there is none."""
        if self._task is None:
            self._use(self._rendered())
        if self._submission is None:
            self._submitted_before()
        submission = cast("Submission", self._submission)
        if self._is_submitted:
            return str(submission.job)
        self._task.hook = self.connection.make_hook()
        job = self._task.hook.find_notebook_execution_job(name=str(submission.name or submission.own_name))
        if job is None:
            return ""
        mark = Mark.of(job.labels)  # the API may have replaced its labels by those of the template
        is_own = submission.tries.is_of_this_try(mark) if mark else job.display_name == submission.display_name
        return str(job.name) if is_own else ""


def _conclusion_of(task: Any) -> dict[str, Any]:
    from airflow_provider_nbjob.lifecycle.outcome import Conclusion

    return {part.name: getattr(task, part.name) for part in fields(Conclusion) if hasattr(task, part.name)}


_Submitters = tuple[asyncio.Semaphore, "ApiCalls"]
_submitters: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Submitters]] = WeakKeyDictionary()


def _submitters_of(
    connection: Connection, region: str, make_hook: Callable[[], NotebookExecutionJobHook]
) -> _Submitters:
    """Return what bounds the submits of a connection and location on the running event loop, and performs them."""
    from airflow_provider_nbjob.triggers.api_calls import ApiCalls

    kept = _submitters.setdefault(asyncio.get_running_loop(), {})
    key = (connection, region)
    if key not in kept:
        kept[key] = asyncio.Semaphore(SUBMITTERS), ApiCalls(make_hook, region)
    return kept[key]
