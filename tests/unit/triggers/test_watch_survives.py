"""Whatever is raised in the watch, and whatever hangs, those who wait get the truth about their jobs.

Faults are injected by a trace function: an exception is raised from one line of the loop, chosen by hypothesis.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError, PermissionDenied, ServiceUnavailable, Unknown
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, JobLost
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.triggers import (
    api_calls,
    budget,
    durations,
    job_watch,
    list_trust,
    pace,
    supervision,
    sweeps,
)
from airflow_provider_nbjob.triggers.job_watch import JobWatch, watch_of
from airflow_provider_nbjob.triggers.supervision import SupervisedLoop
from airflow_provider_nbjob.triggers.waiter import Waiter
from tests.support.fake_google import FakeWait
from tests.support.fake_service import PARENT
from tests.support.patience import patient, until
from tests.support.running import state_at_end

PERMISSION_DENIED = ApiError("not granted", "PERMISSION_DENIED")
INTERVAL = 0.01
COUNT = sweeps.FEW + 2  # so many that they are listed


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(job_watch, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(pace, "FAILED_PAUSE_MAX", 0.02)
    for name, seconds in {"RESTART_SECONDS": 0.01, "RESTART_MAX": 0.02}.items():
        monkeypatch.setattr(supervision, name, seconds)
    monkeypatch.setattr(api_calls, "CONNECTION_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 3600.0)
    return FakeWait(monkeypatch).service


class TaskLog:
    """The log of a task; `fault` is raised by each line, if there is one."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.lines: list[str] = []

    def info(self, text: str, *values: Any) -> None:
        if self.fault:
            raise self.fault
        self.lines.append(text % values)

    warning = error = info

    def count(self, text: str) -> int:
        return sum(text in line for line in self.lines)


def name_of(number: int) -> str:
    return f"{PARENT}/notebookExecutionJobs/j{number}"


def put(service: Any, state: str, count: int = COUNT) -> None:
    for number in range(count):
        service.put(state, name=name_of(number))


def wait(number: int, log: Any = None, make_hook: Callable[[], Any] = NotebookExecutionJobHook) -> asyncio.Task[Any]:
    waiting = watch_of("way", PARENT, make_hook).wait_for(f"j{number}", interval=INTERVAL, log=log or TaskLog())
    return asyncio.ensure_future(state_at_end(waiting))


async def all_of(waiting: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), patient(20))


async def end_of(waiting: list[asyncio.Task[Any]]) -> None:
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)


# --- a fault in any line ---

LOOP = [
    *(
        JobWatch._go_on,
        JobWatch._sweep,
        JobWatch._sweep_failed,
        JobWatch._sweep_answered,
        JobWatch._begin_anew,
        JobWatch._ask,
    ),
    *(
        JobWatch._tell_all,
        JobWatch._read_answer,
        JobWatch._list_answer,
        JobWatch._show,
        JobWatch._pause,
        JobWatch._most,
    ),
    *(JobWatch._learn_project, JobWatch._list, JobWatch._read, JobWatch._interval, SupervisedLoop.beat, JobWatch._all),
    *(Waiter.fail, Waiter.recover, Waiter.tell, Waiter._say),
    *(outages.is_about_all, api_calls.ApiCalls._perform, api_calls.ApiCalls._open),
    *(sweeps.SweepPlan.sweep, sweeps.SweepPlan._list_changes, sweeps.SweepPlan._meet_newcomers, sweeps.next_request),
    *(sweeps.SweepPlan._read, sweeps.SweepPlan._read_one, sweeps.SweepPlan._read_in_turn, sweeps.SweepPlan._take),
    *(sweeps.SweepPlan._audit_some, sweeps.SweepPlan._list, sweeps.SweepPlan.glance),
    *(list_trust.ListTrust.answered, list_trust.ListTrust.failed, list_trust.ListTrust.renew),
    *(pace.Pace.begin, pace.Pace.show, pace.Pace.leave, pace.Pace.end, pace.Pace.answer, pace.Pace.refuse),
    *(pace.Pace.next_look, pace.Pace._gap, pace.Pace.pause_after_failures),
    *(budget.Budget.turn, budget.Budget.take, budget.Budget.level, budget.Budget.seconds_until_turn),
    *(durations.Durations.add, durations.Durations.remove, durations.Durations.learn, durations.Durations.outlook),
]
SUPERVISION = [SupervisedLoop.start, SupervisedLoop._ended, SupervisedLoop._restart, SupervisedLoop._miss]


