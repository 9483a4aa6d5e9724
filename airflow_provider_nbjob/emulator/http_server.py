"""Serve an ASGI application behind the guard, in a thread of its own: the REST API, or Cloud Storage."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_nbjob.emulator.guard import Guard
from airflow_provider_nbjob.emulator.ports import listen

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HEADER_MAX = 64 * 2**10  # bytes of a request's line and headers
HEADER_SECONDS = 10  # for a connection to send a request's line and headers, from its start or its last answer
STOP_SECONDS = 1  # for the requests that are under way when the server stops


class HttpServer:
    """An HTTP server, serving once it is constructed.

    :param port: 0 for a free one
    :param token: each request must carry it, see `Guard`
    :param option: of the command line, see `listen`
    :raises OSError: if it cannot listen
    """

    def __init__(self, app: ASGIApp, host: str, port: int, token: str, option: str = "") -> None:
        self._socket = listen(host, port, option)
        # Accepted sockets inherit it. asyncio sets it only on sockets that name their protocol, and those of
        # `create_server` do not. Without it each answer waits 40 ms for the client's delayed acknowledgement of its
        # headers.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            Guard(app, token, host),
            http=_Protocol,
            h11_max_incomplete_event_size=HEADER_MAX,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            proxy_headers=False,  # there is no proxy whose X-Forwarded-* could be believed
            server_header=False,
            timeout_keep_alive=HEADER_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS + 4)
        self._socket.close()


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes a connection if the next request does not come in time.

    uvicorn 0.54 limits the time between two requests only. It limits neither the time to the first request, nor that
    of a request whose header comes a byte at a time. Both would hold a file descriptor for ever.
    """

    _awaited_since: float | None = None

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid request, such as one whose line is too long, in JSON as the API does."""
        error = {"code": 400, "message": f"The request cannot be read: {msg}", "status": "INVALID_ARGUMENT"}
        body = json.dumps({"error": error}).encode()
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.access_log = False  # paths contain the token; Config.access_log only removes handlers
        self._close_in_time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._close_in_time()

    def _close_in_time(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._awaited_since = None
            return
        self._awaited_since = self._awaited_since or self.loop.time()
        if not self.timeout_keep_alive_task:
            end_time = self._awaited_since + self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_at(end_time, self.timeout_keep_alive_handler)
