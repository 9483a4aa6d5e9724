"""The interval between two looks: what is taken for one, and how anything else is refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.intervals import POLL_SECONDS_MAX, POLL_SECONDS_MIN, check_poll_interval


class Verbose:
    def __repr__(self):
        return "x" * 10_000


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text of this")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (10, 10.0),
        (0.5, 0.5),
        (Fraction(1, 4), 0.25),
        (timedelta(seconds=30), 30.0),
        (timedelta(days=1), 86_400.0),
        (POLL_SECONDS_MIN, POLL_SECONDS_MIN),
        (POLL_SECONDS_MAX, POLL_SECONDS_MAX),
    ],
)
def test_a_number_of_seconds_and_a_timedelta_are_intervals(value, seconds):
    checked = check_poll_interval(value)
    assert checked == seconds
    assert type(checked) is float


@pytest.mark.parametrize(
    "value",
    [
        *("10", "", b"10", None, True, False, [10], {"seconds": 10}, datetime(2026, 1, 1), Verbose()),
        *(0, -1, -0.0, 1e-9, 86_400.1, 1e99, 10**400, float("nan"), float("inf"), float("-inf")),
        *(
            timedelta(0),
            timedelta(seconds=-1),
            timedelta(days=2),
            timedelta.max,
            10j,
            Decimal(10),
            Unprintable(),
            10**5000,
        ),
    ],
    ids=lambda value: f"{type(value).__name__}-{names.shown(value)[:20]}",
)
def test_anything_else_is_refused_with_field_value_and_rule(value):
    with pytest.raises(InvalidJob) as refused:
        check_poll_interval(value, "poke")
    (problem,) = refused.value.problems
    assert problem.startswith("poke: ")
    assert "is not a number of seconds or a timedelta from 0.001 s to 86400 s" in problem
    assert len(problem) < 400


@given(st.one_of(st.floats(), st.integers(), st.timedeltas(), st.text(), st.none(), st.booleans()))
def test_the_answer_is_within_the_bounds_or_none_is_given(value):
    try:
        seconds = check_poll_interval(value)
    except InvalidJob:
        return
    assert POLL_SECONDS_MIN <= seconds <= POLL_SECONDS_MAX
