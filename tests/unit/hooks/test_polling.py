"""How a worker waits for a job: which errors it waits out, and that none of them stops the job."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from types import SimpleNamespace

import grpc
import pytest
from google.api_core.exceptions import (
    GoogleAPICallError,
    NotFound,
    PermissionDenied,
    ServiceUnavailable,
    Unauthenticated,
    from_grpc_status,
)

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import ApiError, JobLost, JobTimeout, JobUnwatched
from airflow_provider_nbjob.hooks import polling
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.hooks.per_process import PerProcess
from airflow_provider_nbjob.job import JobName
from tests.support.fake_google import FakeWait
from tests.support.fake_service import JOB, PARENT
from tests.support.tasks import context_of, create_operator

CODES = [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)]


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(polling, "CONFIRM_SECONDS", 0.01)
    return FakeWait(monkeypatch).service


def wait(**changes):
    return NotebookExecutionJobHook().wait_for_notebook_execution_job(name=JOB, **{"poll_interval": 0.01, **changes})


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_no_single_answer_ends_the_wait(service, code):
    service.put("SUCCEEDED")
    service.fail("get", from_grpc_status(code, "says the service"), times=2)
    assert wait().name == JOB
    assert service.calls["get"] == 3


@pytest.mark.parametrize("error", [GoogleAPICallError("no code"), RuntimeError("ours"), OSError("no route")])
def test_an_error_without_a_code_is_waited_out(service, error):
    service.put("SUCCEEDED")
    service.fail("get", error, times=5)
    assert wait().name == JOB


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_an_error_that_lasts_ends_the_wait_at_the_deadline(service, code):
    service.put("SUCCEEDED")
    service.fail("get", from_grpc_status(code, "says the service"))
    with pytest.raises(JobTimeout, match="was never seen at the deadline"):
        wait(end_time=time.time() + 0.1)


def test_a_lasting_refusal_leaves_the_job_unwatched(service, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.05)
    service.put("SUCCEEDED")
    service.fail("get", PermissionDenied("not yours"))
    with pytest.raises(JobUnwatched, match="PERMISSION_DENIED: not yours"):
        wait()
    assert service.calls["get"] >= outages.REFUSALS_MIN


def test_a_job_is_lost_after_the_second_answer_that_says_so(service):
    service.put("SUCCEEDED")
    service.fail("get", NotFound("once"), times=1)
    assert wait().name == JOB
    service.delete()
    service.calls.clear()
    with pytest.raises(JobLost, match="j1 is gone: it was deleted"):
        wait(poll_interval=3600)
    assert service.calls["get"] == 2


@pytest.mark.parametrize("error", [Unauthenticated("rotated"), PermissionDenied("another project's key")])
def test_the_connection_is_read_anew_after_a_refusal(service, monkeypatch, error):
    rules = {name: rule._replace(reread_after=rule.reread_after and 1e-9) for name, rule in outages.BY_CODE.items()}
    monkeypatch.setattr(outages, "BY_CODE", rules)
    service.put("SUCCEEDED")
    service.fail("get", error)
    hook = NotebookExecutionJobHook()
    hook._cached_credentials = "old"

    def mend(conn_id):
        service.fail("get", error, times=0)
        return SimpleNamespace(extra_dejson={"project": "p", "key": "new"})

    monkeypatch.setattr(hook, "get_connection", mend)
    assert hook.wait_for_notebook_execution_job(name=JOB, poll_interval=0.01).name == JOB
    assert hook.extras["key"] == "new"
    assert hook._cached_credentials is None


def test_a_connection_that_cannot_be_read_anew_stays_as_it_was(service, monkeypatch, capsys):
    monkeypatch.setattr(polling, "CONNECTION_SECONDS_MAX", 0.0)
    service.put("RUNNING", "RUNNING", "SUCCEEDED")
    hook = NotebookExecutionJobHook()
    monkeypatch.setattr(hook, "get_connection", lambda _: 1 / 0)
    assert hook.wait_for_notebook_execution_job(name=JOB, poll_interval=0.01).name == JOB
    assert "could not be read anew" in capsys.readouterr().out


@pytest.mark.parametrize("step", [600, -600, 86400])
def test_a_step_of_the_clock_neither_ends_the_wait_nor_makes_it_last(service, monkeypatch, step):
    service.put("RUNNING")
    now, end_time = time.time, time.time() + 300
    hook = NotebookExecutionJobHook()
    polls = polling.poll_until_ended(
        polling.Poller(hook.log, "the job", hook.reread_connection),
        lambda: hook.get_notebook_execution_job(name=JOB, retry=False),
        JobName.parse(JOB),
        log=hook.log,
        poll_interval=0.0,
        end_time=end_time,
    )
    next(polls)
    monkeypatch.setattr(time, "time", lambda: now() + step)
    assert [poll.pause for poll in itertools.islice(polls, 3)] == [0.0] * 3
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 301)
    with pytest.raises(JobTimeout):
        next(polls)


# --- a single look ---


def test_that_a_job_is_gone_is_confirmed_by_a_second_look(service):
    error = JobLost("gone")
    answers = iter([error, "a job"])

    async def look():
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    assert asyncio.run(polling.poll_twice(look)) == "a job"
    answers = iter([error, error])
    with pytest.raises(type(error)):
        asyncio.run(polling.poll_twice(look))


@pytest.mark.parametrize(
    "error", [ApiError("no", "UNAVAILABLE"), ApiError("no", "PERMISSION_DENIED"), RuntimeError("ours")]
)
def test_any_other_answer_is_not_asked_for_twice(service, error):
    async def look():
        raise next(errors)

    errors = iter([error])
    with pytest.raises(type(error)):
        asyncio.run(polling.poll_twice(look))


# --- the operator, after a wait that ended without the job ---


@pytest.mark.parametrize("outcome", ["error", "a word to come", None])
def test_an_event_that_does_not_say_that_the_job_ended_stops_nothing(service, outcome):
    service.put("RUNNING")
    operator = create_operator()
    with pytest.raises(JobUnwatched, match="PERMISSION_DENIED"):
        operator.execute_complete(context_of(), {"name": JOB, "outcome": outcome, "message": "PERMISSION_DENIED"})
    assert not service.calls


def test_a_worker_that_is_refused_its_looks_stops_nothing(service, monkeypatch):
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    service.put("RUNNING")
    service.fail("get", PermissionDenied("not yours"))
    operator = create_operator(durable=False)
    event = {"name": JOB, "outcome": "finished", "job_state": "JOB_STATE_SUCCEEDED"}
    with pytest.raises(JobUnwatched):
        operator.execute_complete(context_of(), event)
    assert not service.has_been_told_to_stop()


@pytest.mark.parametrize("name", ["", "nonsense", 5, None, {"name": JOB}, f"{PARENT}/schedules/7"])
def test_an_event_without_a_job_names_the_event(service, name):
    operator = create_operator()
    with pytest.raises(Exception, match="returned no usable event"):
        operator.execute_complete(context_of(), {"name": name, "outcome": "finished"})
    assert not service.calls


# --- a key file that is replaced ---


@pytest.mark.parametrize("how", ["replaced", "written", "deleted"])
@pytest.mark.parametrize("where", ["key_path", "GOOGLE_APPLICATION_CREDENTIALS"])
def test_a_client_is_made_anew_when_its_key_file_changes(service, monkeypatch, tmp_path, how, where):
    path = tmp_path / "key.json"
    path.write_text("old key")
    made = []
    client_of = PerProcess(lambda hook: made.append(hook._cached_credentials) or object())
    hook = NotebookExecutionJobHook()
    if where == "key_path":
        hook.extras = {**hook.extras, "key_path": str(path)}
    else:
        monkeypatch.setenv(where, str(path))
    first = client_of(hook)
    assert client_of(hook) is first
    hook._cached_credentials = "of the old key"
    if how == "replaced":
        (tmp_path / "new").write_text("new key")
        os.replace(tmp_path / "new", path)
    elif how == "written":
        path.write_text("a new key")
    else:
        path.unlink()
    assert client_of(hook) is not first
    assert made == [None, None]


def test_an_outage_of_the_key_file_s_folder_is_no_error(service):
    hook = NotebookExecutionJobHook()
    hook.extras = {**hook.extras, "key_path": "/nowhere\0/key.json"}
    assert PerProcess(lambda _: "client")(hook) == "client"


def test_an_unavailable_service_is_told_once_in_the_log(service, capsys):
    service.put("SUCCEEDED")
    service.fail("get", ServiceUnavailable("down"), times=4)
    wait()
    told = capsys.readouterr().out
    assert told.count("Looking failed, and will be tried again") == 1
    assert told.count("The API answers again, after 4 failed looks") == 1
