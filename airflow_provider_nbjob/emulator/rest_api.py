"""The API over HTTP and JSON, for gcloud and curl; and what tests ask of the emulator itself.

Served below ``/v1``, ``/v1beta1`` (gcloud) and ``/ui`` (where Google's REST client polls operations).
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, MethodNotAllowed, NotFound
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_nbjob.emulator.faults import Fault, Faults
from airflow_provider_nbjob.emulator.methods import Method
from airflow_provider_nbjob.emulator.service import NotebookService

_JOBS = r"(?P<parent>projects/[^/]+/locations/[^/]+)/notebookExecutionJobs"
_JOB = r"(?P<name>projects/[^/]+/locations/[^/]+/notebookExecutionJobs/[^/:]+)"
_OPERATION = r"(?P<name>projects/[^/]+/locations/[^/]+/(?:notebookExecutionJobs/[^/]+/)?operations/[^/:]+)"
# HTTP method, path, rpc; parts of the path are fields of the request
ROUTES = [
    ("POST", re.compile(_JOBS), "CreateNotebookExecutionJob"),
    ("GET", re.compile(_JOBS), "ListNotebookExecutionJobs"),
    ("GET", re.compile(_JOB), "GetNotebookExecutionJob"),
    ("DELETE", re.compile(_JOB), "DeleteNotebookExecutionJob"),
    ("GET", re.compile(_JOB + "/operations"), "ListOperations"),
    ("GET", re.compile(_OPERATION), "GetOperation"),
    ("DELETE", re.compile(_OPERATION), "DeleteOperation"),
    ("POST", re.compile(_OPERATION + ":cancel"), "CancelOperation"),
    ("POST", re.compile(_OPERATION + ":wait"), "WaitOperation"),
]


class RestServer:
    """The REST server, serving once it is constructed.

    :param port: 0 for a free one
    :raises OSError: where the port is taken
    """

    def __init__(
        self, host: str, port: int, methods: Mapping[str, Method], service: NotebookService, faults: Faults
    ) -> None:
        self._socket = socket.create_server((host, port))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(make_app(methods, service, faults), log_config=None, lifespan="off", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(5)
        self._socket.close()


def make_app(methods: Mapping[str, Method], service: NotebookService, faults: Faults) -> Starlette:
    """The application: the API's methods, and the emulator's own."""

    async def api(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_answer, lambda: _call(methods, request, body))

    async def own(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_answer, lambda: _own(service, faults, request, body))

    verbs = ["GET", "POST", "DELETE", "PUT", "PATCH"]
    return Starlette(
        routes=[
            Route("/emulator/{path:path}", own, methods=verbs),
            Route("/{version:str}/{path:path}", api, methods=verbs),
        ]
    )


def _answer(call: Callable[[], Any]) -> Response:
    """The JSON of what a call returns, or the API's error object of what it raises."""
    try:
        return JSONResponse(call())
    except GoogleAPICallError as error:
        status = error.grpc_status_code.name if error.grpc_status_code else "UNKNOWN"
        code = int(error.code or 500)
        return JSONResponse({"error": {"code": code, "message": error.message, "status": status}}, code)


def _call(methods: Mapping[str, Method], request: Request, body: bytes) -> Any:
    path = request.path_params["path"]
    if request.path_params["version"] not in ("v1", "v1beta1", "ui"):
        raise NotFound(f"Not found: /{request.path_params['version']}/{path}")
    matches = [(verb, pattern.fullmatch(path), rpc) for verb, pattern, rpc in ROUTES]
    found = [(verb, match, rpc) for verb, match, rpc in matches if match]
    chosen = [(match, rpc) for verb, match, rpc in found if verb == request.method]
    if not chosen:
        raise MethodNotAllowed(request.method) if found else NotFound(f"Not found: {path}")
    match, rpc = chosen[0]
    method = methods[rpc]
    message = _request_message(method.request_type, rpc, match.groupdict(), request, body)
    alt = request.query_params.get("$alt", "")
    return json_format.MessageToDict(method.serve(message), use_integers_for_enums="enum-encoding=int" in alt)


def _request_message(kind: Any, rpc: str, in_path: Mapping[str, str], request: Request, body: bytes) -> Message:
    """The request's protobuf message, of path, query and body; unknown fields are left out, as the API does."""
    fields: dict[str, Any] = {}
    for name, value in request.query_params.items():
        fields[name] = int(value) if value.isdigit() and name in ("view", "pageSize", "page_size") else value
    fields.update(in_path)
    try:
        content = json.loads(body) if body.strip() else {}
        if rpc == "CreateNotebookExecutionJob":
            fields["notebookExecutionJob"] = content
        else:
            fields.update(content)
        message: Message = json_format.ParseDict(fields, kind(), ignore_unknown_fields=True)
    except (ValueError, TypeError, AttributeError, json_format.ParseError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from None
    return message


def _own(service: NotebookService, faults: Faults, request: Request, body: bytes) -> Any:
    """What tests ask of the emulator itself."""
    path = request.path_params["path"]
    try:
        content = json.loads(body) if body.strip() else {}
    except ValueError as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from None
    if state := re.fullmatch(r"jobs/([^/]+)/state", path):
        if not isinstance(content, dict):
            raise InvalidArgument("The body is no object with a jobState.")
        service.force_state(state[1], str(content.get("jobState")))
        return {}
    actions: dict[tuple[str, str], Callable[[], Any]] = {
        ("GET", "health"): lambda: {"status": "ok"},
        ("GET", "calls"): faults.calls,
        ("DELETE", "calls"): faults.reset_calls,
        ("GET", "faults"): faults.standing,
        ("POST", "faults"): lambda: faults.add(Fault.from_json(content)),
        ("DELETE", "faults"): faults.clear,
    }
    if (request.method, path) not in actions:
        raise NotFound(f"Not found: {request.method} /emulator/{path}")
    answer = actions[request.method, path]()
    return {} if answer is None else answer
