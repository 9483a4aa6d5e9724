"""Wait for a job in the triggerer, without a worker.

The one synchronous hook is called through a thread, so nothing blocks the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_nbjob.exceptions import ApiError, JobLost, JobTimeout
from airflow_provider_nbjob.job import JobName, JobState
from airflow_provider_nbjob.lazy_hook import LazyHook
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.record import JobSteps
from airflow_provider_nbjob.stopping import is_awaited, stop_quietly

if TYPE_CHECKING:
    from airflow_provider_nbjob.triggers.job_watch import JobWatch

# An event must not overtake the end of the worker process that deferred: Airflow 3.3.2 notices that end up to
# `[workers] min_heartbeat_interval` seconds late, and its scheduler fails a task that runs again by then ("Executor
# reported that the task instance finished with state success, but the task instance's state attribute is running").
SETTLE_INTERVALS = 1.3

# Stops under way: Airflow 3.3 gives `on_kill` one second, and asyncio keeps only weak references to its tasks.
_stopping: set[asyncio.Task[None]] = set()


class NotebookExecutionJobTrigger(LazyHook, BaseTrigger):
    """Fires once, when a job has ended, is gone, or was not finished in time.

    The event's payload is ``{"name", "job_state", "outcome", "message", "states"}``: `outcome` is ``"finished"`` (then
    `job_state` is the terminal state, else null), ``"timeout"``, ``"lost"`` or ``"error"``; `states` are those that
    the job was seen in, see `JobSteps.to_xcom`.

    :param name: the job's resource name
    :param gcp_conn_id: see the hook, as for `impersonation_chain` and `api_endpoint`
    :param poll_interval: seconds between looks at the job
    :param end_time: deadline in POSIX seconds: by the wall clock, so that a triggerer's restart does not move it
    :param cancel_on_kill: stop the job when a user ends or clears the deferred task (Airflow 3.3 and later)
    """

    def __init__(
        self,
        name: str,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        poll_interval: float = 10.0,
        end_time: float | None = None,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()
        self.name = name
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.api_endpoint = api_endpoint
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.cancel_on_kill = cancel_on_kill
        self._steps = JobSteps()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "name": self.name,
                "gcp_conn_id": self.gcp_conn_id,
                "impersonation_chain": self.impersonation_chain,
                "api_endpoint": self.api_endpoint,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        settled = time.monotonic() + SETTLE_INTERVALS * conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
        event = {**await self._wait(), "states": self._steps.to_xcom()}
        await asyncio.sleep(max(0.0, settled - time.monotonic()))
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Stop the job, unless the task still waits for it: Airflow 3.3.2 calls this on reassigned triggers too.

        The stop goes on in its thread where Airflow cuts this method short, after one second.
        """
        if not self.cancel_on_kill:
            return
        from airflow_provider_nbjob.triggers.job_watch import in_thread

        stopping = asyncio.create_task(in_thread(self._stop))
        _stopping.add(stopping)
        stopping.add_done_callback(_stopping.discard)
        await asyncio.shield(stopping)

    async def _wait(self) -> dict[str, Any]:
        event: dict[str, Any] = {"name": self.name, "job_state": None, "outcome": "finished", "message": ""}
        try:
            name = await self._find_job()
            return {**event, "name": name, "job_state": str(await self._ended_state(JobName.parse(name)))}
        except JobTimeout as error:
            return {**event, "outcome": "timeout", "message": redact(str(error))}
        except JobLost as error:
            return {**event, "outcome": "lost", "message": redact(str(error))}
        except Exception as error:  # an event lets the operator stop the job; a failed trigger would orphan it
            self.log.exception("Waiting for notebook job %s failed", self.name)
            return {**event, "outcome": "error", "message": redact(str(error))}

    async def _find_job(self) -> str:
        return self.name

    async def _ended_state(self, job: JobName) -> JobState:
        """Wait for the job, together with all who wait in its location.

        :raises JobTimeout: where it had not ended by `end_time`
        """
        from airflow_provider_nbjob.triggers.job_watch import watch_of  # not while a DAG is parsed

        chain = self.impersonation_chain
        way = (self.gcp_conn_id, chain if isinstance(chain, (str, type(None))) else tuple(chain), self.api_endpoint)
        watch = watch_of(way, job.parent, lambda: self.hook)
        waiting = watch.wait_for(job.job_id, interval=self.poll_interval, log=self.log, steps=self._steps)
        try:
            return await asyncio.wait_for(waiting, self.end_time and max(0.0, self.end_time - time.time()))
        except asyncio.TimeoutError:
            return await self._last_look(watch, job)

    async def _last_look(self, watch: JobWatch, job: JobName) -> JobState:
        """It may have ended since the last sweep."""
        with suppress(ApiError):
            if (state := await watch.look(job.job_id)).is_terminal:
                return state
            raise JobTimeout(f"Notebook job {job} was {state} at the deadline")
        raise JobTimeout(f"Notebook job {job} had not been seen to end at the deadline")

    def _stop(self) -> None:
        if is_awaited(self.task_instance, self.name):
            self.log.info("Another triggerer waits for notebook job %s now, so it is not stopped", self.name)
            return
        self.log.info("The task was ended while it waited, so notebook job %s is stopped", self.name)
        stop_quietly(self.hook, self.name)


class ScheduledNotebookExecutionJobTrigger(NotebookExecutionJobTrigger):
    """Fires once, when the job that a schedule launched has ended; see `NotebookExecutionJobTrigger`.

    A job that a schedule launched is never stopped from here.

    :param name: the schedule's resource name or bare id
    :param created_after: POSIX seconds; jobs launched earlier do not count
    :param location: region of the schedule
    :param project_id: project of the schedule, default: the connection's
    """

    def __init__(
        self, name: str, created_after: float, location: str, project_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name, **{**kwargs, "cancel_on_kill": False})
        self.created_after = created_after
        self.location = location
        self.project_id = project_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        path, kwargs = super().serialize()
        schedule = {
            "created_after": self.created_after,
            "location": self.location,
            "project_id": self.project_id,
        }
        return path, {**kwargs, **schedule}

    async def _find_job(self) -> str:
        from airflow_provider_nbjob.hooks.looking import looks_at_schedule
        from airflow_provider_nbjob.triggers.job_watch import in_thread

        looks = looks_at_schedule(
            await in_thread(lambda: self.hook),
            self.name,
            created_after=self.created_after,
            location=self.location,
            project_id=self.project_id,
            poll_interval=self.poll_interval,
            end_time=self.end_time,
        )
        while (look := await in_thread(next, looks)).pause is not None:
            await asyncio.sleep(look.pause)
        return str(look.job.name)
