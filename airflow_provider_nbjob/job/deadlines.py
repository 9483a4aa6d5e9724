"""Keep deadlines when the wall clock steps.

A deadline is stored in wall-clock time, so that another process can go on with it. Within a process it is counted by
the monotonic clock. This module imports neither Airflow nor a package of Google's.
"""

from __future__ import annotations

import math
import threading
import time
from numbers import Real

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob

# Accept a step of the wall clock, by NTP or by hand, once it has lasted this many seconds. A wait that begins earlier
# counts from the clock before the step.
STEP_SECONDS = 900.0
SLEW_SECONDS = 1.0  # a smaller difference is an adjustment of the clock, not a step


class SteadyClock:
    """A wall clock that ignores steps until they have lasted `STEP_SECONDS`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = self._stepped = time.time() - time.monotonic()
        self._stepped_at = 0.0

    def now(self) -> float:
        """Return the time in POSIX seconds."""
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
    """Return the time of this process's `SteadyClock`, in POSIX seconds."""
    return _clock.now()


class Deadline:
    """A moment in wall-clock time that is counted by the monotonic clock from now on.

    :param end_time: POSIX seconds, or None for no deadline
    """

    def __init__(self, end_time: float | None) -> None:
        self._end = math.inf if end_time is None else time.monotonic() + end_time - now()

    @property
    def is_finite(self) -> bool:
        """Return whether there is a deadline."""
        return math.isfinite(self._end)

    @property
    def remaining(self) -> float:
        """Return the seconds until the deadline, at least 0; infinity if there is none."""
        return max(0.0, self._end - time.monotonic())


def check_end_time(value: object) -> float | None:
    """Validate a deadline.

    :return: POSIX seconds, or None for no deadline
    :raises InvalidJob: if the value is neither a finite number nor None
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
