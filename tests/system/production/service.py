"""The API for hundreds of jobs that need no kernel, in a process of its own.

``python -m tests.system.production.service`` obeys lines of JSON: ``{"do": "begin", "seconds": 40}`` forgets all jobs,
and has new ones succeed after so many seconds, or by default not until ``{"do": "release", "seconds": 30}``, which
spreads their ends over so many seconds. ``{"do": "report"}`` tells what was called, and what became of the jobs; times
are Unix times in seconds.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
from google.cloud.aiplatform_v1 import types
from google.longrunning.operations_pb2 import ListOperationsRequest, ListOperationsResponse, Operation
from google.protobuf.empty_pb2 import Empty

from tests.support.grpc_service import RUNNING, SUCCEEDED, Handler, Jobs, NamedRequest, obey

PARENT = "projects/emulator-project/locations/us-central1"
CANCELLED = types.JobState.JOB_STATE_CANCELLED


class Api(Handler):
    """Answers at once and without a failure."""

    def __init__(self) -> None:
        self.begin()

    def begin(self, seconds: float | None = None, message: str = "") -> None:
        """Forget all jobs.

        :param seconds: how long a new one runs; None: until `release`
        :param message: of its status when it has ended
        """
        self._jobs, self._seconds, self._message = Jobs(PARENT), seconds, message
        self._stopped: list[str] = []
        self._ending: set[asyncio.Task[None]] = set()

    def release(self, seconds: float) -> None:
        """Have the jobs that run succeed, one after the other, and each new one at once."""
        self._seconds = 0.0
        running = self._running()
        for number, job_id in enumerate(running):
            self._end_in(job_id, seconds * number / len(running))

    def report(self) -> dict[str, Any]:
        """Tell what was called, and what became of the jobs."""
        return {
            "calls": self._jobs.calls,
            "created": list(self._jobs.updated),
            "active": self._running(),
            "stopped": self._stopped,
            "ended": self._jobs.ended,
        }

    async def answer(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer a request, as `Jobs` does where it can."""
        jobs = self._jobs
        if method == "ListNotebookExecutionJobs":
            return await jobs.list(request)
        if method == "CreateNotebookExecutionJob":
            job_id = types.CreateNotebookExecutionJobRequest.deserialize(request).notebook_execution_job_id
            if job_id in jobs.updated:
                jobs.calls["create, refused"] += 1
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{job_id} exists")
            answer = await jobs.create(request)
            if self._seconds is not None:
                self._end_in(job_id, self._seconds)
            return answer
        if method == "ListOperations":
            job_id = ListOperationsRequest.FromString(request).name.rpartition("/")[2]
        else:  # the first field of each of the others
            job_id = NamedRequest.FromString(request).name.partition("/operations/")[0].rpartition("/")[2]
        if job_id not in jobs.updated:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{job_id} is not found")
        if method == "GetNotebookExecutionJob":
            return await jobs.get("NotebookExecutionJob", request)
        jobs.calls[method] += 1
        return self._stop(method, job_id)

    def _stop(self, method: str, job_id: str) -> bytes:
        operation = Operation(name=f"{PARENT}/notebookExecutionJobs/{job_id}/operations/1")
        if method == "ListOperations":
            return ListOperationsResponse(operations=[operation]).SerializeToString()
        assert method in ("CancelOperation", "DeleteNotebookExecutionJob"), method
        if job_id in self._running():
            self._stopped.append(job_id)
            self._jobs.put(job_id, CANCELLED, at=time.time())
        return (Empty() if method == "CancelOperation" else operation).SerializeToString()

    def _running(self) -> list[str]:
        return [job_id for job_id, job in self._jobs.updated.items() if job.job_state == RUNNING]

    def _end_in(self, job_id: str, seconds: float) -> None:
        jobs = self._jobs

        async def end() -> None:
            await asyncio.sleep(seconds)
            if jobs.updated[job_id].job_state == RUNNING:
                jobs.put(job_id, SUCCEEDED, at=time.time())
                jobs.updated[job_id].status.message = self._message
                jobs.ended[job_id] = time.time()

        self._ending.add(asyncio.create_task(end()))


async def main() -> None:
    """Serve until the pipe is closed."""
    api = Api()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((api,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def orders(do: str, **order: Any) -> dict[str, Any]:
        assert do in ("begin", "release", "report")
        return getattr(api, do)(**order) or {}

    await obey(orders, {"port": port})
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
