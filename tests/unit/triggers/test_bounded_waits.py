"""A wait with a bound ends by what it waits for, by its time, or by a cancellation, and loses none of them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from airflow_provider_nbjob.triggers.bounded_waits import within
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger
from airflow_provider_nbjob.triggers.start import NotebookExecutionJobStartTrigger
from tests.support.patience import until

LONG = 3600.0


async def returns(value):
    await asyncio.sleep(0)
    return value


async def fails():
    await asyncio.sleep(0)
    raise ZeroDivisionError


@pytest.mark.parametrize("seconds", [None, LONG])
def test_what_the_coroutine_returns_or_raises_comes_through(seconds):
    assert asyncio.run(within(seconds, returns(7))) == 7
    with pytest.raises(ZeroDivisionError):
        asyncio.run(within(seconds, fails()))


@pytest.mark.parametrize("seconds", [0.01, 0.0, -1.0])
def test_a_time_that_is_over_ends_the_coroutine(seconds):
    ended = []

    async def waits():
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(within(seconds, waits()))
    assert ended == [True] * (seconds > 0)  # a coroutine that is not begun has nothing to end


@pytest.mark.parametrize("outcome", ["returns", "raises"])
def test_what_ends_while_it_is_cancelled_at_its_time_counts(outcome):
    async def holds_on():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            if outcome == "raises":
                raise ZeroDivisionError from None
        return 7

    if outcome == "returns":
        assert asyncio.run(within(0.01, holds_on())) == 7
    else:
        with pytest.raises(ZeroDivisionError):
            asyncio.run(within(0.01, holds_on()))


@pytest.mark.parametrize("seconds", [None, LONG])
def test_a_cancellation_ends_the_coroutine_first(seconds):
    order = []

    async def waits():
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0)
            order.append("inner")

    async def scene():
        waiting = asyncio.ensure_future(within(seconds, waits()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        order.append("outer")

    asyncio.run(scene())
    assert order == ["inner", "outer"]


@pytest.mark.parametrize("inner", [lambda: returns(7), fails], ids=["returns", "raises"])
def test_a_cancellation_as_the_coroutine_ends_is_not_lost(caplog, inner):
    async def scene(steps):
        released, begun = asyncio.Event(), []

        async def waits():
            begun.append(True)
            await released.wait()
            return await inner()

        waiting = asyncio.ensure_future(within(LONG, waits()))
        await until(lambda: begun, "the coroutine")
        released.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        was_done = waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})
        return was_done, waiting.cancelled()

    with caplog.at_level(logging.ERROR):
        found = [asyncio.run(scene(steps)) for steps in range(12)]
    assert not caplog.text  # asyncio tells of an error that nobody asked for
    assert {was_done for was_done, _ in found} == {True, False}
    assert all(was_done or was_cancelled for was_done, was_cancelled in found)


def test_a_cancellation_as_the_time_ends_is_not_lost():
    async def scene(steps):
        is_ending = asyncio.Event()

        async def waits():
            try:
                await asyncio.sleep(LONG)
            finally:
                is_ending.set()
                for _ in range(6):
                    await asyncio.sleep(0)

        waiting = asyncio.ensure_future(within(0.01, waits()))
        await is_ending.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        was_done = waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})
        return was_done, waiting.cancelled()

    found = [asyncio.run(scene(steps)) for steps in range(16)]
    assert {was_done for was_done, _ in found} == {True, False}
    assert all(was_done or was_cancelled for was_done, was_cancelled in found)


def test_a_trigger_that_is_taken_away_as_its_job_is_submitted_is_cancelled(monkeypatch):
    """Airflow calls `on_kill`, which stops the job, only if the trigger ends as cancelled."""
    waited = []

    async def waits_for_the_job(self):
        waited.append(self)
        await asyncio.sleep(LONG)

    monkeypatch.setattr(NotebookExecutionJobTrigger, "_wait", waits_for_the_job)
    monkeypatch.setattr(NotebookExecutionJobStartTrigger, "_end_time", lambda _: 4e9)

    async def scene(steps):
        submitted, begun = asyncio.Event(), []

        async def start(self):
            begun.append(self)
            await submitted.wait()
            return "the job"

        monkeypatch.setattr(NotebookExecutionJobStartTrigger, "_start", start)
        trigger = NotebookExecutionJobStartTrigger('{"poll_interval": 10, "cancel_on_kill": true}')
        running = asyncio.ensure_future(trigger._wait())
        await until(lambda: begun, "the submit")
        submitted.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        return running.cancelled()

    assert all(asyncio.run(scene(steps)) for steps in range(12))
    assert waited  # in the later steps
