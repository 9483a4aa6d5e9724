"""Check the interval between two looks at a job.

Pure: operators check it at parse time, and the trigger again when it is made. Knows neither Airflow nor Google.
"""

from __future__ import annotations

import math
from datetime import timedelta
from numbers import Real

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob

POLL_SECONDS = 10.0  # default
POLL_SECONDS_MIN = 0.001
POLL_SECONDS_MAX = 86_400.0


def check_poll_interval(value: object, field: str = "poll_interval") -> float:
    """Return an interval in seconds.

    :param value: a number of seconds, or a timedelta; at least a millisecond and at most a day
    :param field: how the error names the value
    :raises InvalidJob: if it is anything else: a text, a bool, NaN; the message has field, value and rule
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, Real) and not isinstance(seconds, bool):
        try:
            number = float(seconds)
        except (OverflowError, ValueError):  # an integer that no float can hold
            number = math.inf
        if POLL_SECONDS_MIN <= number <= POLL_SECONDS_MAX:
            return number
    raise InvalidJob(
        f"{field}: {names.shown(value)} is not a number of seconds or a timedelta"
        f" from {POLL_SECONDS_MIN} s to {POLL_SECONDS_MAX:.0f} s"
    )
