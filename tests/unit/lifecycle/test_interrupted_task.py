"""Whatever ends a task on a worker or in a person's command: its job is stopped, or the command is printed that does.

Nothing is said to cost if nothing was submitted. The operator, the trigger and the hook are the real ones.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred
from google.api_core.exceptions import (
    Aborted,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InternalServerError,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServiceUnavailable,
    Unknown,
)
from google.longrunning.operations_pb2 import Operation
from google.rpc.status_pb2 import Status

from airflow_provider_nbjob.exceptions import ApiError, CreateUnanswered, JobFailed, JobLost, JobTimeout
from airflow_provider_nbjob.hooks import notebook_execution_job as hook_module
from airflow_provider_nbjob.hooks import retrying
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.lifecycle import cancellation, submission
from airflow_provider_nbjob.operators.existing_jobs import DeleteNotebookExecutionJobOperator
from airflow_provider_nbjob.triggers import notebook_execution_job as trigger_module
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger
from tests.support.fake_google import FakeWait
from tests.support.fake_service import JOB
from tests.support.patience import patient, wait_until
from tests.support.running import made_again
from tests.support.tasks import context_of, create_operator

INTERRUPTIONS = [KeyboardInterrupt, SystemExit, GeneratorExit, AirflowTaskTimeout]
UNREACHABLE = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"


@pytest.fixture
def google(monkeypatch) -> FakeWait:
    return FakeWait(monkeypatch)


@pytest.fixture
def service(google, monkeypatch):
    google.service.course = ("RUNNING",)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    monkeypatch.setattr(cancellation, "INTERRUPT_SECONDS", patient(cancellation.INTERRUPT_SECONDS))
    yield google.service
    # A stop that was given up goes on in its thread. It would find the job of the next test, which has the same name.
    wait_until(
        lambda: not any("note_down" in thread.name for thread in threading.enumerate()), timeout=30, what="stops"
    )


def active(service) -> list[str]:
    return [name for name, course in service.jobs.items() if state_of(course[0]).is_active]


def at_call(service, method: str, number: int, error: type[BaseException]) -> None:
    """Interrupt the main thread in the `number`-th call of a method."""
    counted = iter(range(1, 10**6))

    def before(called: str) -> None:
        if called == method and threading.current_thread() is threading.main_thread() and next(counted) == number:
            raise error

    service.before = before


def run_interrupted(error: type[BaseException], operator=None, context=None) -> None:
    raised = JobTimeout if error is AirflowTaskTimeout else error
    with pytest.raises(raised):
        (operator or create_operator(execution_timeout=timedelta(hours=1))).execute(context or context_of())


# --- Ctrl-C, sys.exit, the end of a generator, Airflow's alarm ---


@pytest.mark.parametrize("error", INTERRUPTIONS)
@pytest.mark.parametrize(("method", "number"), [("create", 1), ("get", 1), ("get", 3)])
@pytest.mark.parametrize("can_cancel", [True, False])
def test_an_interrupted_task_leaves_no_job(service, capsys, error, method, number, can_cancel):
    if not can_cancel:
        service.fail("cancel", MethodNotImplemented("no cancel"))
    at_call(service, method, number, error)
    run_interrupted(error)
    assert len(service.submitted) == (method != "create")
    assert not active(service)
    assert "may run and cost" not in capsys.readouterr().out


@pytest.mark.parametrize("error", INTERRUPTIONS)
@pytest.mark.parametrize("changes", [{}, {"durable": False}, {"notebook_execution_job_id": "train-1"}])
def test_a_create_that_is_interrupted_once_it_was_performed_leaves_no_job(service, error, changes):
    service.lose("create", error(), times=1)
    run_interrupted(error, create_operator(**changes))
    assert len(service.submitted) == 1
    assert not active(service)


@pytest.mark.parametrize("error", INTERRUPTIONS)
def test_a_task_that_is_interrupted_between_requests_leaves_no_job(service, error):
    def push(**_):
        raise error

    run_interrupted(error, context=context_of(xcom_push=push))
    assert len(service.submitted) == 1
    assert not active(service)


def test_ctrl_c_in_a_command_is_not_taken_for_a_failure_that_is_retried(service, monkeypatch):
    monkeypatch.setattr(submission, "runs_in_process", lambda: True)
    at_call(service, "get", 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        create_operator().execute(context_of(retries=3))
    assert isinstance(interrupted.value, AirflowFailException)
    assert not active(service)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_job_that_cannot_be_stopped_is_told_with_the_command_that_does(service, capsys, error):
    for method in ("operations", "delete"):
        service.fail(method, ServiceUnavailable("down"))
    at_call(service, "get", 2, error)
    run_interrupted(error)
    job_id = service.submitted[0].name.rpartition("/")[2]
    command = f"gcloud colab executions delete {job_id} --project=p --region=us-central1 --quiet"
    assert command in capsys.readouterr().out


def test_a_stop_that_hangs_is_given_up(service, capsys, monkeypatch):
    monkeypatch.setattr(cancellation, "INTERRUPT_SECONDS", 0.1)
    at_call(service, "get", 2, KeyboardInterrupt)
    interrupt, ended = service.before, threading.Event()
    service.before = lambda method: ended.wait(patient(20)) if method == "operations" else interrupt(method)
    run_interrupted(KeyboardInterrupt)
    assert "This command stops it: gcloud colab executions delete" in capsys.readouterr().out
    ended.set()


def test_a_second_interruption_ends_the_stop_at_once(service, capsys, monkeypatch):
    def interrupted_again(*_):
        raise KeyboardInterrupt

    at_call(service, "get", 2, SystemExit)
    monkeypatch.setattr(threading.Thread, "join", interrupted_again)
    ended, interrupt = threading.Event(), service.before
    service.before = lambda method: ended.wait(patient(20)) if method == "operations" else interrupt(method)
    run_interrupted(KeyboardInterrupt)
    assert "This command stops it: gcloud colab executions delete" in capsys.readouterr().out
    ended.set()


def test_a_workbench_job_is_stopped_by_a_command_that_takes_it(service, capsys):
    service.fail("operations", ServiceUnavailable("down"))
    service.fail("delete", ServiceUnavailable("down"))
    at_call(service, "get", 2, KeyboardInterrupt)
    run_interrupted(KeyboardInterrupt, create_operator(workbench_runtime={}))
    printed = capsys.readouterr().out
    assert f"https://us-central1-aiplatform.googleapis.com/v1/{service.submitted[0].name}" in printed
    assert "curl -X DELETE" in printed


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_job_that_is_to_go_on_is_told_with_the_command_that_stops_it(service, capsys, deferrable):
    at_call(service, "get", 1, KeyboardInterrupt)
    run_interrupted(
        TaskDeferred if deferrable else KeyboardInterrupt, create_operator(cancel_on_kill=False, deferrable=deferrable)
    )
    job_id = service.submitted[0].name.rpartition("/")[2]
    printed = capsys.readouterr().out
    assert f"gcloud colab executions delete {job_id}" in printed
    assert "goes on" in printed
    assert len(active(service)) == 1


@pytest.mark.parametrize("is_of_a_command", [True, False])
def test_ctrl_c_stops_the_job_of_a_trigger_that_runs_in_line(service, capsys, monkeypatch, is_of_a_command):
    """`airflow dags test` runs the trigger in its own process; in a triggerer the end of a wait says nothing."""
    monkeypatch.setattr(trigger_module, "runs_in_process", lambda: is_of_a_command)
    monkeypatch.setattr(trigger_module, "SETTLE_INTERVALS", 0)
    service.put("RUNNING")
    trigger = made_again(NotebookExecutionJobTrigger(JOB, poll_interval=0.01))

    def interrupt() -> None:
        wait_until(lambda: service.calls["get"] > 1, timeout=20, what="two looks", interval=0.01)
        os.kill(os.getpid(), signal.SIGINT)

    async def first_event():
        return await anext(trigger.run(), None)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(first_event())
    thread.join()
    assert bool(active(service)) is not is_of_a_command
    assert service.has_been_told_to_stop() is is_of_a_command


# --- certainly not submitted, perhaps submitted, submitted ---


@pytest.mark.parametrize(
    "error",
    [
        PermissionDenied("no"),
        FailedPrecondition("no"),
        ResourceExhausted("quota"),
        Aborted("conflict"),
        InvalidArgument("bad"),
        NotFound("no template"),
        MethodNotImplemented("no such method"),
        ServiceUnavailable(UNREACHABLE),
        ServiceUnavailable("DNS resolution failed for us-central1-aiplatform.googleapis.com"),
        ServiceUnavailable("Getting metadata from plugin failed with error: no token"),
    ],
    ids=str,
)
@pytest.mark.parametrize("durable", [True, False])
def test_what_was_certainly_not_submitted_is_neither_stopped_nor_said_to_cost(service, capsys, error, durable):
    service.fail("create", error)
    with pytest.raises(Exception, match="create of job") as raised:
        create_operator(durable=durable).execute(context_of())
    assert not isinstance(raised.value, CreateUnanswered)
    assert set(service.calls) == {"create"}
    printed = capsys.readouterr().out
    assert "error" not in [line.split("]")[0].partition("[")[2].strip() for line in printed.splitlines()]
    assert "cost" not in printed


LOST = [ServiceUnavailable("lost"), DeadlineExceeded("lost"), InternalServerError("lost"), Unknown("?"), Cancelled("?")]


@pytest.mark.parametrize("error", LOST, ids=str)
@pytest.mark.parametrize("durable", [True, False])
def test_what_was_perhaps_submitted_is_looked_for(service, capsys, error, durable):
    service.fail("create", error)
    with pytest.raises(CreateUnanswered, match="may have been performed"):
        create_operator(durable=durable).execute(context_of())
    assert not service.submitted
    printed = capsys.readouterr().out
    assert "No notebook job was submitted" in printed
    assert "cost" not in printed


@pytest.mark.parametrize("error", LOST, ids=str)
@pytest.mark.parametrize("durable", [True, False])
def test_what_was_submitted_without_an_answer_is_stopped(service, capsys, error, durable):
    service.lose("create", error)
    with pytest.raises(CreateUnanswered):
        create_operator(durable=durable).execute(context_of())
    assert len(service.submitted) == 1
    assert not active(service)


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_perhaps_submitted_is_said_to_cost_if_nobody_can_look(service, capsys, durable):
    service.lose("create", ServiceUnavailable("lost"))
    for method in ("get", "list", "operations", "delete"):
        service.fail(method, ServiceUnavailable("down"))
    with pytest.raises(CreateUnanswered):
        create_operator(durable=durable).execute(context_of())
    printed = capsys.readouterr().out
    assert "may have been submitted, and then runs and costs" in printed
    assert f"gcloud colab executions {'delete' if durable else 'list'}" in printed


@pytest.mark.parametrize("refusal", [PermissionDenied("no more"), InvalidArgument("no more"), NotFound("no more")])
def test_a_refusal_after_a_lost_answer_is_not_certain(service, monkeypatch, refusal):
    monkeypatch.setattr(retrying, "RETRY_TOTAL", patient(5))
    service.lose("create", ServiceUnavailable("lost"), times=1)
    service.before = lambda method: service.fail(method, refusal) if service.calls[method] and method == "create" else 0
    with pytest.raises(CreateUnanswered):
        create_operator().execute(context_of())
    assert len(service.submitted) == 1
    assert not active(service)


def test_a_job_of_somebody_else_is_not_stopped_for_a_create_without_an_answer(service):
    first = create_operator(deferrable=True)
    with pytest.raises(TaskDeferred):
        first.execute(context_of())
    service.fail("create", ServiceUnavailable("lost"))
    with pytest.raises(CreateUnanswered):
        create_operator().execute(context_of())  # of the same id, in a run made again
    assert len(active(service)) == 1
    assert not service.has_been_told_to_stop()


@pytest.mark.parametrize("error", [PermissionDenied("no"), ServiceUnavailable("down"), MethodNotImplemented("no get")])
@pytest.mark.parametrize("durable", [True, False])
def test_a_look_after_the_submit_that_fails_is_no_failure_of_a_task_that_does_not_wait(service, durable, error, capsys):
    service.fail("get", error)
    result = create_operator(wait_for_completion=False, durable=durable).execute(context_of())
    assert result["name"] in active(service)
    assert result["job_state"] == "JOB_STATE_UNSPECIFIED"
    assert not service.has_been_told_to_stop()
    assert "was submitted, and its state is not known" in capsys.readouterr().out


def test_what_was_submitted_and_cannot_be_stopped_is_said_to_cost(service, capsys, monkeypatch):
    for method in ("operations", "delete"):
        service.fail(method, PermissionDenied("no"))
    service.fail("get", PermissionDenied("no"))
    monkeypatch.setattr(submission.Submission, "say_how_to_stop", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create_operator().execute(context_of())
    printed = capsys.readouterr().out
    assert "may still run and cost" in printed
    assert "gcloud colab executions delete" in printed


# --- deleting ---


@pytest.fixture
def hook(service, monkeypatch) -> NotebookExecutionJobHook:
    monkeypatch.setattr(retrying, "RETRY_TOTAL", patient(5))
    monkeypatch.setattr(hook_module.time, "sleep", lambda _: None)
    service.put("RUNNING")
    return NotebookExecutionJobHook()


@pytest.mark.parametrize("error", [ServiceUnavailable("lost"), DeadlineExceeded("lost"), InternalServerError("lost")])
@pytest.mark.parametrize("times", [1, 2])
def test_a_delete_whose_answer_was_lost_is_a_success(hook, service, error, times):
    service.lose("delete", error, times=times)
    hook.delete_notebook_execution_job(name=JOB)
    assert not service.jobs


def test_a_stop_whose_delete_got_no_answer_is_a_success(hook, service):
    service.fail("cancel", MethodNotImplemented("no cancel"))
    service.lose("delete", ServiceUnavailable("lost"), times=1)
    assert hook.cancel_notebook_execution_job(name=JOB)
    assert not service.jobs


@pytest.mark.parametrize(
    "error", [None, ResourceExhausted("quota"), Aborted("conflict"), ServiceUnavailable(UNREACHABLE)]
)
def test_a_job_that_was_not_there_is_lost_to_the_hook(hook, service, error):
    service.delete()
    if error:  # an attempt that was certainly not performed
        service.fail("delete", error, times=1)
    with pytest.raises(JobLost):
        hook.delete_notebook_execution_job(name=JOB)


@pytest.mark.parametrize("ends_later", [False, True])
def test_a_delete_whose_operation_fails_is_no_success(hook, service, monkeypatch, ends_later):
    failed = Operation(name=f"{JOB}/operations/2", done=True, error=Status(code=9, message="it is in use"))
    service.deletion = failed
    if ends_later:
        under_way = Operation(name=failed.name)
        service.deletion = under_way
        service.before = lambda method: setattr(service, "deletion", failed) if method == "operation" else None
    with pytest.raises(ApiError, match="FAILED_PRECONDITION: it is in use") as error:
        hook.delete_notebook_execution_job(name=JOB)
    assert error.value.code == "FAILED_PRECONDITION"


def test_a_stop_whose_delete_fails_says_that_the_job_may_cost(hook, service, capsys):
    service.fail("cancel", MethodNotImplemented("no cancel"))
    service.deletion = Operation(name=f"{JOB}/operations/2", done=True, error=Status(code=13, message="broken"))
    assert not cancellation.stop_quietly(hook, JobName.parse(JOB))
    assert "may still run and cost" in capsys.readouterr().out


@pytest.mark.parametrize("error", [NotFound("gone"), PermissionDenied("no"), MethodNotImplemented("no")])
def test_an_operation_that_cannot_be_seen_is_taken_for_done(hook, service, error):
    service.deletion = Operation(name=f"{JOB}/operations/2")
    service.fail("operation", error)
    hook.delete_notebook_execution_job(name=JOB)
    assert not service.jobs


def test_an_operation_that_goes_on_is_not_waited_for_for_ever(hook, service):
    service.deletion = Operation(name=f"{JOB}/operations/2")
    hook.delete_notebook_execution_job(name=JOB, wait=0.05)
    assert service.calls["operation"] >= 1


def test_deleting_what_is_not_there_is_no_error_unless_asked_for(hook, service, capsys):
    service.delete()
    arguments = {"task_id": "delete", "notebook_execution_job": JOB}
    DeleteNotebookExecutionJobOperator(**arguments).execute({})
    assert "does not exist" in capsys.readouterr().out
    with pytest.raises(JobLost):
        DeleteNotebookExecutionJobOperator(**arguments, ignore_if_missing=False).execute({})


# --- a job that is deleted once it has ended ---


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_a_job_deleted_after_the_triggers_event_ends_as_the_event_says(service, state):
    context = context_of(retries=1)
    with pytest.raises(TaskDeferred) as deferral:
        create_operator(deferrable=True).execute(context)
    name = deferral.value.trigger.name
    service.delete(name)
    event = {"name": name, "job_state": f"JOB_STATE_{state}", "outcome": "finished", "message": "", "states": []}
    complete = create_operator(deferrable=True).execute_complete
    if state == "FAILED":
        with pytest.raises(JobFailed):
            complete(context, event)
    else:
        result = complete(context, event)
        assert (result["name"], result["job_state"]) == (name, "JOB_STATE_SUCCEEDED")
        assert result["gcs_output_uri"] == "gs://bucket/runs"
    assert len(service.submitted) == 1
