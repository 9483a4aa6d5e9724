"""What answers in place of Airflow's API server: it knows tasks and the records of their jobs, and no connection."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY
from tests.chaos.schedule import DAG_PREFIX, LOST, Task
from tests.chaos.starts import UPSTREAM

PROJECT = "chaos"
OTHER = "other"  # the state of a task that waits for another job already


class ApiServer:
    """Tasks and records as the metadata database keeps them, whichever triggerer asks, and the failures of asking.

    :param tasks: by id
    :param done: takes what was done to the run
    """

    def __init__(self, tasks: Mapping[int, Task], done: Counter[str]) -> None:
        self._tasks = tasks
        self._done = done
        self.states: dict[int, str | None] = {}
        self.silent: set[int] = set()  # tasks of which the next question is not answered
        self.records: dict[int, Any] = {}  # of tasks that start in the triggerer
        self.how = ""  # what goes wrong with the next request for a record, see `fault`
        starts = {task.id: task.start for task in tasks.values() if task.start}
        self._record_faults = {identity: list(start.record_faults) for identity, start in starts.items()}
        self._read_faults = {identity: list(start.read_faults) for identity, start in starts.items()}

    def task_of(self, dag_id: str, map_index: int | None) -> Task | None:
        """Return the task that a request is about, or None."""
        is_started = dag_id.startswith(DAG_PREFIX)
        return self._tasks.get(int(dag_id.removeprefix(DAG_PREFIX)) if is_started else int(map_index or -1))

    def fault(self, task: Task, *, is_read: bool) -> str:
        """Return what is to go wrong with a request for the record of a task's job; nothing if it is answered."""
        faults = (self._read_faults if is_read else self._record_faults).get(task.id)
        how = faults.pop(0) if faults else ""
        if how:
            self._done[f"records that were {'asked for' if is_read else 'to be kept'}, and Airflow was {how}"] += 1
        return how

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as the API server does."""
        path, asked = request.url.path, request.url.params
        is_record = path.endswith(f"/{JOB_XCOM_KEY}")
        dag_id = path.split("/")[2] if path.startswith("/xcoms/") else asked.get("dag_id", "")
        task = self.task_of(dag_id, asked.get("map_index"))
        if task and path.endswith(f"/{UPSTREAM}/return_value"):
            return httpx.Response(200, json={"key": "return_value", "value": {"results": {"word": "upstream"}}})
        if task and path == "/task-instances/states":
            return self._states_of(task, asked)
        if task and is_record and (found := self._record(task, request)):
            return found
        return httpx.Response(404, json={"detail": {"reason": "not_found", "message": f"no {path}"}})

    def _record(self, task: Task, request: httpx.Request) -> httpx.Response | None:
        """Keep or return a record; None if there is no such task, or no record of it."""
        how, self.how = self.how, ""
        is_read = request.method == "GET"
        if not is_read and self.states.get(task.id) == "removed":
            return None
        if not is_read and how in ("", LOST):
            self.records[task.id] = json.loads(request.content)
        if how:
            return httpx.Response(500, json={"detail": f"chaos: {how}"})
        if not is_read:
            return httpx.Response(201, json={"message": "XCom successfully set"})
        record = self._record_of(task)
        return None if record is None else httpx.Response(200, json={"key": JOB_XCOM_KEY, "value": record})

    def _states_of(self, task: Task, asked: Mapping[str, str]) -> httpx.Response:
        if task.id in self.silent:
            self.silent.discard(task.id)
            self._done["questions that Airflow does not answer"] += 1
            return httpx.Response(400, json={"detail": "chaos"})
        state = self.states.get(task.id)
        key = asked["task_ids"] if task.start else f"{asked['task_ids']}_{task.id}"
        told = {} if state == "removed" else {key: "deferred" if state == OTHER else state}
        return httpx.Response(200, json={"task_states": {asked["run_ids"]: told} if told else {}})

    def _record_of(self, task: Task) -> Any:
        if self.states.get(task.id) == OTHER:
            return {"name": f"{name_of(task)}-again"}
        return self.records.get(task.id) if task.start else {"name": name_of(task)}


def name_of(task: Task) -> str:
    return f"projects/{PROJECT}/locations/{task.location}/notebookExecutionJobs/{task.job_id}"
