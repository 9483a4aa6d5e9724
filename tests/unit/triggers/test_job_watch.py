"""The watch that triggers share: who is woken, what it survives, and that nothing is left of it.

The hook is the real one; Google's client is a `FakeService`.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from datetime import datetime, timezone

import pytest
from google.api_core.exceptions import InvalidArgument, PermissionDenied, ServiceUnavailable

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import JobLost, JobUnwatched
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.triggers.job_watch import JobWatch, watch_of
from tests.support.fake_google import FakeWait
from tests.support.fake_service import PARENT, FakeService
from tests.support.patience import patient, until
from tests.support.running import state_at_end

INTERVAL = 0.05


class Location(FakeService):
    """The jobs of a location, of which a watch asks for the latest changes.

    `most_at_once` is the most requests that were under way at a time.
    """

    at_once = most_at_once = 0

    def set_state(self, job_id: str, state: str = "RUNNING") -> None:
        """Have a job be in a state from now on."""
        self.put(state, name=f"{PARENT}/notebookExecutionJobs/{job_id}", update_time=datetime.now(timezone.utc))

    def get_notebook_execution_job(self, request, **options):
        self._take_time()
        return super().get_notebook_execution_job(request, **options)

    def list_notebook_execution_jobs(self, request, **options):
        self._take_time()
        assert request.order_by == "update_time desc"
        return super().list_notebook_execution_jobs(request, **options)

    def _take_time(self) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.001)
        self.at_once -= 1


@pytest.fixture
def service(monkeypatch):
    google = FakeWait(monkeypatch)
    monkeypatch.setattr(google, "service", Location(google.storage))
    return google.service


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text, *values):
        self.lines.append(text % values)

    warning = info


def watch() -> JobWatch:
    return watch_of("way", PARENT, NotebookExecutionJobHook)


def waits(job_id: str, log=None, interval: float = INTERVAL):
    return asyncio.ensure_future(state_at_end(watch().wait_for(job_id, interval=interval, log=log or Log())))


async def gather(*waiting):
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), patient(20))


@pytest.mark.parametrize("count", [3, 300])
def test_those_are_woken_whose_job_ended(service, count):
    async def scene():
        for n in range(count):
            service.set_state(f"j{n}")
        waiting = [waits(f"j{n}") for n in range(count)]
        await until(lambda: service.calls.total() > 10, "requests")
        service.set_state("j1", "FAILED")
        service.set_state("j2", "SUCCEEDED")
        assert await gather(waiting[1], waiting[2]) == [JobState.FAILED, JobState.SUCCEEDED]
        assert [n for n, one in enumerate(waiting) if one.done()] == [1, 2]
        for one in waiting:
            one.cancel()
        await gather(*waiting)
        assert service.most_at_once == 1

    asyncio.run(scene())


@pytest.mark.parametrize("way", ["event", "cancel"])
def test_nothing_is_left_when_the_last_one_left(service, way):
    async def scene():
        threads = threading.active_count()
        for round_number in range(3):
            for n in range(20):
                service.set_state(f"j{round_number}-{n}")
            waiting = [waits(f"j{round_number}-{n}") for n in range(20)]
            reference = weakref.ref(watch())
            await until(lambda: service.calls.total() > 3, "requests")
            service.calls.clear()
            for n in range(20):
                if way == "event":
                    service.set_state(f"j{round_number}-{n}", "SUCCEEDED")
                else:
                    waiting[n].cancel()
            await gather(*waiting)
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "the end of all tasks")
            del waiting  # its tracebacks know the watch
            # A given-up request knows it too.
            await until(lambda known=reference: gc.collect() >= 0 and known() is None, "the end of the watch")
        assert threading.active_count() <= threads + 2  # the event loop's pool: one request, and one given up

    asyncio.run(scene())


def test_two_who_wait_for_one_job_are_both_woken(service):
    async def scene():
        service.set_state("j")
        first = waits("j")
        await until(lambda: service.calls, "requests")
        log = Log()
        second = waits("j", log)
        await until(lambda: log.lines, "a line in the log")  # it hears of the state that is known
        service.set_state("j", "SUCCEEDED")
        assert await gather(first, second) == [JobState.SUCCEEDED] * 2

    asyncio.run(scene())


def test_a_change_is_logged_where_its_task_logs(service):
    task = contextvars.ContextVar("task")
    seen = []

    class TaskLog:
        def info(self, text, *values):
            seen.append((task.get(None), text % values))

    async def trigger(n):
        task.set(n)
        await watch().wait_for(f"j{n}", interval=INTERVAL, log=TaskLog())

    async def scene():
        for n in range(2):
            service.set_state(f"j{n}")
        waiting = [asyncio.ensure_future(trigger(n)) for n in range(2)]
        await until(lambda: len(seen) == 2, "two states")
        for n in range(2):
            service.set_state(f"j{n}", "SUCCEEDED")
        await gather(*waiting)

    asyncio.run(scene())
    assert sorted(seen) == [
        (n, f"Notebook job j{n} is {state}") for n in range(2) for state in ("JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED")
    ]


@pytest.mark.parametrize("error", [ServiceUnavailable("down"), RuntimeError("a fault of ours"), KeyError("x")])
@pytest.mark.parametrize(("call", "count"), [("get", 2), ("list", 20)])
def test_it_survives_an_error_and_logs_its_streak_once(service, error, call, count, caplog):
    async def scene():
        for n in range(count):
            service.set_state(f"j{n}")
        waiting = [waits(f"j{n}", interval=0.01) for n in range(count)]
        await until(lambda: service.calls.total() > 3, "requests")
        service.fail(call, error)
        before = service.calls.total()
        await until(lambda: service.calls.total() > before + 2, "requests")
        assert not any(one.done() for one in waiting)
        service.mend()
        for n in range(count):
            service.set_state(f"j{n}", "SUCCEEDED")
        assert await gather(*waiting) == [JobState.SUCCEEDED] * count

    asyncio.run(scene())
    assert caplog.text.count("Looking failed, and will be tried again") == 1


@pytest.mark.parametrize("error", [PermissionDenied("no list"), InvalidArgument("no order_by")])
def test_where_listing_is_refused_jobs_are_read(service, error, caplog):
    async def scene():
        service.fail("list", error)
        for n in range(20):
            service.set_state(f"j{n}")
        waiting = [waits(f"j{n}") for n in range(20)]
        await until(lambda: service.calls["get"] > 40, "requests")
        for n in range(20):
            service.set_state(f"j{n}", "SUCCEEDED")
        assert await gather(*waiting) == [JobState.SUCCEEDED] * 20
        assert service.calls["list"] == 1

    asyncio.run(scene())
    assert caplog.text.count("Jobs are read one by one") == 1


def test_what_cannot_be_read_is_told_to_its_own_trigger(service, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)

    async def scene():
        service.set_state("j1")
        lost, other = waits("j0"), waits("j1")
        (error,) = await gather(lost)
        assert isinstance(error, JobLost)
        assert "j0" in str(error)
        service.fail("get", PermissionDenied("not yours"))
        (error,) = await gather(other)
        assert isinstance(error, JobUnwatched)
        assert error.code == "PERMISSION_DENIED"

    asyncio.run(scene())


def test_one_that_cannot_be_read_does_not_hide_the_others(service):
    read = service.get_notebook_execution_job

    def read_all_but_one(request, **options):
        if request.name.endswith("/j0"):
            raise ServiceUnavailable("poisoned")
        return read(request, **options)

    service.get_notebook_execution_job = read_all_but_one

    async def scene():
        for n in range(3):
            service.set_state(f"j{n}", "SUCCEEDED")
        waiting = [waits(f"j{n}", interval=0.01) for n in range(3)]
        assert await gather(*waiting[1:]) == [JobState.SUCCEEDED] * 2
        waiting[0].cancel()
        await gather(waiting[0])

    asyncio.run(scene())


def test_a_look_needs_no_sweep_before_it(service):
    service.set_state("j", "SUCCEEDED")
    seen = asyncio.run(JobWatch(PARENT, NotebookExecutionJobHook).look("j"))
    assert (seen.state, seen.job.name) == (JobState.SUCCEEDED, f"{PARENT}/notebookExecutionJobs/j")


def test_ways_and_locations_have_watches_of_their_own(service):
    async def scene():
        one = watch()
        assert watch() is one
        assert watch_of("another way", PARENT, NotebookExecutionJobHook) is not one
        assert watch_of("way", PARENT.replace("central", "west"), NotebookExecutionJobHook) is not one

    asyncio.run(scene())


def test_the_request_budget_stretches_the_interval(service, monkeypatch):
    monkeypatch.setenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", "600")

    async def scene():
        for n in range(5):
            service.set_state(f"j{n}")
        started = time.monotonic()
        waiting = [waits(f"j{n}", interval=0.001) for n in range(5)]
        await until(lambda: service.calls.total() > 15, "requests")
        # ten a second, and one sweep ahead of that
        assert service.calls.total() <= 10 * (time.monotonic() - started) + 6
        for one in waiting:
            one.cancel()
        await gather(*waiting)

    asyncio.run(scene())
