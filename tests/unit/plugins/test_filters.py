from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import parse_qsl

import pytest

from airflow_provider_nbjob.plugins.notebook_jobs.filters import TEXT_MAX, JobFilter


def parse(query: str) -> JobFilter:
    return JobFilter.parse(parse_qsl(query, keep_blank_values=True))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)


def test_nothing_is_asked_for():
    assert parse("") == parse("dag_id=&state=&page=&since=+&theirs=1") == JobFilter()
    assert not parse("page=3").is_narrow
    assert parse("text=x").is_narrow


def test_all_parts():
    query = "dag_id=d&task_id=g.t&state=JOB_STATE_FAILED&text=100%25&since=2026-01-31&until=2026-02-01T08:30&page=2"
    assert parse(query) == JobFilter(
        "d", "g.t", "JOB_STATE_FAILED", "100%", utc(2026, 1, 31), utc(2026, 2, 1, 8, 30), 2
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("since=2026-01-31", utc(2026, 1, 31)),
        ("until=2026-01-31", utc(2026, 2, 1)),  # the whole day
        ("since=2026-01-31T08:00:05", utc(2026, 1, 31, 8, 0, 5)),
        ("since=2026-01-31T08:00:00Z", utc(2026, 1, 31, 8)),
        ("until=2026-01-31T08:00%2B02:00", utc(2026, 1, 31, 6)),
    ],
)
def test_moments_are_utc(query, expected):
    wanted = parse(query)
    assert (wanted.since or wanted.until) == expected


@pytest.mark.parametrize("state", ["ACTIVE", "UNKNOWN", "JOB_STATE_SUCCEEDED", "JOB_STATE_OF_LATER"])
def test_states(state):
    assert parse(f"state={state}").state == state


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("state=failed", "state: 'failed' must be ACTIVE, UNKNOWN, or the name of a state"),
        ("state=JOB_STATE_%00", "state: 'JOB_STATE_\\x00' must be"),
        ("page=0", "page: '0' must be a whole number from 1"),
        ("page=-1", "page: '-1' must be"),
        ("page=1.5", "page: '1.5' must be"),
        ("page=%C2%B2", "page: '²' must be"),
        ("page=1000000000", "of at most 9 digits"),
        ("since=yesterday", "since: 'yesterday' must be a date or a moment, as 2026-01-31 or 2026-01-31T08:00."),
        ("since=2026-02-30", "since: '2026-02-30' must be"),
        ("until=9999-12-31", "until: '9999-12-31' must be"),  # its end is no date any more
        ("since=0001-01-01T00:00%2B05:00", "since: '0001-01-01T00:00+05:00' must be"),
        ("text=a%00b", "text: 'a\\x00b' must have at most 250 characters"),
        (f"dag_id={'d' * (TEXT_MAX + 1)}", f"dag_id: '{'d' * 100}...' must have at most 250 characters"),
        ("dag_id=a&dag_id=b", "dag_id: given twice"),
    ],
)
def test_what_breaks_a_rule_is_named(query, told):
    with pytest.raises(ValueError, match=r"must|twice") as error:
        parse(query)
    assert told in str(error.value)


def test_the_query_is_read_as_it_was_written():
    wanted = JobFilter("d&x", "t", "ACTIVE", "100%_ ü", utc(987, 1, 1), utc(2026, 1, 1, 2, 3, 4), 7)
    assert parse(wanted.query(page=7)) == wanted
    assert parse(wanted.query(state=None)) == JobFilter("d&x", "t", None, "100%_ ü", wanted.since, wanted.until, 1)
    assert JobFilter().query() == ""
