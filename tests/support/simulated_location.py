"""The jobs of a location at virtual time, and those who wait for them: only the requests are not the real ones.

A job begins and ends by a plan, and is waited for from its beginning.
"""

from __future__ import annotations

import asyncio
import bisect
import random
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock
from weakref import WeakValueDictionary

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.triggers import budget, job_watch, supervision, waiter
from airflow_provider_nbjob.triggers.job_watch import JobWatch
from airflow_provider_nbjob.triggers.pace import Pace
from tests.support.virtual_time import Clock, run_at_virtual_time

PARENT = "projects/p/locations/us-central1"
PAGE_SIZE = 100
LATENCY = 0.15  # seconds of a request
TIMED = (budget, job_watch, outages, supervision, waiter)  # modules that ask for the time


class SimulatedJob:
    """A job, as the hook shows it, and as its own plain message."""

    pb = staticmethod(lambda job: job)

    def __init__(self, job_id: str, display_name: str, created: float, state: str, changed: float) -> None:
        self.job_id = job_id
        self.name = f"{PARENT}/notebookExecutionJobs/{job_id}"
        self.display_name = display_name
        self.create_time = SimpleNamespace(seconds=int(created))
        self.job_state = SimpleNamespace(name=f"JOB_STATE_{state}")
        self.changed = changed

    @property
    def update_time(self) -> Any:
        return SimpleNamespace(seconds=self.changed, nanos=0, timestamp=lambda: self.changed)

    def HasField(self, _: str) -> bool:  # noqa: N802 - as protobuf names it
        return True


