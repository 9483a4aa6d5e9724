"""An HTTP server in place of the services of Google's that the emulator does not have, such as IAM."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "ya29.a-token-that-nobody-may-see"


@dataclass
class GoogleServer:
    """Answers each request by the end of its path.

    :param url: its address
    :param answers: HTTP status and JSON by ``"POST path"``, the path as its end; the first one that fits is given
    :param requests: ``"POST /path"`` of each request, with the credentials that it carried, in order
    :param hanging: requests that are not answered, named as in `answers`
    """

    url: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    hanging: set[str] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, verb: str, path: str, credentials: str) -> tuple[int, Any]:
        """Return the answer to a request; 404 if there is none for it."""
        self.requests.append((f"{verb} {path}", credentials))
        for key in [key for key in self.hanging if fits(key, verb, path)]:
            self.ended.wait()
            return 503, refusal(503, f"{key} has hung")
        return next(
            (answer for key, answer in self.answers.items() if fits(key, verb, path)),
            (404, refusal(404, f"no answer to {verb} {path}")),
        )


def fits(key: str, verb: str, path: str) -> bool:
    """Return whether ``"POST end-of-path"`` is of a request."""
    wanted, _, end = key.partition(" ")
    return verb == wanted and urlsplit(path).path.endswith(end)


def refusal(code: int, message: str) -> dict[str, Any]:
    """Return the error object of Google's APIs."""
    return {"error": {"code": code, "message": message}}


@contextmanager
def google_server(answers: Mapping[str, tuple[int, Any]] | None = None) -> Iterator[GoogleServer]:
    """Serve until the block ends. Tokens are issued if `answers` say nothing else."""
    tokens = (200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
    served = GoogleServer(answers={**(answers or {}), "POST /token": tokens})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer("POST")

        def do_GET(self) -> None:
            self._answer("GET")

        def _answer(self, verb: str) -> None:
            status, content = served.answer(verb, self.path, self.headers.get("Authorization", ""))
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            served.ended.set()
            server.shutdown()
            thread.join()
