"""What ends a wait: the table by code, and what has to be said how often, and for how long."""

from __future__ import annotations

import itertools
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import (
    ApiError,
    CredentialsUnavailable,
    InvalidJob,
    JobLost,
    JobTimeout,
    JobUnwatched,
)
from airflow_provider_nbjob.outages import (
    BY_CODE,
    NOT_FOUND_MIN,
    OUTAGE_SECONDS_MAX,
    REFUSALS_MIN,
    REFUSED_SECONDS,
    Meaning,
    Streak,
    rule_of,
)

JOB = "Notebook job projects/p/locations/us-central1/notebookExecutionJobs/j1"
OUTAGES = ["CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE"]
OUTAGES += ["DATA_LOSS", "UNAUTHENTICATED", "ALREADY_EXISTS", "17", "", "A_CODE_TO_COME"]
REFUSALS = [
    "INVALID_ARGUMENT",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "NOT_FOUND",
]
ERRORS = [
    *(ApiError("e", code) for code in [*OUTAGES, *REFUSALS]),
    *(InvalidJob("e"), JobLost("e"), CredentialsUnavailable("e"), RuntimeError("e"), KeyError("e"), OSError()),
]


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, which the test moves."""
    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def test_the_table_has_all_codes_of_grpc():
    import grpc

    assert set(BY_CODE) == {code.name for code in grpc.StatusCode} - {"OK"}
    assert {code for code, rule in BY_CODE.items() if rule.meaning is Meaning.REFUSED} == set(REFUSALS)


@pytest.mark.parametrize("error", [*(ApiError("e", code) for code in OUTAGES), RuntimeError("e"), KeyError("e")])
def test_an_outage_ends_no_wait_that_has_a_deadline(clock, error):
    streak = Streak(has_deadline=True)
    for _ in range(1000):
        assert streak.failed(JOB, error) is None
        clock[0] += 3600


@pytest.mark.parametrize("error", [*(ApiError("e", code) for code in OUTAGES), RuntimeError("e")])
def test_an_outage_ends_a_wait_without_a_deadline_after_a_day(clock, error):
    streak = Streak(has_deadline=False)
    assert streak.failed(JOB, error) is None
    clock[0] += OUTAGE_SECONDS_MAX - 1
    assert streak.failed(JOB, error) is None
    clock[0] += 1
    assert isinstance(streak.failed(JOB, error), JobUnwatched)


@pytest.mark.parametrize(
    "error", [*(ApiError("e", code) for code in REFUSALS), InvalidJob("e"), CredentialsUnavailable("e")]
)
def test_a_refusal_ends_the_wait_if_it_is_repeated_over_ten_minutes(clock, error):
    streak = Streak(has_deadline=True)
    for _ in range(REFUSALS_MIN + 5):
        assert streak.failed(JOB, error) is None
    clock[0] += REFUSED_SECONDS
    final = streak.failed(JOB, error)
    assert isinstance(final, JobUnwatched)
    assert "It was not stopped: it may still run, and cost." in str(final)
    assert str(final).startswith(f"{JOB} could not be watched: looks were refused for 600 s")
    assert final.code == ("INVALID_ARGUMENT" if isinstance(error, InvalidJob) else error.code)


def test_few_refusals_end_no_wait_however_long_they_last(clock):
    streak = Streak(has_deadline=True)
    for _ in range(REFUSALS_MIN - 1):
        assert streak.failed(JOB, ApiError("e", "PERMISSION_DENIED")) is None
        clock[0] += 10 * REFUSED_SECONDS


def test_outages_between_refusals_neither_count_nor_start_the_count_again(clock):
    streak = Streak(has_deadline=True)
    refusal, outage = ApiError("e", "PERMISSION_DENIED"), ApiError("e", "UNAVAILABLE")
    for _ in range(REFUSALS_MIN - 1):
        assert streak.failed(JOB, refusal) is None
        assert streak.failed(JOB, outage) is None
    clock[0] += REFUSED_SECONDS
    assert streak.failed(JOB, outage) is None
    assert isinstance(streak.failed(JOB, refusal), JobUnwatched)


def test_an_answer_starts_every_count_again(clock):
    streak = Streak(has_deadline=False)
    for error in ERRORS * 3:
        assert streak.failed(JOB, error) is None
        clock[0] += OUTAGE_SECONDS_MAX
        streak.answered()
    assert streak.failures == 0


def test_a_job_is_lost_once_a_second_read_confirms_it(clock):
    streak = Streak(has_deadline=True)
    for error in (JobLost("e"), ApiError("e", "UNAVAILABLE"), JobLost("e")):
        assert streak.failed(JOB, error) is None
    assert streak.awaits_confirmation
    final = streak.failed(JOB, JobLost("e"))
    assert isinstance(final, JobLost)
    assert str(final) == f"{JOB} is gone: it was deleted. The last answer: e"
    assert NOT_FOUND_MIN == 2


@given(st.lists(st.tuples(st.sampled_from(ERRORS), st.floats(0, 700)), max_size=30))
def test_no_sequence_of_errors_ends_a_wait_but_by_the_rules(sequence):
    clock, before = [1000.0], time.monotonic
    time.monotonic = lambda: clock[0]
    try:
        streak = Streak(has_deadline=True)
        for number, (error, seconds) in enumerate(sequence):
            clock[0] += seconds
            final = streak.failed(JOB, error)
            if final is None:
                continue
            so_far = [error for error, _ in sequence[: number + 1]]
            if isinstance(final, JobLost):
                assert all(isinstance(error, JobLost) for error in so_far[-NOT_FOUND_MIN:])
            else:
                assert isinstance(final, JobUnwatched)
                refusals = [i for i, e in enumerate(so_far) if rule_of(e).meaning is Meaning.REFUSED]
                assert len(refusals) >= REFUSALS_MIN
                assert sum(s for _, s in sequence[refusals[0] + 1 : number + 1]) >= REFUSED_SECONDS * 0.999
            return
    finally:
        time.monotonic = before


def test_the_connection_is_read_anew_after_what_it_may_have_caused():
    assert {code for code, rule in BY_CODE.items() if rule.reread_after == 1.0} == {"UNAUTHENTICATED"}
    assert {rule.reread_after for code, rule in BY_CODE.items() if code != "UNAUTHENTICATED"} == {60.0}
    assert rule_of(JobLost("e")).reread_after is None
    assert (
        rule_of(CredentialsUnavailable("e")).reread_after
        == rule_of(ApiError("e", "UNAUTHENTICATED")).reread_after
        == 1.0
    )


def test_the_error_of_an_unwatched_job_survives_pickling():
    error = outages.unwatched(JOB, "because", ApiError("e", "PERMISSION_DENIED"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code) == (JobUnwatched, str(error), "PERMISSION_DENIED")


@pytest.mark.parametrize("error", [JobTimeout("e"), JobUnwatched("e", "ABORTED"), *itertools.islice(ERRORS, 3)])
def test_every_error_has_a_rule(error):
    assert rule_of(error).meaning in Meaning
