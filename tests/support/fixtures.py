"""Build what many tests share, once more if it fails, and say why if it fails again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
LOG_LINES = 50


class DidNotStart(Exception):
    """A component of the tests did not start; the message has the last lines of its logs."""

    def __init__(self, what: str, logs: Iterable[Path]) -> None:
        super().__init__("\n".join([f"{what} did not start", *map(_tail, logs)]))


def _tail(log: Path) -> str:
    """Return the last `LOG_LINES` lines of a log, below its name."""
    if not log.exists():
        return f"--- {log.name}: not written"
    with log.open(errors="replace") as lines:
        last = "".join(deque(lines, LOG_LINES))
    return f"--- the last {LOG_LINES} lines of {log.name}:\n{last}"


@contextmanager
def built(make: Callable[[str], AbstractContextManager[T]]) -> Iterator[T]:
    """Enter what `make` returns, and make it once more if it cannot be entered.

    A session fixture that fails fails all of its tests, and one slow answer is no reason for that.

    :param make: takes the suffix of the names that must be new at each attempt
    """
    with ExitStack() as stack:
        try:
            value = stack.enter_context(make(""))
        except Exception as error:
            print(f"built once more after: {error}")
            value = stack.enter_context(make("-again"))
        yield value


def worker_id() -> str:
    """Return the name of this process among those of pytest-xdist, ``main`` if there are no others."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")
