"""List the API's methods by name, with the type of the request and the function that serves it.

A call that takes time occupies a thread of its own method, so that calls of one method do not delay another method. A
call that only waits (`WaitOperation`, the delay of a fault) occupies none.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, ParamSpec, TypeVar

from google.api_core.exceptions import DataLoss
from google.cloud.dataform_v1.types import QueryRepositoryDirectoryContentsRequest, ReadRepositoryFileRequest
from google.cloud.secretmanager_v1.types import AccessSecretVersionRequest
from google.longrunning import operations_pb2
from google.protobuf.message import DecodeError, Message

from airflow_provider_nbjob.emulator.dataform import Dataform
from airflow_provider_nbjob.emulator.faults import Faults
from airflow_provider_nbjob.emulator.messages import (
    CreateRequest,
    DeleteRequest,
    GetRequest,
    GetTemplateRequest,
    ListRequest,
)
from airflow_provider_nbjob.emulator.secret_manager import Secrets
from airflow_provider_nbjob.emulator.service import NotebookService

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4  # of each method
WAIT_MAX = 60.0  # seconds
WAITERS_MAX = 100  # calls of WaitOperation that wait at once; further ones are answered at once, as the API allows
POLL_FIRST, POLL_LAST = 0.05, 0.5  # seconds between two polls of a waiting call, growing


class Method(NamedTuple):
    """A method of the API.

    :param serve: takes a request, and the version of the API that it was sent to, and returns the answer. The version
        is empty if the request does not name one, as in `google.longrunning.Operations` over gRPC.
    """

    request_type: type[Message]
    serve: Callable[[Any, str], Awaitable[Message]]


class Methods(dict[str, Method]):
    """All methods by their rpc names; each call is counted, and meets the faults in effect."""

    def __init__(self, service: NotebookService, dataform: Dataform, secrets: Secrets, faults: Faults) -> None:
        super().__init__()
        self._faults = faults
        self._pools: list[ThreadPoolExecutor] = []
        self._waiters = threading.BoundedSemaphore(WAITERS_MAX)
        operations: dict[str, tuple[type[Message], Callable[[Any, str], Message]]] = {
            "CreateNotebookExecutionJob": (CreateRequest, service.create),
            "DeleteNotebookExecutionJob": (DeleteRequest, service.delete),
            "GetOperation": (operations_pb2.GetOperationRequest, service.get_operation),
            "ListOperations": (operations_pb2.ListOperationsRequest, service.list_operations),
        }
        others: dict[str, tuple[type[Message], Callable[[Any], Message]]] = {
            "GetNotebookExecutionJob": (GetRequest, service.get),
            "ListNotebookExecutionJobs": (ListRequest, service.list_jobs),
            "GetNotebookRuntimeTemplate": (GetTemplateRequest, service.get_template),
            "CancelOperation": (operations_pb2.CancelOperationRequest, service.cancel_operation),
            "DeleteOperation": (operations_pb2.DeleteOperationRequest, service.delete_operation),
            "QueryRepositoryDirectoryContents": (
                QueryRepositoryDirectoryContentsRequest.meta.pb,
                dataform.query_directory,
            ),
            "ReadRepositoryFile": (ReadRepositoryFileRequest.meta.pb, dataform.read_file),
            "AccessSecretVersion": (AccessSecretVersionRequest.meta.pb, secrets.access),
        }
        for rpc, (request_type, serve) in operations.items():
            self._add(rpc, request_type, self.in_threads(rpc, serve))
        for rpc, (request_type, answer) in others.items():
            self._add(rpc, request_type, _without_version(self.in_threads(rpc, answer)))
        look = self.in_threads("WaitOperation", service.get_operation)
        self._add("WaitOperation", operations_pb2.WaitOperationRequest, partial(self._wait, look))

    def in_threads(self, name: str, call: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Return a coroutine function that performs a call in one of `THREADS` threads of its own."""
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._pools.append(pool)

        async def performed(*arguments: P.args, **options: P.kwargs) -> T:
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, partial(call, *arguments, **options))
            except (sqlite3.DatabaseError, DecodeError) as error:
                log.error("%s failed, for what the data directory holds cannot be read or written: %s", name, error)
                raise DataLoss(f"The emulator's data directory cannot be read or written: {error}") from None

        return performed

    def stop(self) -> None:
        """Drop the calls that have not begun."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

    def _add(self, rpc: str, request_type: type[Message], serve: Callable[[Any, str], Awaitable[Message]]) -> None:
        self[rpc] = Method(
            request_type, lambda request, version: self._faults.perform(rpc, lambda: serve(request, version))
        )

    async def _wait(
        self,
        look: Callable[[operations_pb2.GetOperationRequest, str], Awaitable[operations_pb2.Operation]],
        request: operations_pb2.WaitOperationRequest,
        version: str,
    ) -> operations_pb2.Operation:
        """Serve WaitOperation: answer when the operation is done, or after the request's timeout or `WAIT_MAX`."""
        loop = asyncio.get_running_loop()
        timeout = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else WAIT_MAX
        end_time = loop.time() + min(timeout, WAIT_MAX)
        wanted = operations_pb2.GetOperationRequest(name=request.name)
        operation = await look(wanted, version)
        if operation.done or not self._waiters.acquire(blocking=False):
            return operation
        try:
            interval = POLL_FIRST
            while not operation.done and (left := end_time - loop.time()) > 0:
                await asyncio.sleep(min(interval, left))
                interval = min(interval * 1.5, POLL_LAST)
                operation = await look(wanted, version)
            return operation
        finally:
            self._waiters.release()


def _without_version(call: Callable[[T], Awaitable[Message]]) -> Callable[[T, str], Awaitable[Message]]:
    return lambda request, version: call(request)
