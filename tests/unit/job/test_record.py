from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_nbjob.job import OUTPUT_ERROR_MAX, JobName, JobResult, JobState
from airflow_provider_nbjob.job.record import EVALUE_MAX, MESSAGE_MAX, JobEnd, JobSteps, parse_record, record_of
from airflow_provider_nbjob.notebook.executed import CellError, ExecutedCell

NAME = "projects/1/locations/us-central1/notebookExecutionJobs/j"
WAY = {
    "job": JobName.parse(NAME),
    "project_id": "p",
    "gcs_output_uri": "gs://b/runs",
    "connection": {"gcp_conn_id": "c", "impersonation_chain": None, "api_endpoint": None},
    "try_number": 2,
}


def ended(state=JobState.FAILED, message="no", cell=None) -> JobEnd:
    result = JobResult(
        name=NAME,
        job_id="j",
        job_state=state,
        status={"code": 3, "message": message},
        display_name="d",
        gcs_output_uri="gs://b/runs",
    )
    return JobEnd(result, cell)


def test_a_state_is_noted_when_it_changes():
    steps = JobSteps()
    for state, since in [("PENDING", 1.0), ("PENDING", 2.0), ("RUNNING", 3.5), ("PENDING", 4.0)]:
        steps.add(JobState[state], since)
    assert [(state.name, since) for state, since in steps.seen] == [
        ("PENDING", 1.0),
        ("RUNNING", 3.5),
        ("PENDING", 4.0),
    ]


def test_steps_come_back_from_xcom():
    steps = JobSteps([(JobState.QUEUED, 1_700_000_000.25), (JobState("JOB_STATE_NEW"), 1_700_000_001.0)])
    assert JobSteps.from_xcom(json.loads(json.dumps(steps.to_xcom()))) == steps


@pytest.mark.parametrize("value", [None, [], "no pairs", [["JOB_STATE_RUNNING", "no time"]], [1], {"a": 1}])
def test_what_is_no_list_of_steps_has_none(value):
    assert JobSteps.from_xcom(value) == JobSteps()


def test_a_look_takes_the_time_of_the_api():
    steps = JobSteps()
    running, failed = (SimpleNamespace(name=f"JOB_STATE_{state}") for state in ("RUNNING", "FAILED"))
    steps.look(SimpleNamespace(job_state=running, update_time=datetime(2026, 1, 1, tzinfo=timezone.utc)))
    steps.look(SimpleNamespace(job_state=failed, update_time=None))
    assert steps.to_xcom()[0] == ["JOB_STATE_RUNNING", "2026-01-01T00:00:00+00:00"]
    assert steps.seen[1][0] is JobState.FAILED


def test_a_job_under_way_has_no_end():
    record = record_of(**WAY)
    assert record["job_state"] is None
    assert record["location"] == "us-central1"
    assert record["try_number"] == 2
    assert record["states"] == []


def test_the_end_is_told_with_the_failing_cell():
    error = CellError("KeyError", "'\ud800\x1b[31mwest'" + "x" * EVALUE_MAX, "trace")
    cell = ExecutedCell(3, "code", error=error)
    record = record_of(**WAY, end=ended(message="m" * 10_000, cell=cell))
    assert record["job_state"] == "JOB_STATE_FAILED"
    assert (record["failed_cell"]["number"], record["failed_cell"]["ename"]) == (3, "KeyError")
    assert record["failed_cell"]["evalue"].startswith("'?west'x")
    assert len(record["failed_cell"]["evalue"]) <= EVALUE_MAX + 3
    assert record["status"] == {"code": 3, "message": "m" * MESSAGE_MAX}
    json.dumps(record, ensure_ascii=False).encode()  # no half surrogates: databases refuse them


def test_an_end_without_a_failing_cell():
    assert record_of(**WAY, end=ended(JobState.SUCCEEDED))["failed_cell"] is None


def test_an_end_tells_why_the_executed_notebook_was_not_read():
    end = ended(JobState.SUCCEEDED)
    end = replace(end, result=end.result.with_output_error("Could not read it: \ud800\0" + "x" * 10_000))
    record = record_of(**WAY, end=end)
    assert record["output_error"].startswith("Could not read it: ?x")
    assert len(record["output_error"]) <= OUTPUT_ERROR_MAX
    json.dumps(record, ensure_ascii=False).encode()
    assert parse_record(record).output_error == record["output_error"]
    assert end.result.to_xcom()["output_error"] == record["output_error"]
