"""Airflow's own triggerer without a metadata database, and the service that its triggers ask, in another process."""

from __future__ import annotations

import json
import subprocess
import sys
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


def workload(trigger_id: int, classpath: str, kwargs: dict[str, Any]) -> RunTrigger:
    """Return what the runner makes a trigger of: one of a task of its own, whose map index is the trigger's id."""
    task = TaskInstanceDTO(
        id=uuid4(),
        dag_version_id=uuid4(),
        dag_id="bench",
        task_id="wait",
        run_id="bench",
        try_number=1,
        map_index=trigger_id,
        pool_slots=1,
        queue="default",
        priority_weight=1,
    )
    return RunTrigger(id=trigger_id, classpath=classpath, encrypted_kwargs=Trigger.encrypt_kwargs(kwargs), ti=task)


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
        """Give a trigger a log of its own."""
        log_path = str(self.folder / "logs" / f"{trigger.id}.log")
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


class Service:
    """A fake service in a process of its own, which obeys as `grpc_service.obey` does.

    :param module: the module that is run, and its arguments
    """

    def __init__(self, *module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = self._answer()

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return f"127.0.0.1:{self.told['port']}"

    def __call__(self, do: str, **order: Any) -> dict[str, Any]:
        print(json.dumps({"do": do, **order}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
