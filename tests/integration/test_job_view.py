"""What the tab of a task shows of its job, asked of the emulator as the API server asks."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_nbjob.job import JobName, JobState
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.plugins.notebook_jobs.access import TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.job_view import Outcomes, find_job, make_hook, source_of, view_of
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData, TaskTry
from airflow_provider_nbjob.rendering import NotRendered
from tests.conftest import BUCKET, CHECKOUT
from tests.integration.conftest import LOCATION, arguments, make_context
from tests.integration.test_operators import SLEEPING, active_jobs, run_operator

WAY = {
    "location": LOCATION,
    "project_id": None,
    "gcp_conn_id": "google_cloud_default",
    "impersonation_chain": None,
    "api_endpoint": None,
}
FAILING = f"gs://{BUCKET}/notebooks/failing.ipynb"


class Ran:
    """A task instance whose tries ran here, and what Airflow's database would hold of it."""

    def __init__(self) -> None:
        self.run_id = f"run-{uuid.uuid4().hex}"
        self.start = datetime.now(timezone.utc)
        self.tries: list[TaskTry] = []
        self.record: dict | None = None

    def run(self, *, wait: bool = True, **changes) -> None:
        number = len(self.tries) + 1
        context = make_context(self.run_id, try_number=number, max_tries=5)
        context["dag_run"] = SimpleNamespace(start_date=self.start)
        operator = CreateNotebookExecutionJobOperator(**arguments(wait_for_completion=wait, **changes))
        try:
            run_operator(operator, context)
            state = "success"
        except Exception:
            state = "failed"
        self.tries.append(TaskTry(number, state, self.start, None))
        self.record = context["ti"].pushed["notebook_execution_job"]

    def data(self, try_number: int | None = None, **changes) -> TaskData:
        values = {
            "ref": TaskRef("d", self.run_id, "run_notebook", -1, try_number),
            "tries": tuple(self.tries),
            "run_start": self.start,
            "record": self.record,
            "fields": WAY,
            **changes,
        }
        return TaskData(**values)


@pytest.fixture
def ran(service):
    return Ran()


def test_a_success_with_parameters_and_results(ran):
    ran.run(gcs_notebook_source=f"gs://{BUCKET}/notebooks/daily_report.ipynb", parameters={"orders": 30})
    view = view_of(ran.data(), Outcomes())
    assert view.state is JobState.SUCCEEDED
    assert view.outcome.parameters == {"orders": 30}
    assert view.outcome.results["result"]["orders"] == 30
    assert view.outcome.failing_cell is None
    assert not view.problem
    assert [str(state) for state, _ in view.steps.seen][-1] == "JOB_STATE_SUCCEEDED"
    assert view.facts["Runs as"] == "notebooks@example-project.iam.gserviceaccount.com"
    assert view.output.uri == ran.record["output_notebook_uri"]
    assert view.links["Output in Cloud Storage"].startswith("https://console.cloud.google.com/storage/")


def test_a_failure_shows_its_cell_from_the_notebook(ran):
    ran.run(gcs_notebook_source=FAILING)
    view = view_of(ran.data(), Outcomes())
    assert (view.state, view.outcome.failing_cell) == (JobState.FAILED, 3)
    assert view.outcome.error == "KeyError: 'west'"


def test_a_running_job_shows_its_source(ran, service, hook):
    ran.run(wait=False, **SLEEPING)
    view = view_of(ran.data(), Outcomes())
    assert view.is_active
    assert view.output is None
    full = find_job(hook, ran.data(), "FULL")
    assert b"time.sleep(120)" in source_of(hook, full)
    assert ran.record["name"] in active_jobs(service)  # a look changes nothing


@pytest.mark.parametrize(
    "source", [{"gcs_notebook_source": FAILING}, {"gcs_notebook_source": None, "direct_notebook_source": "failing"}]
)
def test_sources_of_a_job(ran, hook, source):
    path = CHECKOUT / "example_dags" / "notebooks" / "failing.ipynb"
    if "direct_notebook_source" in source:
        source = {**source, "direct_notebook_source": str(path)}
    ran.run(**source)
    content = source_of(hook, find_job(hook, ran.data(), "FULL"))
    assert b"rows[" in content


