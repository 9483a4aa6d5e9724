"""The fault matrix: whatever fails, a notebook is submitted once and no machine is left running.

A real Airflow and the emulator as separate processes; killed and stopped by signal, cut off by a relay, failing by
the emulator's faults. Each case prints one line with the jobs that it created and those left active. Some numbers are
smaller than those that `make test-faults` uses (pytest's option ``--whole``).
"""

from __future__ import annotations

import json
import re
import signal
import threading
import time

import pytest

from tests.support.airflow_versions import MARK_STOPS_A_DEFERRED_JOB, STARTS_IN_TRIGGERER
from tests.support.patience import patient, wait_until
from tests.support.relay import Relay

CREATE, GET = "CreateNotebookExecutionJob", "GetNotebookExecutionJob"
# What stands behind the name of a DAG: a task that a worker starts, or one that starts in the triggerer.
STARTED_BY = [
    pytest.param("", id="worker"),
    pytest.param(
        "_from_trigger",
        id="triggerer",
        marks=pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="this Airflow starts no task in the triggerer"),
    ),
]
started_by_either = pytest.mark.parametrize("started_by", STARTED_BY)


@started_by_either
@pytest.mark.parametrize("times", [1, 3])
def test_lost_answer(case, started_by, times):
    case.emulator.fault(CREATE, "UNAVAILABLE", times=times, drop_response=True)
    case.start(f"deferred{started_by}", "quick")
    assert case.wait_for_run() == "success"
    case.ends(f"create's answer lost {times} times", created=1, states=["success"])


@pytest.mark.one_of_two
def test_worker_killed_before_the_create_returned(case):
    case.emulator.fault(CREATE, "UNAVAILABLE", drop_response=True)
    case.start("deferred_retried", "quick")
    wait_until(case.created, timeout=60, what="a job")
    case.kill_worker(signal.SIGKILL)
    case.emulator.reset()
    assert case.wait_for_run() == "success"
    case.ends("worker SIGKILLed between create and its return", created=1, states=["success"])
    assert case.task_instance()["try_number"] == 2


def kill_worker_that_waits(case, meanwhile=lambda: None):
    """Kill the worker while its job runs, then let the job end: the next try is to return it.

    :param meanwhile: done before the worker is killed
    """
    wait_until(case.running, timeout=60, what="a job that runs")
    meanwhile()
    case.kill_worker(signal.SIGKILL)
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=90, what="the second try")
    case.open_gate()
    assert case.wait_for_run() == "success"


@pytest.mark.one_of_two
def test_worker_killed_while_it_waits(case):
    case.start("blocking_retried", "waiting")
    kill_worker_that_waits(case)
    case.ends("worker SIGKILLed while waiting (blocking)", created=1, states=["success"])


@pytest.mark.one_of_two
def test_worker_shut_down_while_it_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.kill_worker(signal.SIGTERM)
    wait_until(lambda: "its next try goes on with job" in case.log(), timeout=30, what="the answer to SIGTERM")
    case.kill_worker(signal.SIGKILL)
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=90, what="the second try")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("worker SIGTERMed, then SIGKILLed, while waiting (rolling restart)", created=1, states=["success"])


@started_by_either
@pytest.mark.one_of_two
def test_triggerer_killed_and_restarted(case, started_by, world):
    case.start(f"waiting{started_by}", "waiting")
    case.wait_until_deferred(world.waiting)
    for how in (signal.SIGKILL, signal.SIGTERM):
        name, former = case.triggerer()
        case.airflow.stop(name, how)
        case.airflow.start(name)
        case.wait_until_handed_over(former)
    assert case.running() == world.waiting
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends(
        "triggerer SIGKILLed, SIGTERMed, restarted while waiting",
        created=world.waiting,
        states=["success"] * world.waiting,
    )


