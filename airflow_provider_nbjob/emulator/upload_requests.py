"""Serve the requests that upload objects: ``objects.insert`` in its three kinds, media, multipart and resumable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound, ServiceUnavailable
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.related import RelatedBody, boundary_of
from airflow_provider_nbjob.emulator.storage_messages import (
    conditions,
    fields_of,
    in_path,
    json_body,
    json_object,
    object_json,
    refuse_encoded,
    slices,
)
from airflow_provider_nbjob.emulator.storage_threads import StorageThreads
from airflow_provider_nbjob.emulator.stored_object import ANY, Draft, Stored, refuse_size
from airflow_provider_nbjob.emulator.uploads import Upload, Uploads

_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})|\*)/(?:(?P<size>[0-9]{1,18})|\*)")


class UploadRequests:
    """The method ``objects.insert``, and the requests that resume or cancel an upload."""

    def __init__(self, objects: Objects, threads: StorageThreads) -> None:
        self._objects, self._threads = objects, threads
        self._uploads = Uploads()

    async def upload_object(self, request: Request) -> Response:
        """Serve ``objects.insert``, in the three kinds of uploads."""
        if upload_id := request.query_params.get("upload_id"):
            return await self._receive(request, upload_id)
        kinds = {"media": self._upload_media, "multipart": self._upload_multipart, "resumable": self._begin_upload}
        kind = request.headers.get("x-goog-upload-protocol") or request.query_params.get("uploadType", "")
        if request.method != "POST" or kind not in kinds:
            raise BadRequest("Required: uploadType, one of media, multipart and resumable")
        return await kinds[kind](request)

    # --- in one request ---

    async def _upload_media(self, request: Request) -> Response:
        """Store an object whose content is the body; a body in gzip is stored as it is."""
        encoding = request.headers.get("content-encoding") or request.query_params.get("contentEncoding")
        fields = fields_of({"contentType": request.headers.get("content-type"), "contentEncoding": encoding})
        bucket, name = in_path(request, "bucket"), _name(request, {})
        await self._threads.run(self._objects.check_writable, bucket, name, fields)
        async with self._threads.draft(self._objects) as draft:
            async for piece in slices(request):
                await self._threads.run_for(len(piece))(draft.write, piece)
            stored = await self._threads.run(self._objects.put, bucket, name, draft, fields, conditions(request))
        return JSONResponse(object_json(request, stored))

    async def _upload_multipart(self, request: Request) -> Response:
        """Store an object whose metadata and content are the two parts of the body."""
        refuse_encoded(request)
        bucket, body = in_path(request, "bucket"), RelatedBody(boundary_of(request.headers.get("content-type", "")))
        await self._threads.run(self._objects.bucket_created, bucket)
        async with self._threads.draft(self._objects) as draft:

            def write(piece: bytes) -> None:
                draft.write(body.feed(piece))

            async for piece in slices(request):
                await self._threads.run_for(len(piece))(write, piece)
            if not body.is_complete or body.metadata is None:
                raise BadRequest("The body of a multipart upload ends before its last boundary.")
            resource = json_object(body.metadata)
            fields = fields_of({"contentType": body.content_type or None, **resource})
            _check_hashes({"md5": resource.get("md5Hash"), "crc32c": resource.get("crc32c")}, draft)
            name = _name(request, resource)
            stored = await self._threads.run(self._objects.put, bucket, name, draft, fields, conditions(request))
        return JSONResponse(object_json(request, stored))

    # --- resumable ---

    async def _begin_upload(self, request: Request) -> Response:
        """Begin a resumable upload: the answer has the URL that its content is sent to."""
        resource, bucket = await json_body(request), in_path(request, "bucket")
        name = _name(request, resource)
        fields = fields_of({"contentType": request.headers.get("x-upload-content-type"), **resource})
        await self._threads.run(self._objects.check_writable, bucket, name, fields)
        asked = conditions(request)
        if asked != ANY:
            asked.check(await self._threads.run(self._objects.find, bucket, name))
        length = request.headers.get("x-upload-content-length", "")
        expected = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        refuse_size(expected or 0)
        draft = await self._threads.run(self._objects.draft)
        upload = Upload(bucket=bucket, name=name, fields=fields, conditions=asked, draft=draft, expected=expected)
        try:
            self._uploads.add(upload)
        except GoogleAPICallError:
            await self._threads.run(draft.discard)
            raise
        url = f"{request.base_url}upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={quote(name, safe='')}"
        headers = {"Location": f"{url}&upload_id={upload.id}", "X-GUploader-UploadID": upload.id}
        return Response(status_code=200, headers=headers)

    async def _receive(self, request: Request, upload_id: str) -> Response:
        """Append a request's body to a resumable upload, or answer how much of it is there."""
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
        """Append a request's body to an upload, without the bytes that it already has."""
        position = first
        if position > upload.draft.size:
            raise BadRequest(f"The content from byte {upload.draft.size} on is missing.")
        async for piece in slices(request):
            if last is not None and position + len(piece) > last + 1:
                raise BadRequest("The body is longer than its Content-Range.")
            if new := piece[max(0, upload.draft.size - position) :]:
                await self._threads.run_for(len(new))(upload.draft.write, new)
            position += len(piece)

    async def _finish(self, request: Request, upload: Upload, size: int) -> Stored:
        """Make a complete upload an object."""
        draft = upload.draft
        try:
            if draft.size != size:
                raise BadRequest(f"The upload has {draft.size} bytes, not {size}.")
            sent = request.headers.get("x-goog-hash", "").replace(" ", "").split(",")
            _check_hashes(dict(each.split("=", 1) for each in sent if "=" in each), draft)
            return await self._threads.run(
                self._objects.put, upload.bucket, upload.name, draft, upload.fields, upload.conditions
            )
        except GoogleAPICallError:
            self._uploads.remove(upload.id)
            raise

    async def cancel_upload(self, request: Request) -> Response:
        """Serve the cancellation of a resumable upload."""
        upload_id = request.query_params.get("upload_id", "")
        if self._uploads.find(upload_id) is None:
            raise NotFound("There is no such upload.")
        self._uploads.remove(upload_id)
        return Response(status_code=499)


def _name(request: Request, resource: Mapping[str, Any]) -> str:
    """Return the name of an object that is uploaded."""
    name = request.query_params.get("name") or resource.get("name")
    if not isinstance(name, str):
        raise BadRequest("Required: name")
    return name


def _progress(upload: Upload) -> Response:
    """Return the answer of an upload that is not complete: 308, and the bytes that were received."""
    size = upload.draft.size
    headers = {"X-GUploader-UploadID": upload.id, **({"Range": f"bytes=0-{size - 1}"} if size else {})}
    return Response(status_code=308, headers=headers)


def _check_hashes(sent: Mapping[str, object], draft: Draft) -> None:
    """Refuse content whose checksums are not those that the client sent.

    :raises BadRequest: if a checksum differs
    """
    for kind, own in (("md5", draft.md5), ("crc32c", draft.crc32c)):
        if sent.get(kind) not in (None, own):
            raise BadRequest(f"The {kind} of the content is {own}, not {sent[kind]}.")
