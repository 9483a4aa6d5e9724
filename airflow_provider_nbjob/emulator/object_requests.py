"""Serve the requests on objects, except uploads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO

from google.api_core.exceptions import BadRequest, GoogleAPICallError, PreconditionFailed
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_nbjob.emulator.downloads import media_response
from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.storage_messages import (
    SLICE,
    conditions,
    fields_of,
    in_path,
    json_body,
    number,
    object_json,
    page_size,
    page_start,
    page_token,
)
from airflow_provider_nbjob.emulator.storage_threads import StorageThreads
from airflow_provider_nbjob.emulator.stored_object import Draft, Stored

MAX_SOURCES = 32  # of a composed object, as in Cloud Storage


class ObjectRequests:
    """The methods of the resource ``objects``, except ``objects.insert``."""

    def __init__(self, objects: Objects, threads: StorageThreads) -> None:
        self._objects, self._threads = objects, threads

    # --- reads ---

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

        return Response(await self._threads.run_list(listed), media_type="application/json")

    async def get_object(self, request: Request) -> Response:
        """Serve ``objects.get``: the resource, or the content with ``alt=media``."""
        if request.query_params.get("alt") == "media":
            return await self.download_object(request)
        stored = await self._threads.run(self._objects.stat, *_object(request), number(request, "generation"))
        return _unmet(request, stored) or JSONResponse(object_json(request, stored))

    async def download_object(self, request: Request) -> Response:
        """Serve the content of an object."""
        stored, file = await self._threads.run(self._objects.open, *_object(request), number(request, "generation"))
        try:
            if unmet := _unmet(request, stored):
                file.close()
                return unmet
            is_small = stored.size < SLICE and "contentEncoding" not in stored.fields  # which may unpack to much
            run = self._threads.run if is_small else self._threads.run_content
            return await media_response(request, stored, file, run)
        except GoogleAPICallError:
            file.close()
            raise

    # --- changes ---

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
        stored = await self._threads.run(
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
        await self._threads.run(self._objects.delete, *_object(request), generation, conditions(request))
        return Response(status_code=204)

    # --- objects made of others ---

    async def compose_object(self, request: Request) -> Response:
        """Serve ``objects.compose``: the contents of several objects, one after the other."""
        body, (bucket, name) = await json_body(request), _object(request)
        sources, destination = body.get("sourceObjects"), body.get("destination") or {}
        if not isinstance(sources, list) or not 1 <= len(sources) <= MAX_SOURCES or not isinstance(destination, dict):
            raise BadRequest(f"A composed object has 1 to {MAX_SOURCES} sourceObjects.")
        fields = fields_of(destination)
        await self._threads.run(self._objects.check_writable, bucket, name, fields)
        async with self._threads.draft(self._objects) as draft:
            for source in sources:
                await self._append(draft, *await self._open_source(bucket, source))
            stored = await self._threads.run(
                self._objects.put, bucket, name, draft, fields, conditions(request), is_composed=True
            )
        return JSONResponse(object_json(request, stored))

    async def _open_source(self, bucket: str, source: object) -> tuple[Stored, BinaryIO]:
        """Open an element of ``sourceObjects``."""
        name = source.get("name") if isinstance(source, dict) else None
        if not isinstance(source, dict) or not isinstance(name, str):
            raise BadRequest("Required: sourceObjects.name")
        asked = source.get("objectPreconditions")
        wanted = [source.get("generation"), asked.get("ifGenerationMatch") if isinstance(asked, dict) else None]
        stored, file = await self._threads.run(self._objects.open, bucket, name)
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
        generation = number(request, "sourceGeneration")
        source, file = await self._threads.run(self._objects.open, *_object(request), generation)
        with file:
            conditions(request, "ifSource").check(source)
            fields = {**source.fields, **fields_of(resource)}
            await self._threads.run(self._objects.check_writable, bucket, name, fields)
            async with self._threads.draft(self._objects) as draft:
                await self._append(draft, source, file)
                return await self._threads.run(self._objects.put, bucket, name, draft, fields, conditions(request))

    async def _append(self, draft: Draft, stored: Stored, file: BinaryIO) -> None:
        """Append the content of an object to a draft, slice by slice."""
        run = self._threads.run_for(stored.size)
        with file:
            while piece := await run(file.read, SLICE):
                await run(draft.write, piece)


def _object(request: Request) -> tuple[str, str]:
    return in_path(request, "bucket"), in_path(request, "object")


def _unmet(request: Request, stored: Stored) -> Response | None:
    """Return the answer 304 if the object is the one that the client already has.

    :raises PreconditionFailed: if another condition of the request does not hold
    """
    asked = conditions(request)
    if asked.generation_not_match == stored.generation or asked.metageneration_not_match == stored.metageneration:
        return Response(status_code=304)
    asked.check(stored)
    return None
