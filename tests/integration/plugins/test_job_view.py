"""What the tab of a task shows of its job, asked of the emulator as the API server asks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_nbjob.hooks.files import NotebookFiles
from airflow_provider_nbjob.job import JobName, JobState
from airflow_provider_nbjob.plugins.notebook_jobs.job_view import view_of
from airflow_provider_nbjob.plugins.notebook_jobs.lookup import look_up
from airflow_provider_nbjob.plugins.notebook_jobs.notebooks import Outcomes, source_of
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskTry
from airflow_provider_nbjob.rendering import NotRendered
from tests.integration.plugins.ran import FAILING, WAY
from tests.support.paths import CHECKOUT
from tests.support.tasks import SLEEPING

pytestmark = pytest.mark.test_all


def test_a_success_with_parameters_and_results(success):
    view = view_of(success.data(), Outcomes())
    assert view.state is JobState.SUCCEEDED
    assert view.outcome.parameters == {"orders": 30}
    assert view.outcome.results["result"]["orders"] == 30
    assert view.outcome.failing_cell is None
    assert not view.problem
    assert [str(state) for state, _ in view.steps.seen][-1] == "JOB_STATE_SUCCEEDED"
    assert view.facts["Runs as"] == "notebooks@example-project.iam.gserviceaccount.com"
    assert view.output.uri == success.record["output_notebook_uri"]
    assert view.links["Output in Cloud Storage"].startswith("https://console.cloud.google.com/storage/")


def test_a_failure_shows_its_cell_from_the_notebook(failure):
    view = view_of(failure.data(), Outcomes())
    assert (view.state, view.outcome.failing_cell) == (JobState.FAILED, 3)
    assert view.outcome.error == "KeyError: 'west'"


def test_a_running_job_shows_its_source(ran, service, hook):
    ran.run(wait=False, **SLEEPING)
    view = view_of(ran.data(), Outcomes())
    assert view.is_active
    assert view.output is None
    full = look_up(hook, ran.data()).fetch(hook, "FULL")
    assert b"time.sleep(3600)" in source_of(hook, full)
    assert ran.record["name"] in service.active_jobs()  # a look changes nothing


def test_the_source_in_a_bucket(failure, hook):
    assert b"rows[" in source_of(hook, look_up(hook, failure.data()).fetch(hook, "FULL"))


def test_the_source_that_was_submitted(ran, hook):
    ran.run(
        wait=False,
        gcs_notebook_source=None,
        direct_notebook_source=str(CHECKOUT / "example_dags" / "notebooks" / "failing.ipynb"),
    )
    assert b"rows[" in source_of(hook, look_up(hook, ran.data()).fetch(hook, "FULL"))


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


@pytest.mark.parametrize(
    ("state", "told"), [("running", "has not submitted its job yet"), ("failed", "submitted no job of its own")]
)
def test_a_try_without_a_job(success, state, told):
    tries = (*success.tries, TaskTry(2, state, success.start, None))
    assert told in view_of(success.data(tries=tries), Outcomes()).problem


def test_a_job_that_is_gone_shows_what_was_recorded(ran, service):
    ran.run(gcs_notebook_source=FAILING)
    service.delete(ran.record["name"])
    view = view_of(ran.data(), Outcomes())
    assert "deleted" in view.problem
    assert (view.state, view.outcome.failing_cell, view.outcome.error) == (JobState.FAILED, 3, "KeyError: 'west'")
    assert view.name.job_id == JobName.parse(ran.record["name"]).job_id


@pytest.mark.parametrize("fault", ["UNAVAILABLE", "PERMISSION_DENIED"])
def test_an_api_that_does_not_answer_shows_what_was_recorded(success, service, fault):
    service.fault("GetNotebookExecutionJob", fault)
    view = view_of(success.data(), Outcomes())
    assert view.state is JobState.SUCCEEDED
    assert fault in view.problem


def test_a_connection_that_is_gone(success):
    view = view_of(success.data(fields={**WAY, "gcp_conn_id": "no_such_connection"}), Outcomes())
    assert "no_such_connection" in view.problem
    assert view.state is JobState.SUCCEEDED


def test_the_way_is_the_operators_and_not_the_records(success):
    """Who may edit an XCom must not thereby use a connection, or send its token somewhere."""
    forged = {**success.record, "gcp_conn_id": "another", "api_endpoint": "http://127.0.0.1:1"}
    assert view_of(success.data(record=forged), Outcomes()).problem == ""
    unknown = view_of(success.data(record=forged, fields={}), Outcomes())
    assert "no longer has the arguments" in unknown.problem
    assert unknown.state is JobState.SUCCEEDED


def test_a_notebook_is_read_once_for_each_of_its_generations(success, service, monkeypatch):
    outcomes, data = Outcomes(), success.data()
    reads = []
    monkeypatch.setattr(
        NotebookFiles, "read_stored_notebook", lambda self, stored, **_: reads.append(stored) or b'{"cells": []}'
    )
    stored = view_of(data, outcomes).output
    view_of(data, outcomes)
    assert reads == [stored]
    outcomes.content(data.place.connection.make_hook(), stored, data.place)  # kept for the rendering that follows
    assert reads == [stored]
    hook = data.place.connection.make_hook()
    hook.files.upload_notebook(service.object_path(stored.uri).read_bytes(), stored.uri)
    other = view_of(data, outcomes).output
    assert other.generation != stored.generation
    assert reads == [stored, other]


def test_a_notebook_that_is_too_large_is_not_rendered_but_read(failure, monkeypatch):
    monkeypatch.setattr("airflow_provider_nbjob.plugins.notebook_jobs.notebooks.NOTEBOOK_MAX_BYTES", 100)
    data, outcomes = failure.data(), Outcomes()
    view = view_of(data, outcomes)
    assert view.outcome.failing_cell == 3
    with pytest.raises(NotRendered, match="bytes"):
        outcomes.content(data.place.connection.make_hook(), view.output, data.place)
