"""What a try does about the jobs of the tries before it; the interleavings are in `unit/test_submitted_once.py`."""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_nbjob.exceptions import ApiError, JobCancelled, JobFailed, JobLost, JobTimeout
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from scripts.processes import BUCKET
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import wait_until
from tests.support.running import event_of, run_operator
from tests.support.tasks import SLEEPING, arguments, make_context

pytestmark = pytest.mark.test_all

QUICK: dict = {}
FAILING = {"gcs_notebook_source": f"gs://{BUCKET}/notebooks/failing.ipynb"}


class Task:
    """A task instance with two retries, and its tries.

    :param service: the emulator
    """

    def __init__(self, service: EmulatorProcess) -> None:
        self._service = service
        self._before = set(service.active_jobs())  # other tests' jobs, if any
        self.run_id = f"run-{uuid.uuid4().hex}"
        self.start = datetime.now(timezone.utc)

    def context(self, try_number: int, *, clears_after: int = 0, start: datetime | None = None) -> dict:
        context = make_context(self.run_id, retries=2, try_number=try_number, max_tries=clears_after + 2)
        context["dag_run"] = SimpleNamespace(start_date=start or self.start)
        return context

    def active_ids(self) -> set[str]:
        """Return the ids of the jobs that this test submitted and that go on."""
        return {JobName.parse(name).job_id for name in set(self._service.active_jobs()) - self._before}

    def submit(self, context: dict, source: dict, **changes) -> str:
        """Submit a job as a worker that is killed then; its id."""
        operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **source, **changes))
        with pytest.raises(TaskDeferred):
            operator.execute(context)
        return JobName.parse(context["ti"].pushed["notebook_execution_job"]["name"]).job_id


@pytest.fixture
def task(service):
    return Task(service)


def state(service, job_id: str) -> str | None:
    return next((job["jobState"] for job in service.jobs() if job["name"].endswith(f"/{job_id}")), None)


def wait_for_end(service, job_id: str) -> None:
    wait_until(lambda: "status" in next(j for j in service.jobs() if job_id in j["name"]), timeout=60, what="the end")


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_retry_goes_on_with_the_job_of_a_killed_worker(service, task, deferrable, has_ended):
    first = task.submit(task.context(1), QUICK)
    if has_ended:
        wait_for_end(service, first)
    before = len(service.submitted())
    context = task.context(2)
    result = run_operator(CreateNotebookExecutionJobOperator(**arguments(deferrable=deferrable)), context)
    assert result["job_id"] == first
    assert len(service.submitted()) == before
    assert JobName.parse(context["ti"].pushed["notebook_execution_job"]["name"]).job_id == first


def test_a_try_far_back_is_found_too(service, task):
    first = task.submit(task.context(1), QUICK)
    assert run_operator(CreateNotebookExecutionJobOperator(**arguments()), task.context(3))["job_id"] == first


def test_a_retry_after_a_failed_notebook_is_a_new_job(service, task):
    with pytest.raises(JobFailed):
        CreateNotebookExecutionJobOperator(**arguments(**FAILING)).execute(task.context(1))
    result = CreateNotebookExecutionJobOperator(**arguments()).execute(task.context(2))
    assert result["job_id"].endswith("-2")


@pytest.mark.parametrize("source", [SLEEPING, QUICK], ids=["active", "succeeded"])
def test_a_clear_is_a_new_job_and_stops_the_old_one(service, task, source):
    first = task.submit(task.context(1), source)
    if source is QUICK:
        wait_for_end(service, first)
    second = task.submit(task.context(2, clears_after=1), SLEEPING)
    assert second != first
    assert task.active_ids() == {second}


def test_a_retry_after_a_clear_goes_on_with_what_came_after_it(service, task):
    task.submit(task.context(1), SLEEPING)
    second = task.submit(task.context(2, clears_after=1), SLEEPING)
    assert task.submit(task.context(3, clears_after=1), SLEEPING) == second
    assert task.active_ids() == {second}


def test_what_an_earlier_start_of_the_run_left_is_stopped(service, task):
    named = {**SLEEPING, "display_name": 'the "same" name'}
    first = task.submit(task.context(1), named)
    of_another_task = task.submit(make_context(task.run_id, task_id="other"), named)
    second = task.submit(task.context(2, clears_after=1, start=task.start + timedelta(hours=1)), named)
    assert first != second
    assert task.active_ids() == {second, of_another_task}


def test_stopping_is_left_to_those_who_ask_for_it(service, task):
    first = task.submit(task.context(1), SLEEPING, cancel_on_kill=False)
    second = task.submit(task.context(2, clears_after=1), SLEEPING, cancel_on_kill=False)
    assert task.active_ids() == {first, second}


