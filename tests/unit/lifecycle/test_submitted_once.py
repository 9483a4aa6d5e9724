"""Whatever the order of lost answers, crashes, retries and clears: one job a try, none left behind, no stale result.

A retry goes on with a healthy job, also if `retries` was edited in the DAG meanwhile.

The operator, the hook and the trigger are the real ones. Google's client is a model, which loses answers and has the
worker killed in mid-call; so is Airflow, which numbers the tries, and runs, retries and clears the task.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count
from types import SimpleNamespace
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from google.api_core.exceptions import AlreadyExists, MethodNotImplemented, NotFound, ServiceUnavailable
from google.cloud.aiplatform_v1.types import NotebookExecutionJob
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_provider_nbjob.hooks import creating, files
from airflow_provider_nbjob.hooks import notebook_execution_job as hook_module
from airflow_provider_nbjob.job import JobState, state_of
from airflow_provider_nbjob.lifecycle.submission import Submission
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

ENVIRONMENT = {
    "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": '{"conn_type": "google_cloud_platform", "extra": {"project": "p"}}',
    "NBJOB_EMULATOR_HOST": "127.0.0.1:1",
}
# what happens to one call: the worker may be killed before it is sent, or after the service performed it; "late" has
# the service perform it only when its sender has long been dead
HAPPENINGS = st.lists(
    st.sampled_from(["nothing", "nothing", "refused", "lost", "killed before", "killed after", "late"]), max_size=8
)


class Killed(BaseException):
    """The worker got SIGKILL: none of its code runs any more."""


class Service:
    """A model of NotebookService for workers that are killed in mid-call, and whose calls land after their death.

    `FakeService` knows no worker: what it is asked for, it has performed or refused once it answers.
    """

    def __init__(self, can_cancel: bool) -> None:
        self.jobs: dict[str, NotebookExecutionJob] = {}
        self.submitted: list[str] = []
        self.happenings: list[str] = []
        self.late: list[NotebookExecutionJob] = []
        self.can_cancel = can_cancel
        self.is_heard = True  # by a worker that lives

    def active(self) -> list[str]:
        return [name for name, job in self.jobs.items() if state_of(job).is_active]

    def end(self, name: str, state: JobState) -> None:
        self.jobs[name].job_state = state.value

    def land(self) -> None:
        """Perform the creates that were under way when their senders died."""
        while self.late:
            job = self.late.pop()
            if job.name not in self.jobs:
                self._insert(job)

    def _insert(self, job: NotebookExecutionJob) -> None:
        if job.name in self.jobs:
            raise AlreadyExists("there")
        self.jobs[job.name] = job
        self.submitted.append(job.name)

    def _job(self, name: str) -> NotebookExecutionJob:
        if name not in self.jobs:
            raise NotFound("no such job")
        return self.jobs[name]

    @contextmanager
    def _happening(self):
        if not self.is_heard:
            raise Killed
        happening = self.happenings.pop(0) if self.happenings else "nothing"
        if happening == "refused":
            raise ServiceUnavailable("refused")
        if happening == "killed before":
            self.kill()
        yield happening
        if happening == "lost":
            raise ServiceUnavailable("lost")
        if happening == "killed after":
            self.kill()

    def kill(self) -> None:
        """Have the worker do nothing any more, not even in a handler."""
        self.is_heard = False
        raise Killed

    # --- what the client has ---

    def create_notebook_execution_job(self, request, **_):
        with self._happening() as happening:
            name = f"{request.parent}/notebookExecutionJobs/{request.notebook_execution_job_id}"
            job = NotebookExecutionJob(request.notebook_execution_job)
            job.name, job.job_state = name, JobState.RUNNING.value
            if happening == "late":
                self.late.append(job)
                self.kill()
            self._insert(job)
            return SimpleNamespace(operation=SimpleNamespace(name=f"{name}/operations/1"))

    def get_notebook_execution_job(self, request, **_):
        with self._happening():
            return NotebookExecutionJob(self._job(request.name))

    def list_notebook_execution_jobs(self, request, **_):
        with self._happening():
            jobs = [job for job in self.jobs.values() if request.filter == f'displayName="{job.display_name}"']
            return SimpleNamespace(pages=[SimpleNamespace(notebook_execution_jobs=jobs, next_page_token="")])

    def delete_notebook_execution_job(self, request, **_):
        with self._happening():
            self._job(request.name)
            del self.jobs[request.name]

    def list_operations(self, request, **_):
        with self._happening():
            done = state_of(self._job(request.name)).is_terminal
            return SimpleNamespace(operations=[SimpleNamespace(name=f"{request.name}/operations/1", done=done)])

    def cancel_operation(self, request, **_):
        with self._happening():
            if not self.can_cancel:
                raise MethodNotImplemented("no cancel")
            self.end(request.name.split("/operations/")[0], JobState.CANCELLED)


class Task(RuleBasedStateMachine):
    """One task instance, from its first try to its last."""

    @initialize(can_cancel=st.booleans(), deferrable=st.booleans(), retries=st.integers(0, 2))
    def begin(self, can_cancel, deferrable, retries):
        self.service = Service(can_cancel)
        self.deferrable, self.retries = deferrable, retries
        self.clock = (datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=n) for n in count())
        self.run_start = self.run_after = next(self.clock)
        self.try_number, self.max_tries, self.clears = 0, self.retries, 0
        self.state = "scheduled"
        self.stale: set[str] = set()  # what was submitted before the clear
        # Threads that other tests of this process left behind; their sleeps are none of the model's.
        self.strangers = {*threading.enumerate()} - {threading.current_thread()}
        self.real_sleep = time.sleep
        self.patches = ExitStack()
        self.patches.enter_context(mock.patch.dict("os.environ", ENVIRONMENT))
        hook = hook_module.NotebookExecutionJobHook
        storage = SimpleNamespace(list_blobs=lambda *_, **__: [])
        for replaced in (
            mock.patch.object(hook, "get_conn", return_value=self.service),
            mock.patch.object(files, "storage_client", return_value=storage),
            mock.patch("tenacity.nap.time.sleep"),
            mock.patch.object(hook_module.time, "sleep", side_effect=self.sleep),
        ):
            self.patches.enter_context(replaced)

    def sleep(self, seconds):
        if threading.current_thread() in self.strangers:
            self.real_sleep(seconds)
        else:
            self.pass_time()

    def teardown(self):
        if not hasattr(self, "service"):
            return
        try:
            self.check_a_good_end()
        finally:
            self.patches.close()

    # --- Airflow ---

    def operator(self):
        return CreateNotebookExecutionJobOperator(
            task_id="t",
            location="us-central1",
            gcs_notebook_source="gs://bucket/n.ipynb",
            notebook_runtime_template_resource_name="template",
            service_account="a@p.iam.gserviceaccount.com",
            gcs_output_uri="gs://bucket/runs",
            retries=self.retries,
            deferrable=self.deferrable,
        )

    def run(self, method, *arguments, happenings=()):
        """Run a method of the operator in a worker."""
        self.service.happenings = list(happenings)
        self.service.is_heard = True
        ti = SimpleNamespace(
            id=self.ti_id,
            dag_id="d",
            task_id="t",
            run_id="r",
            map_index=-1,
            try_number=self.try_number,
            max_tries=self.max_tries,
            start_date=self.run_start,
            xcom_push=lambda **_: None,
        )
        run = SimpleNamespace(start_date=self.run_start, run_after=self.run_after, clear_number=self.clears)
        context = {"ti": ti, "dag_run": run}
        operator = self.operator()
        try:
            result = getattr(operator, method)({**context, "task": operator}, *arguments)
        except TaskDeferred as deferral:
            self.state, self.trigger = "deferred", deferral.trigger
        except (Exception, Killed):
            self.state = "scheduled" if self.try_number <= self.max_tries else "failed"
        else:
            self.state = "success"
            self.check_result(result)
        self.service.happenings, self.service.is_heard = [], True

    def pass_time(self):
        """A worker that waits sees its job end."""
        for name in self.service.active():
            self.service.end(name, self.comes_to)

    @precondition(lambda self: self.state == "scheduled")
    @rule(happenings=HAPPENINGS, comes_to=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]))
    def run_a_try(self, happenings, comes_to):
        self.try_number += 1
        self.ti_id = str(next(self.clock))
        self.comes_to = comes_to
        submitted, healthy = len(self.service.submitted), set(self.service.active()) - self.stale
        self.run("execute", happenings=happenings)
        if healthy and not set(happenings) - {"nothing"} and comes_to is JobState.SUCCEEDED:
            assert len(self.service.submitted) == submitted, "a healthy job was not gone on with"

    @rule(retries=st.integers(0, 3))
    def edit_retries(self, retries):
        if not self.clears or retries < self.retries:  # a known gap: raised after a clear that followed a lowering
            self.retries = retries

    @precondition(lambda self: self.state == "deferred")
    @rule(happenings=HAPPENINGS, outcome=st.sampled_from(["finished", "finished", "timeout", "error"]))
    def fire(self, happenings, outcome):
        name = self.trigger.name
        job = self.service.jobs.get(name)
        if outcome == "finished":
            if job is None:
                outcome = "lost"
            elif not state_of(job).is_terminal:
                return
        self.comes_to = JobState.SUCCEEDED
        event = {"name": name, "job_state": None, "outcome": outcome, "message": ""}
        self.run("execute_complete", event, happenings=happenings)

    @precondition(lambda self: self.try_number and self.state != "scheduled")
    @rule(run_has_ended=st.booleans(), trigger_is_told=st.booleans())
    def clear(self, run_has_ended, trigger_is_told):
        if self.state == "deferred":
            run_has_ended = False
            if trigger_is_told:  # it is not before Airflow 3.3
                assert self.trigger._try_to_stop()
        if run_has_ended:
            self.run_start = next(self.clock)
        self.max_tries = self.try_number + self.retries
        self.clears += 1
        self.stale = {*self.service.submitted, *(job.name for job in self.service.late)}
        self.state = "scheduled"

    @precondition(lambda self: self.state == "deferred")
    @rule()
    def mark_failed(self):
        assert self.trigger._try_to_stop()
        self.state = "failed"

    @precondition(lambda self: self.try_number and not self.service.active() and not self.service.late)
    @rule(with_the_same_start=st.booleans())
    def delete_the_run_and_trigger_it_again(self, with_the_same_start):
        """Make the run again; `airflow dags test` on a date gives it the start that it had."""
        self.run_after = next(self.clock)
        if not with_the_same_start:
            self.run_start = self.run_after
        self.try_number, self.max_tries, self.clears = 0, self.retries, 0
        # The id of a job that was deleted is free, and the same start gives the same ids.
        self.service.submitted[:] = [name for name in self.service.submitted if name in self.service.jobs]
        self.stale = set(self.service.submitted)
        self.state = "scheduled"

    # --- the world ---

    @precondition(lambda self: self.service.active())
    @rule(data=st.data(), state=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, None]))
    def a_job_ends(self, data, state):
        name = data.draw(st.sampled_from(self.service.active()))
        if state:
            self.service.end(name, state)
        else:
            del self.service.jobs[name]

    @precondition(lambda self: self.service.late)
    @rule()
    def a_late_create_is_performed(self):
        self.service.land()

    # --- what must hold ---

    @invariant()
    def one_job_a_try(self):
        if hasattr(self, "service"):
            assert len(set(self.service.submitted)) == len(self.service.submitted)

    def check_result(self, result):
        assert result["job_state"] == "JOB_STATE_SUCCEEDED"
        assert result["name"] not in self.stale

    def check_a_good_end(self):
        """Without further faults the task succeeds, and no job is left active."""
        self.service.land()
        if self.state in ("success", "failed"):
            self.clear(True, True)
        for _ in range(2 * max(self.retries, self.max_tries - self.try_number) + 4):
            if self.state == "scheduled":
                self.run_a_try([], JobState.SUCCEEDED)
            if self.state == "deferred":
                self.pass_time_until_success()
                self.fire([], "finished")
            if self.state == "failed":
                self.clear(False, True)
        assert self.state == "success"
        assert not self.service.active()

    def pass_time_until_success(self):
        if self.trigger.name in self.service.active():
            self.service.end(self.trigger.name, JobState.SUCCEEDED)


HOW = settings(stateful_step_count=20, deadline=None, report_multiple_bugs=False)


def test_submitted_once_and_never_orphaned():
    run_state_machine_as_test(Task, settings=HOW)


def _ignore_earlier_tries(monkeypatch):
    monkeypatch.setattr(Submission, "adopt", lambda *_: False)
    monkeypatch.setattr(Submission, "stop_others", lambda *_: None)


def _take_a_clear_for_a_retry(monkeypatch):
    monkeypatch.setattr(Tries, "is_same_work", lambda *_: True)


def _forget_earlier_starts(monkeypatch):
    monkeypatch.setattr(Tries, "is_earlier", lambda *_: False)


def _believe_the_retries_of_now(monkeypatch):
    monkeypatch.setattr(Tries, "is_same_work", lambda self, number, mark: number >= self.first)


def _believe_the_id(monkeypatch):
    monkeypatch.setattr(Tries, "is_of_this_try", lambda *_: True)
    monkeypatch.setattr(creating, "is_answer", lambda *_, **__: True)


@pytest.mark.test_all
@pytest.mark.parametrize(
    "fault",
    [
        _ignore_earlier_tries,
        _take_a_clear_for_a_retry,
        _forget_earlier_starts,
        _believe_the_retries_of_now,
        _believe_the_id,
    ],
)
def test_the_model_notices_a_fault(monkeypatch, fault):
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Task, settings=settings(HOW, max_examples=1000, phases=[Phase.generate]))
