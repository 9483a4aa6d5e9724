from __future__ import annotations

import asyncio
import threading
import time

import pytest

from airflow_provider_nbjob.plugins.notebook_jobs.bounded_executor import BoundedExecutor, TookTooLong
from tests.support.patience import patient


def test_what_a_function_returns_and_raises_comes_back():
    async def scene():
        bounded = BoundedExecutor(seconds=patient(5), threads=2)
        assert await bounded.run(lambda: 3) == 3
        with pytest.raises(KeyError):
            await bounded.run({}.popitem)
        with pytest.raises(TimeoutError, match="a socket's"):
            await bounded.run(lambda: raises(TimeoutError("a socket's")))

    def raises(error):
        raise error

    asyncio.run(scene())


def test_nobody_waits_for_one_that_hangs_and_no_more_begin_than_threads():
    release = threading.Event()

    async def scene():
        bounded = BoundedExecutor(seconds=0.2, threads=2)
        hanging = [bounded.run(lambda: release.wait(patient(60))) for _ in range(2)]
        refused = bounded.run(lambda: 3)
        answers = await asyncio.wait_for(asyncio.gather(*hanging, refused, return_exceptions=True), patient(5))
        assert [type(answer) for answer in answers] == [TookTooLong] * 3
        assert "0.2 s" in str(answers[0])
        assert "Too many" in str(answers[2])
        release.set()
        end_time = time.monotonic() + patient(10)
        while time.monotonic() < end_time:
            try:
                assert await bounded.run(lambda: 3) == 3
                return
            except TookTooLong:
                await asyncio.sleep(0.02)
        raise AssertionError("the threads never came back")

    asyncio.run(scene())


def test_the_event_loop_goes_on_meanwhile():
    async def scene():
        ticked = threading.Event()
        waiting = asyncio.ensure_future(
            BoundedExecutor(seconds=patient(20), threads=1).run(lambda: ticked.wait(patient(10)))
        )
        for _ in range(6):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        ticked.set()
        assert await waiting

    asyncio.run(scene())
