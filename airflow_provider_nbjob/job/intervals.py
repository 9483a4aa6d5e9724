"""Check the interval between two polls of a job.

Operators check it at parse time, and the trigger again when it is created. This module imports neither Airflow nor a
package of Google's.
"""

from __future__ import annotations

import math
from datetime import timedelta
from numbers import Real

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob

POLL_SECONDS = 10.0  # the default of `poll_interval`
POLL_SECONDS_MIN = 0.001
POLL_SECONDS_MAX = 86_400.0


def check_poll_interval(value: object, field: str = "poll_interval") -> float:
    """Validate a poll interval and return it in seconds.

    :param value: number of seconds or timedelta, from a millisecond to a day
    :param field: name of the value in the error
    :raises InvalidJob: if the value is anything else, such as a text, a bool or NaN; the message names the field, the
        value and the rule
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