@started_by_either
@pytest.mark.one_of_two
def test_triggerer_stalled_and_its_trigger_adopted(case, started_by):
    case.start(f"deferred{started_by}", "waiting")
    case.wait_until_deferred()
    name, former = case.triggerer()
    case.airflow.stall(name)
    stalled = time.monotonic()
    with case.another_triggerer():
        try:
            case.wait_until_handed_over(former)
            wait_until(lambda: time.monotonic() - stalled > 50, timeout=60, what="50 s of stall")
            case.airflow.resume(name)
            wait_until(
                lambda: "Another triggerer waits" in case.log(), timeout=60, what="the guard of on_kill", interval=1
            )
            assert case.running() == 1
            case.open_gate()
            assert case.wait_for_run() == "success"
        finally:
            case.airflow.resume(name)
    case.ends("triggerer stopped 50 s, its trigger adopted, continued", created=1, states=["success"])


@started_by_either
def test_emulator_down(case, started_by, world, request):
    seconds = 60 if request.config.getoption("--whole") else 20
    case.start(f"waiting{started_by}", "waiting")
    case.wait_until_deferred(world.waiting)
    world.network.down()
    down = time.monotonic()
    case.open_gate()
    wait_until(lambda: time.monotonic() - down > seconds, timeout=seconds + 10, what="the time without the API")
    assert case.states() == ["deferred"] * world.waiting
    world.network.up()
    assert case.wait_for_run() == "success"
    case.ends(f"emulator down {seconds} s while waiting", created=world.waiting, states=["success"] * world.waiting)


# Each was, until it was seen to, taken for the end of the wait, and the job was stopped.
ODD_ANSWERS = ["UNKNOWN", "CANCELLED", "PERMISSION_DENIED", "FAILED_PRECONDITION", "UNIMPLEMENTED", "NOT_FOUND"]


@started_by_either
def test_looks_are_answered_oddly(case, started_by):
    case.start(f"deferred{started_by}", "waiting")
    case.wait_until_deferred()
    for code in ODD_ANSWERS:
        case.emulator.reset()
        case.emulator.fault(GET, code, times=1)
        wait_until(lambda: case.calls(GET) > 2, timeout=60, what=f"looks after {code}", interval=1)
    assert case.running() == 1
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("a look answered once by each code of a refusal, and by UNKNOWN", created=1, states=["success"])


@started_by_either
def test_connection_cannot_be_read_in_the_triggerer(case, started_by, world, request):
    seconds = 60 if request.config.getoption("--whole") else 15
    case.set_connection(world.network.address)
    case.start(f"of_connection{started_by}", "waiting")
    case.wait_until_deferred()
    case.remove_connection()
    _, former = case.triggerer()
    for name in case.airflow.deployment.names("triggerer"):  # the next one has to read the connection
        case.airflow.stop(name)
        case.airflow.start(name)
    wait_until(lambda: not {*case.triggerers()} & former, timeout=120, what="another triggerer", interval=1)
    wait_until(lambda: "Looking failed" in case.log(), timeout=120, what="the outage in the task's log", interval=1)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > seconds, timeout=seconds + 10, what="the time without connection")
    assert case.states() == ["deferred"]
    assert case.running() == 1
    case.set_connection(world.network.address)
    wait_until(lambda: "The API answers again" in case.log(), timeout=120, what="the outage's end", interval=1)
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends(f"connection cannot be read for {seconds} s in the triggerer", created=1, states=["success"])


@started_by_either
def test_key_rotated_and_endpoint_moved_while_deferred(case, started_by, world, request):
    seconds = 75 if request.config.getoption("--whole") else 15
    with Relay(world.emulator.grpc_address) as former:
        case.set_connection(former.address)
        case.start(f"of_connection{started_by}", "waiting")
        case.wait_until_deferred()
        case.emulator.reset()
        case.emulator.fault(GET, "UNAUTHENTICATED")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > seconds, timeout=seconds + 10, what="refused looks")
        wait_until(lambda: case.calls(GET) > 4, timeout=120, what="refused looks", interval=1)
        assert case.running() == 1
        case.set_connection(world.network.address)
        calls = case.calls(GET)
        wait_until(lambda: case.calls(GET) > calls + 4, timeout=240, what="looks by the new connection", interval=1)
        former.down()
        case.emulator.reset()
        case.open_gate()
        assert case.wait_for_run() == "success"
    case.ends(f"UNAUTHENTICATED for {seconds} s, then another key and endpoint", created=1, states=["success"])


