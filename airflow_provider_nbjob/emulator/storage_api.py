"""Cloud Storage's JSON API over `Objects`: what Google's Python client, gcsfs, `gcloud storage` and dbt-bigquery use.

Served are buckets (insert, get, list, delete), objects (get, list, patch, update, delete, compose, copy, rewrite),
downloads with ranges, and the three kinds of uploads. There is no XML API (signed URLs), no batch, no ACL and no IAM,
and there are no versions.

Content moves in slices, each of which occupies a thread for milliseconds; a client that does not send or read occupies
none. So no client keeps another one waiting.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote

from google.api_core.exceptions import (
    BadRequest,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
    from_http_status,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_nbjob.emulator.downloads import media_response
from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.related import RelatedBody, boundary_of
from airflow_provider_nbjob.emulator.storage_messages import (
    SLICE,
    bucket_json,
    conditions,
    error_response,
    fields_of,
    in_path,
    json_body,
    json_object,
    number,
    object_json,
    page_size,
    page_start,
    page_token,
    refuse_encoded,
    slices,
)
from airflow_provider_nbjob.emulator.stored_object import ANY, Draft, Stored, refuse_size
from airflow_provider_nbjob.emulator.uploads import Upload, Uploads

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_DRAINED_BYTES = 16 * 2**20  # of a refused upload; a client that still sends would not read the answer
MAX_SOURCES = 32  # of a composed object, as in Cloud Storage
# Lists of large buckets and the content of large objects have their own, so that what is small does not wait for them
FILE_THREADS, CONTENT_THREADS, LIST_THREADS = 8, 4, 2

log = logging.getLogger(__name__)
T = TypeVar("T")
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})|\*)/(?:(?P<size>[0-9]{1,18})|\*)")


class StorageApp:
    """The ASGI application.

    :ivar routes: all that is served

    It matches paths as they were sent, and not decoded as ASGI's `path` has them: ``a%2Fb`` in a path is one name.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._uploads = Uploads()
        self._file_threads = ThreadPoolExecutor(FILE_THREADS, "storage")
        self._content_threads = ThreadPoolExecutor(CONTENT_THREADS, "storage-content")
        self._list_threads = ThreadPoolExecutor(LIST_THREADS, "storage-list")
        self.routes = [Route(path, self._answered(call), methods=[verb]) for verb, path, call in self._table()]
        self._app = Starlette(routes=self.routes, exception_handlers={HTTPException: _not_served})
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if raw := scope.get("raw_path"):
            scope = {**scope, "path": raw.decode("ascii", "replace")}
        await self._app(scope, receive, send)

    def close(self) -> None:
        """End the threads; what they are doing is finished."""
        for threads in (self._file_threads, self._content_threads, self._list_threads):
            threads.shutdown(cancel_futures=True)

    def _table(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        api = "/storage/v1/b"
        bucket, object_ = f"{api}/{{bucket}}", f"{api}/{{bucket}}/o/{{object}}"
        upload = "/upload/storage/v1/b/{bucket}/o"
        return [
            ("GET", api, self.list_buckets),
            ("POST", api, self.insert_bucket),
            ("GET", bucket, self.get_bucket),
            ("DELETE", bucket, self.delete_bucket),
            ("GET", f"{bucket}/storageLayout", self.get_storage_layout),
            ("GET", f"{bucket}/o", self.list_objects),
            ("GET", object_, self.get_object),
            ("PATCH", object_, self.patch_object),
            ("PUT", object_, self.update_object),
            ("DELETE", object_, self.delete_object),
            ("POST", f"{object_}/compose", self.compose_object),
            ("POST", f"{object_}/copyTo/b/{{to_bucket}}/o/{{to_object}}", self.copy_object),
            ("POST", f"{object_}/rewriteTo/b/{{to_bucket}}/o/{{to_object}}", self.rewrite_object),
            ("GET", "/download/storage/v1/b/{bucket}/o/{object}", self.download_object),
            ("POST", upload, self.upload_object),
            ("PUT", upload, self.upload_object),
            ("DELETE", upload, self.cancel_upload),
            ("POST", f"/resumable{upload}", self.upload_object),  # what gcloud calls resumable uploads
            ("PUT", f"/resumable{upload}", self.upload_object),
            ("DELETE", f"/resumable{upload}", self.cancel_upload),
        ]

    def _answered(self, call: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Have a method answer its errors in the form of Google's APIs."""

        async def answer(request: Request) -> Response:
            try:
                return await call(request)
            except ClientDisconnect:
                return Response(status_code=499)
            except GoogleAPICallError as error:
                await _drain(request)
                return error_response(error)
            except OSError as error:  # such as a full disk
                log.exception("A request to Cloud Storage failed")
                return error_response(from_http_status(507, f"The emulator's file system: {error.strerror}"))
            except sqlite3.DatabaseError as error:  # such as one that was damaged while it was open
                log.error("A request to Cloud Storage failed, for its database cannot be used: %s", error)
                return error_response(from_http_status(500, f"The emulator's database: {error}"))

        return answer

    async def _run(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function that uses files in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._file_threads, partial(call, *arguments, **options))

    async def _run_content(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call a function that reads or writes a slice of a large content."""
        return await asyncio.get_running_loop().run_in_executor(self._content_threads, partial(call, *arguments))

    async def _run_list(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._list_threads, call)

    def _run_for(self, size: int) -> Callable[..., Awaitable[Any]]:
        """Return what calls a function that reads or writes so many bytes."""
        return self._run if size < SLICE else self._run_content

    # --- buckets ---

    async def list_buckets(self, request: Request) -> Response:
        """Serve ``buckets.list``."""
        prefix, start, limit = request.query_params.get("prefix", ""), page_start(request), page_size(request)
        buckets = await self._run_list(self._objects.buckets)
        names = [name for name in buckets if name.startswith(prefix) and name >= start]
        items = [bucket_json(request, name, buckets[name]) for name in names[:limit]]
        token = page_token(names[limit] if len(names) > limit else None)
        return JSONResponse({"kind": "storage#buckets", "items": items, **({"nextPageToken": token} if token else {})})

    async def insert_bucket(self, request: Request) -> Response:
        """Serve ``buckets.insert``."""
        name = (await json_body(request)).get("name")
        if not isinstance(name, str):
            raise BadRequest("Required: name")
        created = await self._run(self._objects.create_bucket, name)
        return JSONResponse(bucket_json(request, name, created))

    async def get_bucket(self, request: Request) -> Response:
        """Serve ``buckets.get``."""
        name = in_path(request, "bucket")
        return JSONResponse(bucket_json(request, name, await self._run(self._objects.bucket_created, name)))

    async def delete_bucket(self, request: Request) -> Response:
        """Serve ``buckets.delete``."""
        name = in_path(request, "bucket")
        await self._run_list(lambda: self._objects.delete_bucket(name))
        return Response(status_code=204)

    async def get_storage_layout(self, request: Request) -> Response:
        """Serve ``buckets.getStorageLayout``, by which clients learn that there are no managed folders."""
        name = in_path(request, "bucket")
        await self._run(self._objects.bucket_created, name)
        layout = {"kind": "storage#storageLayout", "bucket": name, "location": "US", "locationType": "multi-region"}
        return JSONResponse({**layout, "hierarchicalNamespace": {"enabled": False}})

    # --- objects ---

    async def list_objects(self, request: Request) -> Response:
        """Serve ``objects.list``."""
        query, bucket = request.query_params, in_path(request, "bucket")
        for unknown in ("matchGlob", "softDeleted"):
            if unknown in query:
                raise BadRequest(f"The emulator does not support {unknown}.")
        prefix, token = query.get("prefix", ""), page_start(request)
        page_of = partial(
            self._objects.page,
            prefix=prefix,
            delimiter=query.get("delimiter", ""),
            start=max(token, query.get("startOffset", "")),
            end=query.get("endOffset", ""),
            is_trailing=query.get("includeTrailingDelimiter") == "true",
            limit=page_size(request),
        )

        def listed() -> bytes:
            if not token:
                self._objects.refresh(bucket, prefix)
            page = page_of(bucket)
            content: dict[str, Any] = {"kind": "storage#objects"}
            if page.items:
                content["items"] = [object_json(request, stored) for stored in page.items]
            if page.prefixes:
                content["prefixes"] = page.prefixes
            if page.next_name is not None:
                content["nextPageToken"] = page_token(page.next_name)
            return bytes(JSONResponse(content).body)

        return Response(await self._run_list(listed), media_type="application/json")

    async def get_object(self, request: Request) -> Response:
        """Serve ``objects.get``: the resource, or the content with ``alt=media``."""
        if request.query_params.get("alt") == "media":
            return await self.download_object(request)
        stored = await self._run(self._objects.stat, *_object(request), number(request, "generation"))
        return _unmet(request, stored) or JSONResponse(object_json(request, stored))

    async def download_object(self, request: Request) -> Response:
        """Serve the content of an object."""
        stored, file = await self._run(self._objects.open, *_object(request), number(request, "generation"))
        try:
            if unmet := _unmet(request, stored):
                file.close()
                return unmet
            is_small = stored.size < SLICE and "contentEncoding" not in stored.fields  # which may unpack to much
            return await media_response(request, stored, file, self._run if is_small else self._run_content)
        except GoogleAPICallError:
            file.close()
            raise

    async def patch_object(self, request: Request) -> Response:
        """Serve ``objects.patch``: fields that are not named stay."""
        return await self._change(request, lambda before, resource: fields_of(resource, before))

    async def update_object(self, request: Request) -> Response:
        """Serve ``objects.update``: fields that are not named are removed."""
        return await self._change(request, lambda before, resource: fields_of(resource))

    async def _change(
        self, request: Request, change: Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]]
    ) -> Response:
        resource = await json_body(request)
        stored = await self._run(
            self._objects.change_fields,
            *_object(request),
            lambda before: change(before, resource),
            number(request, "generation"),
            conditions(request),
        )
        return JSONResponse(object_json(request, stored))

    async def delete_object(self, request: Request) -> Response:
        """Serve ``objects.delete``."""
        generation = number(request, "generation")
        await self._run(self._objects.delete, *_object(request), generation, conditions(request))
        return Response(status_code=204)

    async def compose_object(self, request: Request) -> Response:
        """Serve ``objects.compose``: the contents of several objects, one after the other."""
        body, (bucket, name) = await json_body(request), _object(request)
        sources, destination = body.get("sourceObjects"), body.get("destination") or {}
        if not isinstance(sources, list) or not 1 <= len(sources) <= MAX_SOURCES or not isinstance(destination, dict):
            raise BadRequest(f"A composed object has 1 to {MAX_SOURCES} sourceObjects.")
        fields = fields_of(destination)
        await self._run(self._objects.check_writable, bucket, name, fields)
        draft = await self._run(self._objects.draft)
        try:
            for source in sources:
                await self._append(draft, *await self._open_source(bucket, source))
            stored = await self._run(
                self._objects.put, bucket, name, draft, fields, conditions(request), is_composed=True
            )
        finally:
            await self._run(draft.discard)
        return JSONResponse(object_json(request, stored))

    async def _open_source(self, bucket: str, source: Any) -> tuple[Stored, BinaryIO]:
        """Open an element of ``sourceObjects``."""
        name = source.get("name") if isinstance(source, dict) else None
        if not isinstance(name, str):
            raise BadRequest("Required: sourceObjects.name")
        asked = source.get("objectPreconditions")
        wanted = [source.get("generation"), asked.get("ifGenerationMatch") if isinstance(asked, dict) else None]
        stored, file = await self._run(self._objects.open, bucket, name)
        if any(each is not None and str(each) != str(stored.generation) for each in wanted):
            file.close()
            raise PreconditionFailed(f"{stored.uri} is of generation {stored.generation}.")
        return stored, file

    async def copy_object(self, request: Request) -> Response:
        """Serve ``objects.copy``."""
        return JSONResponse(object_json(request, await self._copy(request)))

    async def rewrite_object(self, request: Request) -> Response:
        """Serve ``objects.rewrite``, always in one call."""
        stored = await self._copy(request)
        done = {"kind": "storage#rewriteResponse", "done": True, "resource": object_json(request, stored)}
        return JSONResponse({**done, "totalBytesRewritten": str(stored.size), "objectSize": str(stored.size)})

    async def _copy(self, request: Request) -> Stored:
        """Copy an object; the body may set fields of the copy."""
        resource = await json_body(request)
        bucket, name = in_path(request, "to_bucket"), in_path(request, "to_object")
        source, file = await self._run(self._objects.open, *_object(request), number(request, "sourceGeneration"))
        with file:
            conditions(request, "ifSource").check(source)
            fields = {**source.fields, **fields_of(resource)}
            await self._run(self._objects.check_writable, bucket, name, fields)
            draft = await self._run(self._objects.draft)
            try:
                await self._append(draft, source, file)
                return await self._run(self._objects.put, bucket, name, draft, fields, conditions(request))
            finally:
                await self._run(draft.discard)

    async def _append(self, draft: Draft, stored: Stored, file: BinaryIO) -> None:
        """Append the content of an object to a draft, slice by slice."""
        with file:
            run = self._run_for(stored.size)
            while piece := await run(file.read, SLICE):
                await run(draft.write, piece)

    # --- uploads ---

    async def upload_object(self, request: Request) -> Response:
        """Serve ``objects.insert``, in the three kinds of uploads."""
        if upload_id := request.query_params.get("upload_id"):
            return await self._receive(request, upload_id)
        kinds = {"media": self._upload_media, "multipart": self._upload_multipart, "resumable": self._begin_upload}
        kind = request.headers.get("x-goog-upload-protocol") or request.query_params.get("uploadType", "")
        if request.method != "POST" or kind not in kinds:
            raise BadRequest("Required: uploadType, one of media, multipart and resumable")
        return await kinds[kind](request)

    async def _upload_media(self, request: Request) -> Response:
        """Take an object whose content is the body; a body in gzip is stored as it is."""
        encoding = request.headers.get("content-encoding") or request.query_params.get("contentEncoding")
        fields = {"contentType": request.headers.get("content-type"), "contentEncoding": encoding}
        bucket, name = in_path(request, "bucket"), _name(request, {})
        fields = fields_of(fields)
        await self._run(self._objects.check_writable, bucket, name, fields)
        draft = await self._run(self._objects.draft)
        try:
            async for piece in slices(request):
                await self._run_for(len(piece))(draft.write, piece)
            stored = await self._run(self._objects.put, bucket, name, draft, fields, conditions(request))
        finally:
            await self._run(draft.discard)
        return JSONResponse(object_json(request, stored))

    async def _upload_multipart(self, request: Request) -> Response:
        """Take an object whose metadata and content are the two parts of the body."""
        refuse_encoded(request)
        bucket, body = in_path(request, "bucket"), RelatedBody(boundary_of(request.headers.get("content-type", "")))
        await self._run(self._objects.bucket_created, bucket)
        draft = await self._run(self._objects.draft)
        try:
            async for piece in slices(request):
                await self._run_for(len(piece))(lambda: draft.write(body.feed(piece)))  # noqa: B023 (awaited at once)
            if not body.is_complete or body.metadata is None:
                raise BadRequest("The body of a multipart upload ends before its last boundary.")
            resource = json_object(body.metadata)
            fields = fields_of({"contentType": body.content_type or None, **resource})
            _check_hashes({"md5": resource.get("md5Hash"), "crc32c": resource.get("crc32c")}, draft)
            name = _name(request, resource)
            stored = await self._run(self._objects.put, bucket, name, draft, fields, conditions(request))
        finally:
            await self._run(draft.discard)
        return JSONResponse(object_json(request, stored))

    async def _begin_upload(self, request: Request) -> Response:
        """Begin a resumable upload: the answer says where its content is sent."""
        resource, bucket = await json_body(request), in_path(request, "bucket")
        name = _name(request, resource)
        fields = fields_of({"contentType": request.headers.get("x-upload-content-type"), **resource})
        await self._run(self._objects.check_writable, bucket, name, fields)
        asked = conditions(request)
        if asked != ANY:
            asked.check(await self._run(self._objects.find, bucket, name))
        length = request.headers.get("x-upload-content-length", "")
        expected = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        refuse_size(expected or 0)
        draft = await self._run(self._objects.draft)
        try:
            upload = self._uploads.begin(
                bucket=bucket,
                name=name,
                fields=fields,
                conditions=asked,
                draft=draft,
                expected=expected,
            )
        except GoogleAPICallError:
            await self._run(draft.discard)
            raise
        where = f"{request.base_url}upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={quote(name, safe='')}"
        headers = {"Location": f"{where}&upload_id={upload.id}", "X-GUploader-UploadID": upload.id}
        return Response(status_code=200, headers=headers)

    async def _receive(self, request: Request, upload_id: str) -> Response:
        """Take a piece of a resumable upload, or say what has come of it."""
        upload = self._uploads.find(upload_id)
        if upload is None or upload.bucket != in_path(request, "bucket"):
            raise NotFound("There is no such upload; begin it again.")
        refuse_encoded(request)
        header = request.headers.get("content-range", "")
        match = _CONTENT_RANGE.fullmatch(header)
        if header and match is None:
            raise BadRequest(f"Invalid value for: Content-Range: {header[:100]!r}")
        if upload.result is None:
            has_content = match is None or match["first"] is not None
            if not has_content and upload.is_receiving:
                return _progress(upload)
            if upload.is_receiving:
                raise ServiceUnavailable("Another request is sending content of this upload.")
            upload.is_receiving = True
            try:
                if match and has_content:
                    await self._append_body(request, upload, int(match["first"]), int(match["last"]))
                elif has_content:
                    await self._append_body(request, upload, 0, None)
                if match:
                    size = int(match["size"]) if match["size"] else None
                else:
                    size = upload.draft.size if upload.expected is None else upload.expected
                if size is None or upload.draft.size < size:
                    return _progress(upload)
                upload.result = await self._finish(request, upload, size)
            finally:
                upload.is_receiving = False
        return JSONResponse(object_json(request, upload.result))

    async def _append_body(self, request: Request, upload: Upload, first: int, last: int | None) -> None:
        """Append a request's body to an upload, without the bytes that came before."""
        position = first
        if position > upload.draft.size:
            raise BadRequest(f"The content from byte {upload.draft.size} on is missing.")
        async for piece in slices(request):
            if last is not None and position + len(piece) > last + 1:
                raise BadRequest("The body is longer than its Content-Range.")
            if new := piece[max(0, upload.draft.size - position) :]:
                await self._run_for(len(new))(upload.draft.write, new)
            position += len(piece)

    async def _finish(self, request: Request, upload: Upload, size: int) -> Stored:
        """Make a complete upload an object."""
        draft = upload.draft
        try:
            if draft.size != size:
                raise BadRequest(f"The upload has {draft.size} bytes, not {size}.")
            sent = request.headers.get("x-goog-hash", "").replace(" ", "").split(",")
            _check_hashes(dict(each.split("=", 1) for each in sent if "=" in each), draft)
            stored = await self._run(
                self._objects.put, upload.bucket, upload.name, draft, upload.fields, upload.conditions
            )
        except GoogleAPICallError:
            self._uploads.remove(upload.id)
            raise
        return stored

    async def cancel_upload(self, request: Request) -> Response:
        """Serve the cancellation of a resumable upload."""
        upload_id = request.query_params.get("upload_id", "")
        if self._uploads.find(upload_id) is None:
            raise NotFound("There is no such upload.")
        self._uploads.remove(upload_id)
        return Response(status_code=499)


def _object(request: Request) -> tuple[str, str]:
    return in_path(request, "bucket"), in_path(request, "object")


def _name(request: Request, resource: Mapping[str, Any]) -> str:
    """Return the name of an object that is uploaded."""
    name = request.query_params.get("name") or resource.get("name")
    if not isinstance(name, str):
        raise BadRequest("Required: name")
    return name


def _unmet(request: Request, stored: Stored) -> Response | None:
    """Return the answer 304 if a client has what it asks for.

    :raises PreconditionFailed: if another condition of the request does not hold
    """
    asked = conditions(request)
    if asked.generation_not_match == stored.generation or asked.metageneration_not_match == stored.metageneration:
        return Response(status_code=304)
    asked.check(stored)
    return None


def _progress(upload: Upload) -> Response:
    """Return the answer of an upload that is not complete: 308, and what has come."""
    size = upload.draft.size
    headers = {"X-GUploader-UploadID": upload.id, **({"Range": f"bytes=0-{size - 1}"} if size else {})}
    return Response(status_code=308, headers=headers)


def _check_hashes(sent: Mapping[str, Any], draft: Draft) -> None:
    """Refuse content that is not what the client computed its checksums of.

    :raises BadRequest: if a checksum differs
    """
    for kind, own in (("md5", draft.md5), ("crc32c", draft.crc32c)):
        if sent.get(kind) not in (None, own):
            raise BadRequest(f"The {kind} of the content is {own}, not {sent[kind]}.")


async def _drain(request: Request) -> None:
    """Read the rest of a refused request's body, up to a bound."""
    left = MAX_DRAINED_BYTES
    try:
        async for piece in request.stream():
            left -= len(piece)
            if left < 0:
                return
    except (ClientDisconnect, RuntimeError):  # it is gone, or the body was read
        return


async def _not_served(request: Request, error: Exception) -> Response:
    """Answer a path or a method that is not served."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    return error_response(from_http_status(code, f"Not served by the emulator: {request.method}"))
