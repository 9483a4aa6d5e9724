"""What was found out in the last seconds: many who watch one job cost the API as much as one does."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Recent:
    """Keeps values for a short time.

    :param seconds: after which a value is made anew
    :param most: values that are kept; the oldest goes
    """

    def __init__(self, seconds: float, most: int = 500) -> None:
        self._seconds, self._most = seconds, most
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key; `make` makes it where there is none, or none that is recent."""
        with self._lock:
            made, value = self._kept.get(key, (float("-inf"), None))
        if time.monotonic() - made < self._seconds:
            return value
        value = make()
        with self._lock:
            self._kept[key] = time.monotonic(), value
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value
