"""The fault matrix: whatever fails, a notebook is submitted once and no machine is left running.

A real Airflow and the emulator as separate processes; killed and stopped by signal, cut off by a relay, failing by
the emulator's faults. Each case prints one line with the jobs that it created and those left active. Some numbers are
smaller than those that `make test-faults` uses (pytest's option ``--whole``).
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import FAULT_LINE
from tests.support.fixtures import built
from tests.support.patience import patient, wait_until
from tests.system.fault_case import Case, World

CREATE = "CreateNotebookExecutionJob"


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    numbers = {"waiting": 20, "many": 50} if request.config.getoption("--whole") else {"waiting": 8, "many": 12}

    def make(suffix: str) -> World:
        return World(tmp_path_factory.mktemp(f"faults{suffix}"), **numbers)

    with built(make) as made:
        yield made


@pytest.fixture
def case(world: World, record_property: Callable[[str, object], None]) -> Iterator[Case]:
    world.emulator.reset()
    world.gate.unlink(missing_ok=True)
    made = Case(world, printed=lambda line: record_property(FAULT_LINE, line))
    yield made
    made.abandon()


@pytest.mark.parametrize("times", [1, 3])
def test_lost_answer(case, times):
    case.emulator.fault(CREATE, "UNAVAILABLE", times=times, drop_response=True)
    case.start("deferred", "quick")
    assert case.wait_for_run() == "success"
    case.ends(f"create's answer lost {times} times", created=1, states=["success"])


def test_worker_killed_before_the_create_returned(case):
    case.emulator.fault(CREATE, "UNAVAILABLE", drop_response=True)
    case.start("deferred_retried", "quick")
    wait_until(case.created, timeout=60, what="a job")
    case.kill_worker(signal.SIGKILL)
    case.emulator.reset()
    assert case.wait_for_run() == "success"
    case.ends("worker SIGKILLed between create and its return", created=1, states=["success"])
    assert case.task_instance()["try_number"] == 2


def test_worker_killed_while_it_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.kill_worker(signal.SIGKILL)
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=90, what="the second try")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("worker SIGKILLed while waiting (blocking)", created=1, states=["success"])


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


def test_triggerer_killed_and_restarted(case, world):
    case.start("waiting", "waiting")
    case.wait_until_deferred(world.waiting)
    for how in (signal.SIGKILL, signal.SIGTERM):
        before = case.triggerers()
        case.airflow.stop("triggerer", how)
        case.airflow.start("triggerer")
        case.wait_until_handed_over(before)
    assert case.running() == world.waiting
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends(
        "triggerer SIGKILLed, SIGTERMed, restarted while waiting",
        created=world.waiting,
        states=["success"] * world.waiting,
    )


def test_triggerer_stalled_and_its_trigger_adopted(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    before = case.triggerers()
    case.airflow.signal("triggerer", signal.SIGSTOP)
    stalled = time.monotonic()
    case.airflow.start("triggerer", name="second triggerer")
    try:
        case.wait_until_handed_over(before)
        wait_until(lambda: time.monotonic() - stalled > 50, timeout=60, what="50 s of stall")
        case.airflow.signal("triggerer", signal.SIGCONT)
        wait_until(lambda: "Another triggerer waits" in case.log(), timeout=60, what="the guard of on_kill", interval=1)
        assert case.running() == 1
        case.open_gate()
        assert case.wait_for_run() == "success"
    finally:
        case.airflow.signal("triggerer", signal.SIGCONT)
        case.airflow.stop("second triggerer")
    case.ends("triggerer stopped 50 s, its trigger adopted, continued", created=1, states=["success"])


def test_emulator_down(case, world, request):
    seconds = 60 if request.config.getoption("--whole") else 20
    case.start("waiting", "waiting")
    case.wait_until_deferred(world.waiting)
    world.network.down()
    down = time.monotonic()
    case.open_gate()
    wait_until(lambda: time.monotonic() - down > seconds, timeout=seconds + 10, what="the time without the API")
    assert case.states() == ["deferred"] * world.waiting
    world.network.up()
    assert case.wait_for_run() == "success"
    case.ends(f"emulator down {seconds} s while waiting", created=world.waiting, states=["success"] * world.waiting)


def test_every_rpc_fails_at_random(case, world):
    case.emulator.fault("*", "UNAVAILABLE", probability=0.3)
    case.start("many", "quick")
    assert case.wait_for_run() == "success"
    case.emulator.reset()
    case.ends("every rpc fails with probability 0.3", created=world.many, states=["success"] * world.many)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_deferred(case, state):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    case.airflow.mark(case.dag_id, case.run_id, "job", state)
    case.ends(f"marked {state} while deferred", created=1, states=[state])


def test_run_marked_failed_while_deferred(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    case.airflow.request("PATCH", f"dags/{case.dag_id}/dagRuns/{case.run_id}", json={"state": "failed"})
    case.ends("run marked failed while deferred", created=1, states=["failed"])


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


def test_cleared_while_deferred(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: len(case.created()) == 2, timeout=60, what="a second job")
    wait_until(lambda: case.active() == case.created()[1:], timeout=60, what="only the second job active")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("cleared while deferred", created=2, states=["success"])
    assert case.result()["job_id"] == case.created()[1]


def test_run_deleted_and_triggered_again(case):
    results = []
    for _ in range(2):
        case.start("deferred", "quick", run_id="the-same")
        assert case.wait_for_run() == "success"
        results.append(case.result()["job_id"])
        if len(results) == 1:
            case.wait_for_executor(processes=2)
            case.airflow.request("DELETE", f"dags/{case.dag_id}/dagRuns/{case.run_id}")
    case.ends("run deleted and triggered again with the same run id", created=2, states=["success"])
    assert results == case.created()


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
    case.ends(f"execution_timeout of 5 s, notebook of an hour ({how})", created=1, states=["failed"])
    assert "JobTimeout" in case.log()
    assert case.task_instance()["duration"] < patient(5 + 1 + 10)


def test_job_deleted_by_somebody_else(case):
    case.start("deferred", "waiting")
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


@pytest.mark.parametrize("cancel", ["supported", "UNIMPLEMENTED"])
def test_stopped_with_and_without_cancel(case, cancel):
    if cancel == "UNIMPLEMENTED":
        case.emulator.fault("CancelOperation", "UNIMPLEMENTED")
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    (job_id,) = case.created()
    case.airflow.mark(case.dag_id, case.run_id, "job", "failed")
    case.ends(f"marked failed, operations.cancel {cancel}", created=1, states=["failed"])
    assert (job_id in case.job_names()) == (cancel == "supported")
    assert case.emulator.calls().get("DeleteNotebookExecutionJob", 0) == (cancel != "supported")
