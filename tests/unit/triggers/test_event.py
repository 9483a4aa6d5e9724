"""The event by which a trigger ends a task's wait: what is logged of it, and what a worker believes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_nbjob.job import JobResult, JobState
from airflow_provider_nbjob.triggers.event import JobEvent
from tests.support.fake_service import EXECUTED, JOB, ended_job

RESULT = replace(JobResult.from_job(ended_job(name=JOB), output_notebook_uri=EXECUTED), results={"auc": "a-value"})
EVENT = JobEvent(JOB, job_state=JobState.SUCCEEDED, result=RESULT)


def test_a_result_arrives():
    assert JobEvent.from_payload(json.loads(json.dumps(EVENT.to_payload()))).result == RESULT


def test_an_event_without_one_is_as_it_was_before():
    assert "result" not in JobEvent(JOB).to_payload()
    assert JobEvent.from_payload(JobEvent(JOB).to_payload()).result is None


def test_airflow_logs_no_result():
    """The values of a notebook stand in XCom only, which not all may read who may read logs."""
    shown = repr(EVENT.to_payload())
    assert "a-value" not in shown
    assert JOB in shown
    assert EVENT.to_payload()["result"] == RESULT.to_json()


def test_a_message_is_what_a_database_takes():
    assert JobEvent(JOB, message="a\0b\ud800c").to_payload()["message"] == "a\ufffdb?c"


@pytest.mark.parametrize("result", [None, "", "x", 7, {}, [], "null", "[]", json.dumps({"name": JOB})])
def test_a_result_that_is_none_is_not_believed(result):
    assert JobEvent.from_payload({**EVENT.to_payload(), "result": result}).result is None


@pytest.mark.parametrize("other", [ended_job(name=f"{JOB}2"), ended_job("FAILED", name=JOB), ended_job(99, name=JOB)])
def test_the_result_of_another_job_or_of_no_success_is_not_believed(other):
    result = JobResult.from_job(other).to_json()
    assert JobEvent.from_payload({**EVENT.to_payload(), "result": result}).result is None


def test_what_the_worker_knows_to_be_secret_is_masked(monkeypatch):
    monkeypatch.setattr("airflow_provider_nbjob.triggers.event.redact", lambda value: str(value).replace("pw", "***"))
    payload = {**EVENT.to_payload(), "result": replace(RESULT, display_name="report pw").to_json()}
    found = JobEvent.from_payload(payload).result
    assert found is not None
    assert found.display_name == "report ***"
