"""Airflow's own triggerer without a metadata database."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.executors.workloads.trigger import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerLoggingFactory, TriggerRunnerSupervisor
from airflow.models.trigger import Trigger

PROBE = 0  # its id; the trigger of the job n is n + 1


def task_of(trigger_id: int, **changes: Any) -> TaskInstanceDTO:
    """Return a task instance of its own for a trigger: its map index is the trigger's id."""
    given = {
        "id": uuid4(),
        "dag_version_id": uuid4(),
        "dag_id": "bench",
        "task_id": "wait",
        "run_id": "bench",
        "try_number": 1,
        "map_index": trigger_id,
        "pool_slots": 1,
        "queue": "default",
        "priority_weight": 1,
    }
    return TaskInstanceDTO(**{**given, **changes})


def workload(
    trigger_id: int, classpath: str, kwargs: dict[str, Any], ti: TaskInstanceDTO | None = None, **more: Any
) -> RunTrigger:
    """Return what the runner makes a trigger of.

    :param ti: default: a task instance of its own, see `task_of`
    :param more: other fields of `RunTrigger`
    """
    kept = Trigger.encrypt_kwargs(kwargs)
    return RunTrigger(id=trigger_id, classpath=classpath, encrypted_kwargs=kept, ti=ti or task_of(trigger_id), **more)


class Supervisor(TriggerRunnerSupervisor):
    """Airflow's, with a plan in place of the metadata database."""

    def prepare(self, folder: Path) -> None:
        self.folder = folder
        self.plan: deque[tuple[float, RunTrigger]] = deque()
        self.detected: dict[int, float] = {}
        self.failed: list[Any] = []

    def add(self, at: float, trigger_id: int, classpath: str, kwargs: dict[str, Any]) -> None:
        self.plan.append((at, workload(trigger_id, classpath, kwargs)))

    def run_until(self, end: float) -> None:
        while time.monotonic() < end:
            self.run_once()

    def load_triggers(self) -> None:
        while self.plan and self.plan[0][0] <= time.monotonic():
            _, trigger = self.plan.popleft()
            self.keep_log(trigger)
            self.creating_triggers.append(trigger)

    def keep_log(self, trigger: RunTrigger) -> None:
        """Give a trigger a log of its own, and another one each time it is given back."""
        logs = self.folder / "logs"
        log_path = str(logs / f"{trigger.id}.{len(list(logs.glob(f'{trigger.id}.*.log')))}.log")
        self.logger_cache[trigger.id] = TriggerLoggingFactory(log_path=log_path, ti=trigger.ti)

    def on_trigger_event(self, trigger_id: int, event: Any) -> None:
        if trigger_id == PROBE or "SUCCEEDED" in str(event):
            self.detected[trigger_id] = time.monotonic()
        else:
            self.failed.append((trigger_id, event))

    def on_trigger_failure(self, trigger_id: int, exc: Any) -> None:
        self.failed.append((trigger_id, exc))

    def heartbeat(self) -> None:
        """There is no job to keep alive."""

    def clean_unused(self) -> None:
        """There is no database to clean."""

    def metric_tags(self) -> dict[str, str]:
        return {"hostname": "bench"}
