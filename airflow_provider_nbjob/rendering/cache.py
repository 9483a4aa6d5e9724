"""Rendered notebooks that are kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from airflow_provider_nbjob.rendering.limits import MIB


class RenderingCache:
    """Documents by key, of so many bytes at most; the one unused for longest goes first. Threads may share it.

    :param max_bytes: of all documents together; default 64 MiB. One that is larger than that is not kept
    """

    def __init__(self, max_bytes: int = 64 * MIB) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._documents: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """The document of a key; None where there is none, or no longer."""
        with self._lock:
            if key in self._documents:
                self._documents.move_to_end(key)
            return self._documents.get(key)

    def put(self, key: Hashable, document: bytes) -> None:
        """Keep a document, in place of the key's earlier one."""
        with self._lock:
            self._size -= len(self._documents.pop(key, b""))
            if len(document) > self._max_bytes:
                return
            self._documents[key] = document
            self._size += len(document)
            while self._size > self._max_bytes:
                self._size -= len(self._documents.popitem(last=False)[1])
