"""The benchmark of a whole Airflow reads logs and the kernel's figures, and judges what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks import whole_kinds
from tests.benchmarks.components import TASK_TITLE, above_idle, cpu_by_component, high_water_mb, machine_seconds
from tests.benchmarks.execution_api import requests_in
from tests.benchmarks.whole_kinds import DEFERRED, EMPTY, IN_TRIGGERER, KINDS, OURS, OURS_IN_TRIGGERER, PEERS
from tests.benchmarks.whole_report import reached, report, with_ratios
from tests.benchmarks.whole_run import seconds_between

TI = "01a22bcc-5a3d-792d-bfde-5def558894a4"
LINE = (
    "2026-11-30T09:32:27.143985Z [info     ] request finished               [http.access] client_addr=127.0.0.1:35074"
    " duration_us=3825858 loc=http_access_log.py:130 method={} path={} query={} status_code={}"
)
STATUS = "Name:\tairflow\nVmPeak:\t  832268 kB\nVmHWM:\t  200000 kB\nVmRSS:\t  190000 kB\n"


def row(kind: str, tasks: int = 40, **changes: Any) -> dict[str, Any]:
    figures = {
        "title": KINDS[kind].title,
        "cpu": 1.0,
        "cpu_workers": 0.5,
        "cpu_scheduler": 0.2,
        "cpu_api_server": 0.25,
        "cpu_triggerer": 0.05,
        "cpu_dag_processor": 0.0,
        "wall": 50.0,
        "requests": 12.0,
        "requests_by_kind": {"PUT task-instances/heartbeat": 2.0, "PATCH task-instances/run": 10.0},
        "calls": 3.0,
        "task_mb": 200.0,
        "triggerer_mb": 200.0,
        "triggerer_growth_mb": 5.0,
        "whole_mb": 900.0,
        "other_cores": 0.1,
    }
    return {"kind": kind, "tasks": tasks, **figures, **changes}


@pytest.mark.parametrize(
    ("request_line", "kind"),
    [
        (("PATCH", f"/execution/task-instances/{TI}/run", "", 200), "PATCH task-instances/run"),
        (("PUT", f"/execution/task-instances/{TI}/heartbeat", "", 204), "PUT task-instances/heartbeat"),
        (("POST", "/execution/xcoms/d/test__1/task/return_value", "'map_index=47'", 201), "POST xcoms return_value"),
        (("POST", "'/execution/xcoms/d/manual__a=b/task/name'", "'map_index=4'", 201), "POST xcoms name"),
        (("GET", "/execution/connections/google_cloud_default", "", 404), "GET connections"),
    ],
)
def test_the_kind_of_a_request(request_line, kind):
    assert requests_in([LINE.format(*request_line)]) == {kind: 1}


def test_other_lines_are_no_requests_to_the_execution_api():
    other = [
        LINE.format("GET", "/api/v2/dags/d", "", 200),
        LINE.format("GET", "/ui/execution/x", "", 200),
        "2026-11-30T09:32:22.422268Z [info     ] creating dag run path=/execution/x",
        "",
    ]
    assert requests_in(other) == {}


def test_requests_of_a_kind_add_up():
    lines = [LINE.format("PUT", f"/execution/task-instances/{TI}/heartbeat", "", status) for status in (204, 204, 409)]
    assert requests_in(lines) == {"PUT task-instances/heartbeat": 3}


def test_cpu_of_a_task_is_that_above_idle():
    before, after = {"scheduler": 10.0, "triggerer": 5.0}, {"scheduler": 50.0, "triggerer": 6.0}
    spent = above_idle(before, after, idle={"scheduler": 0.1, "triggerer": 0.01}, seconds=100.0, tasks=10)
    assert spent == pytest.approx({"scheduler": 3.0, "triggerer": 0.0})


def test_what_a_scheduler_started_are_its_workers(monkeypatch):
    from tests.benchmarks import components

    own = type("times", (), {"user": 3.0, "system": 1.0, "children_user": 90.0})
    monkeypatch.setattr(components, "cpu_seconds", {1: 10.0, 2: 7.0}.__getitem__)
    monkeypatch.setattr(components.psutil, "Process", lambda pid: type("process", (), {"cpu_times": lambda _: own})())
    assert cpu_by_component({"scheduler": 1, "api-server": 2}) == {"scheduler": 4.0, "workers": 6.0, "api-server": 7.0}


def test_the_most_memory_of_a_process():
    assert high_water_mb(STATUS) == pytest.approx(204.8)
    assert high_water_mb("Name:\tairflow\nState:\tZ (zombie)\n") == 0


@pytest.mark.parametrize(
    ("title", "is_task"),
    [
        (f"airflow worker -- {TI}", True),
        ("airflow worker -- LocalExecutor: <idle>", False),
        (f"airflow worker -- LocalExecutor: {TI}", False),
        (f"airflow supervisor: {TI}", False),
    ],
)
def test_which_process_is_that_of_a_task(title, is_task):
    assert bool(TASK_TITLE.match(title)) == is_task


def test_the_machine_has_done_something():
    assert machine_seconds() > 0


def test_seconds_between_times_of_the_api():
    assert seconds_between("2026-11-30T09:32:22.500000Z", "2026-11-30T09:33:02.750000Z") == pytest.approx(40.25)


def test_figures_are_differences_within_one_run():
    rows = [
        row(DEFERRED, cpu=0.5, cpu_api_server=0.1),
        row(IN_TRIGGERER, cpu=0.1),
        row(OURS, cpu=0.9, cpu_api_server=0.3),
        row(OURS_IN_TRIGGERER, cpu=0.15, wall_above_job=8.5),
        row(PEERS[0], cpu=1.8),
        row(DEFERRED, tasks=200, cpu=0.5),
        row(OURS, tasks=200, cpu=1.5),
    ]
    found = {line["figure"]: (line["measured"], line["reached"]) for line in reached(rows)[:6]}
    assert found == {
        "40 tasks: CPU s above a bare deferred task": (pytest.approx(0.4), "yes"),
        "  of it the API server's": (pytest.approx(0.2), "NO"),
        "  requests to the execution API, heartbeats apart": (10.0, "yes"),
        "  start_from_trigger: CPU s above a bare task in the triggerer": (pytest.approx(0.05), "yes"),
        "  start_from_trigger: wall s above a job's": (8.5, "yes"),
        "  CPU, of that of Databricks: notebook, deferrable": (pytest.approx(0.5), "yes"),
    }
    assert [line["measured"] for line in reached(rows)[6:]] == pytest.approx([1.0, 0.0, 10.0])


def test_a_row_tells_its_cpu_as_a_multiple_of_the_floor():
    rows = with_ratios([row(DEFERRED, cpu=0.5), row(OURS, cpu=2.0), row(OURS, tasks=200)])
    assert [line["of_floor"] for line in rows] == [1.0, 4.0, None]


def test_the_report_has_a_line_for_each_kind():
    text = report([row(EMPTY), row(OURS)])
    assert KINDS[EMPTY].title in text
    assert text.count("PUT task-instances/heartbeat") == 2


def test_a_kind_is_left_out_with_a_reason(monkeypatch, capsys):
    from tests.benchmarks.whole_airflow import available

    missing = whole_kinds.Kind("ours, start_from_trigger", "notebooks.py", lambda: "the operator has no such argument")
    monkeypatch.setitem(KINDS, OURS_IN_TRIGGERER, missing)
    assert available([OURS_IN_TRIGGERER, OURS, EMPTY]) == [EMPTY, OURS]
    assert capsys.readouterr().out == f"{OURS_IN_TRIGGERER} is left out: the operator has no such argument\n"
