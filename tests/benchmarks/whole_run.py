"""Run a DAG of each kind of task in a whole Airflow, and measure what that takes."""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import components
from tests.benchmarks.components import MemorySampler
from tests.benchmarks.execution_api import requests_in
from tests.benchmarks.tables import Rows, median
from tests.benchmarks.whole_kinds import FEW, KINDS, WARM_UP, dag_id
from tests.support.airflow_processes import ENDED, Airflow
from tests.support.patience import wait_until
from tests.support.service_process import Service

LOOK_SECONDS = 5.0  # between two looks at a run
SETTLE_SECONDS = 3.0  # in which the processes of the last tasks end


class Bench:
    """Measures in a running Airflow.

    :param airflow: the Airflow
    :param pids: the process of each of its components
    :param services: what its tasks wait for
    :param options: of `whole_airflow`
    """

    def __init__(self, airflow: Airflow, pids: dict[str, int], services: Service, options: argparse.Namespace) -> None:
        self._airflow, self._pids, self._services, self._options = airflow, pids, services, options
        self._warm_run: dict[str, Any] = {}
        self._measured: dict[tuple[str, int], Rows] = {}

    def warm_up(self, kinds: list[str]) -> None:
        """Have each process do what it does for the first time: it imports and compiles then.

        So the first task of a kind is not measured. By far the most is Airflow's: at the first XCom of a trigger, the
        triggerer of Airflow 3.3.2 takes seconds of CPU to make an execution API of its own.
        """
        print("Each kind is run once ...", flush=True)
        self._services("begin", seconds=self._options.seconds_of_job)
        begun = [
            (of_dag, self._airflow.trigger(of_dag)) for of_dag in [WARM_UP, *(dag_id(kind, FEW) for kind in kinds)]
        ]
        ended = [self._end_of(*run, timeout=600) for run in begun]
        for run in ended:
            self._check(FEW, run)
        self._warm_run = ended[0]

    def run(self, kinds: list[str]) -> None:
        """Measure each kind with each number of tasks; the repeats are by turns."""
        turns = [(kind, tasks) for tasks in self._options.tasks for _ in range(self._options.repeat) for kind in kinds]
        started = time.monotonic()
        for done, (kind, tasks) in enumerate(turns):
            minutes = (time.monotonic() - started) / 60
            print(f"[{done + 1}/{len(turns)}, {minutes:.0f} min] {kind}, {tasks} tasks ...", flush=True)
            try:
                row = self._measure(kind, tasks)
            except AssertionError as error:
                print(f"{error}\n{kind}, {tasks} tasks: the measurement FAILED", flush=True)
                continue
            print("  {cpu:.2f} s of CPU a task, {wall:.0f} s, {requests:.1f} requests a task".format(**row), flush=True)
            self._measured.setdefault((kind, tasks), []).append(row)

    def rows(self) -> Rows:
        """Return the medians of what was measured so far."""
        return [median(rows) for rows in self._measured.values()]

    def _measure(self, kind: str, tasks: int) -> dict[str, Any]:
        options = self._options
        self._services("begin", seconds=options.seconds_of_job)
        with self._looking_at_a_run():
            idle = components.idle_rates(self._pids, options.seconds_idle)
        log_size = self._log.stat().st_size
        before, machine, began = self._cpu(), components.machine_seconds(), time.monotonic()
        with MemorySampler(self._pids) as memory:
            waves = tasks / options.slots  # of tasks that wait on a worker, the slowest kind
            run = self._run(dag_id(kind, tasks), timeout=120 + 5 * tasks + waves * (options.seconds_of_job + 10))
            time.sleep(SETTLE_SECONDS)
        after, machine, took = self._cpu(), components.machine_seconds() - machine, time.monotonic() - began
        requests = self._requests_since(log_size)
        calls = self._services("report")["calls"]
        self._check(tasks, run)
        spent = components.above_idle(before, after, idle, took, tasks)
        return {
            "kind": kind,
            "title": KINDS[kind].title,
            "tasks": tasks,
            "cpu": sum(spent.values()),
            **{f"cpu_{name.replace('-', '_')}": seconds for name, seconds in spent.items()},
            "wall": (wall := seconds_between(run["start_date"], run["end_date"])),
            "wall_above_job": wall - options.seconds_of_job,
            "requests": sum(requests.values()) / tasks,
            "requests_by_kind": {name: count / tasks for name, count in requests.most_common()},
            "calls": sum(calls.values()) / tasks,
            "calls_by_kind": {name: count / tasks for name, count in calls.items()},
            **memory.peaks.figures(),
            "idle_cores": sum(idle.values()),
            "other_cores": (machine - sum(after.values()) + sum(before.values())) / took,
        }

    @property
    def _log(self) -> Path:
        return self._airflow.home / "api-server.log"

    def _requests_since(self, log_size: int) -> Counter[str]:
        with self._log.open("rb") as log:
            log.seek(log_size)
            return requests_in(line.decode(errors="replace") for line in log)

    def _cpu(self) -> dict[str, float]:
        return components.cpu_by_component(self._pids)

    @contextmanager
    def _looking_at_a_run(self) -> Iterator[None]:
        """Look at a run meanwhile, from a thread, as is done while tasks run: that costs the API server some."""
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(LOOK_SECONDS):
                self._airflow.request("GET", _path(self._warm_run))

        thread = threading.Thread(target=look, name="look", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _run(self, of_dag: str, timeout: float) -> dict[str, Any]:
        """Run a DAG, and return what the API tells of its run."""
        return self._end_of(of_dag, self._airflow.trigger(of_dag), timeout)

    def _end_of(self, of_dag: str, run_id: str, timeout: float) -> dict[str, Any]:
        """Wait for the end of a run, and return what the API tells of it."""
        path = _path({"dag_id": of_dag, "dag_run_id": run_id})

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self._airflow.request("GET", path)
            return run if run["state"] in ENDED else None

        try:
            found: dict[str, Any] = wait_until(ended, timeout=timeout, what=f"the end of {path}", interval=LOOK_SECONDS)
        except AssertionError:
            self._airflow.give_up(of_dag, run_id)
            raise
        return found

    def _check(self, tasks: int, run: dict[str, Any]) -> None:
        """Fail if not all tasks succeeded, with the end of the log of one that did not."""
        dag_run = run["dag_id"], run["dag_run_id"]
        instances = self._airflow.task_instances(*dag_run)
        others = [ti for ti in instances if ti["state"] != "success"]
        if not others and len(instances) == tasks:
            return
        text = f"{len(others)} of {len(instances)} tasks did not succeed"
        if others and others[0]["try_number"]:
            ti = others[0]
            log = self._airflow.log(*dag_run, ti["task_id"], ti["try_number"], ti["map_index"])
            text += f"; the log of one that is {ti['state']}:\n{log[-4000:]}"
        raise AssertionError(text)


def _path(run: dict[str, Any]) -> str:
    return f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"


def seconds_between(start: str, end: str) -> float:
    """Return the seconds from one time to another, as Airflow's API writes them."""
    began, ended = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (start, end))
    return (ended - began).total_seconds()
