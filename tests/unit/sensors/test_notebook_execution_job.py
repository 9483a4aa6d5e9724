"""What the sensor waits for, what it returns and pushes, and how it fails, in each of its modes."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk import DAG
from google.api_core.exceptions import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InternalServerError,
    InvalidArgument,
    MethodNotImplemented,
    PermissionDenied,
    ResourceExhausted,
    ServiceUnavailable,
)

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.connection import Connection
from airflow_provider_nbjob.exceptions import (
    ApiError,
    ConnectionUnavailable,
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    JobUnwatched,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.hooks import polling, retrying
from airflow_provider_nbjob.job.record import parse_record
from airflow_provider_nbjob.links.notebook_execution_job import LINKS
from airflow_provider_nbjob.sensors import notebook_execution_job as sensor_module
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from tests.support.airflow_versions import AirflowRescheduleException
from tests.support.fake_google import FakeWait
from tests.support.fake_service import EXECUTED, JOB, MOMENT, OUTPUT, PARENT, SCHEDULE
from tests.support.notebooks import code, error, notebook, result
from tests.support.running import event_of
from tests.support.tasks import make_context

UNKNOWN = 99  # a state that the client library has no name for
TRIGGERS = "airflow_provider_nbjob.triggers.notebook_execution_job"
ENDS = [
    ("FAILED", JobFailed),
    ("PARTIALLY_SUCCEEDED", JobFailed),
    ("CANCELLED", JobCancelled),
    ("EXPIRED", JobExpired),
]
GOOD = notebook(code("40 + 2", result({"text/plain": "42"}), tags=("result",)))
BAD = notebook(code("rows['west']", error("KeyError", "'west'", "Traceback", "end")))
FINISHED = {"name": JOB, "job_state": "JOB_STATE_SUCCEEDED", "outcome": "finished", "message": "", "states": []}

pytestmark = pytest.mark.filterwarnings("ignore:Unrecognized JobState")


@pytest.fixture
def google(monkeypatch) -> FakeWait:
    monkeypatch.setattr(polling, "CONFIRM_SECONDS", 0.01)
    return FakeWait(monkeypatch)


@pytest.fixture
def service(google):
    return google.service


@pytest.fixture
def context():
    return with_run()


def with_run(**run: Any) -> dict[str, Any]:
    """Return the context of a task in a run that begins before the jobs do."""
    made = make_context("r", get_first_reschedule_date=lambda _: None)
    return {**made, "dag_run": SimpleNamespace(**{"data_interval_start": MOMENT, "start_date": MOMENT, **run})}


def sensor(**changes: Any) -> NotebookExecutionJobSensor:
    return NotebookExecutionJobSensor(**{"task_id": "wait", "poke_interval": 0.01, "deferrable": False, **changes})


def for_job(name: str = JOB, **changes: Any) -> NotebookExecutionJobSensor:
    return sensor(notebook_execution_job=name, **changes)


def for_schedule(schedule: str = SCHEDULE, **changes: Any) -> NotebookExecutionJobSensor:
    return sensor(schedule=schedule, location="us-central1", **changes)


def defer(waiting: NotebookExecutionJobSensor, context: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(context)
    return deferred.value


def resume(waiting: NotebookExecutionJobSensor, context: Any, event: Any) -> Any:
    """Go on after an event, as Airflow does."""
    return waiting.resume_execution("execute_complete", {"event": event}, context)


def execute(waiting: NotebookExecutionJobSensor, context: Any) -> Any:
    """Execute a sensor to its end, through its trigger if it defers."""
    try:
        return waiting.execute(context)
    except TaskDeferred as deferred:
        return resume(waiting, context, event_of(deferred.trigger))


def record_in(context: Any) -> dict[str, Any]:
    return context["ti"].pushed["notebook_execution_job"]


@pytest.fixture(params=["poke", "deferrable", "deferred"])
def wait(request, service):
    """Return a function that has a sensor wait for one job, in each of the ways in which it may find the end.

    The end is found by a poke, by the one look before a sensor would defer, or by its trigger.
    """

    def go(context: Any, *states: str | int, job: dict[str, Any] | None = None, **changes: Any) -> Any:
        before = ["RUNNING"] if request.param == "deferred" else []
        service.put(*before, *states, **(job or {}))
        return execute(for_job(deferrable=request.param != "poke", **changes), context)

    go.way = request.param
    return go


# --- arguments ---


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, "notebook_execution_job, schedule: exactly one is required"),
        ({"notebook_execution_job": "j", "schedule": "s", "location": "us-central1"}, "exactly one is required"),
        ({"schedule": "s"}, "location: required with schedule"),
    ],
)
def test_bad_arguments_are_refused_at_parse_time(changes, rule):
    with pytest.raises(InvalidJob, match=rule):
        sensor(**changes)


def test_arguments_are_templates(service, context):
    service.put("SUCCEEDED")
    waiting = for_job("{{ job }}", location="{{ region }}", project_id="{{ project }}")
    waiting.render_template_fields({"job": "j1", "region": "us-central1", "project": "p"})
    assert waiting.execute(context)["name"] == JOB


def test_it_can_stand_in_a_dag():
    with DAG("d") as dag:
        waiting = for_job(poke_interval=timedelta(seconds=30), timeout=timedelta(hours=1))
    assert dag.get_task("wait") is waiting
    assert (waiting.poke_interval, waiting.timeout) == (30.0, 3600.0)


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("j1", {}, "location: required with the bare job id 'j1'"),
        ("projects/p", {}, "name: 'projects/p' is not of the form projects/"),
        (SCHEDULE, {}, "is not of the form projects/"),
        (f"{JOB}/../j2", {}, "is not of the form projects/"),
        ("None", {}, "location: required with the bare job id 'None'"),  # what an empty XCom is rendered to
    ],
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_bad_name_is_never_retried(service, context, deferrable, name, changes, problem):
    with pytest.raises(InvalidJob, match=problem) as caught:
        for_job(name, deferrable=deferrable, **changes).execute(context)
    assert isinstance(caught.value, AirflowFailException)
    assert not service.calls
    assert not context["ti"].pushed


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_connection_without_a_project_is_never_retried(service, context, monkeypatch, deferrable):
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", '{"conn_type": "google_cloud_platform"}')
    waiting = for_job("j1", location="us-central1", gcp_conn_id="nowhere", deferrable=deferrable)
    with pytest.raises(InvalidJob, match="project_id: not given, and connection 'nowhere' names no project") as caught:
        waiting.execute(context)
    assert isinstance(caught.value, AirflowFailException)


# --- success ---


def test_a_success_is_returned(google, wait, context):
    google.storage.put(EXECUTED, GOOD)
    done = wait(context, "SUCCEEDED")
    assert done["name"] == JOB
    assert done["job_state"] == "JOB_STATE_SUCCEEDED"
    assert done["output_notebook_uri"] == EXECUTED
    assert done["results"] == {"result": 42}
    assert json.loads(json.dumps(done)) == done


def test_a_success_is_pushed(google, wait, context):
    google.storage.put(EXECUTED, GOOD)
    wait(context, "SUCCEEDED")
    record = record_in(context)
    assert record["states"][-1][0] == "JOB_STATE_SUCCEEDED"
    assert {key: value for key, value in record.items() if key not in ("states", "update_time")} == {
        "name": JOB,
        "project_id": "p",
        "location": "us-central1",
        "gcs_output_uri": OUTPUT,
        "gcp_conn_id": "google_cloud_default",
        "impersonation_chain": None,
        "api_endpoint": None,
        "try_number": 1,
        "job_state": "JOB_STATE_SUCCEEDED",
        "status": {"code": 0, "message": ""},
        "create_time": MOMENT.isoformat(),
        "output_notebook_uri": EXECUTED,
        "output_error": None,
        "failed_cell": None,
    }


def test_what_leads_to_the_job_is_pushed(service, context):
    service.put("SUCCEEDED")
    chain = ["a@p.iam.gserviceaccount.com", "b@p.iam.gserviceaccount.com"]
    for_job(impersonation_chain=chain, api_endpoint="http://127.0.0.1:2", project_id="q").execute(context)
    record = record_in(context)
    assert (record["impersonation_chain"], record["api_endpoint"]) == (chain, "http://127.0.0.1:2")
    assert record["project_id"] == "q"


def test_links_have_the_projects_id_in_place_of_its_number(service, context):
    name = service.put("SUCCEEDED", name=JOB.replace("/p/", "/123456789/"))
    assert for_job("j1", location="us-central1").execute(context)["name"] == name
    assert record_in(context)["name"] == name
    assert record_in(context)["project_id"] == "p"
    executions, output, logs = (link.shown(parse_record(record_in(context))) for link in LINKS)
    assert executions.endswith("execution-jobs?project=p")
    assert output.endswith("/storage/browser/bucket/runs/j1")
    assert "j1" in logs


def test_a_sensor_that_collects_nothing_returns_no_results(google, wait, context):
    google.storage.put(EXECUTED, GOOD)
    done = wait(context, "SUCCEEDED", collect_results=False)
    assert (done["results"], done["output_notebook_uri"]) == ({}, EXECUTED)


def test_a_large_result_is_dropped(google, wait, context):
    google.storage.put(EXECUTED, notebook(code("'x' * 99", result({"text/plain": repr("x" * 99)}), tags=("result",))))
    assert wait(context, "SUCCEEDED", result_max_bytes=50)["results"] == {"result": None}


def test_outputs_are_logged_if_asked_for(google, context, service, capsys):
    google.storage.put(EXECUTED, GOOD)
    service.put("SUCCEEDED")
    for_job(log_output=True).execute(context)
    assert "Output of cell 1" in capsys.readouterr().out


def test_partial_success_may_be_accepted(wait, context):
    done = wait(context, "PARTIALLY_SUCCEEDED", accept_partial_success=True)
    assert done["job_state"] == "JOB_STATE_PARTIALLY_SUCCEEDED"


# --- an end without success ---


@pytest.mark.parametrize(("state", "kind"), ENDS)
def test_an_end_without_success_fails_the_sensor_for_good(wait, context, state, kind):
    with pytest.raises(kind, match=f"ended as JOB_STATE_{state}") as caught:
        wait(context, state)
    assert isinstance(caught.value, AirflowFailException)
    assert record_in(context)["job_state"] == f"JOB_STATE_{state}"


def test_a_failing_cell_is_named(google, wait, context):
    google.storage.put(EXECUTED, BAD)
    with pytest.raises(JobFailed, match="Cell 1 raised KeyError: 'west'") as caught:
        wait(context, "FAILED")
    failure = caught.value
    assert (failure.cell, failure.ename, failure.evalue) == (1, "KeyError", "'west'")
    assert record_in(context)["failed_cell"] == {"number": 1, "ename": "KeyError", "evalue": "'west'"}


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_cell_that_raised_in_a_success_fails_the_sensor_if_asked_for(google, wait, context, is_strict):
    google.storage.put(EXECUTED, BAD)
    if is_strict:
        with pytest.raises(JobFailed, match="Cell 1 raised KeyError") as caught:
            wait(context, "SUCCEEDED", fail_on_cell_error=True)
        assert isinstance(caught.value, AirflowFailException)
    else:
        assert wait(context, "SUCCEEDED")["job_state"] == "JOB_STATE_SUCCEEDED"
    assert record_in(context)["failed_cell"]["number"] == 1


@pytest.mark.parametrize(("state", "_"), ENDS)
def test_soft_fail_skips_a_sensor_whose_job_is_no_success(wait, context, state, _):
    with pytest.raises(AirflowSkipException, match="soft_fail"):
        wait(context, state, soft_fail=True)


def test_soft_fail_changes_nothing_about_a_success(wait, context):
    assert wait(context, "SUCCEEDED", soft_fail=True)["job_state"] == "JOB_STATE_SUCCEEDED"


# --- poking ---


def test_a_job_is_poked_until_it_ends(service, context):
    service.put("QUEUED", "PENDING", "RUNNING", "RUNNING", "SUCCEEDED")
    assert for_job().execute(context)["job_state"] == "JOB_STATE_SUCCEEDED"
    assert service.calls["get"] == 5
    assert record_in(context)["states"] == [
        ["JOB_STATE_QUEUED", "2026-01-01T00:00:00+00:00"],
        ["JOB_STATE_PENDING", "2026-01-01T00:00:01+00:00"],
        ["JOB_STATE_RUNNING", "2026-01-01T00:00:02+00:00"],
        ["JOB_STATE_SUCCEEDED", "2026-01-01T00:00:04+00:00"],
    ]


@pytest.mark.parametrize("state", ["UNSPECIFIED", "QUEUED", "PAUSED", "UPDATING", "CANCELLING", UNKNOWN])
def test_a_state_that_is_no_end_is_waited_on(wait, context, state):
    assert wait(context, state, "SUCCEEDED")["job_state"] == "JOB_STATE_SUCCEEDED"


def test_an_active_job_is_pushed_when_it_is_first_seen(service, context):
    service.put("RUNNING")
    waiting = for_job()
    assert waiting.poke(context).is_done is False
    assert (record_in(context)["name"], record_in(context)["job_state"]) == (JOB, None)
    context["ti"].pushed.clear()
    assert waiting.poke(context).is_done is False
    assert not context["ti"].pushed


@pytest.mark.parametrize(
    "outage",
    [
        ServiceUnavailable("down"),
        DeadlineExceeded("slow"),
        InternalServerError("oops"),
        ResourceExhausted("quota"),
        Aborted("again"),
    ],
)
@pytest.mark.parametrize("way", ["job", "schedule"])
def test_an_outage_is_no_failed_poke(service, context, outage, way, capsys):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    service.fail("get" if way == "job" else "list", outage, times=2)
    waiting = for_job() if way == "job" else for_schedule()
    looks = [waiting.poke(context) for _ in range(3)]
    assert [look.is_done for look in looks] == [False, False, True]
    assert looks[-1].xcom_value["name"] == JOB
    assert capsys.readouterr().out.count("Looking failed, and will be tried again") == 1


@pytest.mark.parametrize("way", ["job", "schedule"])
def test_a_poke_sends_one_request_whatever_comes_of_it(service, context, monkeypatch, way):
    monkeypatch.setattr(retrying, "RETRY_TOTAL", 2.0)
    method = "get" if way == "job" else "list"
    service.fail(method, ServiceUnavailable("down"))
    assert not (for_job if way == "job" else for_schedule)().poke(context).is_done
    assert service.calls == {method: 1}


REFUSALS = [PermissionDenied("not yours"), FailedPrecondition("not now"), MethodNotImplemented("not here")]


@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
@pytest.mark.parametrize("way", ["job", "schedule"])
@pytest.mark.parametrize("error", REFUSALS)
@pytest.mark.parametrize("times", [1, 2, 5])
def test_refusals_that_do_not_last_fail_no_sensor(service, context, mode, way, error, times):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    service.fail("get" if way == "job" else "list", error, times=times)
    make = for_job if way == "job" else for_schedule
    waiting = make(deferrable=True) if mode == "deferrable" else make(mode=mode)
    assert execute(waiting, context)["name"] == JOB


@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
@pytest.mark.parametrize("way", ["job", "schedule"])
def test_refusals_that_last_end_a_sensor_with_the_error_of_all_waits(service, context, mode, way, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.05)
    service.fail("get" if way == "job" else "list", PermissionDenied("not yours"))
    make = for_job if way == "job" else for_schedule
    waiting = make(deferrable=True) if mode == "deferrable" else make(mode=mode)
    with pytest.raises(JobUnwatched, match="PERMISSION_DENIED: not yours") as caught:
        execute(waiting, context)
    assert not isinstance(caught.value, AirflowFailException)
    assert sum(service.calls.values()) >= outages.REFUSALS_MIN


@pytest.mark.parametrize("error", [PermissionDenied("not yours"), InvalidArgument("no such region")])
def test_a_refusal_after_the_job_was_seen_fails_no_sensor(service, context, error):
    service.put("RUNNING", "SUCCEEDED")
    waiting = for_job()
    assert not waiting.poke(context).is_done
    service.fail("get", error, times=2)
    assert [waiting.poke(context).is_done for _ in range(3)] == [False, False, True]


def test_the_sensor_reads_its_connection_anew(service, context, monkeypatch):
    service.put("RUNNING")
    waiting = for_job()
    assert not waiting.poke(context).is_done
    read = []
    monkeypatch.setattr(waiting.hook, "reread_connection", lambda: read.append(1))
    monkeypatch.setattr("airflow_provider_nbjob.hooks.polling.CONNECTION_SECONDS_MAX", 0.0)
    assert not waiting.poke(context).is_done
    assert read


def test_a_deferrable_sensor_pokes_on_while_the_connection_cannot_be_read(service, context, monkeypatch, capsys):
    service.put("RUNNING", "RUNNING", "SUCCEEDED")
    waiting = for_job(deferrable=True)

    def unread(self):
        raise ConnectionUnavailable("the secrets backend is down", "UNAVAILABLE")

    with monkeypatch.context() as outage:
        outage.setattr(Connection, "make_hook", unread)
        assert not waiting.poke(context).is_done
    assert execute(waiting, context)["name"] == JOB
    assert capsys.readouterr().out.count("The API answers again") == 1


def test_deferring_is_no_answer_of_the_api(service, context, capsys):
    service.put("RUNNING")
    service.fail("get", ServiceUnavailable("down"))
    defer(for_job(deferrable=True), context)
    printed = capsys.readouterr().out
    assert printed.count("Looking failed") == 1
    assert "The API answers again" not in printed


@pytest.mark.parametrize("way", ["job", "schedule"])
def test_bad_input_is_never_retried(service, context, way):
    service.fail("get" if way == "job" else "list", InvalidArgument("no such region"))
    with pytest.raises(InvalidJob, match="INVALID_ARGUMENT: no such region") as caught:
        (for_job if way == "job" else for_schedule)().execute(context)
    assert isinstance(caught.value, AirflowFailException)


def test_an_unexpected_error_of_a_client_is_an_outage_and_told(service, context, capsys):
    service.fail("get", RuntimeError("a fault of the client library"))
    assert not for_job().poke(context).is_done
    assert "RuntimeError: a fault of the client library" in capsys.readouterr().out


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_job_that_does_not_exist_is_never_retried(service, context, deferrable):
    with pytest.raises(JobLost, match=f"get of {JOB} .* NOT_FOUND") as caught:
        for_job(deferrable=deferrable).execute(context)
    assert isinstance(caught.value, AirflowFailException)


def test_a_job_that_is_deleted_between_pokes_is_lost(service, context):
    service.put("RUNNING")
    waiting = for_job()
    assert not waiting.poke(context).is_done
    service.delete()
    with pytest.raises(JobLost, match="j1") as caught:
        waiting.poke(context)
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_sensor_times_out(service, mode):
    service.put("RUNNING")
    context = with_run()
    context["ti"].get_first_reschedule_date = lambda _: MOMENT.replace(year=2020)
    with pytest.raises(AirflowSensorTimeout, match="timed out"):
        for_job(mode=mode, timeout=0, poke_interval=0).execute(context)
    with pytest.raises(AirflowSkipException, match="timed out"):
        for_job(mode=mode, timeout=0, poke_interval=0, soft_fail=True).execute(context)
    assert not service.has_been_told_to_stop()


def test_an_outage_does_not_put_off_the_timeout(service, context):
    service.put("SUCCEEDED")
    service.fail("get", ServiceUnavailable("down"))
    with pytest.raises(AirflowSensorTimeout):
        for_job(timeout=0).execute(context)


def test_a_rescheduled_sensor_gives_up_its_slot_between_pokes(service, context):
    service.put("RUNNING", "SUCCEEDED")
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        for_job(mode="reschedule", poke_interval=3600).execute(context)
    assert rescheduled.value.reschedule_date.tzinfo is not None
    assert record_in(context)["job_state"] is None
    again = for_job(mode="reschedule", poke_interval=3600)  # another process
    assert again.execute(context)["job_state"] == "JOB_STATE_SUCCEEDED"
    assert record_in(context)["job_state"] == "JOB_STATE_SUCCEEDED"


def test_a_rescheduled_sensor_fails_with_its_job(service, context):
    service.put("FAILED")
    with pytest.raises(JobFailed):
        for_job(mode="reschedule").execute(context)
    with pytest.raises(AirflowSkipException):
        for_job(mode="reschedule", soft_fail=True).execute(context)


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_job_is_never_stopped(service, context, deferrable):
    service.put("RUNNING")
    waiting = for_job(deferrable=deferrable, timeout=0)
    with pytest.raises(AirflowSensorTimeout):
        execute(waiting, context)
    waiting.on_kill()
    assert not service.has_been_told_to_stop()


# --- deferring ---


@pytest.fixture
def clock(monkeypatch):
    """Stop the sensor's clock at 1000 s."""
    monkeypatch.setattr(sensor_module, "time", SimpleNamespace(time=lambda: 1000.0))


