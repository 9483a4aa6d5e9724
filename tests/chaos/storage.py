"""Cloud Storage for a run: each location's bucket has an executed notebook for each job, and fails with its API."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.chaos.schedule import HANG, RESULTS, SLOW, SLOW_SECONDS
from tests.support.notebooks import code, notebook, result

EXECUTED = notebook(code("40 + 2", result({"text/plain": json.dumps(RESULTS["result"])}), tags=("result",)))
NAME = "n.ipynb"  # of the notebook that is run
HOLDS = (SLOW, HANG)
HANG_LOOK_SECONDS = 0.2
# Statuses of codes, of which any other is 503.
STATUSES = {"PERMISSION_DENIED": 403, "NOT_FOUND": 404, "UNAUTHENTICATED": 401, "RESOURCE_EXHAUSTED": 429}


def serve_storage(fault_of: Callable[[str], str]) -> int:
    """Serve in threads of this process, and return the port.

    :param fault_of: returns what is wrong with a bucket now, see `ApiFault`; nothing if it works
    """

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            bucket, of_objects, path = re.sub("^.*/b/", "", asked.path).partition("/o")
            how = fault_of(bucket)
            if how == SLOW:
                time.sleep(SLOW_SECONDS)
            while how == HANG and fault_of(bucket) == HANG:
                time.sleep(HANG_LOOK_SECONDS)
            if how and how not in HOLDS:
                self.reply(STATUSES.get(how, 503), json.dumps({"error": {"message": f"chaos: {how}"}}).encode())
            elif "media" in parse_qs(asked.query).get("alt", ()):
                self.reply_range()
            elif path:
                self.reply(200, json.dumps(_object(bucket, unquote(path.strip("/")))).encode())
            elif of_objects:
                (prefix,) = parse_qs(asked.query)["prefix"]
                self.reply(200, json.dumps({"items": [_object(bucket, prefix + NAME)]}).encode())
            else:
                self.reply(200, json.dumps({"name": bucket}).encode())

        def reply_range(self) -> None:
            first, last = (int(at or len(EXECUTED)) for at in self.headers["Range"].removeprefix("bytes=").split("-"))
            part = EXECUTED[first : last + 1]
            self.reply(206 if part else 416, part, {"Content-Range": f"bytes {first}-{last}/{len(EXECUTED)}"})

        def reply(self, status: int, content: bytes, headers: Mapping[str, str] = {}) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def _object(bucket: str, path: str) -> dict[str, str]:
    return {"bucket": bucket, "name": path, "generation": "1", "size": str(len(EXECUTED))}
