"""An API that cannot be reached, breaks off or hangs: weather, not an error, for as long as there is time."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import ApiError, JobTimeout, JobUnwatched
from airflow_provider_nbjob.hooks import notebook_execution_job as hook_module
from airflow_provider_nbjob.job import JobState, state_of
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger
from tests.support.patience import patient, wait_until
from tests.support.relay import Relay
from tests.support.running import event_of
from tests.support.tasks import LOCATION, api_job, make_context

pytestmark = pytest.mark.test_all

CREATE, GET = "CreateNotebookExecutionJob", "GetNotebookExecutionJob"


@pytest.fixture
def network(service, monkeypatch):
    with Relay(service.exports["NBJOB_EMULATOR_HOST"]) as relay:
        monkeypatch.setenv("NBJOB_EMULATOR_HOST", relay.address)
        yield relay


@pytest.fixture
def name(network, hook):
    """A job."""
    return hook.create_notebook_execution_job(job=api_job(), location=LOCATION)


def dropped_in_mid_call(service, network, rpc, call):
    """Drop the connection of a call that the API has got and has not answered; what the call returns."""
    before = service.calls().get(rpc, 0)
    network.lose_answers()
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(call)
        wait_until(lambda: service.calls().get(rpc, 0) > before, timeout=10, what=f"{rpc} under way", interval=0.01)
        network.drop()
        return answer.result(timeout=patient(60))


def test_a_refused_connection_is_transient(hook, network, name):
    network.down()
    with pytest.raises(ApiError) as error:
        hook.get_notebook_execution_job(name=name, retry=False)
    assert error.value.is_transient


def test_a_connection_dropped_in_mid_call_is_transient(hook, service, network, name):
    with pytest.raises(ApiError) as error:
        dropped_in_mid_call(service, network, GET, lambda: hook.get_notebook_execution_job(name=name, retry=False))
    assert error.value.is_transient


def test_a_create_dropped_in_mid_call_is_one_job(hook, service, network):
    job_id = f"t-{uuid.uuid4().hex[:12]}"

    def create():
        return hook.create_notebook_execution_job(job=api_job(), location=LOCATION, notebook_execution_job_id=job_id)

    next(hook.list_notebook_execution_jobs(location=LOCATION), None)  # opens the connection
    name = dropped_in_mid_call(service, network, CREATE, create)
    assert [job["name"] for job in service.jobs() if job["name"].endswith(job_id)] == [name]
    assert service.calls()[CREATE] == 2


def test_a_connection_that_died_unnoticed_is_given_up(hook, network, name, monkeypatch):
    monkeypatch.setitem(hook_module.ATTEMPT, "timeout", patient(1))
    network.forget()
    assert hook.get_notebook_execution_job(name=name).name == name  # over a new connection


def test_waiting_goes_on_through_an_outage_that_is_logged_once(hook, network, name, capsys, monkeypatch):
    network.down()
    failures, get = [], hook.get_notebook_execution_job

    def get_and_count(**arguments):
        try:
            return get(**arguments)
        except ApiError as error:
            failures.append(error)
            if len(failures) == 3:
                network.up()
            raise

    monkeypatch.setattr(hook, "get_notebook_execution_job", get_and_count)
    job = hook.wait_for_notebook_execution_job(name=name, poll_interval=0.1)
    assert len(failures) >= 3
    assert state_of(job) is JobState.SUCCEEDED
    log = capsys.readouterr().out
    assert log.count("Looking failed, and will be tried again") == 1
    assert log.count("The API answers again, after") == 1


def test_two_outages_are_two_streaks(hook, network, name, capsys, service):
    for _ in range(2):
        service.fault(GET, "UNAVAILABLE", times=3)
        hook.wait_for_notebook_execution_job(name=name, poll_interval=0.05)
    log = capsys.readouterr().out
    assert log.count("Looking failed, and will be tried again") == 2
    assert log.count("The API answers again, after 3 failed looks") == 2


@pytest.mark.parametrize("by", ["hook", "trigger"])
def test_an_outage_lasts_no_longer_than_the_deadline(hook, network, name, by):
    network.down()
    end_time = time.time() + 1
    if by == "hook":
        with pytest.raises(JobTimeout):
            hook.wait_for_notebook_execution_job(name=name, poll_interval=0.1, end_time=end_time)
    else:
        event = event_of(NotebookExecutionJobTrigger(name, poll_interval=0.1, end_time=end_time))
        assert event["outcome"] == "timeout"
    assert time.time() < end_time + patient(10)


def test_a_sensor_pokes_through_an_outage(network, name, capsys):
    sensor = NotebookExecutionJobSensor(task_id="s", notebook_execution_job=name)
    context = make_context("r")
    network.down()
    assert not any(sensor.poke(context).is_done for _ in range(3))
    network.up()
    wait_until(lambda: sensor.poke(context).is_done, timeout=60, what="the end")
    log = capsys.readouterr().out
    assert log.count("Looking failed, and will be tried again") == 1
    assert log.count("The API answers again, after") == 1


@pytest.mark.parametrize(
    ("code", "times"),
    [("RESOURCE_EXHAUSTED", 3), ("DEADLINE_EXCEEDED", 3), ("INTERNAL", 3), ("UNAUTHENTICATED", 5), ("UNKNOWN", 3)],
)
def test_other_outages(hook, service, name, code, times):
    service.fault(GET, code, times=times)
    assert state_of(hook.wait_for_notebook_execution_job(name=name, poll_interval=0.1)).is_terminal


def test_a_lasting_refusal_is_no_outage(hook, service, name, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    service.fault(GET, "PERMISSION_DENIED")
    with pytest.raises(JobUnwatched, match="PERMISSION_DENIED"):
        hook.wait_for_notebook_execution_job(name=name, poll_interval=0.1)
    assert service.calls()[GET] == outages.REFUSALS_MIN
