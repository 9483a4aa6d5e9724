"""Read the requests of Cloud Storage's JSON API, and write resources and errors as JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, unquote

from google.api_core.exceptions import BadRequest, GoogleAPICallError, from_http_status
from starlette.requests import Request
from starlette.responses import JSONResponse

from airflow_provider_nbjob.emulator.objects import MAX_PAGE
from airflow_provider_nbjob.emulator.stored_object import TEXT_FIELDS, Conditions, Stored

SLICE = 256 * 2**10  # bytes of content that a request has in memory at once
MAX_JSON_BYTES = 2**20  # of a body that is JSON
PROJECT_NUMBER = "1"

_NUMBER = re.compile(r"-?[0-9]{1,19}")
_REASONS = {
    400: "invalid",
    404: "notFound",
    405: "methodNotAllowed",
    409: "conflict",
    412: "conditionNotMet",
    413: "uploadTooLarge",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
}


# --- requests ---


def in_path(request: Request, name: str) -> str:
    """Return a decoded segment of the path, which is matched as it was sent: ``a%2Fb`` is one segment.

    :raises BadRequest: if it is not UTF-8
    """
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("The path is not UTF-8.") from None


def number(request: Request, name: str) -> int | None:
    """Return a number of the query, or None if the query does not have it.

    :raises BadRequest: if it is not a number of 64 bits
    """
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise BadRequest(f"Invalid value for: {name}")
    return int(text)


def conditions(request: Request, prefix: str = "if") -> Conditions:
    """Return the conditions of the query.

    :param prefix: ``ifSource`` for those on the source of a copy
    :raises BadRequest: if one is not a number
    """
    return Conditions(
        generation_match=number(request, f"{prefix}GenerationMatch"),
        generation_not_match=number(request, f"{prefix}GenerationNotMatch"),
        metageneration_match=number(request, f"{prefix}MetagenerationMatch"),
        metageneration_not_match=number(request, f"{prefix}MetagenerationNotMatch"),
    )


def page_size(request: Request) -> int:
    """Return the ``maxResults`` of the query.

    :raises BadRequest: if it is not a positive number
    """
    wanted = number(request, "maxResults")
    if wanted is not None and wanted < 1:
        raise BadRequest("Invalid value for: maxResults")
    return min(wanted or MAX_PAGE, MAX_PAGE)


def page_token(name: str | None) -> str | None:
    """Return the token of the page that begins with a name."""
    return None if name is None else base64.urlsafe_b64encode(name.encode()).decode()


def page_start(request: Request) -> str:
    """Return the name that the page of the query begins with, or an empty text.

    :raises BadRequest: if the token is not from `page_token`
    """
    try:
        return base64.b64decode(request.query_params.get("pageToken", ""), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise BadRequest("Invalid value for: pageToken") from None


async def slices(request: Request) -> AsyncIterator[bytes]:
    """Yield the body of a request in pieces of `SLICE` bytes or a little more; the last one may be smaller."""
    gathered = bytearray()
    async for piece in request.stream():
        gathered += piece
        if len(gathered) >= SLICE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request's body; an empty one if there is no body.

    :raises GoogleAPICallError: 413 if it is larger than `MAX_JSON_BYTES`, 415 if it is not of the type
        ``application/json``
    :raises BadRequest: if it is no JSON object
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_JSON_BYTES:
            raise from_http_status(413, f"A body of JSON has at most {MAX_JSON_BYTES} bytes.")
    if not body.strip():
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise from_http_status(415, "Send the body with the header Content-Type: application/json.")
    refuse_encoded(request)
    return json_object(bytes(body))


def json_object(content: bytes) -> dict[str, Any]:
    """Read a JSON object.

    :raises BadRequest: if the content is no JSON object
    """
    try:
        value = json.loads(content) if content.strip() else {}
    except (ValueError, RecursionError):  # invalid UTF-8 or JSON, a number that is too long, deep nesting
        raise BadRequest("Parse Error") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    return value


def refuse_encoded(request: Request) -> None:
    """Refuse a body that is compressed: a small one may unpack to any size.

    :raises BadRequest: if the request has a ``Content-Encoding``
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise BadRequest("The emulator takes no compressed bodies, except the content of uploadType=media.")


def fields_of(resource: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of an object after a resource was applied to those it had; null removes a field.

    Fields that Cloud Storage sets itself, or that the emulator does not keep, are left out.

    :param before: its fields, if the resource is a change to them
    """
    fields = dict(before or {})
    for key in TEXT_FIELDS:
        if key in resource:
            fields[key] = resource[key]
    if "metadata" in resource:
        given = resource["metadata"]
        if isinstance(given, dict):
            kept = fields.get("metadata") or {}
            given = {key: value for key, value in {**kept, **given}.items() if value is not None}
        fields["metadata"] = given
    return {key: value for key, value in fields.items() if value is not None}


# --- resources ---


def _time(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 10**6, timezone.utc).replace(microsecond=microseconds % 10**6)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def bucket_json(request: Request, bucket: str, created: int) -> dict[str, Any]:
    """Return the resource of a bucket.

    :param created: microseconds since 1970
    """
    return {
        "kind": "storage#bucket",
        "id": bucket,
        "name": bucket,
        "selfLink": f"{request.base_url}storage/v1/b/{bucket}",
        "projectNumber": PROJECT_NUMBER,
        "metageneration": "1",
        "etag": "CAE=",
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "timeCreated": _time(created),
        "updated": _time(created),
    }


def object_json(request: Request, stored: Stored) -> dict[str, Any]:
    """Return the resource of an object; its links lead to where the request was sent, with the token in the path."""
    path = f"storage/v1/b/{stored.bucket}/o/{quote(stored.name, safe='')}"
    resource = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{request.base_url}{path}",
        "mediaLink": f"{request.base_url}download/{path}?generation={stored.generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "storageClass": "STANDARD",
        "size": str(stored.size),
        "md5Hash": stored.md5,
        "crc32c": stored.crc32c,
        "etag": etag(stored),
        "timeCreated": _time(stored.created),
        "updated": _time(stored.updated),
        **stored.fields,
    }
    return {key: value for key, value in resource.items() if value != ""}


def etag(stored: Stored) -> str:
    """Return a text that differs for each generation and for each change of the metadata."""
    return base64.b64encode(f"{stored.generation}/{stored.metageneration}".encode()).decode()


def error_response(error: GoogleAPICallError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error in the form of Google's APIs."""
    code = int(error.code or 500)
    message = str(error.message).encode(errors="replace").decode()  # a name in it may not be valid Unicode
    details = {"message": message, "domain": "global", "reason": _REASONS.get(code, "backendError")}
    return JSONResponse({"error": {"code": code, "message": message, "errors": [details]}}, code, headers)
