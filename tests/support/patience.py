"""Wait for what another process does, with a bound that does not depend on how fast the machine is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

# Every bound of the tests is written for a quiet machine and multiplied by this. A bound only says when to give up:
# a test that passes takes no longer because of it.
PATIENCE = float(os.environ.get("NBJOB_TEST_PATIENCE", "4"))


def patient(seconds: float) -> float:
    """Return the bound of a wait, in seconds, that takes `seconds` at most on a quiet machine."""
    return seconds * PATIENCE


def wait_until(condition: Callable[[], Any], *, timeout: float, what: str, interval: float = 0.2) -> Any:
    """Poll `condition` until it returns something true, and return that.

    :param condition: what is polled
    :param timeout: seconds after which a quiet machine would have to be given up; `PATIENCE` multiplies them
    :param what: what is waited for, named if it does not come
    :param interval: seconds between two polls
    """
    end_time = time.monotonic() + patient(timeout)
    while not (value := condition()):
        assert time.monotonic() < end_time, f"not within {patient(timeout):g} s: {what}"
        time.sleep(interval)
    return value


async def until(condition: Callable[[], Any], what: str, *, seconds: float = 20, interval: float = 0.01) -> None:
    """Poll `condition` as `wait_until` does, on an event loop, and without a task that the condition could see.

    :param condition: what is polled
    :param what: what is waited for, named if it does not come
    :param seconds: seconds after which a quiet machine would have to be given up; `PATIENCE` multiplies them
    :param interval: seconds between two polls
    """
    end_time = time.monotonic() + patient(seconds)
    while not condition():
        assert time.monotonic() < end_time, f"not within {patient(seconds):g} s: {what}"
        await asyncio.sleep(interval)