@pytest.mark.parametrize(("name", "location"), [(JOB, None), ("j1", "us-central1")])
def test_a_deferred_sensor_hands_over_what_it_waits_for(service, context, clock, name, location):
    service.put("RUNNING")
    chain = ["a@p.iam.gserviceaccount.com"]
    ways = {"gcp_conn_id": "google_cloud_default", "impersonation_chain": chain, "api_endpoint": "http://127.0.0.1:2"}
    deferred = defer(for_job(name, location=location, deferrable=True, poke_interval=7, timeout=60, **ways), context)
    assert deferred.method_name == "execute_complete"
    assert deferred.trigger.serialize() == (
        f"{TRIGGERS}.NotebookExecutionJobTrigger",
        {"name": JOB, **ways, "poll_interval": 7.0, "end_time": 1060.0, "cancel_on_kill": False, "conclusion": {}},
    )
    assert (record_in(context)["name"], record_in(context)["job_state"]) == (JOB, None)


@pytest.mark.parametrize("has_launched", [False, True])
def test_a_deferred_sensor_hands_over_its_schedule(service, context, clock, has_launched):
    if has_launched:
        service.put("RUNNING", schedule_resource_name=SCHEDULE)
    deferred = defer(for_schedule("77", deferrable=True, project_id="q", timeout=60), context)
    assert deferred.trigger.serialize() == (
        f"{TRIGGERS}.ScheduledNotebookExecutionJobTrigger",
        {
            "name": "77",
            "created_after": MOMENT.timestamp() - 18 * 3600,
            "created_before": MOMENT.timestamp() + 6 * 3600,
            "run_time": MOMENT.timestamp(),
            "location": "us-central1",
            "project_id": "q",
            "gcp_conn_id": "google_cloud_default",
            "impersonation_chain": None,
            "api_endpoint": None,
            "poll_interval": 0.01,
            "end_time": 1060.0,
            "cancel_on_kill": False,
            "conclusion": {},
        },
    )
    assert bool(context["ti"].pushed) == has_launched


