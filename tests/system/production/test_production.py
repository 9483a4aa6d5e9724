"""PostgreSQL, Celery on Redis, two of each process that may be two: `make production`."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.patience import wait_until
from tests.system.production.report import PROPERTY as FIGURES

LONG_SECONDS = 1500  # that a test may take which starts hundreds of tasks


@pytest.fixture(scope="session")
def numbers(request):
    """Return how many notebooks wait in each test: those of the issue with ``--whole``."""
    return (
        {"mapped": 500, "waiting": 250, "rolling": 50}
        if request.config.getoption("--whole")
        else {
            "mapped": 40,
            "waiting": 20,
            "rolling": 10,
        }
    )


@pytest.mark.timeout(LONG_SECONDS)
def test_hundreds_of_mapped_notebooks(many, production, numbers, record_property):
    def cpu_seconds():
        return {**many.airflow.cpu_seconds(), **production.cpu_seconds()}

    count = numbers["mapped"]
    many.api("begin", seconds=40)
    before, began = cpu_seconds(), time.monotonic()
    many.start("mapped_deferred", count)
    many.wait_for_runs(timeout=120 + 4 * count)
    seconds = time.monotonic() - began
    after = cpu_seconds()
    report = many.ends(f"{count} mapped notebooks of 40 s", created=count)
    seen = many.detection_seconds()
    assert len(seen) == count
    record_property(
        FIGURES,
        {
            "count": count,
            "created": len(report["created"]),
            "active": len(report["active"]),
            "seconds": seconds,
            "cpu_seconds": {name: after[name] - before[name] for name in after},
            "calls": report["calls"],
            "detection_p50": seen[len(seen) // 2],
            "detection_p95": seen[int(0.95 * (len(seen) - 1))],
        },
    )


@pytest.mark.timeout(LONG_SECONDS)
def test_one_of_two_triggerers_killed(many, numbers):
    count = numbers["waiting"]
    many.start("mapped_deferred", count)
    many.wait_until_waiting(count)
    many.wait_until(lambda: len(many.triggerers()) == count, timeout=60, what="a triggerer for each")
    killed = max(set(many.triggerers()), key=many.triggerers().count)
    many.airflow.stop(killed, signal.SIGKILL)

    def are_taken_over():
        given = many.triggerers()
        return len(given) == count and killed not in given

    wait_until(are_taken_over, timeout=120, what="all with the other triggerer", interval=2)
    many.airflow.start(killed)
    many.api("release", seconds=20)
    many.wait_for_runs(timeout=120 + 4 * count)
    many.ends(f"one of two triggerers SIGKILLed while {count} wait", created=count)


@pytest.mark.parametrize("acknowledged", ["late", "early"])
def test_a_worker_lost_with_its_tasks(many, acknowledged):
    with many.workers_with({"AIRFLOW__CELERY__TASK_ACKS_LATE": str(acknowledged == "late")}):
        many.start("mapped_blocking", 6)
        many.wait_until_waiting(6)
        lost = min(many.workers())
        many.airflow.stop(lost, signal.SIGKILL)
        wait_until(lambda: lost not in many.workers(), timeout=120, what="its tasks elsewhere", interval=2)
        many.airflow.start(lost)
        many.api("release", seconds=5)
        many.wait_for_runs(timeout=300)
    many.ends(f"a worker SIGKILLed with its tasks, which it acknowledges {acknowledged}", created=6)


def test_the_broker_delivers_running_tasks_again(many):
    with many.workers_with({"AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "15"}):
        many.start("mapped_blocking", 4)
        many.wait_until_waiting(4)
        logs = [many.airflow.home / f"{name}.log" for name in many.airflow.deployment.names("worker")]
        again = "already running elsewhere"
        wait_until(lambda: any(again in log.read_text() for log in logs), timeout=180, what="a second delivery")
        many.api("release", seconds=5)
        many.wait_for_runs(timeout=300)
    many.ends("Celery's visibility timeout is shorter than the notebooks", created=4)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_postgresql_restarted(many, production, how):
    many.start("mapped_deferred", 10)
    many.start("mapped_blocking", 2)
    many.wait_until_waiting(12)
    production.database.stop(how)
    production.database.start()
    many.api("release", seconds=20)
    many.wait_for_runs(timeout=400)
    shutdown = "its fast" if how is signal.SIGINT else "an immediate"
    many.ends(f"PostgreSQL restarted by {shutdown} shutdown while 12 wait", created=12)


def test_redis_restarted(many, production):
    many.start("mapped_deferred", 10)
    many.start("mapped_blocking", 2)
    many.wait_until_waiting(12)
    production.broker.stop(signal.SIGTERM)
    production.broker.start()
    many.api("release", seconds=20)
    many.wait_for_runs(timeout=400)
    many.ends("Redis restarted while 12 wait", created=12)


@pytest.mark.parametrize("how", ["deferred", "blocking"])
def test_a_message_that_postgresql_refuses(many, how):
    many.api("begin", seconds=5, message="ended \0 with NUL")
    many.start(f"mapped_{how}", 1)
    many.wait_for_runs(timeout=180)
    many.ends(f"a message that PostgreSQL cannot hold as JSON ({how})", created=1)
    (ti,) = many.notebooks()
    result = many.airflow.xcom(ti["dag_id"], ti["dag_run_id"], "job", map_index=0)
    assert result["status"]["message"] == "ended \ufffd with NUL"


@pytest.mark.timeout(LONG_SECONDS)
def test_rolling_restart(many, numbers):
    count = numbers["rolling"]
    many.start("mapped_deferred", count)
    many.start("mapped_blocking", 2)
    many.wait_until_waiting(count + 2)
    for name in many.airflow.deployment.components:
        many.airflow.stop(name)
        many.airflow.start(name)
        many.airflow.wait_until_healthy()
    many.api("release", seconds=20)
    many.wait_for_runs(timeout=400)
    many.ends(f"all processes restarted one by one while {count + 2} wait", created=count + 2)


def test_notebook_beside_its_dag_whose_folder_is_another_on_each_worker(case):
    case.start("beside", "")
    assert case.wait_for_run() == "success"
    tis = case.airflow.task_instances("beside", case.run_id)
    assert {(ti["task_id"], ti["hostname"]) for ti in tis} == {
        (f"{how}_on_{worker}", worker) for how in ("deferred", "blocking") for worker in ("worker-1", "worker-2")
    }
    case.ends("a notebook beside its DAG, in another folder on each worker", created=4, states=["success"] * 4)
