"""A `NotebookService` of many jobs that answers over gRPC, for a client in another process.

The same job is shown by every service that a trigger may ask. Bytes in, bytes out: it must not be the bottleneck of a
measurement. `fake_service` is the one for a client in this process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import grpc
from google.cloud.aiplatform_v1 import types
from google.longrunning.operations_pb2 import Operation

FOREIGN = 100_000
HOUR = 3600.0
MONTH = 30 * 24 * HOUR
GET_SECONDS = 0.05
LIST_SECONDS, LIST_SECONDS_PER_JOB = 0.1, 0.0001
PAGE_SIZE_MAX = 100
PARENT = "projects/bench/locations/us-central1"
RUNNING, SUCCEEDED = types.JobState.JOB_STATE_RUNNING, types.JobState.JOB_STATE_SUCCEEDED

# Every get has its name in the same place.
NamedRequest = type(types.GetNotebookExecutionJobRequest.pb(types.GetNotebookExecutionJobRequest()))
# The service's message of each kind, how its name ends, and its states in the order running, succeeded.
Pipelines = types.PipelineState
KINDS = {
    "NotebookExecutionJob": (types.NotebookExecutionJob, "job_state", (RUNNING, SUCCEEDED)),
    "HyperparameterTuningJob": (types.HyperparameterTuningJob, "state", (RUNNING, SUCCEEDED)),
    "TrainingPipeline": (
        types.TrainingPipeline,
        "state",
        (Pipelines.PIPELINE_STATE_RUNNING, Pipelines.PIPELINE_STATE_SUCCEEDED),
    ),
}


class Jobs:
    """The jobs of one location: those that are waited for, among the many that are not.

    :param parent: ``projects/{project}/locations/{location}``, as their names begin
    """

    def __init__(self, parent: str = PARENT) -> None:
        self.parent = parent
        # Each is put at the end when it changes; that is the order by update_time.
        self.updated: dict[str, types.NotebookExecutionJob] = {}
        self.ended: dict[str, float] = {}
        self.calls: Counter[str] = Counter()

    def begin(self, waiting: int) -> None:
        """Fill the location: jobs of the last month that have ended, then those of the last hour, which run."""
        self.updated = {}
        now = time.time()
        for number in range(FOREIGN):
            self.put(f"foreign-{number}", SUCCEEDED, at=now - HOUR - MONTH * (1 - number / FOREIGN))
        for number in range(waiting):
            self.put(f"job-{number}", RUNNING, at=now - HOUR * (1 - number / waiting))
        self.ended, self.calls = {}, Counter()

    def put(self, job_id: str, state: types.JobState, *, at: float, sent: Any = None) -> None:
        """Add a job, or give it a state.

        :param at: Unix time of the change, in seconds
        :param sent: what was submitted; default: what the job was, or one that differs from others by its id alone
        """
        job = self.updated.pop(job_id, None) or types.NotebookExecutionJob.pb(types.NotebookExecutionJob())
        if sent is not None:
            job.CopyFrom(sent)
        elif not job.name:
            job.display_name, job.gcs_output_uri = f"dag.task {job_id}", "gs://bench/output"
        job.name = f"{self.parent}/notebookExecutionJobs/{job_id}"
        job.job_state = state
        job.update_time.seconds, job.update_time.nanos = int(at), int(at % 1 * 1e9)
        if not job.create_time.seconds:
            job.create_time.CopyFrom(job.update_time)
        self.updated[job_id] = job

    async def end(self, count: int, seconds: float) -> None:
        started = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number * seconds / count - time.monotonic()))
            self.put(f"job-{number}", SUCCEEDED, at=time.time())
            self.ended[f"job-{number}"] = time.monotonic()

    # --- what the API answers ---

    async def get(self, kind: str, request: bytes) -> bytes:
        self.calls["get"] += 1
        message, field, states = KINDS[kind]
        job_id = NamedRequest.FromString(request).name.rpartition("/")[2]
        await asyncio.sleep(GET_SECONDS)
        job = self.updated[job_id]
        if kind == "NotebookExecutionJob":
            return job.SerializeToString()
        other = message.pb(message())
        other.name = f"{self.parent}/{kind[0].lower()}{kind[1:]}s/{job_id}"
        setattr(other, field, states[job.job_state == SUCCEEDED])
        return other.SerializeToString()

    async def list(self, request: bytes) -> bytes:
        self.calls["list"] += 1
        asked = types.ListNotebookExecutionJobsRequest.deserialize(request)
        found: Any = self.updated.values()
        if asked.filter:  # by whom looks for the jobs of one task
            field, _, name = asked.filter.partition("=")
            assert field == "displayName", asked.filter
            assert asked.order_by in ("", "create_time desc"), asked.order_by
            found = sorted((job for job in found if job.display_name == json.loads(name)), key=_create_time)
        else:
            assert asked.order_by == "update_time desc", asked.order_by
        size = min(asked.page_size or PAGE_SIZE_MAX, PAGE_SIZE_MAX)
        first = int(asked.page_token or 0)
        page = types.ListNotebookExecutionJobsResponse.pb(types.ListNotebookExecutionJobsResponse())
        page.notebook_execution_jobs.extend(islice(reversed(found), first, first + size))
        page.next_page_token = str(first + size) if first + size < len(found) else ""
        await asyncio.sleep(LIST_SECONDS + LIST_SECONDS_PER_JOB * len(page.notebook_execution_jobs))
        return page.SerializeToString()

    async def create(self, request: bytes) -> bytes:
        self.calls["create"] += 1
        asked = types.CreateNotebookExecutionJobRequest.deserialize(request)
        sent = types.NotebookExecutionJob.pb(asked.notebook_execution_job)
        self.put(asked.notebook_execution_job_id, RUNNING, at=time.time(), sent=sent)
        name = f"{self.parent}/notebookExecutionJobs/{asked.notebook_execution_job_id}"
        return Operation(name=f"{name}/operations/1").SerializeToString()


def _create_time(job: Any) -> tuple[int, int]:
    return job.create_time.seconds, job.create_time.nanos


class Handler(grpc.GenericRpcHandler):
    """Finds the answer by the method's name, whichever service it belongs to."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method.rpartition("/")[2]

        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await self.answer(method, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    async def answer(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        raise NotImplementedError


async def obey(orders: Callable[..., dict[str, Any]], told: dict[str, Any]) -> None:
    """Say what the other process has to know, then do what it orders, a line of JSON each, until it closes the pipe.

    :param orders: performs an order, and returns the reply
    """
    print(json.dumps(told), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(orders(**json.loads(line))), flush=True)
