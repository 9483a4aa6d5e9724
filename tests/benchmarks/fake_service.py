"""The API, for the benchmark, in a process of its own: many jobs, quick answers, and a plan by which some of them end.

It is told what to do in lines of JSON: ``{"do": "begin", "waiting": 1000}`` makes so many jobs run,
``{"do": "end", "count": 100, "seconds": 60}`` has some of them succeed, one by one, and ``{"do": "report"}`` returns
what was called, and when which job ended (CLOCK_MONOTONIC, which processes share).
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from tests.support.grpc_service import Handler, Jobs, obey


class OneLocation(Handler):
    """Answers for the jobs of one location, always at once and without a failure."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def answer(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if method == "ListNotebookExecutionJobs":
            return await self._jobs.list(request)
        if method == "CreateNotebookExecutionJob":
            return await self._jobs.create(request)
        return await self._jobs.get(method.removeprefix("Get"), request)


async def main() -> None:
    jobs = Jobs()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((OneLocation(jobs),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ending: asyncio.Task[None] | None = None

    def orders(do: str, **order: Any) -> dict[str, Any]:
        nonlocal ending
        if do == "begin":
            jobs.begin(order["waiting"])
        elif do == "end":
            ending = asyncio.create_task(jobs.end(order["count"], order["seconds"]))
        else:
            return {"calls": dict(jobs.calls), "ended": jobs.ended, "is_ending": bool(ending and not ending.done())}
        return {}

    await obey(orders, {"port": port})
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