@pytest.mark.parametrize("way", ["job", "schedule"])
def test_a_sensor_defers_in_an_outage(service, context, way):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    service.fail("get" if way == "job" else "list", ServiceUnavailable("down"), times=2)
    done = execute((for_job if way == "job" else for_schedule)(deferrable=True), context)
    assert done["name"] == JOB


def test_the_states_that_the_trigger_saw_are_pushed(service, context):
    service.put("QUEUED", "QUEUED", "RUNNING", "SUCCEEDED")
    execute(for_job(deferrable=True), context)
    states = [state for state, _ in record_in(context)["states"]]
    assert states == ["JOB_STATE_QUEUED", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]


def test_the_state_that_was_seen_at_the_deadline_is_pushed(service, context):
    service.put("RUNNING", "SUCCEEDED")
    execute(for_job(deferrable=True, timeout=0), context)
    assert [state for state, _ in record_in(context)["states"]][-1:] == ["JOB_STATE_SUCCEEDED"]


@pytest.mark.parametrize("event", [None, {}, {"outcome": "finished"}, {"name": None}, {"name": "", "outcome": "lost"}])
def test_an_unusable_event_is_an_error(service, context, event):
    with pytest.raises(NotebookExecutionJobError, match="The trigger returned no usable event"):
        for_job(deferrable=True).execute_complete(context, event)
    assert not service.calls


