"""Let clients on this machine that hold the emulator's token speak to it over HTTP, and no web page.

A page in a browser can send requests to this machine, and by DNS rebinding read their answers. The page cannot leave
out the `Host` header of its own name, or the `Origin` and `Sec-Fetch-Site` that the browser adds, and it does not know
the token.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})  # no OPTIONS: nothing is shared across origins
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")  # goes into a URL's path, a header and a shell as it is
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?")
_LOOPBACK, _LOOPBACK_6 = ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_address("::1")
_BEARER = re.compile(rb"bearer ([!-~]+)", re.IGNORECASE)
# If somebody opens an object in a browser, it runs no script, which could read the token of its own address.
_HEADERS = [
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Refused(Exception):
    """The answer to a request that is refused."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code, self.status, self.message = code, status, message


class Guard:
    """Pass on the requests of local clients that hold the token, and refuse all others; ASGI middleware.

    A client sends the token as ``Authorization: Bearer TOKEN``, or as the first segment of the path. That segment
    becomes the scope's `root_path`, as ASGI defines it: `path` and `raw_path` still begin with it, and the URLs that
    Starlette makes carry it.

    :param token: matches `TOKEN`
    :param host: the address that the server listens on; a `Host` header may name it. The wildcard address allows any IP
        address: DNS rebinding needs a name.
    """

    def __init__(self, app: ASGIApp, token: str, host: str = "127.0.0.1") -> None:
        if not TOKEN.fullmatch(token):
            raise ValueError(f"A token is made of 16 to 128 characters of A-Z a-z 0-9 _ -, not {len(token)} others.")
        self._app, self._token, self._host = app, token.encode(), host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with the API's error object."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                scope = self._checked(scope)
            except Refused as refused:
                await _answer(refused, send)
            else:
                await self._app(scope, receive, _with_headers(send))

    def _checked(self, scope: Scope) -> Scope:
        """Return the scope of a request that may pass.

        :raises Refused: if it may not
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = _values(headers, b"host")
        if len(hosts) != 1 or not is_allowed_host(hosts[0].decode("latin-1"), self._host):
            raise Refused(403, "PERMISSION_DENIED", "The Host header does not name this machine's loopback address.")
        if _values(headers, b"origin") or any(site != b"none" for site in _values(headers, b"sec-fetch-site")):
            raise Refused(403, "PERMISSION_DENIED", "Requests of web pages are refused.")
        if scope["method"] not in METHODS:
            raise Refused(405, "UNIMPLEMENTED", "The method is not allowed.")
        in_path = hmac.compare_digest(_first_segment(scope), self._token)
        bearers = [_BEARER.fullmatch(value) for value in _values(headers, b"authorization")]
        in_header = len(bearers) == 1 and bearers[0] and hmac.compare_digest(bearers[0][1], self._token)
        if not in_path and not in_header:
            message = "Send the emulator's token: 'Authorization: Bearer TOKEN', or the URL http://HOST:PORT/TOKEN/..."
            raise Refused(401, "UNAUTHENTICATED", message)
        return {**scope, "root_path": f"/{self._token.decode()}"} if in_path else scope


def is_allowed_host(header: str, served: str) -> bool:
    """Return whether a `Host` header names this machine.

    :param header: ``name`` or ``name:port``; ports are not compared, because a tunnel has one of its own
    :param served: the address that the server listens on, in lower case
    """
    match = _HOST.fullmatch(header)
    if match is None:
        return False
    name = match["name"].lower()
    if name in ("localhost", f"[{served}]" if ":" in served else served):
        return True
    is_bracketed = name.startswith("[")
    address = _ip_address(name[1:-1] if is_bracketed else name)
    if is_bracketed != isinstance(address, ipaddress.IPv6Address):
        return False
    return address is not None and (address in _LOOPBACK or address == _LOOPBACK_6 or _is_wildcard(served))


def _ip_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_wildcard(served: str) -> bool:
    address = _ip_address(served)
    return not served or (address is not None and address.is_unspecified)


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def _first_segment(scope: Scope) -> bytes:
    """Return the first segment of a path, as it was sent; empty if there is no second one."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    start, _, rest = raw.partition(b"/")
    segment, slash, _ = rest.partition(b"/")
    return segment if slash and not start else b""


async def _answer(refused: Refused, send: Send) -> None:
    error = {"code": refused.code, "message": refused.message, "status": refused.status}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    if refused.code == 401:
        headers.append((b"www-authenticate", b'Bearer realm="emulator"'))  # httplib2 0.32 fails without a parameter
    await send({"type": "http.response.start", "status": refused.code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sent
