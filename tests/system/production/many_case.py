"""A case of hundreds of mapped notebooks, which counts their jobs and what they cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from tests.support.airflow_processes import Airflow
from tests.support.fault_table import Fault
from tests.support.patience import wait_until
from tests.support.service_process import Service


class ManyCase:
    """Runs of mapped notebooks in a production Airflow, whose processes are started again if they end by themselves.

    :param airflow: the Airflow
    :param api: the service of their jobs
    :param told: takes the row of the fault matrix that says how it went
    """

    def __init__(self, airflow: Airflow, api: Service, told: Callable[[Fault], None]) -> None:
        self.airflow, self.api, self._told = airflow, api, told
        self._runs: list[tuple[str, str]] = []
        self._started = time.monotonic()

    def start(self, dag_id: str, count: int) -> None:
        """Start a run of so many mapped notebooks."""
        conf = {"notebook": "quick", "count": count, "api": self.api.address}
        self._runs.append((dag_id, self.airflow.trigger(dag_id, conf)))

    def count(self, *states: str) -> int:
        """Return how many of the mapped tasks are in one of some states."""
        return sum(self.airflow.count(dag_id, run_id, *states) for dag_id, run_id in self._runs)

    def notebooks(self) -> list[dict[str, Any]]:
        """Return the mapped task instances."""
        found = [ti for run in self._runs for ti in self.airflow.task_instances(*run)]
        return [ti for ti in found if ti["task_id"] == "job"]

    def wait_until(self, condition: Callable[[], Any], *, timeout: float, what: str) -> Any:
        """Wait, and have whatever runs Airflow's processes start those again that end, as a supervisor does."""

        def holds() -> Any:
            self.airflow.start_what_has_ended()
            return condition()

        return wait_until(holds, timeout=timeout, what=what, interval=2)

    def wait_until_waiting(self, count: int) -> None:
        """Wait until so many tasks are deferred, or wait on a worker for a job that runs."""

        def are_active() -> bool:
            return len(self.api("report")["active"]) == count

        self.wait_until(are_active, timeout=60 + 3 * count, what=f"{count} jobs that run")
        deferred = sum(dag_id == "mapped_deferred" for dag_id, _ in self._runs)
        if deferred == len(self._runs):
            self.wait_until(lambda: self.count("deferred") == count, timeout=120, what=f"{count} deferred")

    @contextmanager
    def workers_with(self, settings: dict[str, str]) -> Iterator[None]:
        """Have the workers run with settings of their own meanwhile."""
        self._restart_workers(settings)
        try:
            yield
        finally:
            self._restart_workers({})

    def _restart_workers(self, settings: dict[str, str]) -> None:
        for name in self.airflow.deployment.names("worker"):
            self.airflow.stop(name)
            self.airflow.start(name, settings=settings)

    def workers(self) -> set[str]:
        """Return the names of the workers on which tasks run."""
        return {ti["hostname"] for ti in self.notebooks() if ti["state"] == "running"}

    def triggerers(self) -> list[str]:
        """Return the name of the triggerer that each deferred task is given to."""
        return [ti["triggerer_job"]["hostname"] for ti in self.notebooks() if ti["triggerer_job"]]

    def wait_for_runs(self, timeout: float) -> None:
        """Wait until all runs have succeeded."""

        def ended() -> bool:
            states = [self.airflow.request("GET", f"dags/{d}/dagRuns/{r}")["state"] for d, r in self._runs]
            assert "failed" not in states, self.failures()
            return set(states) == {"success"}

        self.wait_until(ended, timeout=timeout, what="the end of all runs")

    def abandon(self) -> None:
        """Let nothing of this case reach into the next one, where it failed half-way."""
        self.airflow.start_what_has_ended()
        self.api("release", seconds=0)
        for run in self._runs:
            self.airflow.give_up(*run)

    def failures(self) -> str:
        """Return the log of a task that failed."""
        failed = [ti for ti in self.notebooks() if ti["state"] == "failed"]
        if not failed:
            return "no notebook failed"
        ti = failed[0]
        log = self.airflow.log(ti["dag_id"], ti["dag_run_id"], "job", ti["try_number"], ti["map_index"])
        return f"{len(failed)} failed, such as {ti['map_index']}:\n{log[-5000:]}"

    def detection_seconds(self) -> list[float]:
        """Return how long after the end of each job a trigger saw it, in rising order."""
        ended = self.api("report")["ended"]
        seen: dict[str, float] = {}
        for dag_id, run_id in self._runs:
            for log in (self.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}").rglob("*.trigger.*.log"):
                for line in map(json.loads, log.read_text().splitlines()):
                    if "is JOB_STATE_SUCCEEDED" in line["event"]:
                        job_id = next(part for part in line["event"].split() if part in ended)
                        seen[job_id] = datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")).timestamp()
        return sorted(at - ended[job_id] for job_id, at in seen.items())

    def ends(self, fault: str, *, created: int) -> dict[str, Any]:
        """Check what came of it, tell it, and return what the API tells of it."""
        report = self.api("report")
        seconds = time.monotonic() - self._started
        states = [ti["state"] for ti in self.notebooks()]
        ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        self._told(Fault(fault, len(report["created"]), len(report["active"]), ended, seconds))
        assert len(report["created"]) == created
        assert report["active"] == []
        assert report["stopped"] == []
        assert states == ["success"] * created
        return report
