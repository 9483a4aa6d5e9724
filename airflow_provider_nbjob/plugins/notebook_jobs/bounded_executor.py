"""Run blocking calls of Google Cloud in threads of their own.

A slow bucket or API blocks neither the event loop of the API server nor the threads of Airflow's routes.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 10.0  # that a caller waits for a result
MAX_THREADS = 8
# Concurrent calls for one user, and for one place of Google Cloud by one connection.
MAX_BY_CLAIM = {"user": 2, "place": 4}

Claim = tuple[str, Hashable]  # a claim's name, such as "user", and its value


class TookTooLong(Exception):
    """The call did not finish in time, or was refused because too many others are running."""


class BoundedExecutor:
    """Run functions in a thread pool, with limits of time and of concurrent calls.

    Python cannot end a thread. A function whose caller no longer waits runs until its own timeouts end it, and counts
    as running until then.

    :param seconds: how long a caller waits
    :param threads: maximum number of concurrent functions; further ones are refused without waiting
    :param at_once: maximum number of concurrent functions for each value of a claim, by the claim's name
    """

    def __init__(
        self, seconds: float = SECONDS, threads: int = MAX_THREADS, at_once: Mapping[str, int] | None = None
    ) -> None:
        self._seconds = seconds
        self._threads = threads
        self._at_once = MAX_BY_CLAIM if at_once is None else at_once
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="notebook-jobs")
        self._claimed: Counter[Claim] = Counter()
        self._under_way: dict[Hashable, Future[Any]] = {}
        self._running = 0
        # Reentrant: `add_done_callback` calls `_release` at once, in the thread that holds the lock, if the function
        # has finished by then.
        self._lock = threading.RLock()

    async def run(
        self, function: Callable[[], T], *, key: Hashable = None, claims: Mapping[str, Hashable] | None = None
    ) -> T:
        """Call a function and return its result.

        :param key: callers with the same key share one call and its result; default: each caller has its own
        :param claims: what the call counts against, by name; each has its limit
        :raises TookTooLong: if the function does not finish in time, or is refused
        """
        future = self._shared(function, key, claims or {})
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._seconds)
        except asyncio.TimeoutError:
            if future.done():  # it finished at this moment, or raised a TimeoutError of its own
                return future.result()
            raise TookTooLong(f"Google Cloud did not answer within {self._seconds:g} s.") from None

    def _shared(self, function: Callable[[], T], key: Hashable, claims: Mapping[str, Hashable]) -> Future[T]:
        """Return the running call of a key, or start one."""
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

    def _release(self, key: Hashable, taken: list[Claim]) -> None:
        with self._lock:
            self._running -= 1
            self._under_way.pop(key, None)
            self._claimed.subtract(taken)
            for one in taken:
                if not self._claimed[one]:
                    del self._claimed[one]
