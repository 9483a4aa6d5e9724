"""Work that waits for others: a bucket or an API that is slow holds neither the event loop nor Airflow's threads."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 10.0
THREADS = 8
# Threads that may work at once for one user, and ask one place of Google's by one connection.
AT_ONCE = {"user": 2, "place": 4}


class TookTooLong(Exception):
    """It was not done in time, or not begun as too much else is under way."""


class Bounded:
    """Runs functions in threads of its own, each for a bounded time.

    A function that is given up goes on in its thread until its own time limits end it, so its thread counts until then.

    :param seconds: after which a caller is waited for no longer
    :param threads: functions at once; more are refused at once
    :param at_once: functions at once for each value of a claim, by the claim's name
    """

    def __init__(
        self, seconds: float = SECONDS, threads: int = THREADS, at_once: Mapping[str, int] | None = None
    ) -> None:
        self._seconds = seconds
        self._threads = threads
        self._at_once = AT_ONCE if at_once is None else at_once
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="notebook-jobs")
        self._claimed: Counter[tuple[str, Hashable]] = Counter()
        self._under_way: dict[Hashable, Future[Any]] = {}
        self._running = 0
        # A function may end before it is asked to say when, in the thread that asks: this one, which holds the lock.
        self._lock = threading.RLock()

    async def run(
        self, function: Callable[[], T], *, key: Hashable = None, claims: Mapping[str, Hashable] | None = None
    ) -> T:
        """Call a function and return what it returns.

        :param key: those who ask for the same key while it is under way get one answer, and count once; default: all
            get their own
        :param claims: for whom and where it works, by name; each has its limit
        :raises TookTooLong: if it takes longer, or is not begun
        """
        future = self._shared(function, key, claims or {})
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._seconds)
        except asyncio.TimeoutError:
            if future.done():  # in the last moment, or with a timeout of its own
                return future.result()
            raise TookTooLong(f"Google Cloud did not answer within {self._seconds:g} s.") from None

    def _shared(self, function: Callable[[], T], key: Hashable, claims: Mapping[str, Hashable]) -> Future[T]:
        """Return what is under way for a key, else begin it."""
        with self._lock:
            if key is not None and key in self._under_way:
                return self._under_way[key]
            taken = list(claims.items())
            if self._running >= self._threads or any(self._claimed[one] >= self._at_once[one[0]] for one in taken):
                raise TookTooLong("Too many requests wait for Google Cloud at this moment.")
            self._running += 1
            self._claimed.update(taken)
            future = self._pool.submit(function)
            if key is not None:
                self._under_way[key] = future
            future.add_done_callback(lambda _: self._release(key, taken))
            return future

    def _release(self, key: Hashable, taken: list[tuple[str, Hashable]]) -> None:
        with self._lock:
            self._running -= 1
            self._under_way.pop(key, None)
            self._claimed.subtract(taken)
            for one in taken:
                if not self._claimed[one]:
                    del self._claimed[one]
