"""What is kept of the answers of Google Cloud, so that a look again costs neither a request nor a rendering."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from cachetools import TTLCache

V = TypeVar("V")


class Cache(Generic[V]):
    """Keeps values by key; the one unused for longest goes first. Threads may share it.

    A key names all that an answer depends on: the way to it (connection, impersonation chain, endpoint, project), the
    object, and what its reader may see.

    :param max_bytes: of all values together; one that is larger is not kept
    :param max_items: values at most
    :param seconds: after which a value is forgotten; default: never
    """

    def __init__(self, *, max_bytes: int, max_items: int = 1000, seconds: float = float("inf")) -> None:
        self._max_bytes = max_bytes
        self._least = -(-max_bytes // max_items)  # a value that counts as so many bytes leaves room for `max_items`
        self._kept: TTLCache[Hashable, tuple[V, int]] = TTLCache(max_bytes, ttl=seconds, getsizeof=_size_of)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """Return the value of a key, or None if there is none, or none any more."""
        with self._lock:
            found = self._kept.get(key)
        return found[0] if found else None

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value, in place of the key's earlier one.

        :param size: what it takes of memory, in bytes
        """
        with self._lock:
            self._kept.pop(key, None)
            if size <= self._max_bytes:
                self._kept[key] = value, max(size, self._least)


def _size_of(kept: tuple[Any, int]) -> int:
    return kept[1]
