"""Serve the API over gRPC, for the Python client."""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.protobuf.message import DecodeError

from airflow_provider_nbjob.emulator.methods import Method
from airflow_provider_nbjob.emulator.operations import VERSIONS

log = logging.getLogger(__name__)

NOTEBOOK_SERVICE = "google.cloud.aiplatform.{version}.NotebookService"
OPERATIONS = "google.longrunning.Operations"
DATAFORM = "google.cloud.dataform.v1.Dataform"
SECRET_MANAGER = "google.cloud.secretmanager.v1.SecretManagerService"  # noqa: S105
MESSAGE_MAX = 32 * 2**20  # bytes
TEXT_MAX = 4_000  # characters of an error's text, which travels in a header
STOP_SECONDS = 0.5  # for the calls that are under way when the server stops


class GrpcServer:
    """The gRPC server, serving once it is constructed.

    It runs on an event loop: a client that sends half a request, or waits, occupies no thread.

    :param port: 0 for a free one
    :param token: each call must carry it as metadata, ``authorization: Bearer TOKEN``
    :raises OSError: if the port is taken
    """

    def __init__(self, host: str, port: int, methods: Mapping[str, Method], token: str) -> None:
        self._started: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        serve = self._serve(f"[{host}]" if ":" in host else host, port, methods, token)
        self._thread = threading.Thread(target=self._run, args=(serve,), name="grpc", daemon=True)
        self._thread.start()
        self.port = self._started.result()

    def stop(self) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(STOP_SECONDS + 4)

    def _run(self, serve: Coroutine[object, object, None]) -> None:
        try:
            self._loop.run_until_complete(serve)
        except Exception as error:
            self._started.set_exception(error)

    async def _serve(self, host: str, port: int, methods: Mapping[str, Method], token: str) -> None:
        server = grpc.aio.server(
            interceptors=[_RequireToken(token)],
            options=[
                ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server on it
                ("grpc.max_receive_message_length", MESSAGE_MAX),
                ("grpc.max_send_message_length", 4 * MESSAGE_MAX),  # a page has several jobs
                ("grpc.compression_enabled_algorithms_bitset", 1),  # none: no small message unpacks to a large one
            ],
        )
        server.add_generic_rpc_handlers(handlers(methods))
        try:
            bound = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        await server.start()
        self._started.set_result(bound)
        await self._stopped.wait()
        await server.stop(STOP_SECONDS)


def handlers(methods: Mapping[str, Method]) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of all services."""
    of_jobs = [rpc for rpc in methods if "Notebook" in rpc]
    of_dataform = [rpc for rpc in methods if "Repository" in rpc]
    of_secrets = [rpc for rpc in methods if "Secret" in rpc]
    of_operations = [rpc for rpc in methods if rpc not in {*of_jobs, *of_dataform, *of_secrets}]
    services = [
        *((NOTEBOOK_SERVICE.format(version=version), version, of_jobs) for version in VERSIONS),
        (OPERATIONS, "", of_operations),  # of both versions
        (DATAFORM, "v1", of_dataform),
        (SECRET_MANAGER, "v1", of_secrets),
    ]
    return [
        grpc.method_handlers_generic_handler(name, {rpc: _handler(methods[rpc], version) for rpc in rpcs})
        for name, version, rpcs in services
    ]


class _RequireToken(grpc.aio.ServerInterceptor):
    """Refuse a call without the token, of any method, before its message is read."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        sent = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        if len(sent) == 1 and hmac.compare_digest(_as_bytes(sent[0]), self._expected):
            return await continuation(details)
        return grpc.stream_unary_rpc_method_handler(_refuse)


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


async def _refuse(requests: object, context: grpc.aio.ServicerContext) -> None:
    message = "Send the emulator's token as metadata, 'authorization: Bearer TOKEN'; the emulator printed it."
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)


def _handler(method: Method, version: str) -> grpc.RpcMethodHandler:
    async def answer(content: bytes, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method.serve(method.request_type.FromString(content), version)
        except DecodeError:
            code, message = grpc.StatusCode.INVALID_ARGUMENT, "The request cannot be parsed as its message."
        except GoogleAPICallError as error:
            code, message = error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message
        except Exception:
            log.exception("A call failed")
            code, message = grpc.StatusCode.INTERNAL, "The emulator failed; see its log."
        return await context.abort(code, message[:TEXT_MAX])

    # `answer` parses the message: with a deserializer, gRPC would log a traceback of an invalid one, and answer
    # INTERNAL.
    return grpc.unary_unary_rpc_method_handler(answer, response_serializer=lambda message: message.SerializeToString())
