"""The operators, the sensor and the trigger against the emulator, method by method."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import timedelta

import nbformat
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred
from airflow.sdk import DAG

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import (
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    JobTimeout,
    JobUnwatched,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobName, JobState, state_of
from airflow_provider_nbjob.lifecycle.submission import Submission
from airflow_provider_nbjob.operators.notebook_execution_job import (
    CreateNotebookExecutionJobOperator,
    DeleteNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from airflow_provider_nbjob.triggers.notebook_execution_job import (
    NotebookExecutionJobTrigger,
    ScheduledNotebookExecutionJobTrigger,
)
from scripts.processes import BUCKET
from tests.support.emulator_jobs import until_exists
from tests.support.notebooks import unexecuted
from tests.support.paths import CHECKOUT
from tests.support.patience import patient, wait_until
from tests.support.running import event_of, run_operator
from tests.support.tasks import LOCATION, SLEEPING, api_job, arguments, make_context

NOTEBOOKS = CHECKOUT / "example_dags" / "notebooks"


@pytest.fixture
def context():
    return make_context(f"run-{uuid.uuid4().hex}")


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_job_runs(service, context, deferrable):
    result = run_operator(CreateNotebookExecutionJobOperator(**arguments(deferrable=deferrable)), context)
    assert result["job_state"] == "JOB_STATE_SUCCEEDED"
    assert result["output_notebook_uri"] == f"gs://{BUCKET}/runs/{result['job_id']}/data_quality.ipynb"
    assert result["status"]["code"] == 0
    assert result["display_name"] == f"d.run_notebook {context['ti'].run_id}"
    assert json.loads(json.dumps(result)) == result
    executed = nbformat.read(service.object_path(result["output_notebook_uri"]), as_version=4)
    assert any("image/png" in o.get("data", {}) for cell in executed.cells for o in cell.get("outputs", []))


def test_the_record_is_pushed_before_the_wait(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    pushed = context["ti"].pushed
    reference = pushed["notebook_execution_job"]
    assert {k: v for k, v in reference.items() if k != "name"} == {
        "project_id": "emulator-project",
        "location": LOCATION,
        "gcs_output_uri": f"gs://{BUCKET}/runs",
        "gcp_conn_id": "google_cloud_default",
        "impersonation_chain": None,
        "api_endpoint": None,
        "try_number": 1,
        "states": [],
        "job_state": None,
    }
    assert set(pushed) == {"notebook_execution_job"}  # of which the API server makes the links
    operator.on_kill()
    assert reference["name"] not in service.active_jobs()


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failing_notebook_fails_the_task(service, context, deferrable):
    source = f"gs://{BUCKET}/notebooks/failing.ipynb"
    operator = CreateNotebookExecutionJobOperator(**arguments(gcs_notebook_source=source, deferrable=deferrable))
    with pytest.raises(JobFailed, match="KeyError") as error:
        run_operator(operator, context)
    assert not isinstance(error.value, AirflowFailException)  # a retry may do better
    assert f"gs://{BUCKET}/runs/" in str(error.value)
    record = context["ti"].pushed["notebook_execution_job"]
    executed = nbformat.read(service.object_path(record["output_notebook_uri"]), as_version=4)
    assert executed.cells[2].outputs[-1].ename == "KeyError"
    assert (record["job_state"], record["status"]["code"]) == ("JOB_STATE_FAILED", 2)
    assert record["failed_cell"] == {"number": 3, "ename": "KeyError", "evalue": "'west'"}
    assert record["output_notebook_uri"].endswith("/failing.ipynb")
    states, times = zip(*record["states"], strict=True)
    assert states[-1] == "JOB_STATE_FAILED"
    assert sorted(times) == list(times)
    assert times[-1] == record["update_time"] > record["create_time"]


def test_a_machine_that_never_starts(service, context):
    operator = CreateNotebookExecutionJobOperator(
        **arguments(notebook_runtime_template_resource_name="fail-provisioning")
    )
    with pytest.raises(JobFailed, match="No executed notebook was written below gs://") as error:
        operator.execute(context)
    assert "<" not in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        {"direct_notebook_source": "notebooks/data_quality.ipynb"},
        pytest.param({"direct_notebook_source": str(NOTEBOOKS / "data_quality.ipynb")}, marks=pytest.mark.test_all),
        pytest.param(
            {"direct_notebook_source": json.loads((NOTEBOOKS / "data_quality.ipynb").read_text())},
            marks=pytest.mark.test_all,
        ),
        pytest.param(
            {"direct_notebook_source": (NOTEBOOKS / "data_quality.ipynb").read_text()}, marks=pytest.mark.test_all
        ),
        {"direct_notebook_source": (NOTEBOOKS / "data_quality.ipynb").read_bytes()},
        {"dataform_repository_source": f"projects/emulator-project/locations/{LOCATION}/repositories/data-quality"},
        {"gcs_notebook_source": {"uri": f"gs://{BUCKET}/notebooks/data_quality.ipynb"}},
    ],
    ids=["relative", "absolute", "dict", "text", "bytes", "dataform", "gcs"],
)
def test_sources(service, context, source):
    dag = DAG("d")
    dag.fileloc = str(CHECKOUT / "example_dags" / "a_dag.py")
    operator = CreateNotebookExecutionJobOperator(**{**arguments(gcs_notebook_source=None), **source}, dag=dag)
    result = operator.execute(context)
    name = "data_quality.ipynb" if "gcs_notebook_source" in source else "content.ipynb"
    assert result["output_notebook_uri"].endswith(f"/{result['job_id']}/{name}")


def test_braces_in_a_notebook_are_no_template(service, context):
    cells = unexecuted("value = '{{ ds }}'\nassert len(value) == 8, value")
    operator = CreateNotebookExecutionJobOperator(**arguments(gcs_notebook_source=None, direct_notebook_source=cells))
    operator.render_template_fields({"ds": "2026-01-01"})
    assert operator.execute(context)["job_state"] == "JOB_STATE_SUCCEEDED"


def test_templates_are_rendered_before_the_rules_are_checked(service, context):
    operator = CreateNotebookExecutionJobOperator(
        **arguments(
            gcs_notebook_source="gs://{{ bucket }}/notebooks/data_quality.ipynb",
            labels={"day": "{{ ds }}"},
            default_labels=False,
            job_timeout="{{ 60 * 5 }}s",
            location="{{ region }}",
        )
    )
    operator.render_template_fields({"bucket": BUCKET, "ds": "2026-01-01", "region": LOCATION})
    result = operator.execute(context)
    (job,) = [job for job in service.jobs() if job["name"] == result["name"]]
    assert (job["labels"]["day"], job["executionTimeout"]) == ("2026-01-01", "300s")


BAD = {
    "two sources": ({"direct_notebook_source": b"{}"}, "exactly one of gcs_notebook_source"),
    "no source": ({"gcs_notebook_source": None}, "exactly one is required, none was given"),
    "a label in capitals": ({"labels": {"Team": "a"}}, "labels: key 'Team' may hold lowercase"),
    "a long display name": ({"display_name": "x" * 129}, "display_name: 'xxx.* has 129 characters; at most 128"),
    "a typo in a URI": ({"gcs_notebook_source": "gs:/typo"}, "gcs_notebook_source: 'gs:/typo' is not of the form"),
    "a negative timeout": ({"job_timeout": -5}, "job_timeout: -5 is -5 s; it must be at least 1 s"),
    "an unknown location": ({"location": "the-moon"}, "location: 'the-moon' is not of the form us-central1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_known_to_be_bad_is_refused_at_parse_time(case):
    changes, rule = BAD[case]
    with pytest.raises(InvalidJob, match=rule):
        CreateNotebookExecutionJobOperator(**arguments(**changes))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"labels": {"team": "{{ 'A' }}"}}, "labels: value 'A' may hold lowercase"),
        ({"direct_notebook_source": "no-such.ipynb", "gcs_notebook_source": None}, "there is no such file"),
        ({"direct_notebook_source": b"no json", "gcs_notebook_source": None}, "the notebook is not JSON"),
        ({"notebook_runtime_template_resource_name": "not-found"}, "NOT_FOUND.*not-found"),
    ],
    ids=["template", "missing file", "not JSON", "unknown runtime template"],
)
def test_what_turns_out_to_be_bad_is_never_retried(service, context, changes, rule):
    operator = CreateNotebookExecutionJobOperator(**arguments(**changes))
    operator.render_template_fields({})
    with pytest.raises(InvalidJob, match=rule) as error:
        operator.execute(context)
    assert isinstance(error.value, AirflowFailException)
    assert not context["ti"].pushed


def test_a_template_that_may_come_out_as_nothing_is_no_second_source():
    CreateNotebookExecutionJobOperator(**arguments(direct_notebook_source="{{ none }}"))


def test_a_try_submits_once(service, context):
    operators = [CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING)) for _ in range(2)]
    before = len(service.submitted())
    for operator in operators:  # the second is the same try in another process, the first's having been killed
        with pytest.raises(TaskDeferred):
            operator.execute(context)
    assert len(service.submitted()) == before + 1
    operators[0].on_kill()


def test_a_task_that_is_killed_while_it_submits_leaves_no_job(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    before = set(service.active_jobs())

    def kill_after_the_call(create):
        def killed(*args, **kwargs):
            name = create(*args, **kwargs)
            assert set(service.active_jobs()) - before
            operator.on_kill()  # by the handler of SIGTERM, before the name was returned
            assert set(service.active_jobs()) == before
            return name

        return killed

    operator.hook.create_notebook_execution_job = kill_after_the_call(operator.hook.create_notebook_execution_job)
    with pytest.raises(TaskDeferred):
        operator.execute(context)


@pytest.mark.parametrize(("map_index", "end"), [(-1, "t r"), (None, "t r"), (0, "t [0] r"), (7, "t [7] r")])
def test_the_default_display_name_tells_mapped_instances_apart(service, map_index, end):
    context = make_context("r", task_id="t", map_index=map_index, dag_id=f"d{uuid.uuid4().hex}")
    operator = CreateNotebookExecutionJobOperator(**arguments(wait_for_completion=False))
    assert operator.execute(context)["display_name"].endswith(f".{end}")


def test_an_answer_that_was_lost_makes_no_second_job(service, context):
    before = len(service.submitted())
    service.fault("CreateNotebookExecutionJob", "UNAVAILABLE", times=2, drop_response=True)
    CreateNotebookExecutionJobOperator(**arguments()).execute(context)
    assert len(service.submitted()) == before + 1


def test_the_api_mints_the_id_of_a_job_that_is_not_durable(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(durable=False, wait_for_completion=False))
    assert operator.execute(context)["job_id"].isdigit()


def test_an_id_of_ones_own_that_is_taken_is_an_error(service, context):
    job_id = f"mine-{uuid.uuid4().hex[:8]}"
    operator = CreateNotebookExecutionJobOperator(
        **arguments(notebook_execution_job_id=job_id, wait_for_completion=False)
    )
    assert operator.execute(context)["job_id"] == job_id
    with pytest.raises(InvalidJob, match=f"notebook_execution_job_id: '{job_id}' is taken") as error:
        operator.execute(make_context(f"run-{uuid.uuid4().hex}"))
    assert isinstance(error.value, AirflowFailException)


def test_not_waiting_returns_at_once(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(wait_for_completion=False, **SLEEPING))
    result = operator.execute(context)
    assert not JobState(result["job_state"]).is_terminal
    operator.on_kill()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("JOB_STATE_CANCELLED", JobCancelled),
        ("JOB_STATE_EXPIRED", JobExpired),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", JobFailed),
    ],
)
def test_other_ends(service, context, state, kind):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    service.force_state(JobName.parse(deferred.value.trigger.name).job_id, state)
    event = event_of(deferred.value.trigger)
    assert (event["outcome"], event["job_state"]) == ("finished", state)
    with pytest.raises(kind, match=state):
        operator.execute_complete(context, event)


def test_partial_success_may_be_accepted(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, accept_partial_success=True, **SLEEPING))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    service.force_state(JobName.parse(deferred.value.trigger.name).job_id, "JOB_STATE_PARTIALLY_SUCCEEDED")
    result = operator.execute_complete(context, event_of(deferred.value.trigger))
    assert result["job_state"] == "JOB_STATE_PARTIALLY_SUCCEEDED"


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_deadline_stops_the_job(service, context, deferrable):
    operator = CreateNotebookExecutionJobOperator(
        # The API's own limit, the task's by default, might end the job before the task's deadline is noticed.
        **arguments(deferrable=deferrable, execution_timeout=timedelta(seconds=2), job_timeout=3600, **SLEEPING)
    )
    with pytest.raises(JobTimeout, match="at the deadline"):
        run_operator(operator, context)
    assert context["ti"].pushed["notebook_execution_job"]["name"] not in service.active_jobs()


def test_a_deleted_job_is_lost(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    NotebookExecutionJobHook().delete_notebook_execution_job(name=deferred.value.trigger.name)
    event = event_of(deferred.value.trigger)
    assert event["outcome"] == "lost"
    with pytest.raises(JobLost):
        operator.execute_complete(context, event)


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "INVALID_ARGUMENT"])
def test_lasting_refusals_of_looks_end_the_wait_and_leave_the_job(service, context, hook, monkeypatch, code):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    service.fault("GetNotebookExecutionJob", code)
    event = event_of(deferred.value.trigger)
    service.reset()
    assert event["outcome"] == "error"
    with pytest.raises(JobUnwatched, match=code):
        operator.execute_complete(context, event)
    assert deferred.value.trigger.name in service.active_jobs()
    hook.cancel_notebook_execution_job(name=deferred.value.trigger.name)


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "INVALID_ARGUMENT"])
def test_lasting_refusals_of_a_worker_s_looks_leave_the_job_too(service, context, hook, monkeypatch, code):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    service.fault("GetNotebookExecutionJob", code)
    before = set(service.active_jobs())
    with pytest.raises(JobUnwatched, match=code):
        CreateNotebookExecutionJobOperator(**arguments(**SLEEPING)).execute(context)
    service.reset()
    (left,) = set(service.active_jobs()) - before
    hook.cancel_notebook_execution_job(name=left)


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "INVALID_ARGUMENT"])
def test_one_refused_look_of_a_worker_ends_nothing(service, context, code):
    service.fault("GetNotebookExecutionJob", code, times=1)
    result = CreateNotebookExecutionJobOperator(**arguments()).execute(context)
    assert result["job_state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize("event", [None, {}, {"outcome": "finished"}])
def test_an_unusable_event_is_an_error(service, context, event):
    with pytest.raises(NotebookExecutionJobError, match="no usable event"):
        CreateNotebookExecutionJobOperator(**arguments()).execute_complete(context, event)


def test_a_job_is_stopped_where_the_task_fails_after_the_submit(service, context, monkeypatch):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    monkeypatch.setattr(Submission, "say_how_to_stop", lambda _: 1 / 0)
    before = set(service.submitted())
    with pytest.raises(ZeroDivisionError):
        operator.execute(context)
    (job_id,) = set(service.submitted()) - before
    assert not [name for name in service.active_jobs() if name.endswith(job_id)]


def test_cancel_on_kill_can_be_turned_off(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, cancel_on_kill=False, **SLEEPING))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    name = deferred.value.trigger.name
    operator.on_kill()
    asyncio.run(deferred.value.trigger.on_kill())
    assert name in service.active_jobs()
    NotebookExecutionJobHook().cancel_notebook_execution_job(name=name)


def test_a_killed_trigger_stops_its_job_even_where_it_is_cut_short(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    service.fault("ListOperations", delay=2.0, times=1)

    async def kill() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(deferred.value.trigger.on_kill(), 0.5)

    asyncio.run(kill())
    wait_until(lambda: deferred.value.trigger.name not in service.active_jobs(), timeout=20, what="the job stopped")


def test_get_list_and_delete(service, context):
    name = CreateNotebookExecutionJobOperator(
        **arguments(display_name="findable", wait_for_completion=False, **SLEEPING)
    ).execute(context)["name"]
    read = GetNotebookExecutionJobOperator(task_id="get", notebook_execution_job=name).execute(context)
    assert (read["name"], read["output_notebook_uri"]) == (name, None)
    by_id = GetNotebookExecutionJobOperator(
        task_id="get", notebook_execution_job=read["job_id"], location=LOCATION
    ).execute(context)
    assert by_id["name"] == name
    listed = ListNotebookExecutionJobsOperator(
        task_id="list", location=LOCATION, filter='displayName="findable"', max_results=1
    ).execute(context)
    assert [job["name"] for job in listed] == [name]
    delete = DeleteNotebookExecutionJobOperator(task_id="delete", notebook_execution_job=name)
    delete.execute(context)
    delete.execute(context)
    strict = DeleteNotebookExecutionJobOperator(task_id="d", notebook_execution_job=name, ignore_if_missing=False)
    with pytest.raises(JobLost):
        strict.execute(context)
    with pytest.raises(InvalidJob, match="location: required"):
        ListNotebookExecutionJobsOperator(task_id="list").execute(context)


# --- the sensor ---


def submit(hook, **changes) -> str:
    return hook.create_notebook_execution_job(job=api_job(**changes), location=LOCATION)


def sensor(**changes):
    return NotebookExecutionJobSensor(**{"task_id": "wait", "poke_interval": 0.2, "timeout": patient(60), **changes})


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_sensor_returns_what_the_operator_would(hook, context, deferrable):
    name = submit(hook)
    result = run_operator(sensor(notebook_execution_job=name, deferrable=deferrable), context)
    assert (result["name"], result["job_state"]) == (name, "JOB_STATE_SUCCEEDED")
    assert result["output_notebook_uri"]
    assert context["ti"].pushed["notebook_execution_job"]["name"] == name


def test_the_sensor_takes_a_bare_id(hook, context):
    job_id = JobName.parse(submit(hook)).job_id
    result = run_operator(sensor(notebook_execution_job=job_id, location=LOCATION, deferrable=True), context)
    assert result["job_id"] == job_id


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_sensor_fails_once_and_for_all_with_the_job(hook, context, deferrable):
    name = submit(hook, gcs_notebook_source={"uri": f"gs://{BUCKET}/notebooks/failing.ipynb"})
    with pytest.raises(JobFailed, match="KeyError") as error:
        run_operator(sensor(notebook_execution_job=name, deferrable=deferrable), context)
    assert isinstance(error.value, AirflowFailException)


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_sensors_timeout_leaves_the_job_alone(hook, service, context, deferrable):
    content = json.dumps(SLEEPING["direct_notebook_source"]).encode()
    name = submit(hook, gcs_notebook_source=None, direct_notebook_source={"content": content})
    with pytest.raises(AirflowSensorTimeout):
        run_operator(sensor(notebook_execution_job=name, deferrable=deferrable, timeout=1), context)
    assert name in service.active_jobs()
    hook.cancel_notebook_execution_job(name=name)


def test_an_outage_is_no_failed_poke(hook, service, context, monkeypatch):
    monkeypatch.setattr("airflow_provider_nbjob.hooks.retrying.RETRY_TOTAL", 0.5)
    name = submit(hook)
    service.fault("GetNotebookExecutionJob", "UNAVAILABLE")
    assert not sensor(notebook_execution_job=name).poke(context).is_done


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_sensor_waits_for_what_a_schedule_launches(hook, context, deferrable):
    schedule = f"projects/emulator-project/locations/{LOCATION}/schedules/{uuid.uuid4().int % 10**12}"
    earlier = hook.get_notebook_execution_job(name=submit(hook, schedule_resource_name=schedule))
    after = earlier.create_time + timedelta(microseconds=1)
    waiting = {"schedule": schedule.rpartition("/")[2], "location": LOCATION, "created_after": after}
    assert not sensor(**waiting).poke(context).is_done  # the job is older
    name = submit(hook, schedule_resource_name=schedule)
    assert run_operator(sensor(**waiting, deferrable=deferrable), context)["name"] == name


def test_a_schedule_that_launches_nothing_times_out(service):
    trigger = ScheduledNotebookExecutionJobTrigger(
        "no-such-schedule", created_after=0.0, location=LOCATION, poll_interval=0.1, end_time=time.time() + 0.5
    )
    assert event_of(trigger)["outcome"] == "timeout"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, "notebook_execution_job, schedule: exactly one is required"),
        ({"notebook_execution_job": "j", "schedule": "s"}, "exactly one is required"),
        ({"schedule": "s"}, "location: required with schedule"),
    ],
)
def test_the_sensor_says_what_it_needs(changes, rule):
    with pytest.raises(InvalidJob, match=rule):
        sensor(**changes)


def test_a_missing_connection_is_an_outage_until_the_deadline(service, capsys):
    """Airflow says the same of one that is not defined and of a secrets backend that is down."""
    name = "projects/p/locations/us-central1/notebookExecutionJobs/j"
    event = event_of(NotebookExecutionJobTrigger(name, "no-such-conn", end_time=time.time() + 0.5))
    assert event["outcome"] == "timeout"
    assert "no connection 'no-such-conn'" in capsys.readouterr().out


def test_the_states_that_the_emulator_gave_are_the_jobs(hook, service, tmp_path):
    go = tmp_path / "go"
    content = json.dumps(unexecuted(until_exists(go))).encode()
    name = submit(hook, gcs_notebook_source=None, direct_notebook_source={"content": content})
    seen = []

    def has_ended():
        state = state_of(hook.get_notebook_execution_job(name=name))
        if state not in seen:
            seen.append(state)
        if state is JobState.RUNNING:
            go.touch()
        return state.is_terminal

    wait_until(has_ended, timeout=60, what="the end", interval=0.02)
    assert seen[-2:] == [JobState.RUNNING, JobState.SUCCEEDED]
