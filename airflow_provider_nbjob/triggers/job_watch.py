"""Watch all deferred jobs of a location: a thousand waiting triggers cost the API what one does.

Kubernetes calls this an informer. `sweeps` decides which requests to send, `pace` when, `budget` how many, `outages`
what an error means. This module has the clock and the waiters; `supervision` restarts its loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, JobLost
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.job.intervals import check_poll_interval
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.outages import ONCE_MORE, FailedLooks, Streak, is_about_all
from airflow_provider_nbjob.triggers.api_calls import HUNG_SECONDS, ApiCalls
from airflow_provider_nbjob.triggers.bounded_waits import within
from airflow_provider_nbjob.triggers.budget import budget_for, known_project, learn_project
from airflow_provider_nbjob.triggers.list_trust import ListTrust
from airflow_provider_nbjob.triggers.measuring import polling, waiting
from airflow_provider_nbjob.triggers.output import OutputReader
from airflow_provider_nbjob.triggers.pace import Pace
from airflow_provider_nbjob.triggers.supervision import PASSING, SupervisedLoop
from airflow_provider_nbjob.triggers.sweeps import FEW, UNANSWERED, Answer, Page, Read, Seen, SweepPlan, next_request
from airflow_provider_nbjob.triggers.waiter import Waiter

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

log = logging.getLogger(__name__)

ARRIVAL = 1.0  # seconds after which a newcomer is looked at, if the request budget allows
SWEEP_SECONDS_MAX = 60.0  # that the requests of a sweep may take
SPARE_MIN = 2  # requests of a sweep for newcomers, also if they have to wait for their turns
CHECK_SECONDS = 30.0  # between two times that a waiting trigger sees to it that the loop runs
LAST_LOOK_SECONDS = 60.0  # that a look at the deadline may take
LAST_LOOKS_MAX = 4  # at once

T = TypeVar("T")


class JobWatch:
    """Waits for jobs of one location, on behalf of all triggers with the same connection.

    It runs while somebody waits. Everything but the requests happens on the event loop.

    :param location: ``projects/{project}/locations/{location}``
    :param make_hook: called in a thread, now and then: see `ApiCalls`
    :param connection: see `Connection`; `make_hook` makes the hook of it
    """

    def __init__(
        self, location: str, make_hook: Callable[[], NotebookExecutionJobHook], connection: Hashable = None
    ) -> None:
        _, self._project, _, self._region = location.split("/")
        self._connection = connection
        self._calls = ApiCalls(make_hook, self._region)
        self.output = OutputReader(make_hook, self._region)
        self._budget = budget_for(connection, self._project, self._region)
        self._knows_project = False  # whether an answer has shown the name that the API gives the project
        self._plan = SweepPlan()
        self._waiters: dict[str, list[Waiter]] = {}
        self._arrived = asyncio.Event()
        self._pace = Pace()
        self._is_sweep = True  # whether the next look is one, and no glance
        self._last_looks = asyncio.Semaphore(LAST_LOOKS_MAX)
        self._list_trust = ListTrust()
        self._failed_looks = FailedLooks(log)
        self._outage: BaseException | None = None  # the error of the last sweep
        self._unanswered: BaseException | None = None  # that of the last request: no fault of what the watch knows
        self._unanswered_requests = 0  # one after the other
        self.loop = SupervisedLoop(
            self._go_on,
            is_needed=lambda: bool(self._waiters),
            on_fault=self._sweep_failed,
            name=lambda: f"The watch of {self._where}",
        )

    async def wait_for(
        self, job_id: str, *, interval: float, log: Any, steps: JobSteps | None = None, has_deadline: bool = False
    ) -> Seen:
        """Wait until a job has ended.

        :param interval: most seconds between looks; the shortest that anybody asks for counts
        :param log: logger of the trigger, for changes of the state and for outages
        :param steps: takes the states
        :param has_deadline: whether the caller ends the wait at some time; see `outages`
        :return: the job in its terminal state
        :raises InvalidJob: if the interval is none
        :raises JobLost: if the job is gone
        :raises JobUnwatched: if looks are refused for good, or an outage lasts for a day without a deadline
        """
        waiter = Waiter(
            *(self, job_id, check_poll_interval(interval), log, steps or JobSteps()),
            ended=asyncio.get_running_loop().create_future(),
            streak=Streak(has_deadline),
        )
        try:
            self._take(waiter)
            waiter.check_every(CHECK_SECONDS)
            return await waiter.ended
        finally:
            waiter.check_no_more()
            waiter.watch._leave(waiter)

    async def look(self, job_id: str, *, steps: JobSteps | None = None) -> Seen:
        """Read a job at once, for a bounded time; NOT_FOUND is confirmed by a second read.

        :param steps: takes the state
        :raises JobLost: if the job is gone
        :raises ApiError: if the API does not answer, or refuses to
        """
        from airflow_provider_nbjob.hooks.polling import poll_twice

        async def read() -> Seen:
            await self._budget.turn(self)
            return (await self._calls(lambda hook: self._read(hook, job_id)))[0]

        async def look() -> Seen:
            async with self._last_looks:
                return await poll_twice(read)

        try:
            seen = await within(LAST_LOOK_SECONDS, look())
        except asyncio.TimeoutError:
            raise ApiError(f"No look within {LAST_LOOK_SECONDS:.0f} s", "DEADLINE_EXCEEDED") from None
        if steps:
            steps.add(seen.state, seen.update_time)
        return seen

    def name_of(self, job_id: str) -> str:
        """Return the resource name of a job."""
        return str(JobName(self._project, self._region, job_id))

    def _take(self, waiter: Waiter) -> None:
        if not self._waiters:
            self._budget.join(self)
        waiter.watch = self
        self._waiters.setdefault(waiter.job_id, []).append(waiter)
        waiting(self._region, 1)
        self._plan.add(waiter.job_id)
        if self._outage:
            waiter.fail(self._outage, is_refused=False)
        if seen := self._plan.last_seen(waiter.job_id):  # another trigger waits for the same job
            waiter.tell(seen)
        self._arrived.set()

    def _leave(self, waiter: Waiter) -> None:
        waiters = self._waiters.get(waiter.job_id, [])
        if waiter in waiters:
            waiters.remove(waiter)
            waiting(self._region, -1)
        if not waiters and self._waiters.pop(waiter.job_id, None) is not None:
            self._plan.remove(waiter.job_id)
            if not self._waiters:
                self._budget.leave(self)
                self.loop.stop()
            try:
                self._pace.leave(waiter.job_id)
            except BaseException as error:  # which must not take the place of the job's end
                log.error("What is known of the duration of %s could not be dropped: %r", waiter.job_id, error)

    def _all(self) -> list[Waiter]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters]

    @property
    def _where(self) -> str:
        return f"projects/{self._project}/locations/{self._region}"

    async def _go_on(self) -> None:
        while self._waiters:
            self._arrived.clear()
            try:
                with polling(self._region):
                    await self._sweep()
            except PASSING:
                raise
            except BaseException as error:  # of any kind: those who wait go on waiting
                self._sweep_failed(error)
            else:
                self._sweep_answered()
            await self._pause()

    def _sweep_failed(self, error: BaseException) -> None:
        self._outage = error
        if getattr(error, "code", "") == "RESOURCE_EXHAUSTED":
            self._pace.refuse(time.monotonic())
        if error is not self._unanswered:
            self._begin_anew()
        self._failed_looks.fail(error)
        for waiter in self._all():
            waiter.fail(error, is_refused=False)

    def _sweep_answered(self) -> None:
        self._unanswered = None
        self._pace.answer(time.monotonic())
        self.loop.gets_on()
        if self._outage:
            self._failed_looks.end()
            for waiter in (waiter for waiter in self._all() if not waiter.is_refused):
                waiter.recover()
            self._outage = None

    def _begin_anew(self) -> None:
        """Forget what is known of the jobs: after a fault of ours, a waiter may have missed a change."""
        self._plan, self._pace, self._is_sweep = SweepPlan(lists=self._plan.lists), Pace(), True
        # In another order: a job whose answer causes the fault must not keep those after it from being read.
        for job_id in random.sample(list(self._waiters), len(self._waiters)):
            self._plan.add(job_id)

    async def _sweep(self) -> None:
        now = time.monotonic()
        self._list_trust.renew(self._plan, now)
        self._pace.begin(now, is_sweep=self._is_sweep)
        self._plan.few = min(FEW, self._most_in_interval())
        spare = max(SPARE_MIN, self._budget.requests_at_once(self, now))
        sweep, answer = self._plan.sweep(self._most(), spare) if self._is_sweep else self._plan.glance(), None
        while request := next_request(sweep, answer):
            self._tell_all()
            if answer is UNANSWERED and self._unanswered_requests:
                return  # the API may be down: the next listing shows it
            if isinstance(request, Read):
                answer = await self._read_answer(request.job_id)
            elif (answer := await self._list_answer(request.page_token)) is None:
                return
        self._tell_all()

    def _interval(self) -> float:
        """Seconds between looks, at most: the fewest that anybody asks for."""
        return min((waiter.interval for waiter in self._all()), default=0.0)

    def _most(self) -> int:
        """Return the number of requests of a sweep, at most: one that takes longer would put off the next one."""
        return max(FEW, self._most_in_interval())

    def _most_in_interval(self) -> int:
        return max(1, self._budget.requests_in(self, min(self._interval(), SWEEP_SECONDS_MAX)))

    def _tell_all(self) -> None:
        changes, self._plan.changes = self._plan.changes, []
        for change in changes:
            for waiter in self._waiters.get(change.job_id, ()):
                if change.seen is None:
                    continue  # the read itself has informed the waiters
                try:
                    waiter.tell(change.seen)
                    if change.seen.state.is_terminal:
                        self._pace.end(time.monotonic())
                    if waiter.is_refused:
                        waiter.recover()
                except PASSING:
                    raise
                except BaseException as error:  # with one job, which is polled again; the others go on
                    if not waiter.failures:
                        log.error("Taking a look at %s failed, and will be tried again: %r", change.job_id, error)
                    self._plan.remove(change.job_id)
                    self._plan.add(change.job_id)
                    waiter.is_faulty = True
                    waiter.fail(RuntimeError(repr(error)), is_refused=True)  # the API did not say it

    async def _ask(self, request: Callable[[NotebookExecutionJobHook], T]) -> T:
        await self._budget.turn(self, lambda wait: self.loop.beat(wait + HUNG_SECONDS))
        self.loop.beat(HUNG_SECONDS)
        try:
            answer = await self._calls(request)
        except Exception as error:
            self._unanswered = error
            self._unanswered_requests = self._unanswered_requests + 1 if is_about_all(error) else 0
            if self._unanswered_requests != 1 or getattr(error, "code", "") not in ONCE_MORE:
                raise
            return await self._ask(request)  # a sweep of many pages would hardly ever come to its end without
        self._unanswered_requests = 0
        return answer

    async def _read_answer(self, job_id: str) -> Answer:
        """Read a job; pass an error that is about this job alone to those who wait for it."""
        try:
            seen, job = await self._ask(lambda hook: self._read(hook, job_id))
        except Exception as error:
            if is_about_all(error) and self._list_trust.read_failed(self._plan, error):
                raise
            waiters = self._waiters.get(job_id, [])
            for waiter in waiters:
                waiter.fail(error, is_refused=True)
            return None if isinstance(error, JobLost) and all(w.ended.done() for w in waiters) else UNANSWERED
        self._show([(seen, job)])
        return seen

    async def _list_answer(self, page_token: str) -> Page | None:
        """List a page of the jobs; None if that is refused, so that they are read one by one for a time."""
        try:
            page, jobs = await self._ask(lambda hook: self._list(hook, page_token))
        except Exception as error:
            if self._list_trust.failed(self._plan, error, time.monotonic()):
                return None
            raise
        self._list_trust.answered()
        self._show(list(zip(page.jobs, jobs, strict=True)))
        return page

    def _show(self, jobs: list[tuple[Seen, Any]]) -> None:
        """Learn from the jobs of an answer, and their messages, what is beside their states."""
        self._pace.show(jobs, self._waiters, now=time.monotonic(), wall=time.time())
        for seen, _ in jobs:
            for waiter in self._waiters.get(seen.job_id, ()):
                waiter.answer()
        if jobs:
            self._learn_project(jobs[0][1].name)

    def _learn_project(self, name: str) -> None:
        """Learn from an answer the name that the API gives the project: its number, also if the request had its id.

        The budget is then that of all who asked for either, and so is the watch, if they have the same connection.
        """
        if self._knows_project:
            return
        try:
            project = JobName.parse(name).project
        except InvalidJob:  # no name of a job; the states beside it count all the same
            return
        self._knows_project = True
        if project == self._project:
            return
        learn_project(self._connection, self._project, project)
        before, self._budget = self._budget, budget_for(self._connection, project, self._region)
        before.leave(self)
        self._budget.join(self)
        self._budget.take_all_of(before, time.monotonic())
        watches = _watches.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        other = watches.setdefault((self._connection, f"projects/{project}/locations/{self._region}"), self)
        if other is not self:
            watches[(self._connection, self._where)] = other
            for waiter in self._all():
                other._take(waiter)
                self._leave(waiter)
            other.loop.check()

    async def _pause(self) -> None:
        """Wait for the next look; see `Pace`, and for newcomers `ARRIVAL`."""
        interval, now = self._interval(), time.monotonic()
        if looks := self._failed_looks.failures:  # one that was answered in part gets on
            failures = self._unanswered_requests if self._outage is self._unanswered else looks
            self._is_sweep, pause = True, self._pace.pause_after_failures(failures, interval)
            self.loop.beat(pause)
            await asyncio.sleep(pause)
            return
        pause, self._is_sweep = self._pace.next_look(
            *(now, interval, self._budget.step, self._budget.level(self, now)),
            reads=min(len(self._plan), self._most()) if self._plan.reads else 0,
            waiting=len(self._plan),
            glances=self._plan.lists,
            is_behind=self._plan.is_behind,
        )
        soon = max(self._budget.seconds_until_turn(self, now), min(ARRIVAL, interval))
        if any(waiter.streak.awaits_confirmation for waiter in self._all()):
            pause, self._is_sweep = soon, True
        self.loop.beat(pause + soon)
        try:
            await within(pause, self._arrived.wait())
        except asyncio.TimeoutError:
            return
        self._is_sweep = True
        await asyncio.sleep(soon - (time.monotonic() - now))

    def _list(self, hook: NotebookExecutionJobHook, page_token: str) -> tuple[Page, list[Any]]:
        """Return a page, and the plain messages of its jobs; called in a thread."""
        jobs, token = hook.list_changes(location=self._region, project_id=self._project, page_token=page_token)
        return Page([Seen.of(job, time.time()) for job in jobs], token), jobs

    def _read(self, hook: NotebookExecutionJobHook, job_id: str) -> tuple[Seen, Any]:
        """Return what is seen of a job, and its plain message."""
        job = hook.get_notebook_execution_job(name=self.name_of(job_id), retry=False, renew=True)
        message = type(job).pb(job)
        return Seen.of(message, time.time())._replace(job_id=job_id), message


# A watch lives as long as somebody waits.
_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Hashable, JobWatch]] = WeakKeyDictionary()


def watch_of(connection: Hashable, location: str, make_hook: Callable[[], NotebookExecutionJobHook]) -> JobWatch:
    """Return the watch of a location that all triggers with the same connection share, on the running event loop.

    :param connection: see `Connection`
    :param location: ``projects/{project}/locations/{location}``. A project's id and its number have one watch,
        as soon as an answer of the API has shown that they are one project
    """
    watches = _watches.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    _, project, _, region = location.split("/")
    location = f"projects/{known_project(connection, project)}/locations/{region}"
    if watch := watches.get((connection, location)):
        return watch
    watch = watches[(connection, location)] = JobWatch(location, make_hook, connection)
    return watch
