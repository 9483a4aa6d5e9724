"""Wait for a job in the triggerer, without a worker.

The one synchronous hook is called through a thread, so nothing blocks the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_nbjob import metrics, names
from airflow_provider_nbjob.airflow_compat import runs_in_process, set_xcom_of_task
from airflow_provider_nbjob.connection import DEFAULT_CONN_ID, HasConnection
from airflow_provider_nbjob.exceptions import InvalidJob, JobLost, JobTimeout, JobUnwatched
from airflow_provider_nbjob.job import JobName, JobResult
from airflow_provider_nbjob.job.deadlines import Deadline, check_end_time
from airflow_provider_nbjob.job.intervals import POLL_SECONDS, check_poll_interval
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, JobEnd, JobSteps, record_of
from airflow_provider_nbjob.job.schedule_window import ScheduleWindow
from airflow_provider_nbjob.lifecycle.cancellation import is_awaited, stop_command, stop_interrupted, stop_quietly
from airflow_provider_nbjob.lifecycle.command_end import taken_over
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.outages import FailedLooks, unwatched
from airflow_provider_nbjob.triggers.bounded_waits import within
from airflow_provider_nbjob.triggers.event import ERROR, LOST, TIMEOUT, JobEvent

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
    from airflow_provider_nbjob.triggers.job_watch import JobWatch
    from airflow_provider_nbjob.triggers.sweeps import Seen

T = TypeVar("T")

# An event must not overtake the end of the worker process that deferred: Airflow 3.3.2 notices that end up to
# `[workers] min_heartbeat_interval` seconds late, and its scheduler fails a task that runs again by then ("Executor
# reported that the task instance finished with state success, but the task instance's state attribute is running").
SETTLE_INTERVALS = 1.3
HEARTBEAT_SECONDS = 5.0  # Airflow's default of `[workers] min_heartbeat_interval`
STOP_SECONDS = 3600.0  # for which stopping a job is tried again: while the API or the secrets backend is down, say
STOP_PAUSE_MAX = 60.0  # seconds between two attempts
STOP_ATTEMPT_SECONDS = 300.0  # after which an attempt is left behind, and the next one begins
LAST_TURN_SECONDS = 60.0  # that the look at the deadline may wait for its turn
ON_KILL_SECONDS = 20.0  # that `on_kill` waits for the stop: Airflow gives it 30 s, by its configuration

# Stops under way: Airflow 3.3 gives `on_kill` one second, and asyncio keeps only weak references to its tasks.
_stopping: set[asyncio.Task[None]] = set()


class NotebookExecutionJobTrigger(HasConnection, BaseTrigger):
    """Fires once, when a job has ended, is gone, or was not finished in time.

    The event's payload is ``{"name", "job_state", "outcome", "message", "states"}``: `outcome` is ``"finished"`` (then
    `job_state` is the terminal state, else null), ``"timeout"``, ``"lost"`` or ``"error"``; `states` are those that
    the job was seen in, see `JobSteps.to_xcom`. After ``"error"`` the job may go on: nothing says that it ended.

    An argument that is not valid does not end the wait for a job that runs and is paid for: the task's log tells the
    error, and the default is used.

    :param name: the job's resource name
    :param gcp_conn_id: see the hook, as for `impersonation_chain` and `api_endpoint`
    :param poll_interval: most seconds between looks at the job, or a timedelta; see `check_poll_interval`. The watch
        looks more often while an end is likely, see `pace`
    :param end_time: deadline in POSIX seconds: by the wall clock, so that a triggerer's restart does not move it; steps
        of the clock do not move it either, see `Deadline`
    :param cancel_on_kill: stop the job when a user ends or clears the deferred task (Airflow 3.3 and later)
    :param project_id: of the job, as the task gives it; default: the connection's
    :param conclusion: the task's arguments for the end of a job that are not the default, see `Conclusion`. With these
        the event of a job that succeeded has a ``result``, if its notebook is small (`[nbjob]
        triggerer_read_max_bytes`) and there is nothing to tell of it. Default: a worker finds out
    """

    def __init__(
        self,
        name: str,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        poll_interval: float | timedelta = POLL_SECONDS,
        end_time: float | None = None,
        cancel_on_kill: bool = True,
        project_id: str | None = None,
        conclusion: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.api_endpoint = api_endpoint
        self._problems: list[str] = []
        self._given: dict[str, Any] = {}  # what is not valid, as serialized
        self.poll_interval: float = self._checked("poll_interval", poll_interval, check_poll_interval, POLL_SECONDS)
        self.end_time: float | None = self._checked("end_time", end_time, check_end_time, None)
        self.cancel_on_kill = cancel_on_kill
        self.project_id = project_id
        self.conclusion = conclusion
        self._steps = JobSteps()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "name": self.name,
                **self.connection_arguments(),
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "cancel_on_kill": self.cancel_on_kill,
                # A triggerer of an older version of this provider knows neither of these.
                **({"project_id": self.project_id} if self.project_id is not None else {}),
                **({"conclusion": dict(self.conclusion)} if self.conclusion is not None else {}),
                **self._given,
            },
        )

    def _checked(self, name: str, value: Any, check: Callable[[Any], T], default: T) -> T:
        """Return what a check makes of an argument, or the default, with the problem noted for the task's log."""
        try:
            return check(value)
        except InvalidJob as error:
            self._problems += error.problems
            self._given[name] = value if isinstance(value, str) else names.shown(value)
            return default

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        settled = time.monotonic() + self._settle_seconds
        for problem in self._problems:
            self.log.error("The trigger was given an argument that is not valid, so its default is used: %s", problem)
        is_of_a_command = runs_in_process()
        try:
            event = await self._wait()
        except BaseException:
            if is_of_a_command and self.cancel_on_kill:
                taken_over(self.name)
                self._stop_interrupted()
            raise
        taken_over(self.name)
        await asyncio.sleep(max(0.0, settled - time.monotonic()))
        yield self._event(replace(event, states=self._states()))

    @property
    def _settle_seconds(self) -> float:
        return SETTLE_INTERVALS * _heartbeat_interval()

    def _event(self, event: JobEvent) -> TriggerEvent:
        return TriggerEvent(event.to_payload())

    def _states(self) -> list[list[str]]:
        """Return the states for the event; none if the API gave a time that no clock can show."""
        try:
            return self._steps.to_xcom()
        except (ValueError, OverflowError, OSError) as error:
            self.log.warning("The states that the job was seen in cannot be told: %s", error)
            return []

    async def on_kill(self) -> None:
        """Stop the job, unless the task still waits for it: Airflow 3.3.2 calls this on reassigned triggers too.

        The stop goes on if Airflow cuts this method short, after one second in 3.3.2, and after it has returned: until
        the job is stopped, or `STOP_SECONDS` are over.
        """
        if self.cancel_on_kill:
            await asyncio.wait({self._begin_to_stop()}, timeout=ON_KILL_SECONDS)

    def _begin_to_stop(self) -> asyncio.Task[None]:
        stopping = asyncio.create_task(self._stop())
        _stopping.add(stopping)
        stopping.add_done_callback(_stopping.discard)
        return stopping

    def _stop_interrupted(self) -> None:
        """Stop the job after Ctrl-C in `airflow dags test`, which runs the trigger in line and calls no `on_kill`.

        In a triggerer the end of a wait says nothing about the task: another triggerer goes on with it.
        """
        stop_interrupted(
            lambda: stop_quietly(self.hook, JobName.parse(self.name)),
            self.log,
            what=f"notebook job {self.name}",
            command=stop_command(JobName.parse(self.name)),
        )

    async def _wait(self) -> JobEvent:
        try:
            deadline = Deadline(self.end_time)
            name = await self._find_job(deadline)
            job = JobName.parse(name)
            watch = self._watch(job)
            seen = await self._ended_job(watch, job, deadline)
            metrics.send_soon(metrics.JOBS_ENDED, state=metrics.state_tag(seen.state))
            return JobEvent(name, job_state=seen.state, result=await self._result_of(watch, seen))
        except JobTimeout as error:
            return JobEvent(self.name, TIMEOUT, message=redact(str(error)))
        except JobLost as error:
            return JobEvent(self.name, LOST, message=redact(str(error)))
        except Exception as error:  # a failed trigger would fail the task without a word about the job
            self.log.exception("Waiting for notebook job %s failed", self.name)
            if not isinstance(error, (JobUnwatched, InvalidJob)):  # bad input names no job
                error = unwatched(f"Notebook job {self.name}", "the trigger failed", error)
            return JobEvent(self.name, ERROR, message=redact(str(error)))

    async def _find_job(self, deadline: Deadline) -> str:
        return self.name

    def _watch(self, job: JobName) -> JobWatch:
        from airflow_provider_nbjob.triggers.job_watch import watch_of  # not while a DAG is parsed

        return watch_of(self.connection, job.parent, self.connection.make_hook)

    async def _ended_job(self, watch: JobWatch, job: JobName, deadline: Deadline) -> Seen:
        """Wait for the job, together with all who wait in its location.

        :raises JobTimeout: if it has not ended by the deadline
        """
        waiting = watch.wait_for(
            job.job_id, interval=self.poll_interval, log=self.log, steps=self._steps, has_deadline=deadline.is_finite
        )
        try:
            return await within(deadline.remaining if deadline.is_finite else None, waiting)
        except asyncio.TimeoutError:
            return await self._last_look(watch, job)

    async def _last_look(self, watch: JobWatch, job: JobName) -> Seen:
        """Look once more: it may have ended since the last sweep."""
        try:
            seen = await watch.look(job.job_id, steps=self._steps)
        except JobLost:
            raise
        except Exception as error:  # of any kind: the deadline is certain
            raise JobTimeout(f"Notebook job {job} had not been seen to end at the deadline") from error
        if seen.state.is_terminal:
            return seen
        raise JobTimeout(f"Notebook job {job} was {seen.state} at the deadline")

    async def _result_of(self, watch: JobWatch, seen: Seen) -> JobResult | None:
        """Return the result of a job that succeeded, and put it on record; None if a worker is to do so."""
        from airflow_provider_nbjob.lifecycle.outcome import Conclusion  # not while a DAG is parsed
        from airflow_provider_nbjob.triggers.api_calls import in_thread

        if self.conclusion is None or seen.job is None or self.task_instance is None:
            return None
        try:
            conclusion = Conclusion(**self.conclusion)
            if (found := await watch.output.result_of(seen.job, conclusion, self.project_id)) is None:
                return None
            result, project_id = found
            job = JobName.parse(result.name)
            await in_thread(self._put_on_record, job, project_id, result.gcs_output_uri, JobEnd(result))
        except Exception as error:  # of any kind: the worker meets it again, and tells it
            self.log.info("A worker tells the end of the job, as the triggerer could not: %r", error)
            return None
        return result

    def _put_on_record(self, job: JobName, project_id: str, gcs_output_uri: str, end: JobEnd | None = None) -> None:
        ti: Any = self.task_instance
        record = record_of(
            job=job,
            project_id=project_id,
            gcs_output_uri=gcs_output_uri,
            connection=self.connection_arguments(),
            try_number=ti.try_number,
            steps=self._steps,
            end=end,
        )
        set_xcom_of_task(ti, JOB_XCOM_KEY, record)

    async def _stop(self) -> None:
        """Stop the job; never raises. Each attempt is a thread of its own, and has a new hook."""
        from airflow_provider_nbjob.triggers.api_calls import in_thread

        end_time, pause = time.monotonic() + STOP_SECONDS, 1.0
        while True:
            attempt = asyncio.ensure_future(in_thread(self._try_to_stop, daemon=False))
            done, _ = await asyncio.wait({attempt}, timeout=STOP_ATTEMPT_SECONDS)
            if done and (attempt.exception() or attempt.result()):
                return
            if time.monotonic() + pause > end_time:
                self.log.error("Stopping notebook job %s was given up after %.0f s", self.name, STOP_SECONDS)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, STOP_PAUSE_MAX)

    def _is_awaited(self) -> bool:
        return is_awaited(self.task_instance, JobName.parse(self.name), self.log)

    def _try_to_stop(self) -> bool:
        """Return whether there is nothing left to try; never raises."""
        try:
            if self._is_awaited():
                self.log.info("Another triggerer waits for notebook job %s now, so it is not stopped", self.name)
                return True
            self.log.info("The task was ended while it waited, so notebook job %s is stopped", self.name)
            self.connection.make_hook().cancel_notebook_execution_job(name=self.name)
        except Exception as error:
            self.log.error("Could not stop notebook job %s, which may still run and cost: %s", self.name, error)
            return isinstance(error, InvalidJob) and not JobName.is_one(self.name)
        return True


