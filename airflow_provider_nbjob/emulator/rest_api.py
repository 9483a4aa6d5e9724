"""Serve the API over HTTP and JSON, for gcloud and curl; and the emulator's own requests, for tests.

The API is served below ``/v1``, ``/v1beta1`` (gcloud) and ``/ui`` (Google's REST client polls operations there), behind
the guard of `HttpServer`. The emulator's own requests are below ``/emulator``.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.api_core.exceptions import (
    GoogleAPICallError,
    InvalidArgument,
    MethodNotAllowed,
    NotFound,
    ResourceExhausted,
)
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_nbjob.emulator.faults import Fault, Faults
from airflow_provider_nbjob.emulator.guard import Refused
from airflow_provider_nbjob.emulator.json_requests import load_json, parse_request
from airflow_provider_nbjob.emulator.methods import Method, Methods
from airflow_provider_nbjob.emulator.operations import VERSIONS, to_json
from airflow_provider_nbjob.emulator.scripts import Script, Scripts
from airflow_provider_nbjob.emulator.service import NotebookService

log = logging.getLogger(__name__)

BODY_MAX = 32 * 2**20  # bytes
BODY_SECONDS = 60  # in which a body must come
BODIES_MAX = 256 * 2**20  # bytes of the large bodies that are held at once; small ones are always taken
SMALL_BODY = 2**20  # bytes

_LOCATION = r"(?P<name>projects/[^/]+/locations/[^/]+)"
_JOBS = r"(?P<parent>projects/[^/]+/locations/[^/]+)/notebookExecutionJobs"
_JOB = r"(?P<name>projects/[^/]+/locations/[^/]+/notebookExecutionJobs/[^/:]+)"
_TEMPLATE = r"(?P<name>projects/[^/]+/locations/[^/]+/notebookRuntimeTemplates/[^/:]+)"
_OPERATION = r"(?P<name>projects/[^/]+/locations/[^/]+/(?:notebookExecutionJobs/[^/]+/)?operations/[^/:]+)"
_SECRET_VERSION = r"(?P<name>projects/[^/]+/secrets/[^/]+/versions/[^/:]+)"  # noqa: S105
# HTTP method, path, rpc; parts of the path are fields of the request
ROUTES = [
    ("POST", re.compile(_JOBS), "CreateNotebookExecutionJob"),
    ("GET", re.compile(_JOBS), "ListNotebookExecutionJobs"),
    ("GET", re.compile(_JOB), "GetNotebookExecutionJob"),
    ("DELETE", re.compile(_JOB), "DeleteNotebookExecutionJob"),
    ("GET", re.compile(_TEMPLATE), "GetNotebookRuntimeTemplate"),
    ("GET", re.compile(_JOB + "/operations"), "ListOperations"),
    ("GET", re.compile(_LOCATION + "/operations"), "ListOperations"),
    ("GET", re.compile(_OPERATION), "GetOperation"),
    ("DELETE", re.compile(_OPERATION), "DeleteOperation"),
    ("POST", re.compile(_OPERATION + ":cancel"), "CancelOperation"),
    ("POST", re.compile(_OPERATION + ":wait"), "WaitOperation"),
    ("GET", re.compile(_SECRET_VERSION + ":access"), "AccessSecretVersion"),
]
# The field of the request whose value is the body; "*": the body has the request's fields. Other rpcs have no body.
BODIES = {"CreateNotebookExecutionJob": "notebook_execution_job", "CancelOperation": "*", "WaitOperation": "*"}
UNVERSIONED = "ui"  # Google's REST clients of all versions poll operations there


def make_app(methods: Methods, service: NotebookService, faults: Faults, scripts: Scripts) -> Starlette:
    """Return the application: the API's methods, and the emulator's own."""
    parse = methods.in_threads("parse", _parse)
    render = methods.in_threads("render", _render)
    bodies = _Bodies()
    routes = own_routes(service, faults, scripts)
    own = methods.in_threads("own", lambda *arguments: _own(routes, *arguments))

    async def call_api(request: Request) -> Response:
        path, version = request.path_params["path"], request.path_params["version"]
        async with bodies.read(request) as body:
            if version not in (*VERSIONS, UNVERSIONED):
                raise NotFound(f"Not found: /{version}/{path}")
            rpc, in_path = _route(request.method, path)
            message = await parse(methods[rpc], rpc, in_path, request.query_params.multi_items(), body)
        answer = await methods[rpc].serve(message, "" if version == UNVERSIONED else version)
        as_numbers = "enum-encoding=int" in request.query_params.get("$alt", "")
        return await render(answer, as_numbers)

    async def call_own(request: Request) -> Response:
        async with bodies.read(request) as body:
            return JSONResponse(await own(request.method, request.path_params["path"], body))

    verbs = ["GET", "POST", "DELETE", "PUT", "PATCH"]
    app = Starlette(
        routes=[
            Route("/emulator/{path:path}", _answering(call_own), methods=verbs),
            Route("/{version:str}/{path:path}", _answering(call_api), methods=verbs),
        ],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    return app


def _answering(call: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer the errors of a call with the API's error object."""

    async def answer(request: Request) -> Response:
        try:
            return await call(request)
        except Refused as refused:
            return _error(refused.code, refused.status, refused.message)
        except GoogleAPICallError as error:
            status = error.grpc_status_code.name if error.grpc_status_code else "UNKNOWN"
            return _error(int(error.code or 500), status, error.message)
        except ClientDisconnect:
            return _error(499, "CANCELLED", "The client has gone.")
        except Exception:
            log.exception("A request failed")
            return _error(500, "INTERNAL", "The emulator failed; see its log.")

    return answer


