"""A record names a job, and whoever may edit XComs may have written it: it leads nobody to another's job."""

from __future__ import annotations

import pytest

from tests.security.plugins.site import DAG, TASK, cell, notebook, printed, record_of
from tests.support.fake_service import PARENT

pytestmark = pytest.mark.test_all

SECRET = "the-numbers-of-somebody-else"
PRIVATE = notebook(cell("report()", printed(SECRET)), parameters={"of": SECRET})


def assert_not_shown(site, *, asked=None):
    for path in ("task", "notebook"):
        answer = site.get(f"{path}?dag_id={DAG}&run_id=run_1&task_id={TASK}")
        assert answer.status_code in (200, 403, 404)
        assert SECRET not in answer.text
        assert "console.cloud.google.com" not in answer.text
    assert set(site.service.asked) <= set(asked or ())


@pytest.mark.parametrize(
    "other",
    [
        {"dag_id": "private"},
        {"run_id": "another"},
        {"task_id": "notebook_2"},
        {"map_index": 0},
        {"dag_id": "private", "map_index": 3},
    ],
)
def test_the_job_of_another_task_instance_is_not_asked_for(site, other):
    name = site.job(site.name(site.job_id(**other)), notebook=PRIVATE)
    site.task(record_of(name, job_state="JOB_STATE_SUCCEEDED", output_notebook_uri="gs://bucket/x"))
    assert_not_shown(site)
    assert "cannot be shown to be the task's own" in site.shown()


@pytest.mark.parametrize("job_id", ["7436251", "nightly", "nbjob-000000000000-00000000-1", "x" * 60])
def test_a_job_with_an_id_of_its_own_is_not_shown(site, job_id):
    name = site.job(site.name(job_id), notebook=PRIVATE, display_name="nightly")
    site.task(record_of(name), fields={"display_name": "nightly"})
    assert_not_shown(site)


def test_a_job_whose_display_name_is_not_this_task_s_is_not_shown(site):
    name = site.job(site.name("123456"), notebook=PRIVATE, display_name="private.notebook run_1")
    site.task(record_of(name))
    assert_not_shown(site, asked=[name])


def test_a_later_try_s_id_is_none_of_an_earlier_one(site):
    name = site.job(site.name(site.job_id(2)), notebook=PRIVATE)
    site.task(record_of(name, try_number=1))
    assert_not_shown(site)


@pytest.mark.parametrize(
    "parent",
    [
        "projects/victim/locations/us-central1",
        "projects/p/locations/europe-west4",
        "projects/999999/locations/us-central1",
    ],
)
def test_project_and_location_are_those_of_the_arguments(site, parent):
    site.job(site.name(parent=parent), notebook=PRIVATE)
    site.task(record_of(site.name(parent=parent), project_id="victim"))
    assert SECRET not in site.shown()
    site.get(f"notebook?dag_id={DAG}&run_id=run_1&task_id={TASK}")
    assert set(site.service.asked) == {site.name()}


def test_the_way_is_that_of_the_arguments(site):
    name = site.job()
    forged = {"gcp_conn_id": "admin", "impersonation_chain": "admin@x", "api_endpoint": "evil.test", "location": "x-y1"}
    site.task(record_of(name, **forged))
    site.shown()
    assert set(site.connections) == {("google_cloud_default", None, None, "us-central1")}


@pytest.mark.parametrize("uri", ["gs://victim/private.ipynb", "gs://bucket/other/content.ipynb", "gs://bucket/../x"])
def test_the_notebook_is_that_of_the_job_and_not_of_the_record(site, uri):
    site.google.storage.buckets.add("victim")
    site.google.storage.put(uri, str(PRIVATE).encode())
    site.job(notebook=notebook(cell("mine()")))
    site.task(record_of(site.name(), output_notebook_uri=uri, gcs_output_uri=uri.rpartition("/")[0]))
    assert SECRET not in site.shown()
    assert "mine" in site.shown("notebook")
    assert not [request for request in site.google.storage.requests if uri in request]


def test_the_own_job_and_that_of_an_earlier_try_are_shown(site):
    for try_number in (1, 2):
        site.job(site.name(site.job_id(try_number)), notebook=notebook(cell("", printed(f"of try {try_number}"))))
    site.task(record_of(site.name(site.job_id(1)), try_number=2), try_number=2)  # it went on with it
    assert "of try 1" in site.shown("notebook")
    assert "console.cloud.google.com" in site.shown()


def test_a_job_by_the_id_that_the_task_was_given_is_shown(site):
    site.job(site.name("my-job"), notebook=notebook(cell("mine()")))
    site.task(record_of(site.name("my-job")), fields={"notebook_execution_job_id": "my-job"})
    assert "mine" in site.shown("notebook")