class ScheduledNotebookExecutionJobTrigger(NotebookExecutionJobTrigger):
    """Fires once, when the job that a schedule launched has ended; see `NotebookExecutionJobTrigger`.

    A job that a schedule launched is never stopped from here.

    :param name: the schedule's resource name or bare id
    :param created_after: POSIX seconds, as for `created_before` and `run_time`; see `ScheduleWindow`
    :param location: region of the schedule
    :param kwargs: the other parameters of `NotebookExecutionJobTrigger`; `project_id` is also the schedule's
    """

    def __init__(
        self,
        name: str,
        created_after: float,
        location: str,
        created_before: float | None = None,
        run_time: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **{**kwargs, "cancel_on_kill": False})
        self.created_after = created_after
        self.created_before = created_before
        self.run_time = run_time
        self.location = location

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        path, kwargs = super().serialize()
        schedule = {"created_after": self.created_after, "location": self.location}
        # A triggerer of an older version of this provider knows neither of these.
        window = {"created_before": self.created_before, "run_time": self.run_time}
        return path, {**kwargs, **schedule, **{name: at for name, at in window.items() if at is not None}}

    async def _find_job(self, deadline: Deadline) -> str:
        """Look for the job that the schedule launches; see `outages` for the errors.

        :raises JobTimeout: if there is none by the deadline
        :raises JobUnwatched: if the looks are refused for good
        """
        from airflow_provider_nbjob.triggers.api_calls import ApiCalls
        from airflow_provider_nbjob.triggers.budget import budget_for

        names.schedule_id(self.name, names.check_location(self.location))
        calls = ApiCalls(self.connection.make_hook, self.location)
        window = ScheduleWindow(self.created_after, self.created_before, self.run_time)
        failed_looks = FailedLooks(self.log, f"The job of schedule {self.name}", has_deadline=deadline.is_finite)
        with ExitStack() as stack:
            budget = None
            while True:
                try:
                    project = await calls(lambda hook: hook.get_project_id(self.project_id, self.location))
                    if budget is not (budget := budget_for(self.connection, project, self.location)):
                        stack.close()
                        stack.enter_context(budget.joined("schedules"))
                    longest = max(deadline.remaining, LAST_TURN_SECONDS) if deadline.is_finite else None
                    await within(longest, budget.turn("schedules"))
                    job = await calls(self._look_for_job)
                except Exception as error:
                    if final := failed_looks.fail(error):
                        raise final from error
                else:
                    failed_looks.end()
                    if job:
                        return str(job.name)
                    if window.is_over(time.time()):
                        raise JobTimeout(f"Schedule {self.name} launched no job {window}, and none can come any more")
                if deadline.remaining <= 0:
                    raise JobTimeout(f"Schedule {self.name} had launched no job at the deadline")
                pause = max(self.poll_interval, budget.seconds_for("schedules", 1) if budget else 0.0)
                await asyncio.sleep(min(pause, deadline.remaining))

    def _look_for_job(self, hook: NotebookExecutionJobHook) -> Any:
        """Return the job, or None."""
        return hook.find_scheduled_job(
            schedule=self.name,
            created_after=self.created_after,
            created_before=self.created_before,
            run_time=self.run_time,
            location=self.location,
            project_id=self.project_id,
        )


def _heartbeat_interval() -> float:
    """Return `[workers] min_heartbeat_interval` in seconds, or Airflow's default if it is no such number."""
    try:
        seconds = conf.getfloat("workers", "min_heartbeat_interval", fallback=HEARTBEAT_SECONDS)
    except Exception:  # Airflow's own components say what is wrong with it
        return HEARTBEAT_SECONDS
    return seconds if math.isfinite(seconds) and seconds >= 0 else HEARTBEAT_SECONDS
