"""The services of the jobs that a whole Airflow waits for, in a process of their own; see `whole_airflow`.

Over gRPC: notebook jobs and Google's training pipelines. Over HTTP: Databricks' runs, and a Cloud Storage in which each
job has written the same small notebook. All answer after the same pause, and every job succeeds so many seconds after
its create. A notebook job that nobody created is there, and runs, from the moment that somebody asks for it: that is
what a sensor waits for.

It obeys lines of JSON: ``{"do": "begin", "seconds": 40}`` forgets all jobs, ``{"do": "report"}`` tells what was called.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from typing import Any

import grpc
import uvicorn
from google.cloud.aiplatform_v1 import types
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.benchmarks.fake_service import OneLocation
from tests.support.grpc_service import GET_SECONDS, PARENT, RUNNING, SUCCEEDED, Jobs, NamedRequest, obey
from tests.support.notebooks import code, notebook, result, scrap, stream

PIPELINE_STATES = {
    RUNNING: types.PipelineState.PIPELINE_STATE_RUNNING,
    SUCCEEDED: types.PipelineState.PIPELINE_STATE_SUCCEEDED,
}
DATABRICKS_STATES = {
    RUNNING: {"life_cycle_state": "RUNNING", "state_message": ""},
    SUCCEEDED: {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""},
}


TABLE = result({"text/html": "<tr><td>1</td><td>north</td></tr>" * 100, "text/plain": "rows"})
READ = code("rows = read()\nrows", stream("12 rows read\n" * 20), TABLE)
EXECUTED = notebook(*[READ] * 5, code("glue('auc', auc)", scrap("auc", 0.87)))


class TimedJobs(OneLocation):
    """Jobs that succeed by themselves, of all kinds that are compared: those that are no notebook jobs stand for one.

    :param seconds: how long each one runs
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.begin(seconds)

    def begin(self, seconds: float) -> None:
        """Forget all jobs."""
        super().__init__(Jobs())
        self._seconds = seconds
        self._ending: set[asyncio.Task[None]] = set()

    def report(self) -> dict[str, Any]:
        """Tell what was called."""
        return {"calls": dict(self.calls)}

    @property
    def calls(self) -> Counter[str]:
        """How often each method was called."""
        return self._jobs.calls

    async def answer(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if method == "CreateTrainingPipeline":
            self.calls["create"] += 1
            await asyncio.sleep(GET_SECONDS)
            return self._pipeline(self.start())
        if method == "CreateNotebookExecutionJob":
            asked = types.CreateNotebookExecutionJobRequest.deserialize(request)
            self._end(asked.notebook_execution_job_id)
            return await super().answer(method, request, context)
        if method == "GetNotebookExecutionJob" or method == "GetTrainingPipeline":
            job_id = NamedRequest.FromString(request).name.rpartition("/")[2]
            if job_id not in self._jobs.updated:
                self.start(job_id)
            if method == "GetTrainingPipeline":
                self.calls["get"] += 1
                await asyncio.sleep(GET_SECONDS)
                return self._pipeline(job_id)
        return await super().answer(method, request, context)

    def start(self, job_id: str = "") -> str:
        """Have a job run, and return its id; by default it is named by a number."""
        job_id = job_id or str(len(self._jobs.updated) + 1)
        self._jobs.put(job_id, RUNNING, at=time.time())
        self._end(job_id)
        return job_id

    def state(self, job_id: str) -> Any:
        """Return the state of a job."""
        return self._jobs.updated[job_id].job_state

    def _pipeline(self, job_id: str) -> bytes:
        pipeline = types.TrainingPipeline(
            name=f"{PARENT}/trainingPipelines/{job_id}",
            state=PIPELINE_STATES[self.state(job_id)],
            training_task_metadata={"backingCustomJob": f"{PARENT}/customJobs/{job_id}"},
        )
        return types.TrainingPipeline.serialize(pipeline)

    def _end(self, job_id: str) -> None:
        jobs, seconds = self._jobs, self._seconds

        async def end() -> None:
            await asyncio.sleep(seconds)
            jobs.put(job_id, SUCCEEDED, at=time.time())

        self._ending.add(asyncio.create_task(end()))


class Http:
    """Databricks' runs, and the buckets, in which any folder has one notebook.

    :param jobs: that the runs are of
    """

    def __init__(self, jobs: TimedJobs) -> None:
        self._jobs = jobs
        self._run_names: dict[int, str] = {}

    def app(self) -> Starlette:
        """Return what serves them."""
        return Starlette(
            routes=[
                Route("/api/{version}/jobs/runs/submit", self.submit, methods=["POST"]),
                Route("/api/{version}/jobs/runs/get", self.get, methods=["GET"]),
                Route("/storage/v1/b/{bucket}", self.get_bucket, methods=["GET"]),
                Route("/storage/v1/b/{bucket}/o", self.list_objects, methods=["GET"]),
                Route("/storage/v1/b/{bucket}/o/{name:path}", self.get_object, methods=["GET"]),
                Route("/download/storage/v1/b/{bucket}/o/{name:path}", self.read_object, methods=["GET"]),
            ]
        )

    async def submit(self, request: Request) -> JSONResponse:
        """Start a run of one task."""
        self._jobs.calls["create"] += 1
        await asyncio.sleep(GET_SECONDS)
        run_id = int(self._jobs.start())
        self._run_names[run_id] = (await request.json())["run_name"]
        return JSONResponse({"run_id": run_id})

    async def get(self, request: Request) -> JSONResponse:
        """Return a run; the provider's async hook asks for it by a body."""
        self._jobs.calls["get"] += 1
        run_id = int(request.query_params.get("run_id") or json.loads(await request.body())["run_id"])
        await asyncio.sleep(GET_SECONDS)
        run = {"run_id": run_id, "start_time": run_id, "state": DATABRICKS_STATES[self._jobs.state(str(run_id))]}
        task = {**run, "task_key": self._run_names[run_id]}  # by which the operator finds its task
        url = f"http://databricks.example/?o=1#job/{run_id}/run/{run_id}"
        return JSONResponse({**run, "job_id": run_id, "run_page_url": url, "tasks": [task]})

    async def get_bucket(self, request: Request) -> JSONResponse:
        """Return what is known of a bucket: Google's client asks for it by the way."""
        await self._count("get bucket")
        return JSONResponse({"name": request.path_params["bucket"], "location": "US-CENTRAL1", "projectNumber": "1"})

    async def list_objects(self, request: Request) -> JSONResponse:
        """Return the notebook of a folder."""
        await self._count("list objects")
        name = f"{request.query_params['prefix']}notebook.ipynb"
        return JSONResponse({"items": [_object(request.path_params["bucket"], name)]})

    async def get_object(self, request: Request) -> JSONResponse:
        """Return what is known of a notebook."""
        await self._count("get object")
        return JSONResponse(_object(**request.path_params))

    async def read_object(self, request: Request) -> Response:
        """Return a notebook, or the range that is asked for."""
        await self._count("read object")
        first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = EXECUTED[int(first) : int(last or len(EXECUTED)) + 1]
        shown = f"bytes {first}-{int(first) + len(part) - 1}/{len(EXECUTED)}"
        return Response(part, 206, {"Content-Range": shown}, "application/x-ipynb+json")

    async def _count(self, call: str) -> None:
        self._jobs.calls[call] += 1
        await asyncio.sleep(GET_SECONDS)


def _object(bucket: str, name: str) -> dict[str, str]:
    return {"bucket": bucket, "name": name, "size": str(len(EXECUTED)), "generation": "1"}


async def main() -> None:
    """Serve until the pipe is closed."""
    jobs = TimedJobs()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((jobs,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    listener = socket.create_server(("127.0.0.1", 0))
    http = uvicorn.Server(uvicorn.Config(Http(jobs).app(), log_level="warning", access_log=False))
    serving = asyncio.create_task(http.serve(sockets=[listener]))

    def orders(do: str, **order: Any) -> dict[str, Any]:
        assert do in ("begin", "report")
        return getattr(jobs, do)(**order) or {}

    await obey(orders, {"port": port, "http_port": listener.getsockname()[1]})
    http.should_exit = True
    await serving
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
