"""Only a client on this machine that holds the token reaches an application behind the emulator's guard."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from airflow_provider_nbjob.emulator import http_server
from airflow_provider_nbjob.emulator.guard import Guard, is_allowed_host
from airflow_provider_nbjob.emulator.http_server import HttpServer
from tests.support.patience import patient, wait_until

TOKEN = "a-token-of-tests_0123456789"


def echo(request: Request) -> JSONResponse:
    """Answer what the application sees of a request."""
    return JSONResponse({"path": request.path_params["path"], "base": str(request.base_url), "url": str(request.url)})


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    verbs = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
    app = Starlette(routes=[Route("/{path:path}", echo, methods=verbs)])
    running = HttpServer(app, "127.0.0.1", 0, TOKEN)
    yield running
    running.stop()


def send(server: HttpServer, request: str) -> tuple[int, bytes]:
    """Send a request as it stands; the status and the body of its answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=patient(10)) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"access-control" not in head.lower()
    return int(head.split()[1]), body


def get(server: HttpServer, *headers: str, path: str = f"/{TOKEN}/x", verb: str = "GET") -> tuple[int, bytes]:
    return send(server, "\n".join([f"{verb} {path} HTTP/1.1", *headers, "connection: close", "\n"]))


def refusal(answer: tuple[int, bytes]) -> tuple[int, str]:
    """Code and status of an answer that is an error object of the API, and tells no token."""
    code, body = answer
    assert TOKEN.encode() not in body
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "status"}
    assert error["code"] == code
    return code, error["status"]


# --- Host ---

LOCAL = ["127.0.0.1", "127.0.0.1:1", "127.255.0.3:8961", "localhost", "LocalHost:80", "[::1]", "[::1]:8961", "[0:0::1]"]
FOREIGN = [
    *("", ":8961", "evil.com", "evil.com:8961", "127.0.0.1.evil.com", "localhost.evil.com", "evil.com.localhost"),
    *("127.0.0.1@evil.com", "user@127.0.0.1", "user:pass@localhost", "127.0.0.1/evil.com", "127.0.0.1?x", "127.0.0.1#"),
    *("127.0.0.1.", "localhost.", "127.1", "127.0.0.01", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "128.0.0.1"),
    *("0.0.0.0", "192.168.1.5", "[::]", "[::2]", "[::ffff:127.0.0.1]", "[::1", "::1", "[::1%25lo]", "[127.0.0.1]"),
    *("127.0.0.1:", "127.0.0.1:x", "127.0.0.1:80:80", "127.0.0.1:999999", "127.0.0.1,evil.com", "127.0.0.1 evil.com"),
    *(
        "127.0.0.\xb9",
        "loc\xe0lhost",
        "localhost\t.evil.com",
        "xn--localhost",
        "127.0.0.1\\evil.com",
        "http://localhost",
    ),
]


@pytest.mark.parametrize("host", LOCAL)
def test_the_loopback_addresses_may_be_named(server: HttpServer, host: str) -> None:
    assert get(server, f"host: {host}")[0] == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_another_host_is_refused_even_with_the_token(server: HttpServer, host: str) -> None:
    assert refusal(get(server, f"host: {host}", f"authorization: Bearer {TOKEN}")) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("host: 127.0.0.1", "host: 127.0.0.1"),
        ("host: 127.0.0.1", "host: evil.com"),
        ("host: evil.com", "host: 127.0.0.1"),
        ("x-forwarded-host: 127.0.0.1",),
    ],
)
def test_a_request_without_one_host_header_is_refused(server: HttpServer, headers: tuple[str, ...]) -> None:
    assert get(server, *headers)[0] == 400


def test_http_1_0_needs_a_host_header_too(server: HttpServer) -> None:
    assert refusal(send(server, f"GET /{TOKEN}/x HTTP/1.0\n\n")) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("extra", ["x-forwarded-host: localhost", "forwarded: host=localhost", "x-host: localhost"])
def test_no_other_header_stands_in_for_the_host(server: HttpServer, extra: str) -> None:
    assert refusal(get(server, "host: evil.com", extra))[0] == 403


@pytest.mark.parametrize(
    ("header", "served", "allowed"),
    [
        ("devbox:8961", "devbox", True),
        ("DEVBOX", "devbox", True),
        ("devbox.evil.com", "devbox", False),
        ("127.0.0.1", "devbox", True),
        ("192.168.1.5:1", "192.168.1.5", True),
        ("192.168.1.6", "192.168.1.5", False),
        ("[fe80::1]:1", "fe80::1", True),
        ("192.168.1.5", "0.0.0.0", True),
        ("[fe80::1]", "::", True),
        ("evil.com", "0.0.0.0", False),
        ("evil.com", "", False),
        ("192.168.1.5", "localhost", False),
    ],
)
def test_the_address_that_is_listened_on_may_be_named(header: str, served: str, allowed: bool) -> None:
    assert is_allowed_host(header, served) is allowed


# --- Origin, Sec-Fetch-Site, method ---


