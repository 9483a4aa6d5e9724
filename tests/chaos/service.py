"""The API for a run: its jobs end, and its answers go wrong, as the schedule says.

It runs in a process of its own, as that of the benchmark does:
``python -m tests.chaos.service SEED MINUTES TASKS STARTING FOLDER``
with the certificate of `keys.write_certificate` in the folder, and STARTING ``yes`` or nothing, see `make_schedule`.
``{"do": "tick", "tick": 7, "recorded": [3]}`` makes it be that tick, at which Airflow has the record of the job of task
3, and ``{"do": "report"}`` tells what became of the jobs, and what was answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import grpc
from google.cloud.aiplatform_v1 import types
from google.longrunning.operations_pb2 import ListOperationsRequest, ListOperationsResponse, Operation
from google.protobuf.empty_pb2 import Empty

from tests.chaos.schedule import (
    DAG_PREFIX,
    HANG,
    KEY,
    LOCATIONS,
    LOST,
    NEED_RECORD,
    PLAIN,
    SLOW,
    SLOW_SECONDS,
    Schedule,
    make_schedule,
)
from tests.chaos.storage import serve_storage
from tests.support.grpc_service import RUNNING, SUCCEEDED, Handler, Jobs, NamedRequest, obey

PROJECT_NUMBER = "123456789"  # the API tells a project by its number, whatever the client asked by
PARENT = f"projects/{PROJECT_NUMBER}/locations/{{}}"
FOREIGN = 300  # jobs in each location that nobody waits for
HOUR = 3600.0
LOOKS = {"GetNotebookExecutionJob": "Get", "ListNotebookExecutionJobs": "List"}
CREATE = "CreateNotebookExecutionJob"
LIST_OPERATIONS = "ListOperations"
STOPS = ("CancelOperation", "DeleteNotebookExecutionJob")
CANCELLED = types.JobState.JOB_STATE_CANCELLED


class Api:
    """What all ports serve: the jobs, and what is wrong at this tick."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.tick = -1
        self.calm = False  # nothing goes wrong any more
        self.locations = {location: Jobs(PARENT.format(location)) for location in LOCATIONS}
        # By location and the job's own id. Those of tasks that start in the triggerer come with their creates.
        self.tasks = {task.job: task for task in reversed(schedule.tasks) if not task.start}
        self.starting = {task.id: task for task in schedule.tasks if task.start}
        self.create_faults = {task.id: list(task.start.create_faults) for task in schedule.tasks if task.start}
        self.created: dict[str, list[tuple[str, float]]] = {}  # ids, and when, of the jobs of each of these
        # Those of questions that were answered NOT_FOUND last, though there is what was asked for.
        self.denied: set[tuple[str, ...]] = set()
        self.once: dict[tuple[str, str], list[str]] = {}
        self.stop_faults = {task.job: list(task.stop_faults) for task in schedule.tasks}
        self.asked_to_stop: dict[str, list[float]] = {}  # when, by job
        self.stopped: set[str] = set()
        self.ended: dict[str, float] = {}
        self.answers: Counter[str] = Counter()
        now = time.time()
        for jobs in self.locations.values():
            for number in range(FOREIGN):
                jobs.put(f"foreign-{number}", SUCCEEDED, at=now - 2 * HOUR + number)
        for (location, job_id), task in self.tasks.items():
            self.locations[location].put(job_id, RUNNING, at=now - HOUR + task.id)

    def be(self, tick: int, recorded: Collection[int] = ()) -> None:
        """Go on to a tick: some jobs end.

        :param recorded: tasks the record of whose job Airflow has
        """
        for now in range(self.tick + 1, tick + 1):
            for at, location, method, code in self.schedule.once:
                if at == now:
                    self.once.setdefault((location, method), []).append(code)
            for (location, job_id), task in self.tasks.items():
                if not task.start and task.ends == now and task.killed is None:
                    self._end(location, job_id, task.state)
        for (location, job_id), task in self.tasks.items():
            is_due = task.start and task.ends is not None and task.ends <= tick and self._is_active(location, job_id)
            if is_due and (task.id in recorded or task.state not in NEED_RECORD):
                self._end(location, job_id, task.state)
        self.tick = tick
        self.calm = tick >= self.schedule.ticks
        if self.calm:
            self.once.clear()

    def _end(self, location: str, job_id: str, state: str | None) -> None:
        jobs = self.locations[location]
        self.ended[self._key(location, job_id)] = time.monotonic()
        if state is None:
            jobs.updated.pop(job_id, None)
        else:
            jobs.put(job_id, types.JobState[f"JOB_STATE_{state}"], at=time.time())

    def _is_active(self, location: str, job_id: str) -> bool:
        job = self.locations[location].updated.get(job_id)
        return job is not None and job.job_state == RUNNING

    def _key(self, location: str, job_id: str) -> str:
        """Return the key of a job in a report: with the id that the schedule gives it."""
        task = self.tasks.get((location, job_id))
        return "/".join(task.job) if task else f"{location}/{job_id}"

    # --- answers ---

    async def create(self, connection: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Submit a job, wrongly if the schedule says so. An id that was used once stays taken."""
        asked = types.CreateNotebookExecutionJobRequest.deserialize(request)
        location, job_id = asked.parent.split("/")[3], asked.notebook_execution_job_id
        task = self.starting[int(asked.notebook_execution_job.display_name.partition(".")[0].removeprefix(DAG_PREFIX))]
        await self._go_wrong("Create", (connection, "Create", location, job_id), context)
        faults = self.create_faults[task.id]
        how = faults.pop(0) if faults and not self.calm else ""
        if how and how not in (LOST, SLOW, HANG):
            await self.fail(context, how)
        if (location, job_id) in self.tasks:
            await self.fail(context, "ALREADY_EXISTS")
        self.tasks[location, job_id] = task
        self.created.setdefault("/".join(task.job), []).append((job_id, time.monotonic()))
        sent = types.NotebookExecutionJob.pb(asked.notebook_execution_job)
        self.locations[location].put(job_id, RUNNING, at=time.time(), sent=sent)
        if how:
            self.answers[f"create: {how}"] += 1
            await self._answer_late(how, context)
        name = f"{PARENT.format(location)}/notebookExecutionJobs/{job_id}"
        return Operation(name=f"{name}/operations/1").SerializeToString()

    async def _answer_late(self, how: str, context: grpc.aio.ServicerContext) -> None:
        """Let the answer to a create be lost, be late, or not come before the client gives it up."""
        if how == LOST:
            await self.fail(context, "UNAVAILABLE")
        elif how == SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        while how == HANG and not self.calm:
            await asyncio.sleep(0.2)

    async def look(self, method: str, connection: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer a look, wrongly if the schedule says so."""
        name, location, job_id = _job_of(method, request)
        question = (connection, method, location, job_id)
        await self._go_wrong(method, question, context)
        jobs = self.locations[location]
        if method == "List":
            return await jobs.list(request)
        if job_id not in jobs.updated:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{name} is not found")
        return await jobs.get("NotebookExecutionJob", request)

    async def _go_wrong(self, method: str, question: tuple[str, ...], context: grpc.aio.ServicerContext) -> None:
        """Have a question fail, or wait, if the schedule says so."""
        location = question[2]
        how = "" if self.calm else self.schedule.api_fault(location, method, self.tick) or self._once(question)
        if how == HANG:
            self.answers[HANG] += 1
            while not self.calm and self.schedule.api_fault(location, method, self.tick) == HANG:
                await asyncio.sleep(0.2)
        elif how == SLOW:
            self.answers[SLOW] += 1
            await asyncio.sleep(SLOW_SECONDS)
        elif how:
            await self.fail(context, how)
        self.denied.discard(question)

    def _once(self, question: tuple[str, ...]) -> str:
        _, method, location, _ = question
        waiting = self.once.get((location, method), [])
        if not waiting or (waiting[0] == "NOT_FOUND" and question in self.denied):
            return ""
        if waiting[0] == "NOT_FOUND":
            self.denied.add(question)
        return waiting.pop(0)

    async def stop(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Perform a part of stopping a job, after the failures that the schedule has for it."""
        name, location, job_id = _job_of(method, request)
        jobs, key = self.locations[location], self._key(location, job_id)
        faults = self.stop_faults.get(tuple(key.split("/")), [])
        how = faults.pop(0) if faults and not self.calm else ""
        if how and how != LOST:
            await self.fail(context, how)
        if job_id not in jobs.updated:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{name} is not found")
        is_active = self._is_active(location, job_id)
        answer: Any = Empty()
        if method == LIST_OPERATIONS:
            answer = ListOperationsResponse(operations=[Operation(name=f"{name}/operations/1", done=not is_active)])
        elif method == "CancelOperation" and is_active:
            jobs.put(job_id, CANCELLED, at=time.time())
        elif method == "DeleteNotebookExecutionJob":
            del jobs.updated[job_id]
            answer = Operation(name=f"{name}/operations/2", done=True)
        if method in STOPS and is_active:
            self.stopped.add(key)
        if how == LOST:
            await self.fail(context, "UNAVAILABLE")
        return answer.SerializeToString()

    def count(self, method: str, request: bytes) -> None:
        """Take note of a request that is to stop a job, whatever it is answered."""
        _, location, job_id = _job_of(method, request)
        self.asked_to_stop.setdefault(self._key(location, job_id), []).append(time.monotonic())

    async def fail(self, context: grpc.aio.ServicerContext, code: str) -> None:
        self.answers[code] += 1
        await context.abort(grpc.StatusCode[code], f"chaos: {code}")

    def storage_fault(self, location: str) -> str:
        """Return what is wrong with the bucket of a location now; nothing if it works."""
        return "" if self.calm else self.schedule.api_fault(location, "Store", self.tick)

    def report(self) -> dict[str, Any]:
        return {
            "ended": self.ended,
            "asked_to_stop": self.asked_to_stop,
            "stopped": sorted(self.stopped),
            "created": self.created,
            "active": sorted(self._key(*job) for job in self.tasks if self._is_active(*job)),
            "answers": self.answers,
        }


def _job_of(method: str, request: bytes) -> tuple[str, str, str]:
    """Return the name that a request is for, and its location and the job's id."""
    if method == LIST_OPERATIONS:
        name = ListOperationsRequest.FromString(request).name
    else:  # a job's name, its operation's and the parent of a listing are the first field of their requests
        name = NamedRequest.FromString(request).name.partition("/operations/")[0]
    return name, name.split("/")[3], name.split("/")[-1]


class Port(Handler):
    """Serves the API to who uses one connection, if that holds what the API accepts now.

    :param number: of the key that a plaintext port stands for; who uses the other connection sends a token of its key
    """

    def __init__(self, api: Api, connection: str, number: int | None = None) -> None:
        self._api, self._connection, self._number = api, connection, number

    async def answer(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if method in STOPS:
            self._api.count(method, request)
        _, accepted = self._api.schedule.keys(self._api.tick)
        if self._key_of(context) != accepted[self._connection]:
            await self._api.fail(context, "UNAUTHENTICATED")
        if method == CREATE:
            return await self._api.create(self._connection, request, context)
        if method in LOOKS:
            return await self._api.look(LOOKS[method], self._connection, request, context)
        if method in (LIST_OPERATIONS, *STOPS):
            return await self._api.stop(method, request, context)
        raise NotImplementedError(method)

    def _key_of(self, context: grpc.aio.ServicerContext) -> int | None:
        if self._number is not None:
            return self._number
        token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        header = token.partition(".")[0]
        if not header:
            return None
        return int(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


async def main(seed: str, minutes: str, tasks: str, starting: str, folder: str) -> None:
    api = Api(make_schedule(seed, float(minutes), int(tasks), starting=bool(starting)))
    certificate = Path(folder, "certificate.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([(Path(folder, "certificate.key").read_bytes(), certificate)])
    keys = sum(rotation.connection == PLAIN for rotation in api.schedule.rotations) + 1
    ports, servers = [], []
    for number in (None, *range(keys)):
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Port(api, KEY if number is None else PLAIN, number),))
        if number is None:
            ports.append(server.add_secure_port("127.0.0.1:0", credentials))
        else:
            ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)

    def orders(do: str, tick: int = 0, recorded: Collection[int] = ()) -> dict[str, Any]:
        if do == "tick":
            api.be(tick, recorded)
            return {}
        return api.report()

    await obey(orders, {"ports": ports, "storage": serve_storage(api.storage_fault)})
    for server in servers:
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
