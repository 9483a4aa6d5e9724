"""Airflow does not take the record of a job, as while its API server is restarted: the job goes on all the same."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_provider_nbjob.exceptions import JobFailed
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from tests.support.fake_google import FakeWait
from tests.support.fake_service import JOB
from tests.support.tasks import REQUIRED, context_of, create_operator

REFUSED = {"status_code": None, "message": "[Errno 111] Connection refused", "exception_type": "ConnectError"}
DOWN = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=REFUSED))


@pytest.fixture
def service(monkeypatch):
    return FakeWait(monkeypatch).service


@pytest.fixture
def context():
    """Return that of a task whose record is not taken; `tried` has the keys that were pushed."""
    made, tried = context_of(), []

    def xcom_push(key, value):
        tried.append(key)
        if key == JOB_XCOM_KEY:
            raise DOWN

    made["ti"].xcom_push, made["ti"].tried = xcom_push, tried
    return made


@pytest.mark.parametrize("waits", [True, False])
def test_the_task_goes_on(service, context, caplog, waits):
    result = create_operator(wait_for_completion=waits).execute(context)
    assert result["name"] == next(iter(service.jobs))
    assert not service.has_been_told_to_stop()
    assert "Airflow did not take the record of notebook job" in caplog.text
    assert "Connection refused" in caplog.text


def test_the_task_defers(service, context):
    service.course = ("RUNNING",)
    with pytest.raises(TaskDeferred):
        create_operator(deferrable=True).execute(context)
    assert not service.has_been_told_to_stop()


def test_the_failure_that_is_told_is_that_of_the_notebook(service, context):
    service.course = ("FAILED",)
    with pytest.raises(JobFailed):
        create_operator().execute(context)


def test_a_sensor_goes_on(service, context):
    service.put("SUCCEEDED")
    sensor = NotebookExecutionJobSensor(task_id="wait", notebook_execution_job=JOB)
    assert sensor.poke(context)


class Derived(CreateNotebookExecutionJobOperator):
    """An operator of a user's, whose links the API server does not make."""


def test_links_are_left_out_if_the_record_was_not_taken(service, context):
    Derived(**REQUIRED, wait_for_completion=False, multiple_outputs=False).execute(context)
    assert context["ti"].tried == [JOB_XCOM_KEY]  # each push of an outage takes Airflow's client a minute
