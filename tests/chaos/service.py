"""The API for a run: its jobs end, and its answers go wrong, as the schedule says.

It runs in a process of its own, as that of the benchmark does:
``python -m tests.chaos.service SEED MINUTES TASKS FOLDER``
with the certificate of `keys.write_certificate` in the folder. ``{"do": "tick", "tick": 7}`` makes it be that tick, and
``{"do": "report"}`` tells what became of the jobs, and what was answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from google.cloud.aiplatform_v1 import types
from google.longrunning.operations_pb2 import ListOperationsRequest, ListOperationsResponse, Operation
from google.protobuf.empty_pb2 import Empty

from tests.chaos.schedule import HANG, KEY, LOCATIONS, PLAIN, SLOW, SLOW_SECONDS, Schedule, Task, make_schedule
from tests.support.grpc_service import RUNNING, SUCCEEDED, Handler, Jobs, NamedRequest, obey

PROJECT_NUMBER = "123456789"  # the API tells a project by its number, whatever the client asked by
PARENT = f"projects/{PROJECT_NUMBER}/locations/{{}}"
FOREIGN = 300  # jobs in each location that nobody waits for
HOUR = 3600.0
LOOKS = {"GetNotebookExecutionJob": "Get", "ListNotebookExecutionJobs": "List"}
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
        self.tasks: dict[tuple[str, str], Task] = {task.job: task for task in reversed(schedule.tasks)}
        # Those of questions that were answered NOT_FOUND last, though there is what was asked for.
        self.denied: set[tuple[str, ...]] = set()
        self.once: dict[tuple[str, str], list[str]] = {}
        self.stop_faults = {job: list(task.stop_faults) for job, task in self.tasks.items()}
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

    def be(self, tick: int) -> None:
        """Go on to a tick: some jobs end."""
        for now in range(self.tick + 1, tick + 1):
            for at, location, method, code in self.schedule.once:
                if at == now:
                    self.once.setdefault((location, method), []).append(code)
            for (location, job_id), task in self.tasks.items():
                if task.ends == now and task.killed is None:
                    self._end(location, job_id, task.state)
        self.tick = tick
        self.calm = tick >= self.schedule.ticks
        if self.calm:
            self.once.clear()

    def _end(self, location: str, job_id: str, state: str | None) -> None:
        jobs = self.locations[location]
        self.ended[f"{location}/{job_id}"] = time.monotonic()
        if state is None:
            jobs.updated.pop(job_id, None)
        else:
            jobs.put(job_id, types.JobState[f"JOB_STATE_{state}"], at=time.time())

    # --- answers ---

    async def look(self, method: str, connection: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer a look, wrongly if the schedule says so."""
        name, location, job_id = _job_of(method, request)
        question = (connection, method, location, job_id)
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
        jobs = self.locations[location]
        if method == "List":
            return await jobs.list(request)
        if job_id not in jobs.updated:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{name} is not found")
        return await jobs.get("NotebookExecutionJob", request)

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
        jobs, key = self.locations[location], f"{location}/{job_id}"
        faults = self.stop_faults.get((location, job_id), [])
        how = faults.pop(0) if faults and not self.calm else ""
        if how and how != "lost":
            await self.fail(context, how)
        if job_id not in jobs.updated:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{name} is not found")
        is_active = jobs.updated[job_id].job_state == RUNNING
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
        if how == "lost":
            await self.fail(context, "UNAVAILABLE")
        return answer.SerializeToString()

    def count(self, method: str, request: bytes) -> None:
        """Take note of a request that is to stop a job, whatever it is answered."""
        _, location, job_id = _job_of(method, request)
        self.asked_to_stop.setdefault(f"{location}/{job_id}", []).append(time.monotonic())

    async def fail(self, context: grpc.aio.ServicerContext, code: str) -> None:
        self.answers[code] += 1
        await context.abort(grpc.StatusCode[code], f"chaos: {code}")

    def report(self) -> dict[str, Any]:
        return {
            "ended": self.ended,
            "asked_to_stop": self.asked_to_stop,
            "stopped": sorted(self.stopped),
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


async def main(seed: str, minutes: str, tasks: str, folder: str) -> None:
    api = Api(make_schedule(seed, float(minutes), int(tasks)))
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

    def orders(do: str, tick: int = 0) -> dict[str, Any]:
        if do == "tick":
            api.be(tick)
            return {}
        return api.report()

    await obey(orders, {"ports": ports})
    for server in servers:
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