@pytest.mark.parametrize(
    "header",
    [
        *("origin: https://evil.com", "origin: null", "origin:", "Origin: http://127.0.0.1", "ORIGIN: x"),
        *("sec-fetch-site: cross-site", "sec-fetch-site: same-site", "sec-fetch-site: same-origin", "sec-fetch-site:"),
        *("Sec-Fetch-Site: None", "sec-fetch-site: none\nsec-fetch-site: cross-site", "sec-fetch-site: none, none"),
    ],
)
def test_a_request_of_a_web_page_is_refused_even_with_the_token(server: HttpServer, header: str) -> None:
    answer = get(server, "host: 127.0.0.1", header, f"authorization: Bearer {TOKEN}")
    assert refusal(answer) == (403, "PERMISSION_DENIED")


def test_an_address_that_a_person_opens_is_served(server: HttpServer) -> None:
    assert get(server, "host: 127.0.0.1", "sec-fetch-site: none")[0] == 200


@pytest.mark.parametrize("verb", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"])
def test_a_method_that_no_client_needs_is_refused(server: HttpServer, verb: str) -> None:
    assert get(server, "host: 127.0.0.1", verb=verb)[0] == 405


# --- the token ---


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/x", ()),
        ("/", ()),
        ("//" + TOKEN + "/x", ()),
        (f"/{TOKEN}", ()),
        (f"/{TOKEN[:-1]}/x", ()),
        (f"/{TOKEN}0/x", ()),
        (f"/{TOKEN.upper()}/x", ()),
        (f"/x/{TOKEN}/x", ()),
        (f"/x/../{TOKEN}/x", ()),
        (f"/%61{TOKEN[1:]}/x", ()),
        (f"/x?token={TOKEN}", ()),
        (f"http://127.0.0.1/{TOKEN}/x", ()),
        (f"http://evil.com/{TOKEN}/x", ()),
        ("*", ()),
        ("/x", (f"authorization: {TOKEN}",)),
        ("/x", (f"authorization: Basic {TOKEN}",)),
        ("/x", (f"authorization: Bearer {TOKEN}0",)),
        ("/x", (f"authorization: Bearer {TOKEN} {TOKEN}",)),
        ("/x", ("authorization: Bearer",)),
        ("/x", ("authorization: Bearer \xe9",)),
        ("/x", (f"authorization: Bearer {TOKEN}", "authorization: Bearer x")),
        ("/x", (f"x-authorization: Bearer {TOKEN}",)),
        ("/x", (f"cookie: token={TOKEN}",)),
    ],
)
def test_a_request_without_the_token_is_refused(server: HttpServer, path: str, headers: tuple[str, ...]) -> None:
    assert refusal(get(server, "host: 127.0.0.1", *headers, path=path)) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/x", (f"authorization: Bearer {TOKEN}",)),
        ("/x", (f"Authorization: bearer {TOKEN}",)),
        (f"/{TOKEN}/x", ()),
        (f"/{TOKEN}/x", (f"authorization: Bearer {TOKEN}",)),
        (f"/{TOKEN}/x", ("authorization: Bearer what-gcloud-sends",)),
    ],
)
def test_the_token_is_taken_from_header_or_path(server: HttpServer, path: str, headers: tuple[str, ...]) -> None:
    code, body = get(server, "host: localhost:7", *headers, path=path)
    prefix = f"http://localhost:7/{TOKEN}" if TOKEN in path else "http://localhost:7"
    assert code == 200
    assert json.loads(body) == {"path": "x", "base": f"{prefix}/", "url": f"{prefix}/x"}


def test_the_application_sees_the_rest_of_the_path_as_it_was_sent(server: HttpServer) -> None:
    assert json.loads(get(server, "host: localhost", path=f"/{TOKEN}/a%2Fb/{TOKEN}/c")[1])["path"] == f"a/b/{TOKEN}/c"


@pytest.mark.parametrize("token", ["", "short", "a/b" * 10, "a b" * 10, "\xe9" * 20, "a" * 200, "a" * 20 + "\n"])
def test_a_token_that_does_not_fit_into_a_path_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="A token is made of") as error:
        Guard(Starlette(), token)
    assert not token or token not in str(error.value)


def test_no_token_is_logged(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        get(server, "host: 127.0.0.1")
        get(server, "host: evil.com")
        get(server, "host: 127.0.0.1", f"authorization: Bearer {TOKEN}", path="/x")
        get(server, "host: 127.0.0.1", f"broken {TOKEN}")
    assert TOKEN not in caplog.text


def test_an_object_that_is_opened_in_a_browser_runs_no_script(server: HttpServer) -> None:
    for path in ("/x", f"/{TOKEN}/x"):
        headers = httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=patient(10)).headers
        assert "sandbox" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


# --- connections ---


@pytest.mark.parametrize("sent", [b"", b"GET", f"GET /{TOKEN}/x HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ".encode()])
def test_a_connection_whose_request_does_not_come_is_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.5)
    running = HttpServer(Starlette(), "127.0.0.1", 0, TOKEN)
    try:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(sent)
            connection.settimeout(0.1)
            wait_until(lambda: is_closed(connection), timeout=5, what="the connection to be closed", interval=0)
    finally:
        running.stop()


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed a connection; send another byte of a header if it has not."""
    try:
        connection.sendall(b"x")
        return connection.recv(1024) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