def lines_of(functions: list[Any]) -> list[tuple[CodeType, int]]:
    """Return the lines of functions, and of those within them."""
    codes = [function.__code__ for function in functions]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [(code, line) for code in codes for line in sorted({n for *_, n in code.co_lines() if n})]


class Boom(BaseException):
    """What `except Exception` misses."""


FAULTS = [
    *(RuntimeError("fault"), KeyError("fault"), AttributeError("fault"), MemoryError(), OSError("fault")),
    *(TimeoutError(), StopIteration(), SystemExit(3), Boom("fault"), asyncio.CancelledError()),
    *(ApiError("fault", code) for code in ("UNKNOWN", "PERMISSION_DENIED", "UNAUTHENTICATED", "77")),
    *(InvalidJob("fault"), JobLost("fault")),
]


@contextmanager
def raised_from(code: CodeType, line: int, fault: BaseException, turn: int) -> Iterator[list[int]]:
    """Raise an exception from a line when it is run for the `turn`-th time; yields what is filled once that is done."""
    turns: list[int] = []
    done: list[int] = []

    def trace_lines(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and frame.f_lineno == line and not done:
            turns.append(line)
            if len(turns) >= turn:
                done.append(line)
                raise fault
        return trace_lines

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return trace_lines if frame.f_code is code else None

    before = sys.gettrace()
    sys.settrace(trace)
    threading.settrace(trace)
    try:
        yield done
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("functions", [LOOP, SUPERVISION], ids=["loop", "supervision"])
@given(data=st.data())
@settings(deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_fault_in_any_line_loses_nothing(service, functions, data):
    """The loop's own faults, and in its supervision a second fault after a first one."""
    code, line = data.draw(st.sampled_from(lines_of(functions)), label="line")
    faults = (
        FAULTS if functions is LOOP else [f for f in FAULTS if not isinstance(f, (asyncio.CancelledError, SystemExit))]
    )
    fault = data.draw(st.sampled_from(faults), label="fault")
    turn = data.draw(st.integers(1, 4), label="turn")
    service.jobs.clear()
    service.calls.clear()
    service._failures.clear()
    put(service, "RUNNING")

    async def scene() -> list[Any]:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of callbacks, whose faults it would log
        with raised_from(code, line, fault, turn) as done:
            waiting = [wait(number) for number in range(COUNT)]
            watch = watch_of("way", PARENT, NotebookExecutionJobHook)
            await until(lambda: done or sum(service.calls.values()) > 12, "requests")
            if functions is SUPERVISION and watch.loop.task:
                watch.loop.task.cancel()
            service.fail("list", ServiceUnavailable("down"), times=1)
            calls = sum(service.calls.values())
            await until(lambda: done or sum(service.calls.values()) > calls + 4, "requests")
            put(service, "SUCCEEDED")
            return await all_of(waiting)

    assert asyncio.run(scene()) == [JobState.SUCCEEDED] * COUNT
    assert not service.has_been_told_to_stop()


@pytest.mark.parametrize("fault", [RuntimeError("no log"), SystemExit(1), Boom("no log")], ids=repr)
def test_a_log_that_fails_harms_nobody(service, fault):
    async def scene():
        put(service, "RUNNING")
        faulty, sound = TaskLog(fault), TaskLog()
        waiting = [wait(0, faulty), wait(1, sound), *(wait(number) for number in range(2, COUNT))]
        await until(lambda: sound.lines, "a line")
        service.fail("list", ServiceUnavailable("down"), times=2)
        await until(lambda: sound.count("The API answers again"), "the end of an outage")
        put(service, "SUCCEEDED")
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    asyncio.run(scene())


def test_a_loop_that_was_cancelled_by_others_is_started_again_and_the_tasks_are_told_once(service, caplog):
    async def scene():
        put(service, "RUNNING")
        logs = [TaskLog() for _ in range(COUNT)]
        waiting = [wait(number, log) for number, log in enumerate(logs)]
        watch = watch_of("way", PARENT, NotebookExecutionJobHook)
        for times in (1, 2, 3):
            await until(lambda: watch.loop.task and not watch.loop.task.done(), "the loop runs")
            watch.loop.task.cancel()
            for line in ("Looking failed", "The API answers again"):
                await until(
                    lambda line=line, n=times: {log.count(line) for log in logs} == {n}, f"{line}, {times} times"
                )
        put(service, "SUCCEEDED")
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    with caplog.at_level(logging.ERROR):
        asyncio.run(scene())
    assert caplog.text.count("is started again in") == 3


def test_a_loop_that_is_found_to_have_ended_before_its_callback_is_told_all_the_same(service, caplog):
    async def scene():
        put(service, "RUNNING")
        log = TaskLog()
        waiting = wait(0, log)
        watch = watch_of("way", PARENT, NotebookExecutionJobHook)
        for times in range(1, 11):
            await until(lambda: watch.loop.task and not watch.loop.task.done(), "the loop runs")
            cancelled = watch.loop.task
            cancelled.cancel()
            while watch.loop.task is cancelled:
                await asyncio.sleep(0)
                watch.loop.check()
            for line in ("Looking failed", "The API answers again"):
                await until(lambda line=line, n=times: log.count(line) == n, f"{line}, {times} times")
        put(service, "SUCCEEDED", 1)
        assert await all_of([waiting]) == [JobState.SUCCEEDED]

    with caplog.at_level(logging.ERROR):
        asyncio.run(scene())
    assert caplog.text.count("is started again in") == 10


# --- what hangs ---


def test_a_heartbeat_that_is_late_is_an_error_and_the_loop_is_started_again(service, monkeypatch, caplog):
    monkeypatch.setattr(supervision, "LATE_SECONDS", 0.05)
    monkeypatch.setattr(job_watch, "HUNG_SECONDS", 0.2)

    async def scene():
        put(service, "RUNNING")
        waiting = [wait(number) for number in range(COUNT)]
        await until(lambda: service.calls["list"], "requests")
        with monkeypatch.context() as patch:
            patch.setattr(JobWatch, "_pause", lambda _: asyncio.get_running_loop().create_future())  # nobody ends it
            await until(lambda: "is late by" in caplog.text, "an error in the log")
        put(service, "SUCCEEDED")
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    asyncio.run(scene())


@pytest.mark.parametrize("where", ["request", "connection"])
def test_a_thread_that_hangs_is_left_behind(service, monkeypatch, caplog, where):
    monkeypatch.setattr(api_calls, "HUNG_SECONDS", 0.2)
    released, hung = threading.Event(), []

    def hang_once() -> None:
        if not hung:
            hung.append(threading.current_thread())
            released.wait()

    def make_hook() -> NotebookExecutionJobHook:
        if where == "connection":
            hang_once()
        return NotebookExecutionJobHook()

    async def scene():
        put(service, "RUNNING")
        log = TaskLog()
        waiting = [wait(0, log, make_hook), *(wait(number, None, make_hook) for number in range(1, COUNT))]
        if where == "request":
            await until(lambda: service.calls["list"], "requests")
            service.before = lambda _: hang_once()
        await until(lambda: "did not return within" in caplog.text, "an error in the triggerer's log")
        put(service, "SUCCEEDED")
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT
        assert log.count("did not return within") == 1
        assert hung[0].is_alive()

    try:
        asyncio.run(scene())
    finally:
        released.set()
        for thread in hung:
            thread.join(patient(10))


def test_threads_that_hang_are_bounded_and_waiting_goes_on_when_one_returns(service, monkeypatch):
    monkeypatch.setattr(api_calls, "HUNG_SECONDS", 0.02)
    released = threading.Event()
    threads = set()

    def hang(_: str) -> None:
        threads.add(threading.current_thread())
        released.wait()

    async def scene():
        put(service, "RUNNING")
        log = TaskLog()
        waiting = [wait(number, log if number == 0 else None) for number in range(COUNT)]
        watch = watch_of("way", PARENT, NotebookExecutionJobHook)
        await until(lambda: log.lines, "the first look")
        service.before = hang
        await until(lambda: "calls of the API have not returned" in str(watch._outage), "the bound is reached")
        assert len(threads) == api_calls.HUNG_THREADS_MAX
        service.before = lambda _: None
        monkeypatch.setattr(api_calls, "HUNG_SECONDS", 60.0)
        put(service, "SUCCEEDED")
        released.set()
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    try:
        asyncio.run(scene())
    finally:
        released.set()


# --- intervals ---


@pytest.mark.parametrize("interval", ["10", None, float("nan"), -1, 0, 1e99])
def test_an_interval_that_is_none_harms_nobody_else(service, interval):
    async def scene():
        put(service, "RUNNING")
        waiting = [wait(number) for number in range(COUNT)]
        watch = watch_of("way", PARENT, NotebookExecutionJobHook)
        with pytest.raises(InvalidJob, match="poll_interval"):
            await watch.wait_for("j0", interval=interval, log=TaskLog())
        put(service, "SUCCEEDED")
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    asyncio.run(scene())


# --- connections ---


@pytest.mark.parametrize("fault", [LookupError("The conn_id isn't defined"), OSError("no route"), ValueError("x")])
@pytest.mark.parametrize("has_opened", [False, True])
def test_a_connection_that_cannot_be_read_is_an_outage(service, monkeypatch, fault, has_opened):
    monkeypatch.setattr(api_calls, "CONNECTION_SECONDS_MAX", 0.0)  # it is read anew by each sweep
    failing, failed = [not has_opened], []

    def make_hook() -> NotebookExecutionJobHook:
        if failing[0]:
            failed.append(1)
            raise fault
        return NotebookExecutionJobHook()

    async def scene():
        put(service, "RUNNING")
        log = TaskLog()
        waiting = [wait(0, log, make_hook), *(wait(number, None, make_hook) for number in range(1, COUNT))]
        if has_opened:
            await until(lambda: log.lines, "the first look")
            failing[0] = True
        await until(lambda: len(failed) > 5, "attempts to read the connection")
        assert not any(one.done() for one in waiting)
        if not has_opened:
            assert log.count("Looking failed") == 1  # else the connection is used as it was
        failing[0] = False
        put(service, "SUCCEEDED")
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    asyncio.run(scene())


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_after_a_refusal_the_connection_is_read_anew(service, monkeypatch, code):
    """The key is rotated: the hook that was made before the rotation is refused, the one made after it is not."""
    rules = {name: rule._replace(reread_after=rule.reread_after and 0.0) for name, rule in outages.BY_CODE.items()}
    monkeypatch.setattr(outages, "BY_CODE", rules)
    made: list[Any] = []

    class Hook(NotebookExecutionJobHook):
        def __init__(self) -> None:
            super().__init__()
            self.number = len(made)
            made.append(self)

        def request(self, *args: Any, **kwargs: Any) -> Any:
            if self.number < 3:
                raise ApiError("the key was rotated", code)
            return super().request(*args, **kwargs)

    async def scene():
        put(service, "SUCCEEDED")
        waiting = [wait(number, None, Hook) for number in range(COUNT)]
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    asyncio.run(scene())
    assert len(made) >= 4


def test_the_connection_is_read_anew_at_a_bounded_age(service, monkeypatch):
    monkeypatch.setattr(api_calls, "CONNECTION_SECONDS_MAX", 0.05)
    made = []

    def make_hook() -> NotebookExecutionJobHook:
        made.append(1)
        return NotebookExecutionJobHook()

    async def scene():
        put(service, "RUNNING", 1)
        waiting = [wait(0, None, make_hook)]
        await until(lambda: len(made) > 3 and service.calls["get"] > 3, "hooks, and requests by them")
        await end_of(waiting)

    asyncio.run(scene())


class FaultySteps(JobSteps):
    """Raises, so many times, where a look is taken."""

    def __init__(self, fault: BaseException, times: int) -> None:
        super().__init__()
        self.faults = [fault] * times

    def add(self, state: JobState, since: float) -> None:
        if self.faults:
            raise self.faults.pop()
        super().add(state, since)


@pytest.mark.parametrize("fault", [f for f in FAULTS if not isinstance(f, asyncio.CancelledError)], ids=repr)
@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("count", [3, COUNT])
def test_a_fault_in_taking_a_look_at_one_job_keeps_no_other_waiting(service, fault, times, count):
    steps = FaultySteps(fault, times)

    async def scene():
        put(service, "RUNNING", count)
        watch = watch_of("way", PARENT, NotebookExecutionJobHook)
        first = watch.wait_for("j0", interval=INTERVAL, log=TaskLog(), steps=steps)
        waiting = [asyncio.ensure_future(state_at_end(first)), *(wait(number) for number in range(1, count))]
        await until(lambda: service.calls["get"] + service.calls["list"] > 4, "requests")
        put(service, "SUCCEEDED", count)
        assert await all_of(waiting) == [JobState.SUCCEEDED] * count

    asyncio.run(scene())
    assert len(steps.faults) < times


@pytest.mark.parametrize("fault", [ApiError("fault", "UNAVAILABLE"), RuntimeError("fault")], ids=repr)
@pytest.mark.parametrize("count", [3, COUNT])  # which are read, and listed
def test_a_fault_that_stays_with_one_job_is_its_own(service, fault, count):
    logs = [TaskLog() for _ in range(count)]

    async def scene():
        put(service, "RUNNING", count)
        watch = watch_of("way", PARENT, NotebookExecutionJobHook)
        steps = FaultySteps(fault, 10**6)
        first = asyncio.ensure_future(watch.wait_for("j0", interval=INTERVAL, log=logs[0], steps=steps))
        waiting = [wait(number, logs[number]) for number in range(1, count)]
        await until(lambda: logs[0].lines and all(log.count("is JOB_STATE_RUNNING") for log in logs[1:]), "looks")
        calls = sum(service.calls.values())
        await until(lambda: sum(service.calls.values()) > calls + 12, "further looks")
        put(service, "SUCCEEDED", count)
        assert await all_of(waiting) == [JobState.SUCCEEDED] * (count - 1)
        await end_of([first])

    asyncio.run(scene())
    assert logs[0].count("Looking failed, and will be tried again: ") == 1
    assert not any(log.count("Looking failed") for log in logs[1:])


# --- one error, or one that lasts ---


@pytest.mark.parametrize("method", ["get", "list"])
@pytest.mark.parametrize("code", range(1, 17))
def test_no_single_answer_ends_a_wait(service, method, code):
    import grpc
    from google.api_core.exceptions import from_grpc_status

    # Two NOT_FOUND in a row say that the job is gone.
    times = 1 if code == grpc.StatusCode.NOT_FOUND.value[0] else 2
    count = 2 if method == "get" else COUNT
    status = next(status for status in grpc.StatusCode if status.value[0] == code)

    async def scene():
        put(service, "RUNNING", count)
        service.fail(method, from_grpc_status(status, "says the service"), times=times)
        waiting = [wait(number) for number in range(count)]
        await until(lambda: service.calls["get"] + service.calls["list"] > 8, "requests")
        assert not any(one.done() for one in waiting)
        put(service, "SUCCEEDED", count)
        assert await all_of(waiting) == [JobState.SUCCEEDED] * count

    asyncio.run(scene())


def test_an_answer_with_a_code_that_grpc_does_not_know_ends_no_wait(service):
    async def scene():
        put(service, "RUNNING", 2)
        service.fail("get", GoogleAPICallError("no code at all"), times=3)
        waiting = [wait(number) for number in range(2)]
        await until(lambda: service.calls["get"] > 8, "requests")
        put(service, "SUCCEEDED", 2)
        assert await all_of(waiting) == [JobState.SUCCEEDED] * 2

    asyncio.run(scene())


def test_listing_that_was_refused_is_tried_again(service, monkeypatch):
    monkeypatch.setattr(list_trust, "LIST_AGAIN_SECONDS", 0.05)

    async def scene():
        put(service, "RUNNING")
        service.fail("list", PermissionDenied("not now"), times=1)
        waiting = [wait(number) for number in range(COUNT)]
        await until(lambda: service.calls["get"] >= COUNT and service.calls["list"] > 3, "listings")
        reads = service.calls["get"]
        await until(lambda: service.calls["list"] > 10, "listings")
        assert service.calls["get"] - reads <= COUNT
        await end_of(waiting)

    asyncio.run(scene())


def test_listing_that_is_always_refused_is_tried_less_and_less():
    trust, plan, now, tried = list_trust.ListTrust(), sweeps.SweepPlan(), 0.0, []
    while now < 24 * 3600:
        if plan.lists:
            tried.append(now)
            trust.failed(plan, PERMISSION_DENIED, now)
        now += 10
        trust.renew(plan, now)
    gaps = [later - at for at, later in pairwise(tried)]
    assert (gaps[:3], gaps[-1]) == ([60, 120, 240], 3600)
    trust.answered()
    trust.failed(plan, PERMISSION_DENIED, now)
    trust.renew(plan, now + 60)
    assert plan.lists


def test_jobs_are_read_if_listing_alone_is_faulty(service):
    async def scene():
        put(service, "RUNNING")
        service.fail("list", Unknown("a fault of the listing"))
        waiting = [wait(number) for number in range(COUNT)]
        await until(lambda: service.calls["get"] > COUNT, "reads")
        put(service, "SUCCEEDED")
        assert await all_of(waiting) == [JobState.SUCCEEDED] * COUNT

    asyncio.run(scene())


# --- outages, in the logs of tasks ---


@pytest.mark.parametrize("error", [ServiceUnavailable("down"), Unknown("odd"), RuntimeError("ours")])
def test_each_waiting_task_is_told_of_an_outage_and_of_its_end(service, error):
    async def scene():
        put(service, "RUNNING")
        logs = [TaskLog() for _ in range(COUNT)]
        waiting = [wait(number, log) for number, log in enumerate(logs[:-1])]
        await until(lambda: all(log.lines for log in logs[:-1]), "first looks")
        for method in ("get", "list"):
            service.fail(method, error)
        await until(lambda: logs[0].count("Looking failed"), "the outage is told")
        waiting.append(wait(COUNT - 1, logs[-1]))  # arrives during the outage
        await until(lambda: logs[-1].count("Looking failed"), "the newcomer is told")
        calls = sum(service.calls.values())
        await until(lambda: sum(service.calls.values()) > calls + 3, "sweeps that fail")
        service._failures.clear()
        await until(lambda: all(log.count("The API answers again") for log in logs), "the end is told")
        put(service, "SUCCEEDED")
        await all_of(waiting)
        for log in logs:
            assert log.count("Looking failed, and will be tried again") == 1
            assert log.count("The API answers again, after") == 1

    asyncio.run(scene())


def test_a_job_that_cannot_be_read_is_told_to_its_own_task_alone(service):
    def refuse(request: Any, **_: Any) -> Any:
        if request.name == name_of(0) and is_refused:
            raise PermissionDenied("not this one")
        return read(request)

    read, is_refused = service.get_notebook_execution_job, [1]
    service.get_notebook_execution_job = refuse

    async def scene():
        put(service, "RUNNING", 3)
        logs = [TaskLog() for _ in range(3)]
        waiting = [wait(number, log) for number, log in enumerate(logs)]
        await until(lambda: logs[0].lines and service.calls["get"] > 10, "requests")
        is_refused.clear()
        await until(lambda: logs[0].count("The API answers again"), "the end is told")
        put(service, "SUCCEEDED", 3)
        assert await all_of(waiting) == [JobState.SUCCEEDED] * 3
        assert [log.count("Looking failed") for log in logs] == [1, 0, 0]
        assert [log.count("The API answers again") for log in logs] == [1, 0, 0]

    asyncio.run(scene())


# --- one project, one budget, one watch ---


@pytest.mark.parametrize("first", ["p", "123456789"])
def test_those_who_ask_by_id_and_by_number_share_a_watch_once_an_answer_told_the_number(service, first):
    by_number = PARENT.replace("/p/", "/123456789/")
    parents = [PARENT, by_number] if first == "p" else [by_number, PARENT]
    names = [name_of(number).replace("/p/", "/123456789/") for number in range(2)]

    async def scene():
        for name in names:
            service.put("RUNNING", name=name)
        way = f"asked by {first} first"
        watches = [watch_of(way, parent, NotebookExecutionJobHook) for parent in parents]
        waiting = [
            asyncio.ensure_future(state_at_end(watch.wait_for(f"j{number}", interval=INTERVAL, log=TaskLog())))
            for number, watch in enumerate(watches)
        ]
        same = lambda: len({id(watch_of(way, parent, NotebookExecutionJobHook)) for parent in parents}) == 1  # noqa: E731
        await until(same, "one watch")
        (watch,) = {watch_of(way, parent, NotebookExecutionJobHook) for parent in parents}
        await until(lambda: len(watch._all()) == 2, "all wait there")
        assert watch._budget is job_watch.budget_for(way, "p", "us-central1")
        for name in names:
            service.put("SUCCEEDED", name=name)
        assert await all_of(waiting) == [JobState.SUCCEEDED] * 2
        assert len(watch._budget._members) == 0

    asyncio.run(scene())
    budget._projects.clear()
