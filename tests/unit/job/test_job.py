"""The resource: states, names, identity, result; and that nothing of the seed is missing."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from google.cloud.aiplatform_v1.types import NotebookExecutionJob
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.exceptions import (
    ApiError,
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
)
from airflow_provider_nbjob.job import (
    JobName,
    JobResult,
    JobState,
    job_id_for,
    plain_text,
    state_of,
    storage_console_url,
)
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.lifecycle.outcome import error_of
from airflow_provider_nbjob.notebook.executed import CellError, ExecutedCell

# Source: the seed, 000_aefb7a92d28d246a.txt, tables "Properties" and "Enum: JobStateEnum". Each property, and the
# field that holds it: what a caller sets is in the spec, what the API reports is in the result.
SEED_PROPERTIES = {
    "scheduleResourceName": (JobResult, "schedule_resource_name"),
    "executionTimeout": (NotebookExecutionJobSpec, "job_timeout"),
    "notebookRuntimeTemplateResourceName": (NotebookExecutionJobSpec, "notebook_runtime_template_resource_name"),
    "createTime": (JobResult, "create_time"),
    "labels": (NotebookExecutionJobSpec, "labels"),
    "directNotebookSource": (NotebookExecutionJobSpec, "direct_notebook_source"),
    "name": (JobResult, "name"),
    "displayName": (NotebookExecutionJobSpec, "display_name"),
    "updateTime": (JobResult, "update_time"),
    "serviceAccount": (NotebookExecutionJobSpec, "service_account"),
    "status": (JobResult, "status"),
    "jobState": (JobResult, "job_state"),
    "gcsNotebookSource": (NotebookExecutionJobSpec, "gcs_notebook_source"),
    "executionUser": (NotebookExecutionJobSpec, "execution_user"),
    "gcsOutputUri": (NotebookExecutionJobSpec, "gcs_output_uri"),
    "encryptionSpec": (NotebookExecutionJobSpec, "encryption_spec"),
    "dataformRepositorySource": (NotebookExecutionJobSpec, "dataform_repository_source"),
}
# state: (terminal, success, active)
SEED_STATES = {
    "JOB_STATE_UNSPECIFIED": (False, False, True),
    "JOB_STATE_QUEUED": (False, False, True),
    "JOB_STATE_PENDING": (False, False, True),
    "JOB_STATE_RUNNING": (False, False, True),
    "JOB_STATE_SUCCEEDED": (True, True, False),
    "JOB_STATE_FAILED": (True, False, False),
    "JOB_STATE_CANCELLING": (False, False, False),
    "JOB_STATE_CANCELLED": (True, False, False),
    "JOB_STATE_PAUSED": (False, False, True),
    "JOB_STATE_EXPIRED": (True, False, False),
    "JOB_STATE_UPDATING": (False, False, True),
    "JOB_STATE_PARTIALLY_SUCCEEDED": (True, False, False),
}
NAME = "projects/my-project/locations/us-central1/notebookExecutionJobs/my-job"


@pytest.mark.parametrize("seed_property", SEED_PROPERTIES)
def test_every_property_of_the_seed_has_a_place(seed_property):
    holder, field = SEED_PROPERTIES[seed_property]
    assert field in {f.name for f in fields(holder)}


def test_the_states_are_those_of_the_seed():
    assert {state.value for state in JobState} == set(SEED_STATES)


@pytest.mark.parametrize(("name", "expected"), SEED_STATES.items())
def test_what_a_state_means(name, expected):
    state = JobState(name)
    assert (state.is_terminal, state.is_success, state.is_active) == expected
    assert state.is_known
    assert str(state) == name


def test_a_state_of_a_later_api_is_kept_and_waited_on():
    state = JobState("JOB_STATE_HIBERNATING")
    assert str(state) == "JOB_STATE_HIBERNATING"
    assert not (state.is_known)
    assert not (state.is_terminal)
    assert not (state.is_success)
    assert state.is_active  # it may cost
    assert len(JobState) == 12
    assert pickle.loads(pickle.dumps(state)) == copy.deepcopy(state) == state


def test_a_number_that_the_client_library_does_not_know_is_a_state_too():
    assert str(state_of(SimpleNamespace(job_state=99))) == "JOB_STATE_99"


@pytest.mark.filterwarnings("ignore:Unrecognized JobState")
@pytest.mark.parametrize(("number", "expected"), [(4, "JOB_STATE_SUCCEEDED"), (99, "JOB_STATE_99")])
def test_the_state_of_a_message_of_either_kind(number, expected):
    message = NotebookExecutionJob.pb(NotebookExecutionJob())
    message.job_state = number
    assert str(state_of(message)) == str(state_of(NotebookExecutionJob.wrap(message))) == expected


def test_a_state_is_a_text():
    with pytest.raises(ValueError, match="7"):
        JobState(7)


def test_a_name_is_read_and_written():
    assert str(JobName.parse(NAME)) == NAME
    assert JobName.parse(f"{NAME}/operations/17") == JobName("my-project", "us-central1", "my-job")


@pytest.mark.parametrize("name", ["", "my-job", "projects/p/locations/l/schedules/s", f"{NAME}/x", f"/{NAME}"])
def test_a_malformed_name_is_refused(name):
    with pytest.raises(InvalidJob, match=r"^name: .*is not of the form"):
        JobName.parse(name)


def test_urls():
    name = JobName.parse(NAME)
    assert name.console_url == "https://console.cloud.google.com/vertex-ai/colab/execution-jobs?project=my-project"
    assert name.logs_url == (
        "https://console.cloud.google.com/logs/query?query=SEARCH%28%22my-job%22%29&project=my-project"
    )
    assert name.output_uri("gs://b/runs/") == name.output_uri("gs://b/runs") == "gs://b/runs/my-job/"
    browser = "https://console.cloud.google.com/storage/browser"
    assert storage_console_url("gs://b/runs/my job/") == f"{browser}/b/runs/my%20job"
    assert storage_console_url("gs://b/runs/n.ipynb") == f"{browser}/_details/b/runs/n.ipynb"
    assert storage_console_url("gs://b") == f"{browser}/b"


IDENTITY = {
    "dag_id": "d",
    "run_id": "manual__1",
    "run_start": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "task_id": "t",
    "map_index": -1,
    "try_number": 1,
}


def test_the_same_try_has_the_same_id():
    assert job_id_for(**IDENTITY) == job_id_for(**IDENTITY)
    assert job_id_for(**{**IDENTITY, "run_start": "2026-01-01T00:00:00+00:00"}) == job_id_for(**IDENTITY)


@pytest.mark.parametrize(
    "other",
    [
        {"dag_id": "e"},
        {"run_id": "manual__2"},
        {"run_start": datetime(2026, 1, 1, 0, 0, 1, tzinfo=timezone.utc)},
        {"run_start": None},
        {"task_id": "u"},
        {"map_index": 0},
        {"try_number": 2},
    ],
    ids=str,
)
def test_anything_else_has_another(other):
    assert job_id_for(**{**IDENTITY, **other}) != job_id_for(**IDENTITY)


def test_ids_of_earlier_tries_are_found_by_counting_down():
    first, third = (job_id_for(**{**IDENTITY, "try_number": n}) for n in (1, 3))
    assert third.rpartition("-")[0] == first.rpartition("-")[0]
    assert (first[-2:], third[-2:]) == ("-1", "-3")


@given(st.text(), st.text(), st.text(), st.integers(-1, 10_000), st.integers(1, 10_000))
def test_an_id_is_rfc_1035_whatever_goes_in(dag_id, run_id, task_id, map_index, try_number):
    job_id = job_id_for(
        dag_id=dag_id, run_id=run_id, run_start=None, task_id=task_id, map_index=map_index, try_number=try_number
    )
    spec = NotebookExecutionJobSpec(notebook_execution_job_id=job_id)
    assert len(job_id) <= 63
    assert not [problem for problem in spec.problems() if problem.startswith("notebook_execution_job_id")]
    assert job_id[0].isalpha()


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_separator_in_a_name_makes_no_two_tasks_one(left, right):
    ids = {job_id_for(**{**IDENTITY, "dag_id": d, "run_id": r}) for d, r in ((left, right), (left + right, ""))}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("plain", "plain"),
        ("No <b>capacity</b> in<br/>us-central1", "No capacity in\nus-central1"),
        ('See <a href="https://x/?a=1&amp;b=2">the docs</a>.', "See the docs."),
        ("a &lt; b &amp; c", "a < b & c"),
        ("x < y and y > z", "x < y and y > z"),
        ("<p>one</p><p>two</p>", "one\ntwo"),
        (
            "NUL \0 and its entity &#0;, half a pair \ud800 and &#xd800;",
            "NUL \ufffd and its entity \ufffd, half a pair ? and \ufffd",
        ),
    ],
)
def test_html_is_taken_out_of_messages(message, text):
    assert plain_text(message) == text


def job(**changes):
    values = {
        "name": NAME,
        "job_state": SimpleNamespace(name="JOB_STATE_SUCCEEDED"),
        "status": SimpleNamespace(code=0, message=""),
        "display_name": "d",
        "gcs_output_uri": "gs://b/runs",
        "schedule_resource_name": "",
        "create_time": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "update_time": None,
    }
    return SimpleNamespace(**{**values, **changes})


def test_the_result_is_small_json():
    assert JobResult.from_job(job(), output_notebook_uri="gs://b/runs/my-job/n.ipynb").to_xcom() == {
        "name": NAME,
        "job_id": "my-job",
        "job_state": "JOB_STATE_SUCCEEDED",
        "status": {"code": 0, "message": ""},
        "display_name": "d",
        "gcs_output_uri": "gs://b/runs",
        "output_notebook_uri": "gs://b/runs/my-job/n.ipynb",
        "output_error": None,
        "schedule_resource_name": None,
        "create_time": "2026-01-01T00:00:00+00:00",
        "update_time": None,
        "results": {},
    }


def test_texts_of_the_api_are_made_fit_for_postgresql():
    odd = job(display_name="a \0 name", status=SimpleNamespace(code=3, message="odd \0"))
    told = JobResult.from_job(odd).with_output_error("no \0 bucket").to_xcom()
    assert (told["display_name"], told["status"]["message"]) == ("a \ufffd name", "odd \ufffd")
    assert "\0" not in told["output_error"]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("JOB_STATE_FAILED", JobFailed),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", JobFailed),
        ("JOB_STATE_CANCELLED", JobCancelled),
        ("JOB_STATE_EXPIRED", JobExpired),
    ],
)
def test_an_error_says_why_where_and_what_next(state, kind):
    failed = job(job_state=SimpleNamespace(name=state), status=SimpleNamespace(code=8, message="no <b>machine</b>"))
    result = JobResult.from_job(failed, output_notebook_uri="gs://b/runs/my-job/n.ipynb")
    error = error_of(result)
    assert type(error) is kind
    for part in (state, "no machine (code 8)", "gs://b/runs/my-job/n.ipynb", "console.cloud.google.com/logs"):
        assert part in str(error)
    assert "never have started" in str(error_of(JobResult.from_job(failed)))


def test_an_error_names_the_cell_that_failed():
    failed = JobResult.from_job(job(job_state=SimpleNamespace(name="JOB_STATE_FAILED")))
    cell = ExecutedCell(4, error=CellError("KeyError", "'west'\nand more", "Traceback ..."))
    error = error_of(failed, cell)
    assert "Cell 4 raised KeyError: 'west' and more\n" in str(error)
    assert (error.cell, error.ename, error.evalue, error.traceback) == (
        4,
        "KeyError",
        "'west'\nand more",
        "Traceback ...",
    )
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert error_of(failed).cell is None


def test_partial_success_is_success_only_where_it_is_accepted():
    partial = JobResult.from_job(job(job_state=SimpleNamespace(name="JOB_STATE_PARTIALLY_SUCCEEDED")))
    assert not partial.succeeded()
    assert partial.succeeded(accept_partial_success=True)
    failed = JobResult.from_job(job(job_state=SimpleNamespace(name="JOB_STATE_FAILED")))
    assert not failed.succeeded(accept_partial_success=True)


def test_exceptions_survive_a_process_boundary():
    error = pickle.loads(pickle.dumps(ApiError("m", "UNAVAILABLE")))
    assert (str(error), error.code, error.is_transient) == ("m", "UNAVAILABLE", True)
    assert pickle.loads(pickle.dumps(InvalidJob(["a", "b"]))).problems == ["a", "b"]
