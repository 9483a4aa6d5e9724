"""The API over gRPC, for the Python client."""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError

from airflow_provider_nbjob.emulator.methods import Method

log = logging.getLogger(__name__)

NOTEBOOK_SERVICES = ("google.cloud.aiplatform.v1.NotebookService", "google.cloud.aiplatform.v1beta1.NotebookService")
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
    :param token: what each call must carry as metadata, ``authorization: Bearer TOKEN``
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

    def _run(self, serve: Any) -> None:
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
                ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message is no large one
            ],
        )
        server.add_generic_rpc_handlers(handlers(methods))
        try:
            bound = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"could not listen on {host}:{port}: {error}") from None
        await server.start()
        self._started.set_result(bound)
        await self._stopped.wait()
        await server.stop(STOP_SECONDS)


def handlers(methods: Mapping[str, Method]) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of all services."""
    made = {rpc: _handler(method) for rpc, method in methods.items()}
    of_jobs = {rpc: handler for rpc, handler in made.items() if "NotebookExecutionJob" in rpc}
    of_dataform = {rpc: handler for rpc, handler in made.items() if "Repository" in rpc}
    of_secrets = {rpc: handler for rpc, handler in made.items() if "Secret" in rpc}
    others = {*of_jobs, *of_dataform, *of_secrets}
    of_operations = {rpc: handler for rpc, handler in made.items() if rpc not in others}
    services = {
        **dict.fromkeys(NOTEBOOK_SERVICES, of_jobs),
        OPERATIONS: of_operations,
        DATAFORM: of_dataform,
        SECRET_MANAGER: of_secrets,
    }
    return [grpc.method_handlers_generic_handler(name, served) for name, served in services.items()]


class _RequireToken(grpc.aio.ServerInterceptor):
    """Refuse a call without the token, whatever method it names, before its message is read."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        sent = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        if len(sent) == 1 and hmac.compare_digest(_as_bytes(sent[0]), self._expected):
            return await continuation(details)
        return grpc.stream_unary_rpc_method_handler(_refuse)


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


async def _refuse(requests: Any, context: grpc.aio.ServicerContext) -> None:
    message = "Send the emulator's token as metadata, 'authorization: Bearer TOKEN'; the emulator printed it."
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)


def _handler(method: Method) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        _answering(method.serve),
        request_deserializer=method.request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _answering(serve: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await serve(request)
        except GoogleAPICallError as error:
            code, message = error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message
        except Exception:
            log.exception("A call failed")
            code, message = grpc.StatusCode.INTERNAL, "The emulator failed; see its log."
        return await context.abort(code, message[:TEXT_MAX])

    return answer
