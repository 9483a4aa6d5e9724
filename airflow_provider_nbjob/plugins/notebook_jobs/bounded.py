"""Work that waits for others: a bucket or an API that is slow holds neither the event loop nor Airflow's threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 10.0
THREADS = 8


class TookTooLong(Exception):
    """It was not done in time, or not begun as too much else is under way."""


class Bounded:
    """Runs functions in threads of its own, each for a bounded time.

    A function that is given up goes on in its thread until its own time limits end it, so its thread counts until then.

    :param seconds: after which a caller is waited for no longer
    :param threads: functions at once; more are refused at once
    """

    def __init__(self, seconds: float = SECONDS, threads: int = THREADS) -> None:
        self._seconds = seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="notebook-jobs")
        self._free = threading.Semaphore(threads)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function and return what it returns.

        :raises TookTooLong: where it took longer, or was not begun
        """
        if not self._free.acquire(blocking=False):
            raise TookTooLong("Too many requests wait for Google Cloud at this moment.")
        future = self._pool.submit(function, *arguments)
        future.add_done_callback(lambda _: self._free.release())
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._seconds)
        except asyncio.TimeoutError:
            if future.done():  # in the last moment, or with a timeout of its own
                return future.result()
            raise TookTooLong(f"Google Cloud did not answer within {self._seconds:g} s.") from None
