"""The token of the emulator, which a plaintext channel to it sends and to no other server."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

HOST_VARIABLE = "NBJOB_EMULATOR_HOST"
TOKEN_VARIABLE = "NBJOB_EMULATOR_TOKEN"  # noqa: S105
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9.]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?")

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class _Details(NamedTuple):
    """The details of a call, as `grpc.ClientCallDetails` describes them."""

    method: str
    timeout: float | None
    metadata: list[tuple[str, str | bytes]]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _SendToken(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc has no types
    """Send a token with each call; that of the environment is read anew, as channels outlive a change of it."""

    def __init__(self, token: str = "") -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        token = self._token or os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            return continuation(details, request)
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {token}")]
        sent = _Details(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return continuation(sent, request)


def with_emulator_token(channel: grpc.Channel, address: str) -> grpc.Channel:
    """Return a channel that sends the emulator's token, or `channel` itself if it leads to another server.

    :param channel: a plaintext channel
    :param address: ``host:port`` that the channel leads to; the token goes to the address of ``NBJOB_EMULATOR_HOST``
        and to loopback addresses only
    """
    emulator = os.environ.get(HOST_VARIABLE, "").removeprefix("http://").rstrip("/")
    if address == emulator or is_loopback(address):
        return grpc.intercept_channel(channel, _SendToken())
    return channel


def emulator_channel(address: str, token: str) -> grpc.Channel:
    """Return a plaintext channel to the emulator, for a client of Google's that is used without this provider."""
    return grpc.intercept_channel(grpc.insecure_channel(address), _SendToken(token))


def is_loopback(address: str) -> bool:
    """Return whether ``host:port`` leads to this machine; no name server is asked."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return False
    host = match["host"].lower()
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")) in _LOOPBACK[host.startswith("[")]
    except ValueError:
        return False