@pytest.mark.parametrize("job_id", ["my-job", "my-job-2", "my-job-xabcdef", "my-job-2-xabcdef"])
def test_a_job_of_a_later_try_by_that_id_is_shown(site, job_id):
    site.job(site.name(job_id), notebook=notebook(cell("mine()")))
    record = record_of(site.name(job_id), try_number=2)
    site.task(record, try_number=2, fields={"notebook_execution_job_id": "my-job"})
    assert "mine" in site.shown("notebook")


@pytest.mark.parametrize("job_id", ["my-job-3", "my-job-2-2", "my-job-evil", "my-jobs", "my-job-xABCDEF", "my-job-x"])
def test_a_job_that_only_looks_like_a_later_try_is_not_shown(site, job_id):
    if job_id == job_id.lower():  # the API has no other ids
        site.job(site.name(job_id), notebook=PRIVATE)
    record = record_of(site.name("my-job").replace("my-job", job_id), try_number=2)
    site.task(record, try_number=2, fields={"notebook_execution_job_id": "my-job"})
    assert SECRET not in site.shown()
    answer = site.get(f"notebook?dag_id={DAG}&run_id=run_1&task_id={TASK}&try_number=2")
    assert SECRET not in answer.text


def test_a_job_whose_id_the_api_minted_is_known_by_its_display_name(site):
    site.job(site.name("42"), display_name=f"{DAG}.{TASK} run_1", notebook=notebook(cell("mine()")))
    site.task(record_of(site.name("42")))
    assert "mine" in site.shown("notebook")


def sensor(**given):
    return {"notebook_execution_job": None, "schedule": None, **given}


@pytest.mark.parametrize("given", ["j7", f"{PARENT}/notebookExecutionJobs/j7"])
def test_a_sensor_shows_the_job_that_its_arguments_name_and_no_other(site, given):
    site.job(site.name("j7"), notebook=notebook(cell("mine()")))
    site.job(site.name("j8"), notebook=PRIVATE)
    site.task(record_of(site.name("j7")), fields=sensor(notebook_execution_job=given))
    assert "mine" in site.shown("notebook")
    site.service.asked.clear()
    site.task(record_of(site.name("j8")), fields=sensor(notebook_execution_job=given), map_index=1)
    query = f"dag_id={DAG}&run_id=run_1&task_id={TASK}&map_index=1"
    assert SECRET not in site.shown(query=query) + site.get(f"notebook?{query}").text
    assert site.service.asked == []


@pytest.mark.parametrize("given", ["77", f"{PARENT}/schedules/77", "projects/123/locations/us-central1/schedules/77"])
@pytest.mark.parametrize(
    ("launched_by", "is_own"),
    [
        ("projects/123/locations/us-central1/schedules/77", True),
        ("projects/123/locations/us-central1/schedules/78", False),
        ("projects/123/locations/us-central1/schedules/177", False),
        ("", False),
    ],
)
def test_a_sensor_on_a_schedule_shows_what_that_launched(site, given, launched_by, is_own):
    site.job(site.name("900"), notebook=notebook(cell("", printed("shown"))), schedule_resource_name=launched_by)
    site.task(record_of(site.name("900")), fields=sensor(schedule=given))
    answer = site.get(f"notebook?dag_id={DAG}&run_id=run_1&task_id={TASK}")
    assert ("shown" in answer.text) == is_own
    missing = site.shown()
    assert ("is gone, or it is not the task's own" in missing) != is_own


def test_whether_a_foreign_job_is_there_is_not_told(site):
    fields = sensor(schedule="77")
    site.job(site.name("901"), schedule_resource_name=f"{PARENT}/schedules/78")
    site.task(record_of(site.name("901")), fields=fields)
    site.task(record_of(site.name("902")), fields=fields, map_index=1)
    query = f"dag_id={DAG}&run_id=run_1&task_id={TASK}&map_index="
    there, not_there = (site.shown(query=f"{query}{index}") for index in (-1, 1))
    assert there.replace("901", "902").replace("map_index=-1", "map_index=1") == not_there


@pytest.mark.parametrize("field", ["gcp_conn_id", "project_id", "location"])
def test_nobody_is_asked_where_the_arguments_are_masked(site, field):
    site.task(record_of(site.job()), fields={field: "***"})
    assert "nobody can be asked" in site.shown()
    assert site.service.asked == []


def test_nobody_is_asked_where_the_arguments_are_gone(site):
    site.task(record_of(site.job(), message="x", job_state="JOB_STATE_FAILED"), fields={})
    page = site.shown()
    assert "nobody can be asked" in page
    assert 'data-state="JOB_STATE_FAILED"' in page
    assert site.service.asked == []
