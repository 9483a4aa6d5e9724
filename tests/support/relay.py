"""A network that fails on demand, between a client and a server."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType


class Relay:
    """Passes TCP connections on, from a port of its own to a server's.

    :param address: ``host:port`` of the server
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._server = (host, int(port))
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._forgotten: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._port = 0
        self.up()
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Take connections; on the same port as before, where it was down."""
        if self._listener:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(128)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        """Refuse new connections, and break those that stand, in mid-call too."""
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop()

    def drop(self) -> None:
        """Break the connections that stand."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            with suppress(OSError):  # broken already
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def forget(self) -> None:
        """Pass nothing on over the connections that stand, without closing them: what a dead machine leaves."""
        with self._lock:
            self._forgotten.update(self._connections)

    def lose_answers(self) -> None:
        """Pass requests on over the connections that stand, and no answers."""
        with self._lock:
            self._forgotten.update(self._connections[1::2])  # those to the server

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed
            server = socket.create_connection(self._server)
            with self._lock:
                self._connections += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if source not in self._forgotten:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # broken, by one of the two or by `drop`