def test_what_is_not_durable_is_submitted_anew(service, task):
    first = task.submit(task.context(1), SLEEPING, durable=False)
    second = task.submit(task.context(2), SLEEPING, durable=False)
    assert task.active_ids() == {first, second}


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
def test_a_job_stopped_by_its_former_owner_is_replaced_once(service, hook, task, how):
    def stop(job_id):
        name = next(job["name"] for job in service.jobs() if job_id in job["name"])
        hook.cancel_notebook_execution_job(name=name) if how == "cancelled" else service.delete(name)

    first = task.submit(task.context(1), SLEEPING)
    context = task.context(2)
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    with pytest.raises(TaskDeferred) as deferral:
        operator.execute(context)
    stop(first)
    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(context, event_of(deferral.value.trigger))
    second = JobName.parse(again.value.trigger.name).job_id
    assert second.endswith("-2")
    assert context["ti"].pushed["notebook_execution_job"]["name"] == again.value.trigger.name
    stop(second)
    with pytest.raises(JobCancelled if how == "cancelled" else JobLost):
        operator.execute_complete(context, event_of(again.value.trigger))
    assert not task.active_ids()


def test_a_worker_that_waits_replaces_a_stopped_job_too(service, hook, task):
    first = task.submit(task.context(1), SLEEPING)
    name = next(job["name"] for job in service.jobs() if first in job["name"])
    context = task.context(2)

    def delete_once_it_is_waited_for():
        wait_until(lambda: context["ti"].pushed.get("notebook_execution_job"), timeout=30, what="the adoption")
        service.delete(name)

    thread = threading.Thread(target=delete_once_it_is_waited_for)
    thread.start()
    result = CreateNotebookExecutionJobOperator(**arguments()).execute(context)
    thread.join()
    assert result["job_id"].endswith("-2")


def test_a_look_that_fails_makes_no_second_job(service, task, monkeypatch):
    monkeypatch.setattr("airflow_provider_nbjob.hooks.retrying.RETRY_TOTAL", 0.5)
    task.submit(task.context(1), SLEEPING)
    before = len(service.submitted())
    service.fault("GetNotebookExecutionJob", "UNAVAILABLE")
    with pytest.raises(Exception, match="UNAVAILABLE"):
        CreateNotebookExecutionJobOperator(**arguments()).execute(task.context(2))
    assert len(service.submitted()) == before


def test_a_create_that_is_never_answered_leaves_nothing(service, task, monkeypatch):
    monkeypatch.setattr("airflow_provider_nbjob.hooks.retrying.RETRY_TOTAL", 0.5)
    before = len(service.submitted())
    service.fault("CreateNotebookExecutionJob", "UNAVAILABLE", drop_response=True)
    with pytest.raises(ApiError, match="UNAVAILABLE"):
        CreateNotebookExecutionJobOperator(**arguments(**SLEEPING)).execute(task.context(1))
    assert len(service.submitted()) == before + 1
    assert not task.active_ids()


@pytest.mark.parametrize(
    ("arguments_of_time", "timeout"),
    [
        ({"execution_timeout": timedelta(minutes=5)}, "300s"),
        ({"execution_timeout": timedelta(minutes=5), "job_timeout": 60}, "60s"),
        ({"execution_timeout": timedelta(minutes=5), "wait_for_completion": False}, None),
        ({}, None),
    ],
)
def test_the_api_gets_the_limit_of_the_task(service, task, arguments_of_time, timeout):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING, **arguments_of_time))
    context = task.context(1)
    with suppress(TaskDeferred):
        operator.execute(context)
    job_id = JobName.parse(context["ti"].pushed["notebook_execution_job"]["name"]).job_id
    job = next(job for job in service.jobs() if job_id in job["name"])
    assert job.get("executionTimeout") == timeout


def test_a_job_that_the_api_ended_at_the_limit_of_the_task_is_a_timeout(service, task):
    operator = CreateNotebookExecutionJobOperator(**arguments(execution_timeout=timedelta(minutes=5), **SLEEPING))
    context = task.context(1)

    def expire():
        job = wait_until(lambda: context["ti"].pushed.get("notebook_execution_job"), timeout=30, what="a job")
        service.force_state(JobName.parse(job["name"]).job_id, "JOB_STATE_EXPIRED")

    thread = threading.Thread(target=expire)
    thread.start()
    with pytest.raises(JobTimeout, match="exceeded 0:05:00"):
        operator.execute(context)
    thread.join()