@pytest.mark.parametrize(("soft_fail", "kind"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_a_timeout_in_the_triggerer_is_a_sensors_timeout(service, context, soft_fail, kind):
    event = {**FINISHED, "outcome": "timeout", "message": "it was RUNNING at the deadline"}
    with pytest.raises(kind) as caught:
        resume(for_job(deferrable=True, soft_fail=soft_fail), context, event)
    if not soft_fail:
        assert str(caught.value) == "it was RUNNING at the deadline"


@pytest.mark.parametrize(("soft_fail", "kind"), [(False, JobLost), (True, AirflowSkipException)])
def test_a_job_that_is_lost_in_the_triggerer_is_never_retried(service, context, soft_fail, kind):
    service.put("RUNNING")
    waiting = for_job(deferrable=True, soft_fail=soft_fail)
    deferred = defer(waiting, context)
    service.delete()
    with pytest.raises(kind) as caught:
        resume(waiting, context, event_of(deferred.trigger))
    if not soft_fail:
        assert isinstance(caught.value, AirflowFailException)
        assert "j1 is gone" in str(caught.value)


@pytest.mark.parametrize("outcome", ["error", "surprise", None])
def test_any_other_outcome_may_be_retried(service, context, outcome):
    event = {**FINISHED, "outcome": outcome, "message": "PERMISSION_DENIED: not yours"}
    message = f"Waiting for notebook job {JOB} failed: PERMISSION_DENIED: not yours"
    with pytest.raises(JobUnwatched, match=message) as caught:
        resume(for_job(deferrable=True), context, event)
    assert not isinstance(caught.value, AirflowFailException)
    assert not service.calls


@pytest.mark.parametrize("states", [None, "nonsense", [["JOB_STATE_RUNNING"]], [["JOB_STATE_RUNNING", "noon"]], 7])
def test_malformed_states_in_an_event_are_left_out(service, context, states):
    service.put("SUCCEEDED")
    done = resume(for_job(deferrable=True), context, {**FINISHED, "states": states})
    assert done["job_state"] == "JOB_STATE_SUCCEEDED"
    assert record_in(context)["states"] == []


def test_a_malformed_name_in_an_event_is_an_error(service, context):
    with pytest.raises(InvalidJob, match="location: required with the bare job id 'nonsense'"):
        resume(for_job(deferrable=True), context, {**FINISHED, "name": "nonsense"})


def test_an_outage_after_the_event_may_be_retried(service, context):
    service.put("SUCCEEDED")
    service.fail("get", ServiceUnavailable("down"))
    with pytest.raises(ApiError, match="UNAVAILABLE: down") as caught:
        resume(for_job(deferrable=True), context, FINISHED)
    assert not isinstance(caught.value, AirflowFailException)


def test_a_job_that_is_deleted_after_the_event_is_never_retried(service, context):
    with pytest.raises(JobLost) as caught:
        resume(for_job(deferrable=True), context, FINISHED)
    assert isinstance(caught.value, AirflowFailException)


# --- a schedule's job ---


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("schedule", [SCHEDULE, "77"])
def test_the_job_that_a_schedule_launched_is_waited_for(service, context, schedule, deferrable):
    service.put("RUNNING", "SUCCEEDED", schedule_resource_name=SCHEDULE)
    # A listing does not change the job: the course goes on only when the trigger, or this test, reads it.
    if not deferrable:
        assert not for_schedule(schedule).poke(context).is_done
        service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    done = execute(for_schedule(schedule, deferrable=deferrable), context)
    assert (done["name"], done["schedule_resource_name"]) == (JOB, SCHEDULE)


def test_the_newest_job_of_a_schedule_counts(service, context):
    service.put("FAILED", name=f"{JOB}-first", schedule_resource_name=SCHEDULE)
    later = MOMENT + timedelta(hours=1)
    newest = service.put("SUCCEEDED", schedule_resource_name=SCHEDULE, create_time=later)
    assert for_schedule(created_after=MOMENT).execute(context)["name"] == newest
    assert for_schedule().execute(with_run(data_interval_start=later))["name"] == newest


def test_a_newer_job_takes_the_place_of_the_one_that_was_seen(service, context):
    service.put("RUNNING", name=f"{JOB}-first", schedule_resource_name=SCHEDULE)
    waiting = for_schedule(created_after=MOMENT)
    assert not waiting.poke(context).is_done
    assert record_in(context)["name"] == f"{JOB}-first"
    service.put("RUNNING", schedule_resource_name=SCHEDULE, create_time=MOMENT + timedelta(hours=1))
    assert not waiting.poke(context).is_done
    assert record_in(context)["name"] == JOB


def test_a_newer_job_does_not_take_the_place_of_the_one_of_a_run(service, context):
    """One that takes longer than the time between two would never be waited for to its end."""
    service.put("RUNNING", name=f"{JOB}-first", schedule_resource_name=SCHEDULE)
    waiting = for_schedule()
    assert not waiting.poke(context).is_done
    service.put("RUNNING", schedule_resource_name=SCHEDULE, create_time=MOMENT + timedelta(hours=1))
    assert not waiting.poke(context).is_done
    assert record_in(context)["name"] == f"{JOB}-first"


def test_a_schedule_that_has_launched_nothing_is_waited_for(service, context, capsys):
    service.put("SUCCEEDED", schedule_resource_name=f"{PARENT}/schedules/78")
    now = datetime.now(timezone.utc)
    assert not for_schedule().poke({**context, "dag_run": with_run(data_interval_start=now)["dag_run"]}).is_done
    assert f"Schedule {SCHEDULE} has launched no job yet" in capsys.readouterr().out
    assert not context["ti"].pushed


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_schedule_that_launches_nothing_times_out(service, context, deferrable):
    with pytest.raises(AirflowSensorTimeout):
        execute(for_schedule(deferrable=deferrable, timeout=0), context)


@pytest.mark.parametrize("schedule", ["78", "77x", "7"])
def test_no_other_schedules_job_is_taken(service, context, schedule):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    assert not for_schedule(schedule).poke(context).is_done


@pytest.mark.parametrize(
    "schedule", ["", f"{SCHEDULE}/", '77" OR schedule="78', "../77", SCHEDULE.replace("us-central1", "us-west1")]
)
def test_what_names_no_schedule_of_the_location_is_never_retried(service, context, schedule):
    service.put("SUCCEEDED")
    with pytest.raises(InvalidJob, match=r"^schedule: ") as refused:
        for_schedule(schedule).poke(context)
    assert isinstance(refused.value, AirflowFailException)


EARLY, LATE = MOMENT - timedelta(hours=1), MOMENT + timedelta(hours=1)
DAY_EARLY, DAY_LATE = MOMENT - timedelta(days=1), MOMENT + timedelta(days=1)


@pytest.mark.parametrize(
    ("created_after", "run", "counts"),
    [
        (None, {"data_interval_start": MOMENT, "start_date": DAY_LATE}, True),  # at the moment itself
        (None, {"data_interval_start": DAY_LATE, "start_date": EARLY}, False),
        (None, {"data_interval_start": None, "start_date": EARLY}, True),
        (None, {"data_interval_start": None, "start_date": DAY_LATE}, False),
        (None, {"data_interval_start": DAY_EARLY}, False),
        (EARLY, {"data_interval_start": LATE}, True),
        (LATE, {"data_interval_start": EARLY}, False),
        ("2025-12-31T23:59:59Z", {"data_interval_start": LATE}, True),
        ("2026-01-01T00:00:01Z", {"data_interval_start": EARLY}, False),
        ("2026-01-01T00:30:00+01:00", {"data_interval_start": LATE}, True),  # half an hour before
        ("2026-01-01", {"data_interval_start": LATE}, True),
        ("2026-01-01 00:00:01", {"data_interval_start": EARLY}, False),
        (datetime(2025, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))), {"data_interval_start": EARLY}, False),
        ("", {"data_interval_start": EARLY}, True),  # a template that came out as nothing
        ("", {"data_interval_start": DAY_LATE}, False),
    ],
)
def test_jobs_that_were_launched_earlier_do_not_count(service, created_after, run, counts):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    assert for_schedule(created_after=created_after).poke(with_run(**run)).is_done is counts


