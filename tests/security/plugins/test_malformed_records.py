"""Whoever may edit XComs may write any JSON in place of a record: it breaks no page, and is shown as text at most."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.job import record as record_module
from airflow_provider_nbjob.job.record import JobSteps
from tests.security.plugins.site import record_of
from tests.support.fake_service import PARENT
from tests.support.metadata import ended

pytestmark = pytest.mark.test_all

NAME = f"{PARENT}/notebookExecutionJobs/nbjob-3f9c0d5be1a2-4c77a0b1-1"
KEYS = [*record_of(NAME), *ended("JOB_STATE_FAILED"), "location", "impersonation_chain", "gcs_output_uri"]
JUNK = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "negative": "-7",
    "huge number": "1e400",
    "many digits": "9" * 4000,
    "NaN": "NaN",
    "infinity": "-Infinity",
    "empty": '""',
    "text": '"x"',
    "NUL": '"a\\u0000b"',
    "half a surrogate": '"\\ud800"',
    "markup": '"<img src=x onerror=alert(1)>"',
    "long text": json.dumps("x" * 100_000),
    "list": "[]",
    "list of lists": "[[[[]]], [1, [2]]]",
    "object": "{}",
    "object of junk": '{"number": [1], "ename": {}, "evalue": NaN, "message": [1], "": null}',
    "deep": "[" * 900 + "]" * 900,
    "deeper than Python reads": "[" * 5000 + "]" * 5000,
    "a state": '"JOB_STATE_OF_TOMORROW"',
    "a year": '"9999-12-31T23:59:59-12:00"',
    "the first year": '"0001-01-01T00:00:00+14:00"',
    "steps": '[["JOB_STATE_RUNNING", "9999-12-31T23:59:59-12:00"], ["JOB_STATE_FAILED"], [1, 2, 3], "ab"]',
}


IN_STATEMENTS = {"name", "job_state", "try_number"}  # by which the page of jobs filters, in the database


def with_junk(key: str, junk: str) -> str:
    """Return a record that has junk at one key."""
    parts = {**record_of(NAME), **ended("JOB_STATE_FAILED", failed_cell={"number": 1, "ename": "E", "evalue": "v"})}
    return (
        "{"
        + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in parts.items() if k != key)
        + (f", {json.dumps(key)}: {junk}" + "}")
    )


def assert_served(site, raw: str) -> None:
    site.task(raw=raw, fields={}, state="failed")
    page = site.shown()
    assert "<img src=x" not in site.get("task?dag_id=reports&run_id=run_1&task_id=notebook").text
    assert "Notebook" in page
    listed = site.get("")
    assert listed.status_code == 200
    assert "<img src=x" not in listed.text


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_place_of_a_record_breaks_no_page(site, junk):
    if site.stores(JUNK[junk]):
        assert_served(site, JUNK[junk])


@pytest.mark.test_all
@pytest.mark.parametrize("key", sorted(set(KEYS)))
def test_junk_at_a_key_breaks_no_page(site, key):
    from sqlalchemy import text

    assert_served(site, with_junk(key, '"x"'))
    paths = ["task?dag_id=reports&run_id=run_1&task_id=notebook", ""]
    if key in IN_STATEMENTS:
        paths += ["?text=nbjob", "?state=JOB_STATE_FAILED"]
    for name, junk in JUNK.items():
        if not site.stores(junk):
            continue
        with site.engine.begin() as connection:
            connection.execute(text("UPDATE xcom SET value = :raw"), {"raw": with_junk(key, junk)})
        for path in paths:
            answer = site.get(path)
            assert answer.status_code == 200, (name, path)
            assert "<img src=x" not in answer.text
            assert len(answer.content) < 60_000


def test_one_malformed_record_hides_no_other(site):
    site.task(record_of(site.name()))
    for index, raw in enumerate(filter(site.stores, JUNK.values())):
        dag_id = f"of_others_{index}"
        site.people.known["admin"].reads[dag_id] = site.people.known["admin"].reads["reports"]
        site.task(raw=raw, dag_id=dag_id, fields={})
    assert site.job_id() in site.shown("", query="")
    assert site.job_id() in site.shown("", query=f"text={site.job_id()}")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
SOME_RECORD = st.fixed_dictionaries({"name": st.just(NAME) | ANY_JSON}, optional=dict.fromkeys(KEYS[1:], ANY_JSON))


@given(ANY_JSON | SOME_RECORD)
def test_a_record_is_read_or_is_none_and_nothing_is_raised(value):
    read = record_module.parse_record(value)
    if read is not None:
        assert str(read.name).startswith("projects/")
        for text in (read.message, read.error, read.output_notebook_uri, read.output_error):
            text.encode()
            assert len(text) < 5000
    record_module.read_record(json.dumps(value))


@given(ANY_JSON | st.lists(st.lists(st.sampled_from(["JOB_STATE_RUNNING", "2026-01-01T00:00:00+00:00"]) | ANY_JSON)))
def test_steps_are_read_or_are_none(value):
    for state, since in JobSteps.from_xcom(value).seen:
        assert str(state).startswith("JOB_STATE_")
        assert 0 <= since < 2.6e11
