"""Tasks that start in the triggerer, in a real Airflow: no worker has to do with them unless something fails."""

from __future__ import annotations

import signal

from tests.support.patience import wait_until

CREATE = "CreateNotebookExecutionJob"


def worker_has_run(case):
    lines = (case.airflow.home / "scheduler.log").read_text().splitlines()
    return any("executor event" in line and f"'{case.run_id}'" in line for line in lines)


def wait_until_watched(case):
    wait_until(case.running, timeout=120, what="a job that runs")
    case.wait_until_watched()


def test_a_task_runs_without_a_worker(case):
    case.start("deferred_from_trigger", "quick")
    assert case.wait_for_run() == "success"
    case.ends("no fault", created=1, states=["success"])
    assert not worker_has_run(case)
    result = case.result()
    assert result["job_id"] == case.created()[0]
    pulled = {key: case.airflow.xcom(case.dag_id, case.run_id, "job", key=key) for key in ("job_state", "results")}
    assert pulled == {"job_state": result["job_state"], "results": result["results"]}
    path = f"dags/{case.dag_id}/dagRuns/{case.run_id}/taskInstances/job/links"
    assert case.airflow.request("GET", path)["extra_links"]["Notebook output"].endswith(result["job_id"])


def test_a_mapped_task_runs_without_a_worker(case):
    case.start("from_trigger_mapped", "quick")
    assert case.wait_for_run() == "success"
    case.ends("mapped", created=6, states=["success"] * 6)
    assert not worker_has_run(case)
    jobs = [case.airflow.xcom(case.dag_id, case.run_id, "job", map_index=index) for index in range(6)]
    assert [job["display_name"] for job in jobs] == [f"of {len(case.run_id)}", "b", "c"] * 2
    assert len({job["job_id"] for job in jobs}) == 6


def test_a_failure_is_told_and_retried_by_workers(case):
    case.start("from_trigger_retried", "failing")
    assert case.wait_for_run() == "failed"
    case.ends("notebook fails, with retries=1", created=2, states=["failed"])
    assert "ValueError: as asked" in case.log(2)
    assert "The callback saw cell 1 raise ValueError: as asked" in case.log(2)


def test_execution_timeout(case):
    case.start("from_trigger_limited", "sleeping")
    assert case.wait_for_run() == "failed"
    case.ends("execution_timeout of 30 s", created=1, states=["failed"])
    assert "JobTimeout" in case.log()


def test_cleared_while_it_waits(case):
    case.start("deferred_from_trigger", "waiting")
    wait_until_watched(case)
    other = case.start_beside("waiting")
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: len(case.created()) == 3, timeout=120, what="a second job")
    wait_until(lambda: case.active() == case.created()[1:], timeout=120, what="the first job stopped")
    case.open_gate()
    assert case.airflow.wait_for_run("deferred", other, timeout=300) == "success"
    assert case.wait_for_run() == "success"
    case.ends("cleared (beside another task)", created=3, states=["success"])
    assert case.result()["job_id"] == case.created()[2]


def test_cleared_after_success(case):
    case.start("deferred_from_trigger", "quick")
    assert case.wait_for_run() == "success"
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: len(case.created()) == 2, timeout=120, what="a second job")
    assert case.wait_for_run() == "success"
    case.ends("cleared after success", created=2, states=["success"])
    assert case.result()["job_id"] == case.created()[1]


def test_triggerer_killed_before_the_create_returned(case):
    case.emulator.fault(CREATE, "UNAVAILABLE", drop_response=True)
    case.start("deferred_from_trigger", "quick")
    wait_until(case.created, timeout=120, what="a job")
    name, _ = case.triggerer()
    case.airflow.stop(name, signal.SIGKILL)
    case.emulator.reset()
    case.airflow.start(name)
    assert case.wait_for_run() == "success"
    case.ends("triggerer SIGKILLed between create and record", created=1, states=["success"])


def test_an_api_that_refuses_the_job_is_told_by_a_worker(case):
    case.emulator.fault(CREATE, "PERMISSION_DENIED", times=50)
    case.start("deferred_from_trigger", "quick")
    assert case.wait_for_run() == "failed"
    case.ends("create refused", created=0, states=["failed"])
    assert "PERMISSION_DENIED" in case.log()