def _error(code: int, status: str, message: str) -> Response:
    message = message.encode(errors="replace").decode()  # a text that it quotes may not be valid Unicode
    return JSONResponse({"error": {"code": code, "message": message, "status": status}}, code)


async def _no_route(request: Request, error: Any) -> Response:
    return _error(error.status_code, "NOT_FOUND" if error.status_code == 404 else "UNKNOWN", error.detail)


class _Bodies:
    """The bodies of requests, with a limit for each and one for their sum."""

    def __init__(self) -> None:
        self._held = 0  # bytes; changed on the event loop only

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytearray]:
        """Read the body of a request, and hold it until the block ends.

        :raises Refused: if its type is not JSON, which no form of a web page can send, or if it does not come in time
        :raises InvalidArgument: if it has more than `BODY_MAX` bytes
        :raises ResourceExhausted: if `BODIES_MAX` are held already
        """
        types = [value.partition(";")[0].strip().lower() for value in request.headers.getlist("content-type")]
        if any(value != "application/json" for value in types):
            raise Refused(415, "INVALID_ARGUMENT", "The header 'Content-Type: application/json' is required.")
        body = bytearray()
        held = 0

        async def read() -> None:
            nonlocal held
            async for chunk in request.stream():
                if chunk and not types:
                    raise Refused(415, "INVALID_ARGUMENT", "A body needs the header 'Content-Type: application/json'.")
                body.extend(chunk)
                if len(body) > BODY_MAX:
                    raise InvalidArgument(f"Request payload size exceeds the limit: {BODY_MAX} bytes.")
                if len(body) > SMALL_BODY:
                    self._held += len(body) - held
                    held = len(body)
                    if self._held > BODIES_MAX:
                        raise ResourceExhausted("Too many large requests are under way: try again later.")

        try:
            try:
                await asyncio.wait_for(read(), BODY_SECONDS)
            except asyncio.TimeoutError:
                raise Refused(408, "DEADLINE_EXCEEDED", f"The body did not come in {BODY_SECONDS} s.") from None
            yield body
        finally:
            self._held -= held


def _route(verb: str, path: str) -> tuple[str, dict[str, str]]:
    """Return the rpc of a path, and the fields of its request that are in the path."""
    found = [(method, match, rpc) for method, pattern, rpc in ROUTES if (match := pattern.fullmatch(path))]
    for method, match, rpc in found:
        if method == verb:
            return rpc, match.groupdict()
    raise MethodNotAllowed(verb) if found else NotFound(f"Not found: {path}")


def _parse(
    method: Method,
    rpc: str,
    in_path: Mapping[str, str],
    query: Sequence[tuple[str, str]],
    body: bytes | bytearray,
) -> Message:
    """Return the request's protobuf message, made from path, query and body."""
    return parse_request(method.request_type, BODIES.get(rpc), in_path, query, load_json(body))


def _render(answer: Message, as_numbers: bool) -> Response:
    return JSONResponse(to_json(answer, as_numbers=as_numbers))


def own_routes(
    service: NotebookService, faults: Faults, scripts: Scripts
) -> list[tuple[str, re.Pattern[str], Callable[..., Any]]]:
    """Return the emulator's own requests: HTTP method, path, and a function of the body and the path's parts."""

    def force_state(body: object, job_id: str) -> None:
        if not isinstance(body, dict):
            raise InvalidArgument("The body is no object with a jobState.")
        service.force_state(job_id, str(body.get("jobState"))[:100])

    def add_script(body: object) -> None:
        try:
            scripts.add(Script.from_json(body))
        except ValueError as error:
            raise InvalidArgument(str(error)) from None

    return [
        ("GET", re.compile("jobs"), lambda _: [to_json(job, as_numbers=False) for job in service.all_jobs()]),
        ("POST", re.compile("jobs/([^/]+)/state"), force_state),
        ("GET", re.compile("health"), lambda _: {"status": "ok"}),
        ("GET", re.compile("calls"), lambda _: faults.calls()),
        ("DELETE", re.compile("calls"), lambda _: faults.reset_calls()),
        ("GET", re.compile("faults"), lambda _: faults.standing()),
        ("POST", re.compile("faults"), lambda body: faults.add(Fault.from_json(body))),
        ("DELETE", re.compile("faults"), lambda _: faults.clear()),
        ("GET", re.compile("scripts"), lambda _: scripts.standing()),
        ("POST", re.compile("scripts"), add_script),
        ("DELETE", re.compile("scripts"), lambda _: scripts.clear()),
    ]


def _own(
    routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]], verb: str, path: str, body: bytes | bytearray
) -> object:
    content = load_json(body)
    for method, pattern, action in routes:
        if method == verb and (match := pattern.fullmatch(path)):
            answer = action(content, *match.groups())
            return {} if answer is None else answer
    raise NotFound(f"Not found: {verb} /emulator/{path}")