@pytest.mark.parametrize("cleared", [False, True])
def test_each_try_has_its_own_job(ran, cleared):
    ran.run(gcs_notebook_source=FAILING)
    first = JobName.parse(ran.record["name"]).job_id
    if cleared:  # of a finished run: its start changes
        ran.start += timedelta(seconds=5)
    ran.run()
    views = [view_of(ran.data(number), Outcomes()) for number in (1, 2)]
    assert [view.state for view in views] == [JobState.FAILED, JobState.SUCCEEDED]
    assert views[0].name.job_id == first
    assert view_of(ran.data(), Outcomes()).name == views[1].name


def test_a_try_without_a_job(ran):
    ran.run()
    ran.tries.append(TaskTry(2, "running", ran.start, None))
    assert "has not submitted its job yet" in view_of(ran.data(), Outcomes()).problem
    ran.tries[1] = TaskTry(2, "failed", ran.start, ran.start)
    assert "submitted no job of its own" in view_of(ran.data(), Outcomes()).problem


def test_a_job_that_is_gone_shows_what_was_recorded(ran, service):
    ran.run(gcs_notebook_source=FAILING)
    service.delete(ran.record["name"])
    view = view_of(ran.data(), Outcomes())
    assert "deleted" in view.problem
    assert (view.state, view.outcome.failing_cell, view.outcome.error) == (JobState.FAILED, 3, "KeyError: 'west'")
    assert view.name.job_id == JobName.parse(ran.record["name"]).job_id


@pytest.mark.parametrize("fault", ["UNAVAILABLE", "PERMISSION_DENIED"])
def test_an_api_that_does_not_answer_shows_what_was_recorded(ran, service, fault):
    ran.run()
    service.fault("GetNotebookExecutionJob", fault)
    view = view_of(ran.data(), Outcomes())
    assert view.state is JobState.SUCCEEDED
    assert fault in view.problem


def test_a_connection_that_is_gone(ran):
    ran.run()
    view = view_of(ran.data(fields={**WAY, "gcp_conn_id": "no_such_connection"}), Outcomes())
    assert "no_such_connection" in view.problem
    assert view.state is JobState.SUCCEEDED


def test_the_way_is_the_operators_and_not_the_records(ran):
    """Who may edit an XCom must not thereby use a connection, or send its token somewhere."""
    ran.run()
    ran.record = {**ran.record, "gcp_conn_id": "another", "api_endpoint": "http://127.0.0.1:1"}
    assert view_of(ran.data(), Outcomes()).problem == ""
    unknown = view_of(ran.data(fields={}), Outcomes())
    assert "no longer has the arguments" in unknown.problem
    assert unknown.state is JobState.SUCCEEDED


def test_a_notebook_is_read_once_for_each_of_its_generations(ran, service, monkeypatch):
    ran.run()
    outcomes, data = Outcomes(), ran.data()
    reads = []
    kind = type(make_hook(data))
    monkeypatch.setattr(kind, "read_stored_notebook", lambda self, stored: reads.append(stored) or b'{"cells": []}')
    stored = view_of(data, outcomes).output
    view_of(data, outcomes)
    assert reads == [stored]
    outcomes.content(make_hook(data), stored)  # kept for the rendering that follows
    assert reads == [stored]
    path = service.object_path(stored.uri)
    path.write_bytes(path.read_bytes())
    other = view_of(data, outcomes).output
    assert (other.generation != stored.generation) == (reads == [stored, other])


def test_a_notebook_that_is_too_large_is_not_rendered_but_read(ran, monkeypatch):
    ran.run(gcs_notebook_source=FAILING)
    monkeypatch.setattr("airflow_provider_nbjob.plugins.notebook_jobs.job_view.NOTEBOOK_MAX_BYTES", 100)
    data, outcomes = ran.data(), Outcomes()
    view = view_of(data, outcomes)
    assert view.outcome.failing_cell == 3
    with pytest.raises(NotRendered, match="bytes"):
        outcomes.content(make_hook(data), view.output)