@started_by_either
def test_every_rpc_fails_at_random(case, started_by, world):
    case.emulator.fault("*", "UNAVAILABLE", probability=0.3)
    case.start(f"many{started_by}", "quick")
    assert case.wait_for_run() == "success"
    case.emulator.reset()
    case.ends("every rpc fails with probability 0.3", created=world.many, states=["success"] * world.many)


@started_by_either
@pytest.mark.skipif(not MARK_STOPS_A_DEFERRED_JOB, reason="this Airflow tells no trigger of a mark")
@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_deferred(case, started_by, state):
    case.start(f"deferred{started_by}", "waiting")
    case.wait_until_deferred()
    case.airflow.mark(case.dag_id, case.run_id, "job", state)
    case.ends(f"marked {state} while deferred", created=1, states=[state])


@started_by_either
@pytest.mark.skipif(not MARK_STOPS_A_DEFERRED_JOB, reason="this Airflow tells no trigger of a mark")
def test_run_marked_failed_while_deferred(case, started_by):
    case.start(f"deferred{started_by}", "waiting")
    case.wait_until_deferred()
    case.airflow.request("PATCH", f"dags/{case.dag_id}/dagRuns/{case.run_id}", json={"state": "failed"})
    case.ends("run marked failed while deferred", created=1, states=["failed"])


@pytest.mark.every_airflow
def test_marked_failed_while_a_worker_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.airflow.mark(case.dag_id, case.run_id, "job", "failed")
    case.ends("marked failed while a worker waits", created=1, states=["failed"])


def test_cleared_while_a_worker_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: len(case.created()) == 2, timeout=90, what="a second job")
    wait_until(lambda: case.active() == case.created()[1:], timeout=60, what="only the second job active")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("cleared while a worker waits", created=2, states=["success"])


@pytest.mark.every_airflow
def test_cleared_while_deferred(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    other = case.start_beside("waiting")
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: len(case.created()) == 3, timeout=60, what="a second job")
    wait_until(lambda: case.active() == case.created()[1:], timeout=60, what="the first job stopped")
    case.wait_until_deferred()
    case.open_gate()
    assert case.wait_for_run() == "success"
    assert case.airflow.wait_for_run("deferred", other, timeout=300) == "success"
    case.ends("cleared while deferred (beside another task)", created=3, states=["success"])
    assert case.result()["job_id"] == case.created()[2]


@started_by_either
def test_run_deleted_and_triggered_again(case, started_by):
    results = []
    for _ in range(2):
        case.start(f"deferred{started_by}", "quick", run_id="the-same")
        assert case.wait_for_run() == "success"
        results.append(case.result()["job_id"])
        if len(results) == 1:
            case.wait_for_executor(processes=2)
            case.airflow.request("DELETE", f"dags/{case.dag_id}/dagRuns/{case.run_id}")
    case.ends("run deleted and triggered again with the same run id", created=2, states=["success"])
    assert results == case.created()


@pytest.mark.every_airflow
def test_cleared_after_success(case):
    case.start("deferred", "quick")
    assert case.wait_for_run() == "success"
    first = case.result()["job_id"]
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=60, what="the second try")
    assert case.wait_for_run() == "success"
    case.ends("cleared after success", created=2, states=["success"])
    assert [first, case.result()["job_id"]] == case.created()


def test_cleared_after_success_while_the_run_goes_on(case):
    case.start("two", "quick")
    wait_until(lambda: case.task_instance()["state"] == "success", timeout=90, what="the first success")
    first = case.result()["job_id"]
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: case.task_instance()["state"] != "success", timeout=60, what="the clear")
    wait_until(lambda: case.task_instance()["state"] == "success", timeout=90, what="the second success")
    second = case.result()["job_id"]
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("cleared after success, another task of the run still waiting", created=3, states=["success"] * 2)
    assert first != second
    assert {first, second} < set(case.created())


