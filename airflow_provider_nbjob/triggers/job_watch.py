"""One watch for all deferred jobs of a location: a thousand waiting triggers cost the API what one does.

Kubernetes calls this an informer. What to ask, and what to make of the answers, is decided in `sweeps`; what an error
means, in `outages`; here are the clock, who waits, and the supervision: whatever ends the loop starts it again.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow_provider_nbjob.exceptions import (
    ApiError,
    CredentialsUnavailable,
    InvalidJob,
    JobLost,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.job import JobName, JobState, state_of
from airflow_provider_nbjob.job.intervals import check_poll_interval
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.outages import ANSWERS_AGAIN, FAILED, FailedLooks, Meaning, Streak, rule_of
from airflow_provider_nbjob.triggers.api_calls import HUNG_SECONDS, ApiCalls, harmless
from airflow_provider_nbjob.triggers.budget import Budget, budget_of
from airflow_provider_nbjob.triggers.sweeps import (
    FEW,
    UNANSWERED,
    Answer,
    Page,
    Read,
    Seen,
    SweepPlan,
    next_request,
)

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

log = logging.getLogger(__name__)

JITTER = 0.1  # part of the interval
ARRIVAL = 1.0  # seconds after which a newcomer is looked at, if the request budget allows
BACKOFF_MAX = 60.0  # seconds between sweeps that fail, if the interval is shorter
LIST_AGAIN_SECONDS = 60.0  # after which listing is tried again that was refused, ...
LIST_TRUST_SECONDS = 3600.0  # ... or that had not shown what there was
LIST_FAILURES_MAX = 3  # listings that fail one after the other by a fault; then jobs are read one by one
LIST_FAULTS = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})  # of the API, that may be the listing's alone
RESTART_SECONDS = 1.0  # after which a loop that has ended is started again; doubled each time, up to `BACKOFF_MAX`
LATE_SECONDS = 60.0  # by which a step of the loop may be late
CHECK_SECONDS = 30.0  # between two times that a waiting trigger sees to it that the loop runs
LAST_LOOK_SECONDS = 60.0  # that a look at the deadline may take
LAST_LOOKS_MAX = 4  # at once

T = TypeVar("T")

# KeyboardInterrupt ends the process, the two others a coroutine; whatever else is raised, the watch goes on.
PASSING = (KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)


@dataclass(eq=False)
class _Waiter:
    """One trigger that waits for a job.

    :param watch: that it waits at; another one, once two watches turned out to be of the same project
    :param streak: of the errors since a look at its job was answered
    :param failures: number of failed looks since its task's log was told that looking fails; 0: it was not
    :param is_refused: whether the last look at this job alone failed
    :param state: that its task's log was told last
    """

    watch: JobWatch
    job_id: str
    interval: float
    log: Any
    steps: JobSteps
    ended: asyncio.Future[JobState]
    streak: Streak
    failures: int = 0
    since: float = 0.0
    is_refused: bool = False
    state: JobState | None = None
    # The trigger's own: a line that is logged in it goes to the log of its task.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def fail(self, error: BaseException, *, is_refused: bool) -> None:
        """Take a look that failed; tell the task's log of the first one.

        :param is_refused: whether the look was at this job alone
        """
        if self.ended.done():
            return
        self.is_refused = self.is_refused or is_refused
        self.failures += 1
        if final := self.streak.failed(f"Notebook job {self.watch.name_of(self.job_id)}", error):
            self.ended.set_exception(final)
        elif self.failures == 1:
            self.since = time.monotonic()
            self._say("warning", FAILED, error)

    def recover(self) -> None:
        """Take the end of the failures, and tell the task's log."""
        failures, self.failures, self.is_refused = self.failures, 0, False
        self.streak.answered()
        if failures and not self.ended.done():
            self._say("info", ANSWERS_AGAIN, failures, time.monotonic() - self.since)

    def tell(self, state: JobState, since: float) -> None:
        """Take the state of the job; the task's log is told if it is another one."""
        if self.ended.done():
            return
        if state.is_terminal:
            self.ended.set_result(state)
        self.steps.add(state, since)
        if state != self.state:
            self.state = state
            self._say("info", "Notebook job %s is %s", self.job_id, state.description)

    def _say(self, level: str, text: str, *values: Any) -> None:
        """Log a line in the task's log. A log that fails is no error of the watch, nor of others that wait."""
        try:
            self.context.run(getattr(self.log, level), text, *values)
        except PASSING:
            raise
        except BaseException as error:
            log.warning("The log of a task that waits for job %s failed: %r", self.job_id, error)


