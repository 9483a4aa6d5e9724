"""The gRPC door: `NotebookService` (v1 and v1beta1, which are the same on the wire) and `google.longrunning.Operations`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.protobuf.message import Message

from airflow_provider_nbjob.emulator.rpcs import Rpc, Rpcs

# Threads, and so calls at once; one that a fault delays holds its thread.
_THREADS = 64
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


def serve(rpcs: Rpcs, host: str, port: int) -> tuple[grpc.Server, int]:
    """Start the server.

    :param port: 0 for a free one
    :return: the server and its port
    :raises RuntimeError: where the port is taken
    """
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ]
    server = grpc.server(ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc"), options=options)
    services = (
        ("google.cloud.aiplatform.v1.NotebookService", rpcs.notebook_service, "v1"),
        ("google.cloud.aiplatform.v1beta1.NotebookService", rpcs.notebook_service, "v1beta1"),
        ("google.longrunning.Operations", rpcs.operations, "v1"),
    )
    for service, methods, api_version in services:
        handlers = {name: _handler(rpcs, name, rpc, api_version) for name, rpc in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if not port:
        raise RuntimeError(f"cannot listen on {host}")
    server.start()
    return server, port


def _handler(rpcs: Rpcs, name: str, rpc: Rpc, api_version: str) -> grpc.RpcMethodHandler:
    def perform(request: Message, context: grpc.ServicerContext) -> Message:
        try:
            return rpcs.call(name, lambda _: request, api_version)
        except GoogleAPICallError as error:
            context.abort(error.grpc_status_code, error.message)
            raise  # abort has raised already

    serialize: Callable[[Any], bytes] = rpc.response.SerializeToString
    return grpc.unary_unary_rpc_method_handler(
        perform, request_deserializer=rpc.request.FromString, response_serializer=serialize
    )