@pytest.mark.parametrize("how", ["deferred", "blocking"])
def test_execution_timeout(case, how):
    case.start(f"{how}_limited", "sleeping")
    assert case.wait_for_run() == "failed"
    case.ends(f"execution_timeout of 30 s, notebook of an hour ({how})", created=1, states=["failed"])
    assert "JobTimeout" in case.log()
    assert case.task_instance()["duration"] < patient(30 + 1 + 20)


@started_by_either
def test_job_deleted_by_somebody_else(case, started_by):
    case.start(f"deferred{started_by}", "waiting")
    case.wait_until_deferred()
    (job_id,) = case.created()
    case.emulator.delete(case.job_names()[job_id])
    assert case.wait_for_run() == "failed"
    case.ends("job deleted by somebody else", created=1, states=["failed"])
    assert "JobLost" in case.log()


def test_notebook_that_fails_is_tried_again(case):
    case.start("deferred_retried", "failing")
    assert case.wait_for_run() == "failed"
    case.ends("notebook fails, with retries=1", created=2, states=["failed"])
    for try_number, job_id in enumerate(case.created(), start=1):
        log = case.log(try_number)
        assert re.search(r"The callback saw cell \d+ raise ValueError: as asked", log)
        assert f"Notebook job {job_id} ended as JOB_STATE_FAILED" in log


@started_by_either
def test_bucket_down_when_the_job_has_ended(case, started_by, world):
    world.storage.down()
    case.start(f"deferred_checked{started_by}", "quick")
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=180, what="the second try", interval=1)
    assert "OutputUnavailable" in case.log(1)
    world.storage.up()
    assert case.wait_for_run() == "success"
    case.ends("bucket down when the job has ended, with fail_on_cell_error", created=1, states=["success"])
    assert case.result()["output_error"] is None


@started_by_either
def test_bucket_down_of_which_nothing_was_asked_for(case, started_by, world):
    world.storage.down()
    case.start(f"deferred{started_by}", "quick")
    assert case.wait_for_run() == "success"
    case.ends("bucket down when the job has ended, nothing asked for of it", created=1, states=["success"])
    told = case.result()
    assert told["output_notebook_uri"] is None
    assert told["output_error"].startswith("Could not look for the executed notebook in gs://faults/runs/")
    assert "its results could not be collected" in case.log()


@started_by_either
@pytest.mark.parametrize("cancel", ["supported", "UNIMPLEMENTED"])
def test_stopped_with_and_without_cancel(case, started_by, cancel):
    if cancel == "UNIMPLEMENTED":
        case.emulator.fault("CancelOperation", "UNIMPLEMENTED")
    case.start(f"deferred{started_by}", "waiting")
    case.wait_until_deferred()
    (job_id,) = case.created()
    case.airflow.mark(case.dag_id, case.run_id, "job", "failed")
    case.ends(f"marked failed, operations.cancel {cancel}", created=1, states=["failed"])
    assert (job_id in case.job_names()) == (cancel == "supported")
    assert case.emulator.calls().get("DeleteNotebookExecutionJob", 0) == (cancel != "supported")


def test_tasks_test_on_a_run_that_succeeded(case):
    # One that defers would be gone on with by this Airflow's triggerer too, beside the one that the command runs.
    case.start("blocking_retried", "quick")
    assert case.wait_for_run() == "success"
    first = case.result()["job_id"]
    with case.airflow.popen("tasks", "test", case.dag_id, "job", case.run_id) as command:
        printed, _ = command.communicate(timeout=patient(120))
    assert command.returncode == 0, printed
    (_, second) = case.created()
    assert second != first
    assert f"has notebook job {first} already" in printed
    assert f"Notebook job {second} ended as JOB_STATE_SUCCEEDED" in printed
    case.ends("`airflow tasks test` on a run that succeeded", created=2, states=["success"])