class JobWatch:
    """Waits for jobs of one location, on behalf of all triggers that reach it in the same way.

    It runs while somebody waits. Everything but the requests happens on the event loop. Its loop is supervised twice:
    by a callback at its end, and by all who wait, who see to it now and then that it runs and is in time.

    :param location: ``projects/{project}/locations/{location}``
    :param make_hook: called in a thread, now and then: see `ApiCalls`
    :param way: connection, impersonation chain and endpoint
    """

    def __init__(self, location: str, make_hook: Callable[[], NotebookExecutionJobHook], way: Hashable = None) -> None:
        _, self._project, _, self._region = location.split("/")
        self._way = way
        self._calls = ApiCalls(make_hook, self._region)
        self._budget = budget_for(way, self._project, self._region)
        self._knows_project = False  # whether an answer has told what the API calls the project
        self._plan = SweepPlan()
        self._waiters: dict[str, list[_Waiter]] = {}
        self._arrived = asyncio.Event()
        self._requests = 0  # since the budget was asked for their time
        self._last_looks = asyncio.Semaphore(LAST_LOOKS_MAX)
        self._list_again_at: float | None = None  # None while jobs are listed
        self._list_failures = 0
        self._failed_looks = FailedLooks(log)
        self._outage: BaseException | None = None  # the error of the last sweep
        self._unanswered: BaseException | None = None  # that of the last request: no fault of what the watch knows
        self._task: asyncio.Task[None] | None = None
        self._restarts = 0  # since a sweep was answered
        self._restart_at = 0.0
        self._beats = 0
        self._late_after = 0.0  # when the next beat is late
        self._missed = 0  # the last beat before the one that was found to be late

    async def wait_for(
        self, job_id: str, *, interval: float, log: Any, steps: JobSteps | None = None, has_deadline: bool = False
    ) -> JobState:
        """Wait until a job has ended.

        :param interval: seconds between looks; the shortest that anybody asks for counts
        :param log: logger of the trigger, for changes of the state and for outages
        :param steps: where the states are noted down
        :param has_deadline: whether the caller ends the wait at some time; see `outages`
        :return: the terminal state
        :raises InvalidJob: if the interval is none
        :raises JobLost: if the job is gone
        :raises JobUnwatched: if looks are refused for good, or an outage lasts for a day without a deadline
        """
        waiter = _Waiter(
            *(self, job_id, check_poll_interval(interval), log, steps or JobSteps()),
            ended=asyncio.get_running_loop().create_future(),
            streak=Streak(has_deadline),
        )
        try:
            self._take(waiter)
            while not waiter.ended.done():
                waiter.watch._check()
                await asyncio.wait({waiter.ended}, timeout=CHECK_SECONDS)
            return waiter.ended.result()
        finally:
            waiter.watch._leave(waiter)

    async def look(self, job_id: str, *, steps: JobSteps | None = None) -> JobState:
        """Read a job at once, for a bounded time; NOT_FOUND is confirmed by a second read.

        :param steps: where the state is noted down
        :raises JobLost: if the job is gone
        :raises ApiError: if the API does not answer, or refuses to
        """
        from airflow_provider_nbjob.hooks.looking import look_twice

        def read(hook: NotebookExecutionJobHook) -> Seen:
            seen, _ = look_twice(lambda: self._read(hook, job_id))
            return seen

        async def look() -> Seen:
            async with self._last_looks:
                self._requests += 1
                return await self._calls(read)

        try:
            seen = await asyncio.wait_for(look(), LAST_LOOK_SECONDS)
        except asyncio.TimeoutError:
            raise ApiError(f"No look within {LAST_LOOK_SECONDS:.0f} s", "DEADLINE_EXCEEDED") from None
        if steps:
            steps.add(seen.state, seen.update_time)
        return seen.state

    def name_of(self, job_id: str) -> str:
        """Return the resource name of a job."""
        return str(JobName(self._project, self._region, job_id))

    # --- who waits ---

    def _take(self, waiter: _Waiter) -> None:
        if not self._waiters:
            self._budget.join(self)
        waiter.watch = self
        self._waiters.setdefault(waiter.job_id, []).append(waiter)
        self._plan.add(waiter.job_id)
        if self._outage:
            waiter.fail(self._outage, is_refused=False)
        if seen := self._plan.last_seen(waiter.job_id):  # another trigger waits for the same job
            waiter.tell(seen.state, seen.update_time)
        self._arrived.set()

    def _leave(self, waiter: _Waiter) -> None:
        waiters = self._waiters.get(waiter.job_id, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters and self._waiters.pop(waiter.job_id, None) is not None:
            self._plan.remove(waiter.job_id)
            if not self._waiters:
                self._stop()

    def _all(self) -> list[_Waiter]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters]

    # --- supervision ---

    def _start(self) -> None:
        """Start the loop, unless it runs or nobody waits."""
        if self._waiters and (self._task is None or self._task.done()):
            self._beat(0)
            # In a context of its own: what the watch logs belongs to no task.
            self._task = contextvars.Context().run(asyncio.ensure_future, self._run())
            self._task.add_done_callback(self._loop_ended, context=contextvars.Context())

    def _stop(self) -> None:
        task, self._task = self._task, None
        self._budget.leave(self)
        if task:
            task.cancel()

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if task is not self._task:
            return  # it was stopped
        self._task = None
        if not task.cancelled() and task.exception() is None:
            self._start()  # nobody waited any more; and now somebody does again
        else:
            error = None if task.cancelled() else task.exception()
            self._restart(error or RuntimeError("the loop of the watch was cancelled"))

    def _restart(self, error: BaseException) -> None:
        """Start the loop again, after a pause that grows with each time that this is needed."""
        pause = min(BACKOFF_MAX, RESTART_SECONDS * 2 ** min(self._restarts, 10))
        self._restarts += 1
        self._restart_at = time.monotonic() + pause
        asyncio.get_running_loop().call_later(pause, self._start, context=contextvars.Context())
        if self._waiters:
            log.error("The watch of %s ended, and is started again in %.0f s: %r", self._where, pause, error)
            self._begin_anew()
            self._sweep_failed(error)

    def _check(self) -> None:
        """See to it that the loop runs, and is in time. Called by all who wait, now and then; never raises."""
        try:
            if self._task is None or self._task.done():
                if time.monotonic() >= self._restart_at:
                    self._start()
            elif time.monotonic() > self._late_after:
                self._miss(self._task)
        except PASSING:
            raise
        except BaseException as error:
            log.error("Supervising the watch of %s failed, and will be tried again: %r", self._where, error)

    def _miss(self, task: asyncio.Task[None]) -> None:
        if self._missed != self._beats:
            # The event loop itself may have stood still: then what the watch waits for is due now as well.
            self._missed = self._beats
            return
        late = LATE_SECONDS + time.monotonic() - self._late_after
        log.error("The watch of %s is late by %.0f s, so it is ended", self._where, late)
        task.cancel()
        self._task = None
        self._restart(TimeoutError("the watch stood still"))

    def _beat(self, seconds: float) -> None:
        """Note that the loop goes on, and that its next step takes so many seconds."""
        self._beats += 1
        self._late_after = time.monotonic() + seconds + LATE_SECONDS

    @property
    def _where(self) -> str:
        return f"projects/{self._project}/locations/{self._region}"

    # --- sweeps ---

    async def _run(self) -> None:
        try:
            await self._go_on()
        except PASSING:
            raise
        except BaseException as error:  # of SystemExit asyncio would end the event loop, and so all triggers
            raise harmless(error)  # noqa: B904

    async def _go_on(self) -> None:
        while self._waiters:
            self._arrived.clear()
            try:
                await self._sweep()
            except PASSING:
                raise
            except BaseException as error:  # whatever it is, those who wait go on waiting
                self._sweep_failed(error)
            else:
                self._sweep_answered()
            await self._pause()

    def _sweep_failed(self, error: BaseException) -> None:
        self._outage = error
        if error is not self._unanswered or not isinstance(error, NotebookExecutionJobError):
            self._begin_anew()
        self._failed_looks.fail(error)
        for waiter in self._all():
            waiter.fail(error, is_refused=False)

    def _sweep_answered(self) -> None:
        self._restarts, self._unanswered = 0, None
        if self._outage:
            self._failed_looks.end()
            for waiter in self._all():
                if not waiter.is_refused:
                    waiter.recover()
            self._outage = None

    def _begin_anew(self) -> None:
        """Forget what is known of the jobs: after a fault of ours, a change may not have been told."""
        self._plan = SweepPlan()
        self._list_again_at = None
        for job_id in self._waiters:
            self._plan.add(job_id)

    async def _sweep(self) -> None:
        self._list_again()
        # A sweep that used up the budget of a minute would put off the next one for as long.
        most = max(FEW, self._budget.requests_in(self, self._interval()))
        sweep, answer = self._plan.sweep(most), None
        while request := next_request(sweep, answer):
            self._tell_all()
            self._requests += 1
            self._beat(HUNG_SECONDS)
            if isinstance(request, Read):
                answer = await self._read_answer(request.job_id)
            else:
                answer = await self._list_answer(request.page_token)
                if answer is None:
                    return
        self._tell_all()

    def _interval(self) -> float:
        """Seconds between looks: the fewest that anybody asks for."""
        return min((waiter.interval for waiter in self._all()), default=0.0)

    def _tell_all(self) -> None:
        changes, self._plan.changes = self._plan.changes, []
        for change in changes:
            for waiter in self._waiters.get(change.job_id, ()):
                if change.state is None:
                    continue  # the waiters were told by the read
                try:
                    waiter.tell(change.state, change.since)
                    if waiter.is_refused:
                        waiter.recover()
                except PASSING:
                    raise
                except BaseException as error:  # with one job, which is looked at anew; the others are told
                    if not waiter.failures:
                        log.error("Taking a look at %s failed, and will be tried again: %r", change.job_id, error)
                    self._plan.remove(change.job_id)
                    self._plan.add(change.job_id)
                    waiter.fail(RuntimeError(repr(error)), is_refused=True)  # whatever it is, the API did not say it

    async def _ask(self, request: Callable[[NotebookExecutionJobHook], T]) -> T:
        try:
            return await self._calls(request)
        except Exception as error:
            self._unanswered = error
            raise

    async def _read_answer(self, job_id: str) -> Answer:
        """Read a job; an error that is about this job alone is told to those who wait for it."""
        try:
            seen, name = await self._ask(lambda hook: self._read(hook, job_id))
        except NotebookExecutionJobError as error:
            if _is_about_all(error):
                raise
            waiters = self._waiters.get(job_id, [])
            for waiter in waiters:
                waiter.fail(error, is_refused=True)
            return None if isinstance(error, JobLost) and all(w.ended.done() for w in waiters) else UNANSWERED
        self._learn_project(name)
        for waiter in self._waiters.get(job_id, ()):
            waiter.streak.answered()
            if waiter.is_refused:
                waiter.recover()
        return seen

    async def _list_answer(self, page_token: str) -> Page | None:
        """List a page of the jobs; None if that is refused, so that they are read one by one for a time."""
        try:
            page, name = await self._ask(lambda hook: self._list(hook, page_token))
        except Exception as error:
            self._list_failures += 1
            is_refused = not _is_about_all(error)
            is_faulty = not isinstance(error, ApiError) or error.code in LIST_FAULTS
            if is_refused or (is_faulty and self._list_failures >= LIST_FAILURES_MAX):
                log.warning("Jobs are read one by one, as listing them failed: %s", error)
                self._plan.lists, self._list_again_at = False, time.monotonic() + LIST_AGAIN_SECONDS
            if is_refused:
                return None
            raise
        self._list_failures = 0
        if name:
            self._learn_project(name)
        return page

    def _list_again(self) -> None:
        """Have jobs listed again, some time after that failed, or did not show what there was."""
        if self._plan.lists:
            return
        if self._list_again_at is None:
            self._list_again_at = time.monotonic() + LIST_TRUST_SECONDS
        elif time.monotonic() >= self._list_again_at:
            self._plan.lists, self._list_again_at = True, None

    def _learn_project(self, name: str) -> None:
        """Learn from an answer what the API calls the project: its number, whatever it was asked for.

        The budget is then that of all who asked for either, and so is the watch, if they come the same way.
        """
        if self._knows_project:
            return
        try:
            project = JobName.parse(name).project
        except InvalidJob:  # no name of a job: whatever it is, the states on it are what is asked for
            return
        self._knows_project = True
        if project == self._project:
            return
        _projects.setdefault(self._way, {})[self._project] = project
        self._budget.leave(self)
        self._budget = budget_of(project, self._region)
        self._budget.join(self)
        watches = _watches.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        other = watches.setdefault((self._way, f"projects/{project}/locations/{self._region}"), self)
        if other is not self:
            watches[(self._way, self._where)] = other
            for waiter in self._all():
                other._take(waiter)
                self._leave(waiter)
            other._check()

    async def _pause(self) -> None:
        """Wait for the next sweep: the interval, or longer if the request budget or a failing API asks for it."""
        interval = self._interval()
        within_budget, self._requests = self._budget.seconds_for(self, self._requests), 0
        if failures := self._failed_looks.failures:
            longest = max(interval, min(BACKOFF_MAX, interval * 2 ** min(failures, 10)))
            pause = max(within_budget, longest * random.uniform(0.5, 1.0))  # noqa: S311
            self._beat(pause)
            await asyncio.sleep(pause)
            return
        soon = max(within_budget, min(ARRIVAL, interval))
        pause = max(within_budget, interval * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        if any(waiter.streak.awaits_confirmation for waiter in self._all()):
            pause = soon
        self._beat(pause + soon)
        started = time.monotonic()
        try:
            await asyncio.wait_for(self._arrived.wait(), pause)
        except asyncio.TimeoutError:
            return
        await asyncio.sleep(soon - (time.monotonic() - started))

    # --- requests, in a thread ---

    def _list(self, hook: NotebookExecutionJobHook, page_token: str) -> tuple[Page, str]:
        """Return a page, and the name of a job on it."""
        rows, token = hook.list_changes(location=self._region, project_id=self._project, page_token=page_token)
        jobs = [Seen(name.rpartition("/")[2], JobState(state), changed) for name, state, changed in rows]
        return Page(jobs, token), rows[0][0] if rows else ""

    def _read(self, hook: NotebookExecutionJobHook, job_id: str) -> tuple[Seen, str]:
        """Return what is seen of a job, and its name."""
        job = hook.get_notebook_execution_job(name=self.name_of(job_id), retry=False, renew=True)
        changed = job.update_time.timestamp() if job.update_time else time.time()
        return Seen(job_id, state_of(job), changed), job.name


def _is_about_all(error: BaseException) -> bool:
    """Return whether an error is about the API or the connection, not about what was asked for alone."""
    is_known = isinstance(error, NotebookExecutionJobError)
    return not is_known or isinstance(error, CredentialsUnavailable) or rule_of(error).meaning is Meaning.OUTAGE


# What the API calls a project, by the way to it and by what it was asked for.
_projects: dict[Hashable, dict[str, str]] = {}


def _known_project(way: Hashable, project: str) -> str:
    return _projects.get(way, {}).get(project, project)


def budget_for(way: Hashable, project: str, region: str) -> Budget:
    """Return the budget of a project, told by its id or its number, in a region.

    :param way: connection, impersonation chain and endpoint
    """
    return budget_of(_known_project(way, project), region)


# Nobody but those who wait keeps a watch.
_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Hashable, JobWatch]] = WeakKeyDictionary()


def watch_of(key: Hashable, location: str, make_hook: Callable[[], NotebookExecutionJobHook]) -> JobWatch:
    """Return the watch that all share who reach a location in the same way, on the running event loop.

    :param key: the way: connection, impersonation chain and endpoint
    :param location: ``projects/{project}/locations/{location}``; that of a project's id and of its number are one, as
        soon as an answer of the API has told so
    """
    watches = _watches.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    _, project, _, region = location.split("/")
    location = f"projects/{_known_project(key, project)}/locations/{region}"
    if watch := watches.get((key, location)):
        return watch
    watch = watches[(key, location)] = JobWatch(location, make_hook, key)
    return watch
