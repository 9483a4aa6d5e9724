"""What a task asks of Airflow's API server, from its start to its end: a large Airflow runs out of that first."""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import unquote

import pytest

from tests.support.patience import wait_until

REQUEST = re.compile(r"method=([A-Z]+) path=/execution/(\S+)")
KEYS = {"POST return_value": 1, "POST output_notebook_uri": 1, "POST job_state": 1, "POST results": 1}
# Of a task that starts on a worker, and of one that goes on there: Airflow's own.
STARTS = {"PATCH run": 1, "PUT rtif": 1, "PATCH state": 1}
GOES_ON = {"PATCH run": 2, "PUT rtif": 1, "PATCH state": 2}


@pytest.fixture
def asked(case):
    """A function that returns how often a task of the case's run asked for what; heartbeats come by the clock."""
    log = case.airflow.home / "api-server.log"
    before = log.stat().st_size

    def asked_by(task_id: str) -> dict[str, int]:
        with log.open("rb") as file:
            file.seek(before)
            lines = file.read().decode().splitlines()
        ti = case.airflow.task_instance(case.dag_id, case.run_id, task_id)
        found = Counter[str]()
        for method, path in (match.groups() for match in map(REQUEST.search, lines) if match):
            kind, *parts = map(unquote, path.split("/"))
            if kind == "xcoms" and parts[:3] == [case.dag_id, case.run_id, task_id]:
                found[f"{method} {parts[3]}"] += 1
            elif kind == "task-instances" and parts[0] == ti["id"]:
                found[f"{method} {parts[1]}"] += 1
            elif kind in ("connections", "variables"):
                found[f"{method} {kind}"] += 1
        del found["PUT heartbeat"]
        return dict(found)

    return asked_by


def test_a_deferrable_task_makes_ten(case, asked):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    case.open_gate()
    assert case.wait_for_run() == "success"
    found = asked("job")
    assert found == {**GOES_ON, **KEYS, "POST notebook_execution_job": 1}  # its end is put on record by the triggerer
    assert sum(found.values()) == 10


def test_a_blocking_task_makes_nine(case, asked):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.open_gate()
    assert case.wait_for_run() == "success"
    found = asked("job")
    assert found == {**STARTS, **KEYS, "POST notebook_execution_job": 2}
    assert sum(found.values()) == 9


def test_a_sensor_makes_as_many(case, asked):
    case.start("sensed", "waiting")
    case.wait_until_watched()
    case.open_gate()
    assert case.wait_for_run() == "success"
    # It reads the name of the job that it waits for, each time that its arguments are rendered.
    assert asked("job") == {**GOES_ON, **KEYS, "POST notebook_execution_job": 1}
    assert asked("submit")["GET name"] == 2


def test_a_failure_makes_fewer(case, asked):
    case.start("deferred", "failing")
    assert case.wait_for_run() == "failed"
    assert asked("job") == {**GOES_ON, "POST notebook_execution_job": 2}


def test_each_key_costs_a_request(case, asked):
    case.start("keyed", "quick")
    assert case.wait_for_run() == "success"
    assert asked("job") == {**STARTS, "POST return_value": 1, "POST display_name": 1, "POST notebook_execution_job": 2}


def test_links_of_the_task_are_made_of_the_one_record(case):
    case.start("derived", "quick")
    assert case.wait_for_run() == "success"

    def links(task_id):
        path = f"dags/{case.dag_id}/dagRuns/{case.run_id}/taskInstances/{task_id}"
        keys = [entry["key"] for entry in case.airflow.request("GET", f"{path}/xcomEntries")["xcom_entries"]]
        return case.airflow.request("GET", f"{path}/links")["extra_links"], [k for k in keys if k.startswith("_link_")]

    for task_id, pushed in (("job", 0), ("derived", 3)):
        job_id = case.airflow.xcom(case.dag_id, case.run_id, task_id)["job_id"]
        shown, keys = links(task_id)
        assert len(keys) == pushed
        assert shown["Notebook executions"].endswith("execution-jobs?project=emulator-project")
        assert shown["Notebook output"].endswith(f"/faults/runs/{job_id}")
        assert job_id in shown["Notebook logs"]
