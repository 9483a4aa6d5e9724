"""A result as an event carries it from the triggerer to a worker."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.job import JobResult, JobState
from tests.support.fake_service import EXECUTED, ended_job

RESULT = JobResult.from_job(ended_job(), output_notebook_uri=EXECUTED)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(results=st.dictionaries(st.text(), JSON, max_size=4), text=st.text())
def test_it_arrives_as_it_was(results, text):
    sent = replace(RESULT, results=results, display_name=text, status={"code": 0, "message": text})
    assert JobResult.from_json(sent.to_json()) == sent


def test_a_state_that_a_later_api_has_arrives_too():
    sent = replace(RESULT, job_state=JobState("JOB_STATE_OF_LATER"))
    assert JobResult.from_json(sent.to_json()) == sent


@given(value=JSON)
def test_what_is_no_result_is_none(value):
    assert JobResult.from_json(value) is None
    assert JobResult.from_json(json.dumps(value)) is None


@pytest.mark.parametrize(
    "changes",
    [{"name": "evil"}, {"name": None}, {"name": 7}, {"job_id": "other"}, {"job_id": None}, {"job_state": None}],
)
def test_a_result_of_no_job_is_none(changes):
    assert JobResult.from_json(json.dumps({**RESULT.to_xcom(), **changes})) is None


@pytest.mark.parametrize("part", RESULT.to_xcom())
def test_a_result_that_lacks_a_part_is_none(part):
    assert JobResult.from_json(json.dumps({k: v for k, v in RESULT.to_xcom().items() if k != part})) is None


def test_it_may_be_nested_too_deep_to_be_read():
    assert JobResult.from_json('{"name": ' + "[" * 100_000) is None
