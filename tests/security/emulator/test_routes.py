"""Every route of the emulator, over HTTP and gRPC, refuses who may not speak to it; new ones are found by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import psutil
import pytest
from starlette.applications import Starlette

from airflow_provider_nbjob.emulator import grpc_api
from airflow_provider_nbjob.emulator.faults import Faults
from airflow_provider_nbjob.emulator.http_server import HttpServer
from airflow_provider_nbjob.emulator.rest_api import ROUTES, own_routes
from airflow_provider_nbjob.emulator.scripts import Scripts
from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.hooks.emulator_token import emulator_channel
from tests.support.patience import patient

WRONG = "a-wrong-token-of-tests-0123456789"
Routes = dict[str, list[tuple[str, str]]]  # base URL without the token: (HTTP method, path)


class Served:
    """An emulator, and all that it serves.

    :param http: routes of each HTTP server
    :param rpcs: full names of the gRPC methods
    :param ports: all that it listens on
    """

    def __init__(self, emulator: Emulator, apps: dict[int, Any], methods: Any, ports: set[int]) -> None:
        self.ports = ports
        self.emulator, self.token = emulator, emulator.token
        self.http: Routes = {f"http://127.0.0.1:{port}": list(routes_of(app)) for port, app in apps.items()}
        self.rest = f"http://127.0.0.1:{urlsplit(emulator.rest_url).port}"
        self.http[self.rest] += rest_routes()
        self.rpcs = [name for handler in grpc_api.handlers(methods) for name in handler._method_handlers]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    apps: dict[int, Any] = {}
    methods: list[Any] = []
    serve_http, serve_grpc = HttpServer.__init__, grpc_api.GrpcServer.__init__

    def note_app(self: HttpServer, app: Any, *arguments: Any) -> None:
        serve_http(self, app, *arguments)
        apps[self.port] = app

    def note_methods(self: grpc_api.GrpcServer, host: str, port: int, table: Any, token: str) -> None:
        methods.append(table)
        serve_grpc(self, host, port, table, token)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpServer, "__init__", note_app)
        patch.setattr(grpc_api.GrpcServer, "__init__", note_methods)
        before = listening()  # emulators of other tests may be in this process
        with Emulator(tmp_path_factory.mktemp("routes") / "data", buckets=["bucket"]) as emulator:
            yield Served(emulator, apps, methods[0], listening() - before)


def listening() -> set[int]:
    """The ports that this process listens on."""
    return {c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    starlette: Starlette = getattr(app, "starlette", app)  # Cloud Storage has another application around it
    for route in starlette.routes:
        for verb in route.methods:
            yield verb, re.sub(r"\{[^}]*\}", "bucket", route.path)


def rest_routes() -> Iterator[tuple[str, str]]:
    own = [(verb, pattern, "emulator") for verb, pattern, _ in own_routes(None, Faults(), Scripts())]
    api = [(verb, pattern, version) for verb, pattern, _ in ROUTES for version in ("v1", "v1beta1", "ui")]
    for verb, pattern, prefix in [*own, *api]:
        path = re.sub(r"\(\?:[^()]*\)\?", "", pattern.pattern)  # what may be missing
        path = re.sub(r"\(\?P<\w+>|[()]", "", path).replace("[^/]+", "us-central1").replace("[^/:]+", "x")
        assert pattern.fullmatch(path), f"no path for {pattern.pattern}: mend this test"
        yield verb, f"/{prefix}/{path}"


def requests(served: Served, *bases: str) -> Iterator[tuple[httpx.Client, str, str]]:
    for base in bases or served.http:
        with httpx.Client(base_url=base, timeout=patient(30), trust_env=False) as client:
            for verb, path in served.http[base]:
                yield client, verb, path


def refusals(served: Served, prefix: str, headers: list[tuple[str, str]]) -> list[str]:
    """The routes of all HTTP servers that do not refuse such a request, or that answer more than an error."""
    wrong = []
    for client, verb, path in requests(served):
        answer = client.request(verb, prefix + path, headers=headers)
        sent = [name for name in answer.headers if name.startswith("access-control")]
        if answer.status_code not in (401, 403) or sent or served.token in answer.text:
            wrong.append(f"{verb} {client.base_url}{path}: {answer.status_code}")
    return wrong


JSON = ("content-type", "application/json")


def test_all_that_listens_is_known_to_these_tests(served: Served) -> None:
    grpc_port = int(served.emulator.grpc_address.rpartition(":")[2])
    storage_port = urlsplit(served.emulator.storage_url).port
    assert {storage_port, grpc_port} <= served.ports
    assert {urlsplit(base).port for base in served.http} == served.ports - {grpc_port}
    assert all(len(routes) > 5 for routes in served.http.values())
    assert len(served.rpcs) > 15


def test_a_local_client_with_the_token_is_served(served: Served) -> None:
    for base in served.http:
        for headers, prefix in (({"authorization": f"Bearer {served.token}"}, ""), ({}, f"/{served.token}")):
            answer = httpx.get(f"{base}{prefix}/no/such/route", headers=headers, timeout=patient(30))
            assert answer.status_code == 404


@pytest.mark.parametrize(
    ("prefix", "headers"),
    [
        ("", []),
        (f"/{WRONG}", []),
        ("", [("authorization", f"Bearer {WRONG}")]),
        ("", [("authorization", "Bearer")]),
        ("", [("authorization", "Basic YTpi")]),
        ("", [("cookie", f"token={WRONG}")]),
    ],
)
def test_without_the_token_every_route_refuses(served: Served, prefix: str, headers: list[tuple[str, str]]) -> None:
    assert refusals(served, prefix, [JSON, *headers]) == []


@pytest.mark.parametrize(
    "host",
    ["evil.com", "127.0.0.1.evil.com:8961", "localhost.evil.com", "user@127.0.0.1", "0.0.0.0", "[::2]", "127.0.0.1."],
)
def test_with_another_host_every_route_refuses(served: Served, host: str) -> None:
    assert refusals(served, f"/{served.token}", [JSON, ("host", host)]) == []


@pytest.mark.parametrize("origin", ["https://evil.com", "null", "http://127.0.0.1", "http://localhost:8961", ""])
def test_with_any_origin_every_route_refuses(served: Served, origin: str) -> None:
    assert refusals(served, f"/{served.token}", [JSON, ("origin", origin)]) == []
    assert refusals(served, "", [JSON, ("authorization", f"Bearer {served.token}"), ("origin", origin)]) == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "", "none, cross-site"])
def test_what_a_page_loads_every_route_refuses(served: Served, site: str) -> None:
    assert refusals(served, f"/{served.token}", [JSON, ("sec-fetch-site", site)]) == []


@pytest.mark.parametrize("verb", ["OPTIONS", "TRACE", "CONNECT"])
def test_no_route_answers_a_preflight(served: Served, verb: str) -> None:
    for client, _, path in requests(served):
        answer = client.request(verb, f"/{served.token}{path}", headers={"access-control-request-method": "POST"})
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "types",
    [
        *(["text/plain"], ["application/x-www-form-urlencoded"], ["multipart/form-data; boundary=x"], ["text/json"]),
        *([], [""], ["application/jsonp"], ["text/plain; application/json"], ["application/json", "text/plain"]),
    ],
)
def test_no_route_of_the_api_reads_a_body_of_another_type(served: Served, types: list[str]) -> None:
    for client, verb, path in requests(served, served.rest):
        if verb == "HEAD":
            continue
        headers = [("content-type", value) for value in types]
        answer = client.request(verb, f"/{served.token}{path}", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, 415), f"{verb} {path}"
        assert "Content-Type: application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", f"Bearer {WRONG}")],
        [("authorization", WRONG)],
        [("cookie", "token")],
        [("authorization", "Bearer {token}"), ("authorization", f"Bearer {WRONG}")],
        [("authorization", "Bearer {token} ")],
        [("authorization", "Basic {token}")],
        [("x-authorization", "Bearer {token}")],
    ],
)
def test_without_the_token_every_rpc_refuses(served: Served, metadata: list[tuple[str, str]]) -> None:
    sent = [(name, value.replace("{token}", served.token)) for name, value in metadata]
    with grpc.insecure_channel(served.emulator.grpc_address) as channel:
        for rpc in [*served.rpcs, "/no.such.Service/Method"]:
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(rpc)(b"", metadata=sent, timeout=patient(30))
            assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED, rpc
            assert served.token not in error.value.details()


def test_nothing_of_all_this_was_performed(served: Served) -> None:
    assert httpx.get(f"{served.emulator.rest_url}/emulator/calls", timeout=patient(30)).json() == {}
    with emulator_channel(served.emulator.grpc_address, served.token) as channel:
        call = channel.unary_unary("/google.longrunning.Operations/GetOperation")
        with pytest.raises(grpc.RpcError) as error:
            call(b"", timeout=patient(30))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