@pytest.fixture
def five_hours_behind(monkeypatch):
    """Have this process's local time be that of another zone, as on a worker whose TZ is set."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EST5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("five_hours_behind")
def test_a_time_without_a_zone_is_utc_whichever_way_it_is_given(service, context):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    assert for_schedule(created_after="2025-12-31T23:00:00").poke(context).is_done
    assert for_schedule(created_after=datetime(2025, 12, 31, 23)).poke(context).is_done


def test_the_time_may_be_a_template(service, context):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    waiting = for_schedule("{{ schedule }}", created_after="{{ after }}")
    waiting.render_template_fields({"schedule": "77", "after": EARLY.isoformat()})
    assert waiting.execute(context)["name"] == JOB


@pytest.mark.parametrize("created_after", ["noon", "None", "P1D", 7])
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_is_no_time_fails_the_sensor(service, context, created_after, deferrable):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    with pytest.raises((ValueError, AttributeError, InvalidJob)):
        for_schedule(created_after=created_after, deferrable=deferrable).execute(context)


# --- a deferred sensor has the deadlines and the leniency of any other ---


def no_longer_there(service: Any) -> None:
    """The job is gone at the first look."""


def failed(service: Any) -> None:
    service.put("FAILED")


def of_a_bad_name(service: Any) -> None:
    service.fail("get", InvalidArgument("no such region"))


LENIENT = [
    # what is found at once, whether soft_fail skips it, and what is raised without it
    (failed, True, JobFailed),
    (no_longer_there, True, JobLost),
    (of_a_bad_name, True, InvalidJob),
]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(("found", "is_soft", "kind"), LENIENT)
def test_leniency_is_the_same_whether_a_sensor_may_defer_or_not(service, context, deferrable, found, is_soft, kind):
    found(service)
    with pytest.raises(kind):
        for_job(deferrable=deferrable).execute(context)
    with pytest.raises(AirflowSkipException if is_soft else kind):
        for_job(deferrable=deferrable, soft_fail=True).execute(context)
    with pytest.raises(AirflowSkipException, match="never_fail"):
        for_job(deferrable=deferrable, never_fail=True).execute(context)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_silent_sensor_goes_on_after_a_refusal(service, context, deferrable):
    service.put("SUCCEEDED")
    service.fail("get", PermissionDenied("not yours"), times=1)
    assert execute(for_job(deferrable=deferrable, silent_fail=True), context)["name"] == JOB


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_silent_sensor_does_not_wait_for_what_can_only_fail(service, context, deferrable):
    service.put("FAILED")
    with pytest.raises(JobFailed):
        execute(for_job(deferrable=deferrable, silent_fail=True), context)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"outcome": "timeout", "message": "late"}, AirflowSensorTimeout),
        ({"outcome": "lost", "message": "gone"}, JobLost),
        ({"outcome": "error", "message": "PERMISSION_DENIED"}, JobUnwatched),
        ({"outcome": "finished"}, JobLost),  # it is gone by now
        ({"outcome": None}, JobUnwatched),
    ],
)
def test_a_sensor_that_never_fails_skips_whatever_the_trigger_tells(service, context, event, kind):
    event = {**FINISHED, **event}
    with pytest.raises(kind):
        resume(for_job(deferrable=True), context, event)
    with pytest.raises(AirflowSkipException, match="never_fail"):
        resume(for_job(deferrable=True, never_fail=True), context, event)


@pytest.mark.parametrize("lenient", ["soft_fail", "never_fail"])
def test_a_job_that_failed_in_the_triggerer_is_skipped(service, context, lenient):
    service.put("FAILED")
    with pytest.raises(AirflowSkipException, match=lenient):
        resume(for_job(deferrable=True, **{lenient: True}), context, {**FINISHED, "job_state": "JOB_STATE_FAILED"})


@pytest.mark.parametrize("lenient", ["soft_fail", "never_fail"])
def test_an_outage_after_the_event_is_no_failure_of_a_sensor_that_never_fails(service, context, lenient):
    service.put("SUCCEEDED")
    service.fail("get", ServiceUnavailable("down"))
    kind = AirflowSkipException if lenient == "never_fail" else ApiError
    with pytest.raises(kind):
        resume(for_job(deferrable=True, **{lenient: True}), context, FINISHED)


@pytest.mark.parametrize(
    ("limits", "end_time", "deadline"),
    [
        ({"timeout": 60}, 1060.0, "timeout"),
        ({"timeout": 60, "execution_timeout": timedelta(seconds=90)}, 1060.0, "timeout"),
        ({"timeout": 600, "execution_timeout": timedelta(seconds=90)}, 1080.0, "execution_timeout"),
        ({"execution_timeout": timedelta(seconds=5)}, 995.0, "execution_timeout"),  # it is over already
        ({"execution_timeout": None, "timeout": timedelta(hours=1)}, 4600.0, "timeout"),
    ],
)
@pytest.mark.parametrize("way", ["job", "schedule"])
def test_the_sooner_deadline_is_the_triggers(service, context, clock, limits, end_time, deadline, way):
    service.put("RUNNING")
    context["ti"].start_date = datetime.fromtimestamp(990.0, timezone.utc)  # this try began ten seconds ago
    deferred = defer((for_job if way == "job" else for_schedule)(deferrable=True, **limits), context)
    assert deferred.trigger.end_time == end_time
    assert deferred.kwargs == {"deadline": deadline}


@pytest.mark.parametrize(
    ("lenient", "kind"),
    [
        ({}, AirflowTaskTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
)
def test_an_execution_timeout_in_the_triggerer_is_what_it_is_on_a_worker(service, context, lenient, kind):
    """One that Airflow tries again; only `timeout` ends the sensor for good."""
    event = {**FINISHED, "outcome": "timeout", "message": "it was RUNNING at the deadline"}
    waiting = for_job(deferrable=True, **lenient)
    with pytest.raises(kind):
        waiting.resume_execution("execute_complete", {"event": event, "deadline": "execution_timeout"}, context)


def test_a_deferred_sensor_ends_at_its_execution_timeout(service, context):
    service.put("RUNNING")
    deferred = defer(for_job(deferrable=True, execution_timeout=timedelta(seconds=0.01)), context)
    event = event_of(deferred.trigger)
    with pytest.raises(AirflowTaskTimeout, match="RUNNING at the deadline"):
        for_job(deferrable=True).resume_execution("execute_complete", {"event": event, **deferred.kwargs}, context)
    assert not service.has_been_told_to_stop()


def test_a_sensor_may_get_its_target_from_one_of_two_templates(service, context):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    for job, schedule in ((JOB, ""), (JOB, "None"), ("", "77"), ("None", "77"), (None, "77")):
        waiting = sensor(notebook_execution_job="{{ job }}", schedule="{{ schedule }}", location="us-central1")
        waiting.notebook_execution_job, waiting.schedule = job, schedule
        assert waiting.execute(context)["name"] == JOB
    for job, schedule in ((JOB, "77"), ("", ""), ("None", "None"), (None, None)):
        waiting.notebook_execution_job, waiting.schedule = job, schedule
        with pytest.raises(InvalidJob, match="exactly one is required") as caught:
            waiting.execute(context)
        assert isinstance(caught.value, AirflowFailException)
