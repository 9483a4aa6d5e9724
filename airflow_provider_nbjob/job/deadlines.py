"""Deadlines by the wall clock that a step of this clock neither moves nor loses.

A deadline is told in wall time, so that another process can go on with it. Within a process the monotonic clock counts.
Knows neither Airflow nor Google.
"""

from __future__ import annotations

import math
import threading
import time
from numbers import Real

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob

# A step of the wall clock, by NTP or by hand, is believed once it has lasted so long: until then a wait that begins
# counts from the clock before the step.
STEP_SECONDS = 900.0
SLEW_SECONDS = 1.0  # a smaller difference is no step: the clock was adjusted


class SteadyClock:
    """The wall clock without its steps, as far as this process can tell them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = self._stepped = time.time() - time.monotonic()
        self._stepped_at = 0.0

    def now(self) -> float:
        """Return POSIX seconds."""
        with self._lock:
            monotonic = time.monotonic()
            offset = time.time() - monotonic
            if abs(offset - self._offset) <= SLEW_SECONDS:
                self._offset = self._stepped = offset
            elif abs(offset - self._stepped) > SLEW_SECONDS:
                self._stepped, self._stepped_at = offset, monotonic
            elif monotonic - self._stepped_at >= STEP_SECONDS:
                self._offset = offset
            return monotonic + self._offset


_clock = SteadyClock()


def now() -> float:
    """Return POSIX seconds, by a clock that takes no part in steps of the wall clock until these have lasted."""
    return _clock.now()


class Deadline:
    """A moment in wall time, from now on counted by the monotonic clock.

    :param end_time: POSIX seconds; None: never
    """

    def __init__(self, end_time: float | None) -> None:
        self._end = math.inf if end_time is None else time.monotonic() + end_time - now()

    @property
    def is_finite(self) -> bool:
        """Whether there is a deadline."""
        return math.isfinite(self._end)

    @property
    def remaining(self) -> float:
        """Seconds until then, at least 0; infinite if there is no deadline."""
        return max(0.0, self._end - time.monotonic())


def check_end_time(value: object) -> float | None:
    """Return a deadline in POSIX seconds, or None for none.

    :raises InvalidJob: if it is neither a finite number nor None
    """
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except (OverflowError, ValueError):  # an integer that no float can hold
        number = math.nan
    if not math.isfinite(number):
        raise InvalidJob(f"end_time: {names.shown(value)} is not a finite number of POSIX seconds")
    return number
