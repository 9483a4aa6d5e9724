"""The API over gRPC, for the Python client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError

from airflow_provider_nbjob.emulator.methods import Method

NOTEBOOK_SERVICES = ("google.cloud.aiplatform.v1.NotebookService", "google.cloud.aiplatform.v1beta1.NotebookService")
OPERATIONS = "google.longrunning.Operations"
DATAFORM = "google.cloud.dataform.v1.Dataform"
MESSAGE_MAX = 64 * 2**20  # bytes


def start_grpc(host: str, port: int, methods: Mapping[str, Method]) -> tuple[grpc.Server, int]:
    """Serve, and return the server and its port.

    :param port: 0 for a free one
    :raises OSError: where the port is taken
    """
    server = grpc.server(
        ThreadPoolExecutor(max_workers=32, thread_name_prefix="grpc"),
        options=[
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server on it
            ("grpc.max_receive_message_length", MESSAGE_MAX),
            ("grpc.max_send_message_length", MESSAGE_MAX),
        ],
    )
    handlers = {rpc: _handler(method) for rpc, method in methods.items()}
    of_jobs = {rpc: handler for rpc, handler in handlers.items() if "NotebookExecutionJob" in rpc}
    of_dataform = {rpc: handler for rpc, handler in handlers.items() if "Repository" in rpc}
    of_operations = {rpc: handler for rpc, handler in handlers.items() if rpc not in {*of_jobs, *of_dataform}}
    generic = [grpc.method_handlers_generic_handler(service, of_jobs) for service in NOTEBOOK_SERVICES]
    generic.append(grpc.method_handlers_generic_handler(OPERATIONS, of_operations))
    generic.append(grpc.method_handlers_generic_handler(DATAFORM, of_dataform))
    server.add_generic_rpc_handlers(generic)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"could not listen on {host}:{port}: {error}") from None
    server.start()
    return server, bound


def _handler(method: Method) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        _answering(method.serve),
        request_deserializer=method.request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _answering(serve: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return serve(request)
        except GoogleAPICallError as error:
            context.abort(error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message)

    return answer