def interrupt(command):
    """Press Ctrl-C as a person does, and return what the command printed.

    Python loses the `KeyboardInterrupt` of a signal that comes during a callback of its own, as at an import. It says
    so, and a person presses Ctrl-C once more.
    """
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(iter(command.stdout.readline, "")))
    reader.start()
    command.send_signal(signal.SIGINT)

    def has_ended_or_lost_it() -> bool:
        return command.poll() is not None or any("Exception ignored in" in line for line in printed)

    wait_until(has_ended_or_lost_it, timeout=60, what="the end of the command")
    if command.poll() is None:
        command.send_signal(signal.SIGINT)
        wait_until(lambda: command.poll() is not None, timeout=60, what="the end of the command, interrupted again")
    reader.join(patient(10))
    return "".join(printed)


@pytest.mark.parametrize(
    ("dag_id", "moment", "cancel"),
    [
        ("deferred", "created", "supported"),  # as Airflow goes from the operator to the trigger, or near that
        ("deferred", "running", "supported"),
        ("deferred", "running", "UNIMPLEMENTED"),
        ("blocking_retried", "running", "supported"),
        ("blocking_retried", "created", "UNIMPLEMENTED"),
    ],
)
def test_dags_test_is_interrupted(case, world, dag_id, moment, cancel):
    if cancel == "UNIMPLEMENTED":
        case.emulator.fault("CancelOperation", "UNIMPLEMENTED")
    conf = json.dumps({"notebook": "waiting"})
    with world.idle_airflow.popen("dags", "test", dag_id, "--conf", conf) as command:
        try:
            wait_until(getattr(case, moment), timeout=120, what=f"a job that is {moment}", interval=0.02)
            printed = interrupt(command)
        finally:
            command.kill()
    assert "Interrupted: stopping notebook job" in printed
    case.ends(f"Ctrl-C in `airflow dags test` ({dag_id}, {moment}), cancel {cancel}", created=1, states=None)


def test_dags_test_is_interrupted_and_its_job_is_to_go_on(case, world):
    conf = json.dumps({"notebook": "waiting"})
    with world.idle_airflow.popen("dags", "test", "going_on", "--conf", conf) as command:
        try:
            wait_until(case.running, timeout=120, what="a job that runs")
            printed = interrupt(command)
        finally:
            command.kill()
    (job_id,) = case.created()
    assert case.active() == [job_id]
    assert f"This command stops it: gcloud colab executions delete {job_id}" in printed
    case.open_gate()
    case.ends("Ctrl-C in `airflow dags test`, cancel_on_kill=False", created=1, states=None)


def test_retries_lowered_while_it_waits(case, world):
    case.start("edited", "waiting")
    try:
        kill_worker_that_waits(case, meanwhile=lambda: world.retries.write_text("1"))
    finally:
        world.retries.write_text("2")
    case.ends("retries lowered in the DAG, worker SIGKILLed while waiting", created=1, states=["success"])


def test_own_job_id_is_adopted_and_cleared(case):
    case.start("own_id", "waiting")
    kill_worker_that_waits(case)
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: case.task_instance()["try_number"] == 3, timeout=60, what="the third try")
    assert case.wait_for_run() == "success"
    case.ends("own job id: worker SIGKILLed, then cleared", created=2, states=["success"])
    first, third = case.created()
    assert third == f"{first}-3"


def test_bad_input_is_never_retried_and_a_deferred_sensor_keeps_its_deadline(case):
    case.start("input", "quick")
    assert case.wait_for_run() == "failed"
    ended = {ti["task_id"]: (ti["state"], ti["try_number"]) for ti in case.airflow.task_instances("input", case.run_id)}
    assert ended == {
        "regions": ("success", 1),
        **dict.fromkeys(("mapped", "get", "delete", "list", "sensor"), ("failed", 1)),
        "limited": ("failed", 2),  # by execution_timeout, which Airflow tries again
        "past": ("failed", 1),  # as by a sensor's own timeout, which it does not
        "soft": ("skipped", 1),
    }
    case.ends("bad input of each task, mapped and not; deferred sensors", created=0, states=case.states())
