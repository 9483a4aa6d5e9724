"""A cache for answers of Google Cloud and for rendered notebooks: a repeated view costs no request and no rendering."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

import cachetools

V = TypeVar("V")


class TTLCache(Generic[V]):
    """Keep values by key, within a limit of bytes, of items and of time. It is safe to share between threads.

    If there is no room, the value that was not used for the longest time is removed.

    A key names all that an answer depends on: how the API is reached (connection, impersonation chain, endpoint,
    project), the object, and what its reader may see.

    :param max_bytes: of all values together; a value that is larger is not kept
    :param max_items: maximum number of values
    :param seconds: lifetime of a value; default: no limit
    """

    def __init__(self, *, max_bytes: int, max_items: int = 1000, seconds: float = float("inf")) -> None:
        self._max_bytes = max_bytes
        # cachetools limits the sum of sizes only: no value counts as less than this, so `max_items` of them fill it.
        self._min_size = -(-max_bytes // max_items)
        self._kept: cachetools.TTLCache[Hashable, tuple[V, int]] = cachetools.TTLCache(
            max_bytes, ttl=seconds, getsizeof=_size_of
        )
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """Return the value of a key, or None if the cache does not have it or its lifetime is over."""
        with self._lock:
            found = self._kept.get(key)
        return found[0] if found else None

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value, and replace the earlier value of the key.

        :param size: the memory that the value needs, in bytes
        """
        with self._lock:
            self._kept.pop(key, None)
            if size <= self._max_bytes:
                self._kept[key] = value, max(size, self._min_size)


def _size_of(kept: tuple[object, int]) -> int:
    return kept[1]
