"""Cloud Storage in memory: Google's own client, on a transport that answers from a dictionary.

The client is the real one, so that its exceptions, its checksums, its handling of generations and of gzip are too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
import requests
import urllib3
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

FIRST_GENERATION = 1_700_000_000_000_001


@dataclass
class StoredObject:
    """One generation of an object.

    :param sent: what arrives of the content when it is read from its beginning; default: all of it
    """

    bucket: str
    path: str
    generation: int
    content: bytes
    content_type: str = "application/octet-stream"
    content_encoding: str | None = None
    sent: bytes | None = None

    def metadata(self) -> dict[str, Any]:
        """The object as the JSON API shows it: 64-bit numbers are texts."""
        shown = {
            "name": self.path,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "size": str(len(self.content)),
            "contentType": self.content_type,
        }
        return {**shown, **({"contentEncoding": self.content_encoding} if self.content_encoding else {})}


@dataclass
class FakeStorage:
    """Buckets, what is in them, and what was asked of them.

    :param buckets: those that exist
    :param requests: the operations that were asked for, such as ``"get gs://bucket/path"``, in order
    :param timeouts: the seconds for which the client waits for an answer
    """

    buckets: set[str]
    requests: list[str] = field(default_factory=list)
    timeouts: set[float] = field(default_factory=set)
    is_mtls: bool = False  # the client asks a session for it
    _objects: dict[str, list[StoredObject]] = field(default_factory=dict)
    _failures: list[tuple[str, int | Exception, str]] = field(default_factory=list)

    def client(self) -> storage.Client:
        """Return Google's client of these buckets."""
        return storage.Client(project="p", credentials=AnonymousCredentials(), _http=self)

    # --- what tests do ---

    def put(self, uri: str, content: bytes, **changes: Any) -> int:
        """Write an object and return its generation; earlier generations stay."""
        bucket, _, path = uri.removeprefix("gs://").partition("/")
        generation = FIRST_GENERATION + sum(map(len, self._objects.values()))
        stored = StoredObject(bucket, path, generation, content, **changes)
        self._objects.setdefault(f"gs://{bucket}/{path}", []).append(stored)
        return generation

    def fail(self, operation: str, what: int | Exception, message: str = "refused", *, times: int = 100) -> None:
        """Have the next `times` requests of an operation (get, read, write or list) fail.

        :param what: the HTTP status of the answer, or what is raised in its place
        """
        self._failures += [(operation, what, message)] * times

    def uris(self) -> list[str]:
        """Return the URIs of all objects."""
        return sorted(self._objects)

    def stored(self, uri: str) -> StoredObject:
        """Return the live generation of an object."""
        return self._objects[uri][-1]

    # --- what the client asks of its transport, a `requests.Session` ---

    def request(
        self, method: str, url: str, data: Any = None, headers: Any = None, timeout: Any = None, **_: Any
    ) -> requests.Response:
        """Answer one request."""
        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        bucket, below, path = parts.path.partition("/b/")[2].partition("/o")
        if not below:
            # google-cloud-storage 3.17 asks for the bucket itself in a thread, at any time, for traces only (see its
            # `_bucket_metadata_cache`). That must neither be counted nor use up a failure. After a 403 it asks no more.
            return _answer(method, url, 403, _error(403, "no storage.buckets.get access"))
        uri = f"gs://{bucket}/{unquote(path.removeprefix('/'))}"
        operation = _operation(method, path, query)
        if operation == "write":
            metadata, content = _multipart(data, headers)
            uri += metadata["name"]
        elif operation == "list":
            uri += query.get("prefix", "")
        self.requests.append(f"{operation} {uri}")
        self.timeouts.add(timeout)
        for failure in self._failures:
            if failure[0] == operation:
                self._failures.remove(failure)
                if isinstance(failure[1], Exception):
                    raise failure[1]
                return _answer(method, url, failure[1], _error(failure[1], failure[2]))
        if bucket not in self.buckets:
            return _answer(method, url, 404, _error(404, "The specified bucket does not exist."))
        if operation == "write":
            self.put(uri, content, content_type=metadata["contentType"])
            return _answer(method, url, 200, _json(self.stored(uri).metadata()))
        if operation == "list":
            found = [each[-1].metadata() for key, each in sorted(self._objects.items()) if key.startswith(uri)]
            return _answer(method, url, 200, _json({"items": found[: int(query["maxResults"])]}))
        found = [each for each in self._objects.get(uri, []) if query.get("generation") in (None, str(each.generation))]
        if not found:
            return _answer(method, url, 404, _error(404, f"No such object: {uri}"))
        if operation == "get":
            return _answer(method, url, 200, _json(found[-1].metadata()))
        return _download(method, url, found[-1], headers or {})


def _operation(method: str, path: str, query: dict[str, str]) -> str:
    if method == "POST":
        return "write"
    if not path:
        return "list"
    return "read" if query.get("alt") == "media" else "get"


def _download(method: str, url: str, stored: StoredObject, headers: dict[str, str]) -> requests.Response:
    crc32c = base64.b64encode(google_crc32c.Checksum(stored.content).digest()).decode()
    md5 = base64.b64encode(hashlib.md5(stored.content).digest()).decode()
    shown = {
        "Content-Type": stored.content_type,
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Hash": f"crc32c={crc32c},md5={md5}",
        "X-Goog-Stored-Content-Length": str(len(stored.content)),
    }
    if stored.content_encoding:
        shown["Content-Encoding"] = stored.content_encoding
    wanted = next((value for key, value in headers.items() if key.lower() == "range"), None)
    if wanted is None:
        return _answer(method, url, 200, stored.content if stored.sent is None else stored.sent, shown)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    if int(first) >= len(stored.content):
        return _answer(method, url, 416, b"")
    content = stored.content[int(first) : int(last) + 1 if last else None]
    shown["Content-Range"] = f"bytes {first}-{int(first) + len(content) - 1}/{len(stored.content)}"
    return _answer(method, url, 206, content, shown)


def _multipart(data: bytes, headers: Any) -> tuple[dict[str, Any], bytes]:
    """The metadata and the content of an upload."""
    kinds = {key.lower(): value for key, value in headers.items()}
    kind = kinds["content-type"]
    kind = kind if isinstance(kind, bytes) else kind.encode()
    boundary = kind.partition(b"boundary=")[2].strip(b'"')
    parts = data.split(b"--" + boundary)[1:3]
    metadata, content = (part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts)
    content_type = parts[1].partition(b"content-type: ")[2].partition(b"\r\n")[0].decode()
    return {"contentType": content_type, **json.loads(metadata)}, content


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _error(status: int, message: str) -> bytes:
    return _json({"error": {"code": status, "message": message}})


def _answer(
    method: str, url: str, status: int, body: bytes, headers: dict[str, str] | None = None
) -> requests.Response:
    shown = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    response = requests.Response()
    response.status_code = status
    response.url = url
    response.headers.update(shown)
    response.raw = urllib3.HTTPResponse(io.BytesIO(body), headers=shown, status=status, preload_content=False)
    response.request = requests.Request(method, url).prepare()
    return response
