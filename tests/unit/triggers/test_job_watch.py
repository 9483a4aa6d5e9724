"""The watch that triggers share: who is woken, what it survives, and that nothing is left of it.

The hook is the real one; Google's client is a model of a location.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
from google.api_core.exceptions import InvalidArgument, NotFound, PermissionDenied, ServiceUnavailable
from google.cloud.aiplatform_v1.types import ListNotebookExecutionJobsResponse, NotebookExecutionJob

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import JobLost, JobUnwatched
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.triggers import job_watch
from airflow_provider_nbjob.triggers.job_watch import JobWatch, watch_of
from tests.support.patience import patient, until

LOCATION = "projects/p/locations/us-central1"
INTERVAL = 0.05


class Service:
    """NotebookService, as the client shows it."""

    def __init__(self) -> None:
        self.jobs: dict[str, NotebookExecutionJob] = {}
        self.fails: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.at_once = self.most_at_once = 0

    def put(self, job_id: str, state: JobState = JobState.RUNNING) -> None:
        job = NotebookExecutionJob(name=f"{LOCATION}/notebookExecutionJobs/{job_id}", job_state=state.value)
        job.update_time = {"seconds": int(time.time()), "nanos": len(self.jobs) % 10**9}
        self.jobs[job.name] = job

    def call(self, name: str) -> None:
        self.calls.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.001)
        self.at_once -= 1
        if name in self.fails:
            raise self.fails[name]

    def get_notebook_execution_job(self, request, **_):
        self.call("get")
        if request.name not in self.jobs:
            raise NotFound("no such job")
        return self.jobs[request.name]

    def list_notebook_execution_jobs(self, request, **_):
        self.call("list")
        assert request.order_by == "update_time desc"
        jobs = sorted(self.jobs.values(), key=lambda job: job.update_time, reverse=True)
        start = int(request.page_token or 0)
        end = start + request.page_size
        token = str(end) if end < len(jobs) else ""
        page = ListNotebookExecutionJobsResponse(notebook_execution_jobs=jobs[start:end], next_page_token=token)
        return SimpleNamespace(pages=iter([page]))


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform", "extra": {"project": "p"}}'
    )
    monkeypatch.setenv("NBJOB_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", "100000")
    monkeypatch.setattr(job_watch, "ARRIVAL", 0.01)
    made = Service()
    monkeypatch.setattr(NotebookExecutionJobHook, "get_conn", lambda *_: made)
    return made


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text, *values):
        self.lines.append(text % values)

    warning = info


def watch() -> JobWatch:
    return watch_of("way", LOCATION, NotebookExecutionJobHook)


def waits(job_id: str, log=None, interval: float = INTERVAL):
    return asyncio.ensure_future(watch().wait_for(job_id, interval=interval, log=log or Log()))


async def gather(*waiting):
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), patient(20))


@pytest.mark.parametrize("count", [3, 300])
def test_those_are_woken_whose_job_ended(service, count):
    async def scene():
        for n in range(count):
            service.put(f"j{n}")
        waiting = [waits(f"j{n}") for n in range(count)]
        await until(lambda: len(service.calls) > 10, "requests")
        service.put("j1", JobState.FAILED)
        service.put("j2", JobState.SUCCEEDED)
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
                service.put(f"j{round_number}-{n}")
            waiting = [waits(f"j{round_number}-{n}") for n in range(20)]
            reference = weakref.ref(watch())
            await until(lambda: len(service.calls) > 3, "requests")
            service.calls.clear()
            for n in range(20):
                if way == "event":
                    service.put(f"j{round_number}-{n}", JobState.SUCCEEDED)
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
        service.put("j")
        first = waits("j")
        await until(lambda: service.calls, "requests")
        log = Log()
        second = waits("j", log)
        await until(lambda: log.lines, "a line in the log")  # it hears of the state that is known
        service.put("j", JobState.SUCCEEDED)
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
            service.put(f"j{n}")
        waiting = [asyncio.ensure_future(trigger(n)) for n in range(2)]
        await until(lambda: len(seen) == 2, "two states")
        for n in range(2):
            service.put(f"j{n}", JobState.SUCCEEDED)
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
            service.put(f"j{n}")
        waiting = [waits(f"j{n}", interval=0.01) for n in range(count)]
        await until(lambda: len(service.calls) > 3, "requests")
        service.fails[call] = error
        before = len(service.calls)
        await until(lambda: len(service.calls) > before + 2, "requests")
        assert not any(one.done() for one in waiting)
        service.fails.clear()
        for n in range(count):
            service.put(f"j{n}", JobState.SUCCEEDED)
        assert await gather(*waiting) == [JobState.SUCCEEDED] * count

    asyncio.run(scene())
    assert caplog.text.count("Looking failed, and will be tried again") == 1


@pytest.mark.parametrize("error", [PermissionDenied("no list"), InvalidArgument("no order_by")])
def test_where_listing_is_refused_jobs_are_read(service, error, caplog):
    async def scene():
        service.fails["list"] = error
        for n in range(20):
            service.put(f"j{n}")
        waiting = [waits(f"j{n}") for n in range(20)]
        await until(lambda: service.calls.count("get") > 40, "requests")
        for n in range(20):
            service.put(f"j{n}", JobState.SUCCEEDED)
        assert await gather(*waiting) == [JobState.SUCCEEDED] * 20
        assert service.calls.count("list") == 1

    asyncio.run(scene())
    assert caplog.text.count("Jobs are read one by one") == 1


def test_what_cannot_be_read_is_told_to_its_own_trigger(service, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)

    async def scene():
        service.put("j1")
        lost, other = waits("j0"), waits("j1")
        (error,) = await gather(lost)
        assert isinstance(error, JobLost)
        assert "j0" in str(error)
        service.fails["get"] = PermissionDenied("not yours")
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
            service.put(f"j{n}", JobState.SUCCEEDED)
        waiting = [waits(f"j{n}", interval=0.01) for n in range(3)]
        assert await gather(*waiting[1:]) == [JobState.SUCCEEDED] * 2
        waiting[0].cancel()
        await gather(waiting[0])

    asyncio.run(scene())


def test_a_look_needs_no_sweep_before_it(service):
    service.put("j", JobState.SUCCEEDED)
    assert asyncio.run(JobWatch(LOCATION, NotebookExecutionJobHook).look("j")) is JobState.SUCCEEDED


def test_ways_and_locations_have_watches_of_their_own(service):
    async def scene():
        one = watch()
        assert watch() is one
        assert watch_of("another way", LOCATION, NotebookExecutionJobHook) is not one
        assert watch_of("way", LOCATION.replace("central", "west"), NotebookExecutionJobHook) is not one

    asyncio.run(scene())


def test_the_request_budget_stretches_the_interval(service, monkeypatch):
    monkeypatch.setenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", "600")

    async def scene():
        for n in range(5):
            service.put(f"j{n}")
        started = time.monotonic()
        waiting = [waits(f"j{n}", interval=0.001) for n in range(5)]
        await until(lambda: len(service.calls) > 15, "requests")
        # ten a second, and one sweep ahead of that
        assert len(service.calls) <= 10 * (time.monotonic() - started) + 6
        for one in waiting:
            one.cancel()
        await gather(*waiting)

    asyncio.run(scene())
