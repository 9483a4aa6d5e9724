"""One watch for all deferred jobs of a location: a thousand waiting triggers cost the API what one does.

What to ask, and what to make of the answers, is decided in `sweeps`; here are the clock, the thread, and who waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow.providers.common.compat.sdk import conf
from asgiref.sync import sync_to_async

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, JobLost
from airflow_provider_nbjob.job import JobName, JobState, state_of
from airflow_provider_nbjob.record import JobSteps
from airflow_provider_nbjob.triggers.sweeps import FEW, ListPage, Page, Read, Seen, SweepPlan, next_request
from airflow_provider_nbjob.weather import Weather

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

log = logging.getLogger(__name__)

JITTER = 0.1  # part of the interval
ARRIVAL = 1.0  # seconds after which a newcomer is looked at, where the request budget allows
BACKOFF_MAX = 60.0  # seconds between sweeps that fail, where the interval is shorter


@dataclass(eq=False)
class _Waiter:
    """One trigger that waits for a job."""

    job_id: str
    interval: float
    log: Any
    steps: JobSteps
    ended: asyncio.Future[JobState]
    # The trigger's own: a line that is logged in it goes to the log of its task.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class JobWatch:
    """Waits for jobs of one location, on behalf of all triggers that reach it in the same way.

    It runs while somebody waits. Everything but the requests happens on the event loop.

    :param location: ``projects/{project}/locations/{location}``
    :param make_hook: called in a thread, once
    """

    def __init__(self, location: str, make_hook: Callable[[], NotebookExecutionJobHook]) -> None:
        self._location = location
        _, self._project, _, self._region = location.split("/")
        self._make_hook = make_hook
        self._hook: Any = None
        self._plan = SweepPlan()
        self._waiters: dict[str, list[_Waiter]] = {}
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._requests_per_minute = conf.getint("nbjob", "max_requests_per_minute", fallback=60)
        self._requests = 0  # of the sweep under way, or of the last one
        self._weather = Weather(log)

    async def wait_for(self, job_id: str, *, interval: float, log: Any, steps: JobSteps | None = None) -> JobState:
        """Wait until a job has ended.

        :param interval: seconds between looks; the shortest that anybody asks for counts
        :param log: logger of the trigger, for changes of the state
        :param steps: where these are noted down
        :return: the terminal state
        :raises JobLost: where the job is gone
        :raises Exception: where the connection cannot be used, or the API refuses to show the job
        """
        waiter = _Waiter(job_id, interval, log, steps or JobSteps(), asyncio.get_running_loop().create_future())
        self._waiters.setdefault(job_id, []).append(waiter)
        self._plan.add(job_id)
        try:
            if seen := self._plan.last_seen(job_id):  # another trigger waits for the same job
                self._tell(waiter, seen.state, seen.update_time)
            self._arrived.set()
            if self._task is None:
                # In a context of its own: what the watch logs belongs to no task.
                self._task = contextvars.Context().run(asyncio.ensure_future, self._run())
            return await waiter.ended
        finally:
            self._leave(waiter)

    async def look(self, job_id: str) -> JobState:
        """Read a job at once.

        :raises JobLost: where the job is gone
        :raises ApiError: where the API does not answer
        """
        await self._open()
        seen: Seen = await in_thread(self._read, job_id)
        return seen.state

    # --- who waits ---

    def _leave(self, waiter: _Waiter) -> None:
        waiters = self._waiters[waiter.job_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.job_id]
            self._plan.remove(waiter.job_id)
        if not self._waiters and self._task:
            self._task.cancel()
            self._task = None

    def _tell(self, waiter: _Waiter, state: JobState | None, since: float) -> None:
        if waiter.ended.done():
            return
        if state is None:
            waiter.ended.set_exception(JobLost(f"Notebook job {self._name(waiter.job_id)} is gone: it was deleted"))
            return
        waiter.steps.add(state, since)
        waiter.context.run(waiter.log.info, "Notebook job %s is %s", waiter.job_id, state.description)
        if state.is_terminal:
            waiter.ended.set_result(state)

    def _fail(self, job_ids: Iterable[str], error: Exception) -> None:
        for job_id in job_ids:
            for waiter in self._waiters.get(job_id, ()):
                if not waiter.ended.done():
                    waiter.ended.set_exception(error)

    # --- sweeps ---

    async def _run(self) -> None:
        while self._waiters:
            self._arrived.clear()
            self._requests = 0
            try:
                with self._weather:
                    await self._sweep()
            except Exception as error:  # whatever it is, those who wait go on waiting
                self._weather.fail(error)
            await self._pause()

    async def _sweep(self) -> None:
        try:
            await self._open()
        except Exception as error:  # no such connection, or none that can be used: that is for people to mend
            self._fail(list(self._waiters), error)
            return
        # A sweep that used up the budget of a minute would put off the next one for as long.
        most = max(FEW, int(self._requests_per_minute * self._interval() / 60))
        sweep, answer = self._plan.sweep(most), None
        while True:
            request = next_request(sweep, answer)
            self._tell_all()
            if request is None:
                return
            self._requests += 1
            try:
                answer = await self._answer(request)
            except (ApiError, InvalidJob) as error:
                if error.is_transient:
                    raise
                log.warning("Jobs are read one by one, as listing them was refused: %s", error)
                self._plan.lists = False
                return

    async def _open(self) -> None:
        if self._hook is None:
            self._hook = await in_thread(self._make_hook)

    def _interval(self) -> float:
        """Seconds between looks: the fewest that anybody asks for."""
        return min((w.interval for waiters in self._waiters.values() for w in waiters), default=0.0)

    def _tell_all(self) -> None:
        changes, self._plan.changes = self._plan.changes, []
        for change in changes:
            for waiter in self._waiters.get(change.job_id, ()):
                self._tell(waiter, change.state, change.since)

    async def _answer(self, request: ListPage | Read) -> Page | Seen | None:
        if isinstance(request, ListPage):
            return await in_thread(self._list, request.page_token)
        try:
            return await in_thread(self._read, request.job_id)
        except JobLost:
            return None
        except (ApiError, InvalidJob) as error:
            if error.is_transient:
                raise
            self._fail([request.job_id], error)
            return None

    async def _pause(self) -> None:
        """Wait for the next sweep: the interval, or longer where the request budget or a failing API asks for it."""
        interval = self._interval()
        within_budget = self._requests * 60 / self._requests_per_minute
        if failures := self._weather.failures:
            longest = max(interval, min(BACKOFF_MAX, interval * 2 ** min(failures, 10)))
            await asyncio.sleep(max(within_budget, longest * random.uniform(0.5, 1.0)))  # noqa: S311
            return
        pause = max(within_budget, interval * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        started = time.monotonic()
        try:
            await asyncio.wait_for(self._arrived.wait(), pause)
        except asyncio.TimeoutError:
            return
        await asyncio.sleep(max(within_budget, min(ARRIVAL, interval)) - (time.monotonic() - started))

    # --- requests, in a thread ---

    def _list(self, page_token: str) -> Page:
        rows, token = self._hook.list_changes(location=self._region, project_id=self._project, page_token=page_token)
        return Page([Seen(name.rpartition("/")[2], JobState(state), changed) for name, state, changed in rows], token)

    def _read(self, job_id: str) -> Seen:
        job = self._hook.get_notebook_execution_job(name=self._name(job_id), retry=False, renew=True)
        return Seen(job_id, state_of(job), job.update_time.timestamp())

    def _name(self, job_id: str) -> str:
        return str(JobName(self._project, self._region, job_id))


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that blocks, off the event loop."""
    # asgiref rather than asyncio.to_thread: in Airflow 3.1 a connection can be read in the triggerer only from a
    # thread that asgiref started.
    return await sync_to_async(function, thread_sensitive=False)(*arguments)


# Nobody but those who wait keeps a watch.
_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Hashable, JobWatch]] = WeakKeyDictionary()


def watch_of(key: Hashable, location: str, make_hook: Callable[[], NotebookExecutionJobHook]) -> JobWatch:
    """The watch that all share who reach a location in the same way, on the running event loop.

    :param key: the way: connection, impersonation chain and endpoint
    """
    watches = _watches.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    return watches.setdefault((key, location), JobWatch(location, make_hook))
