"""What is reported to OpenLineage, in the types of its real provider."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Asset

from airflow_provider_nbjob.job import JobName, JobResult, JobState
from airflow_provider_nbjob.lineage.datasets import NotebookDataset
from airflow_provider_nbjob.lineage.events import ERROR_MAX, JOB_FACET, PARAMETERS_MAX, lineage_of
from airflow_provider_nbjob.lineage.task_run import TaskRun
from airflow_provider_nbjob.notebook.executed import CellError, ExecutedCell
from tests.support.fake_service import JOB
from tests.support.lineage import event_of, facet, names, parameters

NAME = JobName.parse(JOB)
TIMES = {"create_time": "2026-01-01T10:00:00+00:00", "update_time": "2026-01-01T10:01:30.500000+00:00"}


def result_of(state: JobState = JobState.SUCCEEDED, **changes) -> JobResult:
    values = {"output_notebook_uri": "gs://b/runs/n.ipynb", **TIMES, **changes}
    return JobResult(JOB, NAME.job_id, state, {}, "", "gs://b/runs", **values)


def reported(run: TaskRun) -> dict:
    return event_of(lineage_of(run))


def test_a_success():
    source = NotebookDataset("gs://b", "n.ipynb", "7")
    event = reported(TaskRun(source, {"day": "2026-01-01", "n": 3, "of": [1, None]}, NAME, result_of()))
    (read,) = event["inputs"]
    assert (read["namespace"], read["name"]) == ("gs://b", "n.ipynb")
    assert read["facets"]["version"]["datasetVersion"] == "7"
    assert names(event["outputs"]) == [("gs://b", "runs/n.ipynb")]
    assert parameters(event) == {"day": "2026-01-01", "n": "3", "of": "[1, null]"}
    assert facet(event, JOB_FACET) == {
        "name": JOB,
        "logs": NAME.logs_url,
        "state": "JOB_STATE_SUCCEEDED",
        "created": TIMES["create_time"],
        "updated": TIMES["update_time"],
        "seconds": 90.5,
    }
    assert "errorMessage" not in event["run"]["facets"]


def test_a_failure_with_its_cell():
    cell = ExecutedCell(3, error=CellError("KeyError", "'west'", "Traceback: here"))
    event = reported(TaskRun(None, {}, NAME, result_of(JobState.FAILED), cell, ValueError("it failed")))
    facets = event["run"]["facets"]
    shown = {"number": 3, "ename": "KeyError", "evalue": "'west'", "traceback": "Traceback: here"}
    assert facets[JOB_FACET]["cell"] == shown
    assert facets["errorMessage"]["message"] == "it failed"
    assert facets["errorMessage"]["stackTrace"] == "Traceback: here"
    assert names(event["outputs"]) == [("gs://b", "runs/n.ipynb")]


def test_a_task_that_has_no_job_yet():
    event = reported(TaskRun(NotebookDataset("file", "/dags/n.ipynb")))
    assert names(event["inputs"]) == [("file", "/dags/n.ipynb")]
    assert event["outputs"] == []
    assert not {JOB_FACET, "executionParameters", "errorMessage"} & event["run"]["facets"].keys()


def test_a_job_that_goes_on_has_no_duration():
    event = reported(TaskRun(job=NAME, result=result_of(JobState.RUNNING, output_notebook_uri=None)))
    assert "seconds" not in event["run"]["facets"][JOB_FACET]
    assert event["outputs"] == []


@pytest.mark.parametrize("time", [None, "", "no time", "2026-01-01T10:00:00"])
def test_times_that_are_none_give_no_duration(time):
    assert result_of(create_time=time).seconds is None


def test_declared_inlets_and_outlets_are_kept():
    inlets, outlets = [Asset("gs://b/orders"), object()], [Asset("gs://b/report")]
    event = reported(TaskRun(NotebookDataset("gs://b", "n.ipynb"), inlets=inlets, outlets=outlets))
    assert names(event["inputs"]) == [("gs://b", "n.ipynb"), ("gs://b", "orders")]
    assert names(event["outputs"]) == [("gs://b", "report")]


def test_an_error_of_megabytes_is_cut():
    event = reported(TaskRun(job=NAME, error=ValueError("x" * 5_000_000)))
    assert len(event["run"]["facets"]["errorMessage"]["message"]) == ERROR_MAX


def test_of_many_parameters_the_first_are_reported():
    event = reported(TaskRun(parameters={f"n{number}": number for number in range(10_000)}))
    assert len(parameters(event)) == PARAMETERS_MAX


def test_texts_that_no_database_takes_are_replaced():
    cell = ExecutedCell(1, error=CellError("E\0", "\ud800", "\0"))
    event = reported(
        TaskRun(NotebookDataset("gs://b", "\u202e#?%.ipynb"), {"n": "\ud800\0"}, NAME, None, cell, ValueError("\0"))
    )
    text = json.dumps(event, ensure_ascii=False)
    assert "\0" not in text
    text.encode()
    assert names(event["inputs"]) == [("gs://b", "\u202e#?%.ipynb")]
