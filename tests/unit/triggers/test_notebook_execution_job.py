"""Which event a trigger fires, and when it stops the job: its deadline, its end, and a hand-over to another one."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, XCom
from google.api_core.exceptions import (
    DeadlineExceeded,
    InternalServerError,
    InvalidArgument,
    MethodNotImplemented,
    PermissionDenied,
    ServiceUnavailable,
    Unauthenticated,
)

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job.record import JobSteps, parse_record
from airflow_provider_nbjob.lifecycle import cancellation
from airflow_provider_nbjob.triggers import budget
from airflow_provider_nbjob.triggers import notebook_execution_job as trigger_module
from airflow_provider_nbjob.triggers.event import JobEvent
from airflow_provider_nbjob.triggers.notebook_execution_job import (
    NotebookExecutionJobTrigger,
    ScheduledNotebookExecutionJobTrigger,
)
from tests.support.fake_google import FakeWait
from tests.support.fake_service import EXECUTED, JOB, MOMENT, OUTPUT, PARENT, SCHEDULE
from tests.support.notebooks import code, notebook, result
from tests.support.patience import until
from tests.support.running import airflow_says, event_of, events_of, made_again, run

PATH = "airflow_provider_nbjob.triggers.notebook_execution_job"
TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
UNKNOWN = 99  # a state that the client library has no name for
LONG_AGO = 1.0  # POSIX seconds
HOSTILE_NAMES = ["", "j1", "projects/p", f"{PARENT}/schedules/77", f"{JOB}/../j2", f"{PARENT}/notebookExecutionJobs/"]
TERMINAL = ["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"]

pytestmark = pytest.mark.filterwarnings("ignore:Unrecognized JobState")


@pytest.fixture
def google(monkeypatch) -> FakeWait:
    return FakeWait(monkeypatch)


@pytest.fixture
def service(google):
    return google.service


def waiting(name: str = JOB, **changes) -> NotebookExecutionJobTrigger:
    return NotebookExecutionJobTrigger(name, **{"poll_interval": 0.01, **changes})


def scheduled(name: str = SCHEDULE, **changes) -> ScheduledNotebookExecutionJobTrigger:
    arguments = {"created_after": MOMENT.timestamp(), "location": "us-central1", "poll_interval": 0.01}
    return ScheduledNotebookExecutionJobTrigger(name, **{**arguments, **changes})


def deferred(trigger):
    """Return a trigger that serves a task instance, as the triggerer makes it."""
    again = made_again(trigger)
    again.task_instance = TI
    return again


# --- arguments that are not valid ---


BAD_INTERVALS = ["10", "", None, True, float("nan"), float("inf"), 0, -1, 1e99, 10**400, [10], timedelta(0)]
BAD_END_TIMES = ["tomorrow", "1700000000", True, float("nan"), float("inf"), float("-inf"), [], {}, 10**400]


@pytest.mark.parametrize("interval", BAD_INTERVALS, ids=lambda value: f"{type(value).__name__}-{value!s:.6}")
def test_a_bad_interval_is_told_and_loses_no_job(service, monkeypatch, capsys, interval):
    monkeypatch.setattr(trigger_module, "POLL_SECONDS", 0.01)
    service.put("RUNNING", "SUCCEEDED")
    assert event_of(waiting(poll_interval=interval))["job_state"] == "JOB_STATE_SUCCEEDED"
    assert capsys.readouterr().out.count("its default is used: poll_interval: ") == 1
    assert not service.has_been_told_to_stop()


@pytest.mark.parametrize("end_time", BAD_END_TIMES, ids=lambda value: f"{type(value).__name__}-{value!s:.6}")
def test_a_bad_deadline_is_told_and_loses_no_job(service, capsys, end_time):
    service.put("RUNNING", "SUCCEEDED")
    assert event_of(waiting(end_time=end_time))["job_state"] == "JOB_STATE_SUCCEEDED"
    assert capsys.readouterr().out.count("its default is used: end_time: ") == 1


def test_a_timedelta_is_an_interval(service):
    service.put("RUNNING", "SUCCEEDED")
    trigger = waiting(poll_interval=timedelta(milliseconds=10))
    assert trigger.serialize()[1]["poll_interval"] == 0.01
    assert event_of(trigger)["outcome"] == "finished"


def test_a_bad_interval_harms_no_other_trigger_of_the_location(service, monkeypatch):
    monkeypatch.setattr(trigger_module, "POLL_SECONDS", 0.01)
    names = [service.put("RUNNING", name=f"{JOB}-{number}") for number in range(3)]

    async def scene():
        triggers = [waiting(names[0]), waiting(names[1], poll_interval="10"), waiting(names[2])]
        events = [asyncio.ensure_future(events_of(trigger)) for trigger in triggers]
        await until(lambda: service.calls["get"] > 6, "all are polled")
        for name in names:
            service.put("SUCCEEDED", name=name)
        return [event["outcome"] for (event,) in await asyncio.gather(*events)]

    assert run(scene()) == ["finished"] * 3


@pytest.mark.parametrize("rate", ["0", "-5", "abc", "", "60.5", "nan"])
def test_a_bad_request_rate_is_told_and_its_default_used(service, monkeypatch, caplog, rate):
    monkeypatch.setenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", rate)
    monkeypatch.setattr(budget, "REQUESTS_PER_MINUTE", 100_000)
    service.put("RUNNING", "SUCCEEDED")
    assert event_of(waiting())["outcome"] == "finished"
    assert "[nbjob] max_requests_per_minute is not valid, so it is 100000" in caplog.text


@pytest.mark.parametrize("interval", ["inf", "nan", "-1", "abc", ""])
def test_a_bad_heartbeat_interval_of_airflow_hangs_no_trigger(service, monkeypatch, interval):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", interval)
    monkeypatch.setattr(trigger_module, "HEARTBEAT_SECONDS", 0.01)
    service.put("SUCCEEDED")
    assert event_of(waiting())["outcome"] == "finished"


# --- another process makes it again ---


@pytest.mark.parametrize("chain", [None, "a@p.iam.gserviceaccount.com", ["a@p.iam.gserviceaccount.com", "b@p"]])
def test_a_trigger_survives_serialization(chain):
    kwargs = {
        "name": JOB,
        "gcp_conn_id": "conn",
        "impersonation_chain": chain,
        "api_endpoint": "http://127.0.0.1:1",
        "poll_interval": 3.5,
        "end_time": 1700000000.25,
        "cancel_on_kill": False,
    }
    trigger = NotebookExecutionJobTrigger(**kwargs)
    assert trigger.serialize() == (f"{PATH}.NotebookExecutionJobTrigger", kwargs)
    assert made_again(trigger).serialize() == trigger.serialize()


def test_the_defaults_survive_serialization_too():
    path, kwargs = made_again(NotebookExecutionJobTrigger(JOB)).serialize()
    assert path == f"{PATH}.NotebookExecutionJobTrigger"
    assert kwargs == {
        "name": JOB,
        "gcp_conn_id": "google_cloud_default",
        "impersonation_chain": None,
        "api_endpoint": None,
        "poll_interval": 10.0,
        "end_time": None,
        "cancel_on_kill": True,
    }


@pytest.mark.parametrize("project", [None, "another"])
@pytest.mark.parametrize("given", [{}, {"cancel_on_kill": True}, {"cancel_on_kill": False}])
def test_a_scheduled_trigger_survives_serialization_and_never_stops_the_job(project, given):
    trigger = ScheduledNotebookExecutionJobTrigger(
        "77", created_after=12.5, location="us-west1", project_id=project, poll_interval=2.0, end_time=99.0, **given
    )
    path, kwargs = trigger.serialize()
    assert path == f"{PATH}.ScheduledNotebookExecutionJobTrigger"
    assert kwargs == {
        "name": "77",
        "created_after": 12.5,
        "location": "us-west1",
        **({"project_id": project} if project else {}),
        "gcp_conn_id": "google_cloud_default",
        "impersonation_chain": None,
        "api_endpoint": None,
        "poll_interval": 2.0,
        "end_time": 99.0,
        "cancel_on_kill": False,
    }
    assert made_again(trigger).serialize() == (path, kwargs)


# --- the end of the job ---


@pytest.mark.parametrize("state", TERMINAL)
def test_the_event_tells_how_the_job_ended(service, state):
    service.put(state)
    assert event_of(waiting()) == {
        "name": JOB,
        "job_state": f"JOB_STATE_{state}",
        "outcome": "finished",
        "message": "",
        "states": [[f"JOB_STATE_{state}", MOMENT.isoformat()]],
    }


def test_the_event_has_the_states_that_the_job_was_seen_in(service, capsys):
    service.put("QUEUED", "PENDING", "PENDING", "RUNNING", "SUCCEEDED")
    event = event_of(waiting())
    assert event["states"] == [
        ["JOB_STATE_QUEUED", "2026-01-01T00:00:00+00:00"],
        ["JOB_STATE_PENDING", "2026-01-01T00:00:01+00:00"],
        ["JOB_STATE_RUNNING", "2026-01-01T00:00:03+00:00"],
        ["JOB_STATE_SUCCEEDED", "2026-01-01T00:00:04+00:00"],
    ]
    told = re.findall("Notebook job j1 is (JOB_STATE_[A-Z]+)", capsys.readouterr().out)
    assert told == [state for state, _ in event["states"]]


@pytest.mark.parametrize("state", ["UNSPECIFIED", "PAUSED", "UPDATING", "CANCELLING", UNKNOWN])
def test_a_state_that_is_no_end_is_waited_on(service, state, capsys):
    service.put(state, "SUCCEEDED")
    event = event_of(waiting())
    assert event["outcome"] == "finished"
    name = f"JOB_STATE_{state}"
    assert [seen for seen, _ in event["states"]] == [name, "JOB_STATE_SUCCEEDED"]
    is_told = f"{name}, a state that this version of the provider does not know" in capsys.readouterr().out
    assert is_told == (state == UNKNOWN)


def test_a_job_is_known_by_its_project_number_too(service):
    name = JOB.replace("/p/", "/123456789/")
    service.put("SUCCEEDED", name=name)
    assert event_of(waiting(name))["name"] == name


@pytest.mark.parametrize("chain", [None, "a@p, b@p", ["a@p", "b@p"]])
def test_a_trigger_waits_whatever_leads_it_to_the_api(service, chain):
    service.put("RUNNING", "SUCCEEDED")
    event = event_of(waiting(impersonation_chain=chain, api_endpoint="http://127.0.0.1:1"))
    assert event["job_state"] == "JOB_STATE_SUCCEEDED"


def test_the_event_does_not_overtake_the_end_of_the_worker(service, monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "100000")
    service.put("SUCCEEDED")

    async def scene():
        before = asyncio.all_tasks()
        events = asyncio.ensure_future(events_of(waiting()))
        # The watch ends when nobody waits for a job any more.
        await until(
            lambda: service.calls["get"] and asyncio.all_tasks() == {*before, events}, "the end of the job was seen"
        )
        for _ in range(100):  # more steps of the event loop than lie between that and the event
            await asyncio.sleep(0)
        assert not events.done()
        events.cancel()
        with pytest.raises(asyncio.CancelledError):
            await events

    run(scene())


def test_a_time_that_no_clock_can_show_loses_no_event(service, monkeypatch):
    monkeypatch.setattr(JobSteps, "add", lambda steps, state, since: steps.seen.append((state, 1e30)))
    service.put("RUNNING", "SUCCEEDED")
    event = event_of(waiting())
    assert (event["outcome"], event["job_state"], event["states"]) == ("finished", "JOB_STATE_SUCCEEDED", [])


# --- what keeps it from seeing the end ---


@pytest.mark.parametrize(
    "error", [ServiceUnavailable("down"), DeadlineExceeded("slow"), InternalServerError("oops"), RuntimeError("ours")]
)
def test_an_outage_is_waited_out(service, error, caplog):
    service.put("SUCCEEDED")
    service.fail("get", error, times=2)
    event = event_of(waiting())
    assert (event["outcome"], event["job_state"]) == ("finished", "JOB_STATE_SUCCEEDED")
    assert service.calls["get"] == 3
    assert caplog.text.count("Looking failed, and will be tried again") == 1


def test_a_lasting_refusal_is_an_event(service, capsys, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    service.put("SUCCEEDED")
    service.fail("get", PermissionDenied("not yours"))
    event = event_of(waiting())
    assert "was answered PERMISSION_DENIED: not yours" in event.pop("message")
    assert event == {"name": JOB, "job_state": None, "outcome": "error", "states": []}
    assert f"Waiting for notebook job {JOB} failed" in capsys.readouterr().out


def test_bad_input_is_an_event(service, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    service.put("RUNNING")
    service.fail("get", InvalidArgument("<b>no</b> such view"))
    event = event_of(waiting())
    assert event["outcome"] == "error"
    assert "INVALID_ARGUMENT: no such view" in event["message"]


def test_states_seen_before_a_refusal_are_in_its_event(service, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    service.put("RUNNING")

    def refuse_the_second(method):
        if service.calls["get"] == 1:
            service.fail("get", PermissionDenied("not yours"))

    service.before = refuse_the_second
    event = event_of(waiting())
    assert event["outcome"] == "error"
    assert event["states"] == [["JOB_STATE_RUNNING", MOMENT.isoformat()]]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_malformed_name_is_an_event(service, name):
    event = event_of(waiting(name))
    assert (event["name"], event["job_state"], event["outcome"]) == (name, None, "error")
    assert "is not of the form projects/" in event["message"]
    assert not service.calls


def test_a_deleted_job_is_lost(service):
    event = event_of(waiting())
    assert (event["name"], event["job_state"], event["outcome"]) == (JOB, None, "lost")
    assert "j1 is gone: it was deleted" in event["message"]


def test_a_job_that_is_deleted_during_the_wait_is_lost(service):
    service.put("RUNNING")

    async def scene():
        events = asyncio.ensure_future(events_of(waiting()))
        await until(lambda: service.calls["get"] > 1, "the trigger polls")
        service.delete()
        return await events

    (event,) = run(scene())
    assert event["outcome"] == "lost"
    assert event["states"] == [["JOB_STATE_RUNNING", MOMENT.isoformat()]]


@pytest.mark.parametrize("trigger", [waiting, scheduled])
def test_a_connection_that_cannot_be_read_is_waited_out(service, monkeypatch, trigger):
    """Airflow tells an outage of the secrets backend as a connection that is not defined."""
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    read, attempts = NotebookExecutionJobHook.get_connection, []

    def read_later(_, conn_id):
        attempts.append(conn_id)
        if len(attempts) < 4:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return read(conn_id)

    monkeypatch.setattr(NotebookExecutionJobHook, "get_connection", classmethod(read_later))
    assert event_of(trigger())["outcome"] == "finished"
    assert len(attempts) >= 4
    assert not service.has_been_told_to_stop()


@pytest.mark.parametrize("trigger", [waiting, scheduled])
def test_a_connection_that_cannot_be_read_by_the_deadline_times_out(service, monkeypatch, trigger):
    monkeypatch.setenv("AIRFLOW_CONN_MALFORMED", "{not JSON")
    event = event_of(trigger(gcp_conn_id="malformed", end_time=time.time() + 0.5))
    assert event["outcome"] == "timeout"
    assert not service.calls


@pytest.mark.parametrize("trigger", [waiting, scheduled])
@pytest.mark.parametrize("extra", ['{"api_endpoint": "http://user@host/path"}', '{"api_endpoint": "evil.example.com"}'])
def test_a_connection_that_is_invalid_is_an_event_after_bounded_attempts(service, monkeypatch, trigger, extra):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    monkeypatch.setenv("AIRFLOW_CONN_INVALID", f'{{"conn_type": "google_cloud_platform", "extra": {extra}}}')
    monkeypatch.setattr(
        NotebookExecutionJobHook, "get_conn", lambda hook, location: hook.get_endpoint(location) and service
    )
    event = event_of(trigger(gcp_conn_id="invalid"))
    assert event["outcome"] == "error"
    assert "api_endpoint: " in event["message"]
    assert "It was not stopped: it may still run, and cost" in event["message"]
    assert not service.calls


@pytest.mark.parametrize("step", [600, -600])
def test_a_step_of_the_clock_ends_no_wait(service, monkeypatch, step):
    service.put("RUNNING")
    now = time.time

    async def scene():
        events = asyncio.ensure_future(events_of(made_again(waiting(end_time=now() + 300))))
        await until(lambda: service.calls["get"] > 1, "the trigger polls")
        monkeypatch.setattr(time, "time", lambda: now() + step)
        later = asyncio.ensure_future(events_of(made_again(waiting(end_time=now() + 300))))
        calls = service.calls["get"]
        await until(lambda: service.calls["get"] > calls + 3, "the trigger polls on")
        assert not events.done()
        assert not later.done()
        service.put("SUCCEEDED")
        return [*await events, *await later]

    assert [event["outcome"] for event in run(scene())] == ["finished", "finished"]


# --- the deadline ---


@pytest.mark.parametrize("end_time", [LONG_AGO, 0.0, -5.0])
def test_a_job_that_runs_at_the_deadline_is_timed_out(service, end_time):
    service.put("RUNNING")
    event = event_of(waiting(end_time=end_time))
    assert (event["name"], event["job_state"], event["outcome"]) == (JOB, None, "timeout")
    assert event["message"] == f"Notebook job {JOB} was JOB_STATE_RUNNING at the deadline"


def test_the_deadline_comes_during_the_wait(service):
    service.put("RUNNING")
    event = event_of(waiting(end_time=time.time() + 0.3))
    assert event["outcome"] == "timeout"


def test_a_job_in_an_unknown_state_is_timed_out(service):
    service.put(UNKNOWN)
    event = event_of(waiting(end_time=LONG_AGO))
    assert event["outcome"] == "timeout"
    assert f"was JOB_STATE_{UNKNOWN} at the deadline" in event["message"]


@pytest.mark.parametrize("state", TERMINAL)
def test_a_job_that_ended_by_the_deadline_is_finished(service, state):
    """A triggerer that was down for longer than the deadline must not call a finished job late."""
    service.put(state)
    event = event_of(waiting(end_time=LONG_AGO))
    assert (event["outcome"], event["job_state"]) == ("finished", f"JOB_STATE_{state}")


@pytest.mark.parametrize("error", [ServiceUnavailable("down"), PermissionDenied("not yours")])
def test_a_job_that_cannot_be_seen_at_the_deadline_is_timed_out(service, error):
    service.put("SUCCEEDED")
    service.fail("get", error)
    event = event_of(waiting(end_time=LONG_AGO))
    assert event["outcome"] == "timeout"
    assert event["message"] == f"Notebook job {JOB} had not been seen to end at the deadline"


def test_a_job_that_is_gone_at_the_deadline_is_lost(service):
    event = event_of(waiting(end_time=LONG_AGO))
    assert event["outcome"] == "lost"
    assert "j1" in event["message"]


def test_a_fault_of_ours_at_the_deadline_does_not_move_it(service):
    service.put("SUCCEEDED")
    service.fail("get", RuntimeError("a fault of ours"))
    event = event_of(waiting(end_time=LONG_AGO))
    assert (event["outcome"], event["message"]) == (
        "timeout",
        f"Notebook job {JOB} had not been seen to end at the deadline",
    )


# --- hand-over, and the end of the task ---


async def give_up(trigger, has_begun) -> None:
    """Cancel a trigger that polls, as a triggerer does that hands it over; nothing goes on polling."""
    before = asyncio.all_tasks()
    events = asyncio.ensure_future(events_of(trigger))
    await until(has_begun, "the trigger polls")
    events.cancel()
    with pytest.raises(asyncio.CancelledError):
        await events
    await until(lambda: asyncio.all_tasks() == before, "nothing goes on polling")


def test_a_trigger_that_is_given_up_leaves_the_job_to_the_one_that_takes_over(service):
    service.put("RUNNING")

    run(give_up(made_again(waiting()), lambda: service.calls["get"] > 1))
    service.put("RUNNING", "SUCCEEDED")
    assert event_of(waiting())["outcome"] == "finished"
    assert not service.has_been_told_to_stop()


def test_triggers_on_one_loop_fire_each_for_its_own_job(service):
    names = [service.put("RUNNING", name=f"{JOB}-{number}") for number in range(3)]

    async def scene():
        first, second, third = (asyncio.ensure_future(events_of(made_again(waiting(name)))) for name in names)
        await until(lambda: service.calls["get"] > 6, "all are polled")
        service.put("FAILED", name=names[1])
        ((event,),) = await asyncio.gather(second)
        assert not first.done()
        assert not third.done()
        for name in (names[0], names[2]):
            service.put("SUCCEEDED", name=name)
        return [event, *(events[0] for events in await asyncio.gather(first, third))]

    fired = run(scene())
    assert [(event["name"], event["job_state"]) for event in fired] == [
        (names[1], "JOB_STATE_FAILED"),
        (names[0], "JOB_STATE_SUCCEEDED"),
        (names[2], "JOB_STATE_SUCCEEDED"),
    ]


@pytest.mark.parametrize("state", ["failed", "success", "scheduled", "removed", None, RuntimeError("no answer")])
def test_the_job_of_a_task_that_was_ended_is_stopped(service, monkeypatch, state):
    monkeypatch.setattr(cancellation, "AWAITED_PAUSES", (0.01,))
    airflow_says(monkeypatch, state)
    service.put("RUNNING")
    run(deferred(waiting()).on_kill())
    assert service.calls["cancel"] == 1
    assert event_of(waiting())["job_state"] == "JOB_STATE_CANCELLED"


@pytest.mark.parametrize("awaited", [JOB, JOB.replace("/p/", "/123456789/")])
def test_a_job_that_another_triggerer_waits_for_is_not_stopped(service, monkeypatch, awaited, capsys):
    airflow_says(monkeypatch, "deferred", awaited)
    service.put("RUNNING")
    run(deferred(waiting()).on_kill())
    assert not service.calls
    assert f"Another triggerer waits for notebook job {JOB} now" in capsys.readouterr().out


@pytest.mark.parametrize("awaited", [f"{JOB}-2", "nonsense", None])
def test_a_job_is_stopped_if_the_deferred_task_waits_for_another_one(service, monkeypatch, awaited):
    airflow_says(monkeypatch, "deferred", awaited)
    service.put("RUNNING")
    run(deferred(waiting()).on_kill())
    assert service.calls["cancel"] == 1


def test_the_job_of_a_trigger_that_serves_no_task_is_stopped(service):
    service.put("RUNNING")
    run(waiting().on_kill())
    assert service.calls["cancel"] == 1


def test_a_job_that_cannot_be_cancelled_is_deleted(service):
    service.put("RUNNING")
    service.fail("cancel", MethodNotImplemented("no cancel"))
    run(waiting().on_kill())
    assert JOB not in service.jobs


def test_a_killed_trigger_survives_an_api_that_cannot_be_reached(service, capsys, monkeypatch):
    monkeypatch.setattr(trigger_module, "STOP_SECONDS", 0.0)
    service.put("RUNNING")
    for method in ("operations", "cancel", "delete", "get"):
        service.fail(method, ServiceUnavailable("down"))
    run(waiting().on_kill())
    assert f"Could not stop notebook job {JOB}, which may still run and cost" in capsys.readouterr().out


def test_a_killed_trigger_survives_a_job_that_is_gone(service, capsys):
    run(waiting().on_kill())
    assert f"Notebook job {JOB} is gone already" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [AirflowNotFoundException("isn't defined"), RuntimeError("no supervisor")])
def test_a_stop_waits_for_a_connection_that_cannot_be_read(service, monkeypatch, fault):
    monkeypatch.setattr(trigger_module, "STOP_PAUSE_MAX", 0.01)
    service.put("RUNNING")
    read, attempts = NotebookExecutionJobHook.get_connection, []

    def read_later(_, conn_id):
        attempts.append(conn_id)
        if len(attempts) < 3:
            raise fault
        return read(conn_id)

    monkeypatch.setattr(NotebookExecutionJobHook, "get_connection", classmethod(read_later))
    run(waiting().on_kill())
    assert service.calls["cancel"] == 1


def test_a_stop_is_tried_again_after_the_key_was_rotated(service, monkeypatch):
    service.put("RUNNING")
    for method in ("operations", "delete"):
        service.fail(method, Unauthenticated("an old key"), times=2)  # asked for once more by the hook itself
    run(waiting().on_kill())
    assert service.calls["cancel"] == 1


def test_a_stop_that_fails_for_long_is_given_up_and_told(service, monkeypatch, capsys):
    monkeypatch.setattr(trigger_module, "STOP_SECONDS", 0.0)
    monkeypatch.setenv("AIRFLOW_CONN_MALFORMED", "{not JSON")
    run(waiting(gcp_conn_id="malformed").on_kill())
    told = capsys.readouterr().out
    assert f"Could not stop notebook job {JOB}, which may still run and cost" in told
    assert f"Stopping notebook job {JOB} was given up" in told


def test_airflow_is_asked_again_before_a_job_is_stopped_that_may_be_awaited(service, monkeypatch):
    monkeypatch.setattr(cancellation, "AWAITED_PAUSES", (0.01, 0.01))
    asked = []

    def answer():
        asked.append(1)
        if len(asked) < 3:
            raise RuntimeError("no answer")
        return "deferred"

    airflow_says(monkeypatch, answer)
    service.put("RUNNING")
    run(deferred(waiting()).on_kill())
    assert not service.calls


def test_a_stop_goes_on_after_airflow_cut_it_short(service):
    service.put("RUNNING")
    service.fail("cancel", MethodNotImplemented("no cancel"))
    is_cut = threading.Event()

    async def scene():
        loop = asyncio.get_running_loop()
        has_begun = asyncio.Event()

        def hold(method):
            if method == "operations":
                loop.call_soon_threadsafe(has_begun.set)
                is_cut.wait()

        service.before = hold
        killing = asyncio.ensure_future(waiting().on_kill())
        await has_begun.wait()
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        assert JOB in service.jobs
        is_cut.set()
        await until(lambda: JOB not in service.jobs, "the job was stopped")

    try:
        run(scene())
    finally:
        is_cut.set()  # a thread that waited on would keep the interpreter from ending


def test_a_stop_that_is_cut_short_before_it_begins_is_made_up_for(service):
    service.put("RUNNING")

    async def scene():
        killing = asyncio.ensure_future(waiting().on_kill())
        await asyncio.sleep(0)  # one step: the stop is under way, and no thread has it yet
        assert not service.calls
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        await until(lambda: service.calls["cancel"], "the job was stopped")

    run(scene())


@pytest.mark.parametrize("trigger", [waiting(cancel_on_kill=False), scheduled(), scheduled(cancel_on_kill=True)])
def test_a_job_of_somebody_else_is_never_stopped(service, monkeypatch, trigger):
    airflow_says(monkeypatch, "failed")
    service.put("RUNNING", schedule_resource_name=SCHEDULE)
    run(deferred(trigger).on_kill())
    assert not service.calls


# --- a schedule's job ---


@pytest.mark.parametrize("schedule", [SCHEDULE, "77"])
def test_the_job_that_a_schedule_launched_is_waited_for(service, schedule):
    service.put("RUNNING", "FAILED", schedule_resource_name=SCHEDULE)
    event = event_of(scheduled(schedule))
    assert (event["name"], event["outcome"], event["job_state"]) == (JOB, "finished", "JOB_STATE_FAILED")
    assert [state for state, _ in event["states"]] == ["JOB_STATE_RUNNING", "JOB_STATE_FAILED"]


def test_a_launch_is_waited_for(service):
    service.put("SUCCEEDED", name=f"{JOB}-other", schedule_resource_name=f"{PARENT}/schedules/78")
    before = MOMENT.replace(year=2025)
    service.put("SUCCEEDED", name=f"{JOB}-early", schedule_resource_name=SCHEDULE, create_time=before)

    async def scene():
        events = asyncio.ensure_future(events_of(made_again(scheduled())))
        await until(lambda: service.calls["list"] > 2, "the trigger looks for a job")
        assert not events.done()
        service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
        return await events

    (event,) = run(scene())
    assert (event["name"], event["outcome"]) == (JOB, "finished")


def test_every_request_of_a_trigger_waits_for_its_turn(service, monkeypatch):
    turns = []

    async def turn(self, member, *_):
        turns.append(member if isinstance(member, str) else "watch")

    monkeypatch.setattr(budget.Budget, "turn", turn)

    async def scene():
        events = asyncio.ensure_future(events_of(made_again(scheduled())))
        await until(lambda: service.calls["list"] > 2, "the trigger looks for a job")
        service.put("RUNNING", schedule_resource_name=SCHEDULE)
        await until(lambda: service.calls["get"] > 2, "the watch reads the job")
        service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
        return await events

    run(scene())
    assert turns.count("schedules") == service.calls["list"]
    assert turns.count("watch") == service.calls["get"]
    assert event_of(waiting(end_time=LONG_AGO))["outcome"] == "finished"  # by a look at the deadline
    assert turns.count("watch") == service.calls["get"]


def test_an_outage_while_a_launch_is_waited_for_is_waited_out(service, capsys):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    service.fail("list", ServiceUnavailable("down"), times=3)
    assert event_of(scheduled(end_time=4e9))["outcome"] == "finished"
    assert service.calls["list"] == 4
    assert capsys.readouterr().out.count("Looking failed, and will be tried again") == 1


def test_a_schedule_that_launches_nothing_by_the_deadline_is_timed_out(service):
    event = event_of(scheduled(end_time=LONG_AGO))
    assert (event["name"], event["job_state"], event["outcome"]) == (SCHEDULE, None, "timeout")
    assert event["message"] == f"Schedule {SCHEDULE} had launched no job at the deadline"
    assert event["states"] == []


def test_a_launched_job_that_runs_at_the_deadline_is_timed_out(service):
    service.put("RUNNING", schedule_resource_name=SCHEDULE)
    event = event_of(scheduled(end_time=LONG_AGO))
    assert event["outcome"] == "timeout"
    assert event["message"] == f"Notebook job {JOB} was JOB_STATE_RUNNING at the deadline"


@pytest.mark.parametrize("error", [ServiceUnavailable("down"), PermissionDenied("not yours"), RuntimeError("ours")])
def test_no_single_error_ends_the_wait_for_a_launch(service, error):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    service.fail("list", error, times=2)
    assert event_of(scheduled())["outcome"] == "finished"


def test_a_launched_job_that_is_deleted_is_lost(service):
    service.put("RUNNING", schedule_resource_name=SCHEDULE)

    def delete_it(method):
        if method == "get":
            with suppress(KeyError):
                service.delete()

    service.before = delete_it
    event = event_of(scheduled())
    assert event["outcome"] == "lost"
    assert "j1 is gone" in event["message"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionDenied("not yours"), "PERMISSION_DENIED: not yours"),
        (InvalidArgument("no such filter"), "INVALID_ARGUMENT: no such filter"),
    ],
)
def test_a_lasting_refusal_while_a_launch_is_waited_for_is_an_event(service, monkeypatch, error, message):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    service.fail("list", error)
    event = event_of(scheduled())
    assert (event["name"], event["outcome"]) == (SCHEDULE, "error")
    assert message in event["message"]


@pytest.mark.parametrize("schedule", ["", "77/", '77" OR schedule="78', "../77", "77\n"])
def test_a_hostile_schedule_finds_no_job_of_another_one(service, schedule):
    service.put("SUCCEEDED", schedule_resource_name=SCHEDULE)
    service.put("SUCCEEDED", name=f"{JOB}-78", schedule_resource_name=f"{PARENT}/schedules/78")
    event = event_of(scheduled(f"{schedule}x", end_time=LONG_AGO))
    assert event["outcome"] == ("error" if schedule else "timeout")
    assert not schedule or event["message"].startswith("schedule: ")
    json.dumps(event)


def test_a_scheduled_trigger_that_is_given_up_leaves_nothing(service):
    run(give_up(scheduled(), lambda: service.calls["list"] > 1))
    assert not service.has_been_told_to_stop()


# --- what a job came to ---

GOOD = notebook(code("40 + 2", result({"text/plain": "42"}), tags=("result",)))


@pytest.fixture
def recorded(monkeypatch):
    """The XComs that a triggerer sets."""
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(XCom, "set", lambda key, value, *, dag_id, task_id, run_id, map_index=-1: kept.append(locals()))
    return kept


def concluding(**changes):
    trigger = made_again(waiting(conclusion={}, **changes))
    trigger.task_instance = SimpleNamespace(**vars(TI), try_number=3)
    return trigger


def test_the_event_of_a_success_says_what_the_job_came_to(service, recorded):
    service.executed = GOOD
    service.put("RUNNING", "SUCCEEDED", name=JOB)
    service.storage.put(f"{OUTPUT}/j1/content.ipynb", GOOD)
    (event,) = run(events_of(concluding()))
    found = JobEvent.from_payload(json.loads(json.dumps(event))).result
    assert found is not None
    assert (found.job_id, found.results, str(found.job_state)) == ("j1", {"result": 42}, "JOB_STATE_SUCCEEDED")
    (xcom,) = recorded
    assert (xcom["key"], xcom["dag_id"], xcom["task_id"], xcom["run_id"]) == ("notebook_execution_job", "d", "t", "r")
    record = parse_record(json.loads(json.dumps(xcom["value"])))
    assert record is not None
    assert (record.try_number, record.state, record.output_notebook_uri) == (3, "JOB_STATE_SUCCEEDED", EXECUTED)
    assert [state for state, _ in record.steps.seen] == ["JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    assert service.calls["get"] == 2  # those of the watch


@pytest.mark.parametrize("state", [state for state in TERMINAL if state != "SUCCEEDED"])
def test_a_worker_finds_out_what_is_no_success(service, recorded, state):
    service.put(state)
    (event,) = run(events_of(concluding()))
    assert "result" not in event
    assert not recorded


def test_a_worker_finds_out_what_could_not_be_put_on_record(service, monkeypatch, capsys):
    def refuse(*_, **__):
        raise RuntimeError("no database")

    monkeypatch.setattr(XCom, "set", refuse)
    service.put("SUCCEEDED")
    service.storage.put(EXECUTED, GOOD)
    (event,) = run(events_of(concluding()))
    assert (event["outcome"], "result" in event) == ("finished", False)
    assert "no database" in capsys.readouterr().out


@pytest.mark.parametrize("conclusion", [{"no_such": 1}, {"max_output_bytes": "x"}, [], "x", 7])
def test_options_that_are_none_lose_no_event(service, recorded, conclusion):
    service.put("SUCCEEDED")
    service.storage.put(EXECUTED, GOOD)
    trigger = concluding()
    trigger.conclusion = conclusion
    (event,) = run(events_of(trigger))
    assert event["outcome"] == "finished"
    assert "result" not in event


def test_without_a_task_or_its_options_a_worker_finds_out(service, recorded):
    service.put("SUCCEEDED")
    service.storage.put(EXECUTED, GOOD)
    for trigger in (waiting(), waiting(conclusion={}), deferred(waiting())):
        (event,) = run(events_of(trigger))
        assert "result" not in event
    assert not recorded
    assert not service.storage.requests
