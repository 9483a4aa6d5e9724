"""Serve the requests on buckets."""

from __future__ import annotations

from google.api_core.exceptions import BadRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.storage_messages import (
    bucket_json,
    in_path,
    json_body,
    page_size,
    page_start,
    page_token,
)
from airflow_provider_nbjob.emulator.storage_threads import StorageThreads

# Those that `buckets.testIamPermissions` takes: the discovery document of Cloud Storage's JSON API, v1.
PERMISSIONS = frozenset(
    f"storage.{kind}.{verb}"
    for kind, verbs in {
        "buckets": ("create", "delete", "get", "list", "update", "getIamPolicy", "setIamPolicy"),
        "objects": ("create", "delete", "get", "list", "update", "getIamPolicy", "setIamPolicy"),
        "managedFolders": ("create", "delete", "get", "list", "getIamPolicy", "setIamPolicy"),
    }.items()
    for verb in verbs
)


class BucketRequests:
    """The methods of the resource ``buckets``."""

    def __init__(self, objects: Objects, threads: StorageThreads) -> None:
        self._objects, self._threads = objects, threads

    async def list_buckets(self, request: Request) -> Response:
        """Serve ``buckets.list``."""
        prefix, start, limit = request.query_params.get("prefix", ""), page_start(request), page_size(request)
        buckets = await self._threads.run_list(self._objects.buckets)
        names = [name for name in buckets if name.startswith(prefix) and name >= start]
        items = [bucket_json(request, name, buckets[name]) for name in names[:limit]]
        token = page_token(names[limit] if len(names) > limit else None)
        return JSONResponse({"kind": "storage#buckets", "items": items, **({"nextPageToken": token} if token else {})})

    async def insert_bucket(self, request: Request) -> Response:
        """Serve ``buckets.insert``."""
        name = (await json_body(request)).get("name")
        if not isinstance(name, str):
            raise BadRequest("Required: name")
        created = await self._threads.run(self._objects.create_bucket, name)
        return JSONResponse(bucket_json(request, name, created))

    async def get_bucket(self, request: Request) -> Response:
        """Serve ``buckets.get``."""
        name = in_path(request, "bucket")
        created = await self._threads.run(self._objects.bucket_created, name)
        return JSONResponse(bucket_json(request, name, created))

    async def delete_bucket(self, request: Request) -> Response:
        """Serve ``buckets.delete``."""
        await self._threads.run_list(self._objects.delete_bucket, in_path(request, "bucket"))
        return Response(status_code=204)

    async def test_permissions(self, request: Request) -> Response:
        """Serve ``buckets.testIamPermissions``: who has the emulator's token has all permissions that there are."""
        await self._threads.run(self._objects.bucket_created, in_path(request, "bucket"))
        asked = request.query_params.getlist("permissions")
        if not asked or not PERMISSIONS.issuperset(asked):
            raise BadRequest("Invalid value for: permissions")
        return JSONResponse({"kind": "storage#testIamPermissionsResponse", "permissions": sorted({*asked})})

    async def get_storage_layout(self, request: Request) -> Response:
        """Serve ``buckets.getStorageLayout``, from which clients learn that there are no managed folders."""
        name = in_path(request, "bucket")
        await self._threads.run(self._objects.bucket_created, name)
        layout = {"kind": "storage#storageLayout", "bucket": name, "location": "US", "locationType": "multi-region"}
        return JSONResponse({**layout, "hierarchicalNamespace": {"enabled": False}})