class SimulatedLocation:
    """The jobs of a location, in place of the hook.

    :param clock: the virtual time
    :param requests: when each request was sent
    :param fault: returns the error that a request is answered with, or None
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.jobs: dict[str, SimulatedJob] = {}
        self.rows: list[tuple[float, str]] = []  # by time of the last change
        self.requests: list[float] = []
        self.fault: Callable[[], Exception | None] = lambda: None

    def put(
        self, job_id: str, state: str = "RUNNING", *, name: str = "", age: float = 0.0, at: float | None = None
    ) -> None:
        """Add a job, or give it a state.

        :param age: seconds since it was created, of a job that is added
        :param at: POSIX time of the change; default: now
        """
        at = self.clock.time() if at is None else at
        old = self.jobs.get(job_id)
        if old:
            del self.rows[bisect.bisect_left(self.rows, (old.changed, job_id))]
        created = old.create_time.seconds if old else at - age
        self.jobs[job_id] = SimulatedJob(job_id, old.display_name if old else name or job_id, created, state, at)
        bisect.insort(self.rows, (at, job_id))

    def list_changes(self, *, page_token: str = "", **_: Any) -> tuple[list[SimulatedJob], str]:
        first = int(page_token or 0)
        end = len(self.rows) - first
        shown = [self.jobs[job_id] for _, job_id in reversed(self.rows[max(0, end - PAGE_SIZE) : end])]
        token = str(first + PAGE_SIZE) if end > PAGE_SIZE else ""
        return shown, token

    def get_notebook_execution_job(self, *, name: str, **_: Any) -> SimulatedJob:
        return self.jobs[JobName.parse(name).job_id]

    async def call(self, request: Callable[[Any], Any]) -> Any:
        """Answer as `ApiCalls` does, after a while."""
        self.requests.append(self.clock.now)
        fault = self.fault()
        await asyncio.sleep(LATENCY / 2)
        try:
            if fault:
                raise fault
            return request(self)
        finally:
            await asyncio.sleep(LATENCY / 2)

    def watch(self, connection: str = "way") -> JobWatch:
        """Return a watch of the location."""
        watch = JobWatch(PARENT, lambda: None, connection)  # type: ignore[arg-type,return-value]
        watch._calls = self.call  # type: ignore[assignment]
        return watch


class Run(NamedTuple):
    """A job of the plan.

    :param begins: seconds from the beginning of the simulation, as `ends`, at which it does; infinite if it does not
    :param age: seconds since it was created, when it begins to be waited for
    """

    job_id: str
    display_name: str
    begins: float
    ends: float
    age: float = 0.0


class Earlier(NamedTuple):
    """A job that had ended before, and how long ago."""

    display_name: str
    seconds: float
    ago: float


class Seen(NamedTuple):
    """What became of a simulation. Times are in seconds from its beginning.

    :param requests: when each request was sent
    :param delays: of the ends that were seen, by job: seconds until they were
    """

    requests: list[float]
    delays: dict[str, float]

    def calls_per_minute(self, since: float, until: float) -> float:
        """Return the mean number of requests a minute in a time."""
        return sum(since <= at < until for at in self.requests) * 60 / (until - since)

    def delay(self, part: float, job_ids: Iterable[str] | None = None) -> float:
        """Return a percentile of the delays, 0.95 for the 95th, of some jobs or all."""
        delays = sorted(self.delays[job_id] for job_id in (self.delays if job_ids is None else job_ids))
        return delays[min(len(delays) - 1, int(len(delays) * part))]


class TaskLog:
    """A log that keeps nothing."""

    def info(self, *_: Any) -> None:
        """Keep nothing."""

    warning = error = info


def simulate(
    runs: Iterable[Run],
    seconds: float,
    *,
    earlier: Iterable[Earlier] = (),
    interval: float = 10.0,
    watches: int = 1,
    per_minute: int = 60,
    seed: int = 1,
    prepare: Callable[[SimulatedLocation, list[JobWatch]], None] = lambda *_: None,
) -> Seen:
    """Let jobs run and be waited for.

    :param seconds: length of the simulation
    :param interval: that those who wait ask for
    :param watches: so many connections wait, by turns
    :param per_minute: requests that are allowed
    :param seed: of the pauses that are random; threads of other tests have no part in them
    :param prepare: called at the beginning, on the event loop
    """
    clock = Clock()
    location, started, ended, seen = SimulatedLocation(clock), clock.now, dict[str, float](), dict[str, float]()
    for number, job in enumerate(earlier):
        location.put(f"earlier{number}", "SUCCEEDED", name=job.display_name, age=job.seconds, at=clock.time() - job.ago)

    async def wait(watch: JobWatch, job_id: str) -> None:
        await watch.wait_for(job_id, interval=interval, log=TaskLog())
        seen[job_id] = clock.now

    def end(job_id: str) -> None:
        location.put(job_id, "SUCCEEDED")
        ended[job_id] = clock.now

    async def scene() -> None:
        loop, waiting = asyncio.get_running_loop(), list[asyncio.Task[None]]()
        all_watches = [location.watch(f"connection {number}") for number in range(watches)]
        prepare(location, all_watches)

        def begin(run: Run, watch: JobWatch) -> None:
            location.put(run.job_id, name=run.display_name, age=run.age)
            waiting.append(loop.create_task(wait(watch, run.job_id)))

        for number, run in enumerate(runs):
            loop.call_at(started + run.begins, begin, run, all_watches[number % watches])
            if run.ends < seconds:
                loop.call_at(started + run.ends, end, run.job_id)
        await asyncio.sleep(seconds)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0)  # the loops of the watches end

    with (
        mock.patch.object(budget, "_budgets", WeakValueDictionary()),  # no requests of an earlier simulation
        mock.patch.object(budget, "_sent", {}),
        mock.patch.object(job_watch, "Pace", partial(Pace, random.Random(seed).uniform)),
        mock.patch.object(job_watch, "CHECK_SECONDS", 600.0),  # at which thousands would wake up for nothing
        mock.patch.object(budget, "whole_number", return_value=per_minute),
    ):
        run_at_virtual_time(scene(), clock, *TIMED)
    delays = {job_id: at - ended[job_id] for job_id, at in seen.items()}
    return Seen([at - started for at in location.requests], delays)


def most_in_a_minute(requests: list[float], seconds: float = 60.0) -> int:
    """Return the most requests in any window of a minute, by the times at which they were sent."""
    return max((at - bisect.bisect_left(requests, sent - seconds) + 1 for at, sent in enumerate(requests)), default=0)
