"""Cloud Storage's JSON API over `Objects`, for Google's Python client, gcsfs, `gcloud storage` and dbt-bigquery.

Served are buckets (insert, get, list, delete, testIamPermissions), objects (get, list, patch, update, delete, compose,
copy, rewrite), downloads with ranges, and the three kinds of uploads. There is no XML API (signed URLs), no batch, no
ACL and no IAM: who has the token has all permissions. There are no versions.

Content moves in slices, each of which occupies a thread for milliseconds; a client that does not send or read occupies
none. So no client keeps another one waiting.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from google.api_core.exceptions import GoogleAPICallError, from_http_status
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_nbjob.emulator.bucket_requests import BucketRequests
from airflow_provider_nbjob.emulator.object_requests import ObjectRequests
from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.storage_messages import error_response
from airflow_provider_nbjob.emulator.storage_threads import StorageThreads
from airflow_provider_nbjob.emulator.upload_requests import UploadRequests

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_DRAINED_BYTES = 16 * 2**20  # of a refused upload; a client that still sends would not read the answer

log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


class StorageApp:
    """The ASGI application.

    :ivar routes: all that is served

    It matches paths as they were sent, and not decoded as ASGI's `path` has them: ``a%2Fb`` in a path is one name.
    """

    def __init__(self, objects: Objects) -> None:
        self._threads = StorageThreads()
        table = _table(
            BucketRequests(objects, self._threads),
            ObjectRequests(objects, self._threads),
            UploadRequests(objects, self._threads),
        )
        self.routes = [Route(path, _answered(call), methods=[verb]) for verb, path, call in table]
        self._app = Starlette(routes=self.routes, exception_handlers={HTTPException: _not_served})
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if raw := scope.get("raw_path"):
            scope = {**scope, "path": raw.decode("ascii", "replace")}
        await self._app(scope, receive, send)

    def close(self) -> None:
        """End the threads; the calls that have begun are finished."""
        self._threads.close()


def _table(
    buckets: BucketRequests, objects: ObjectRequests, uploads: UploadRequests
) -> list[tuple[str, str, Endpoint]]:
    api = "/storage/v1/b"
    bucket, object_ = f"{api}/{{bucket}}", f"{api}/{{bucket}}/o/{{object}}"
    upload = "/upload/storage/v1/b/{bucket}/o"
    return [
        ("GET", api, buckets.list_buckets),
        ("POST", api, buckets.insert_bucket),
        ("GET", bucket, buckets.get_bucket),
        ("DELETE", bucket, buckets.delete_bucket),
        ("GET", f"{bucket}/storageLayout", buckets.get_storage_layout),
        ("GET", f"{bucket}/iam/testPermissions", buckets.test_permissions),
        ("GET", f"{bucket}/o", objects.list_objects),
        ("GET", object_, objects.get_object),
        ("PATCH", object_, objects.patch_object),
        ("PUT", object_, objects.update_object),
        ("DELETE", object_, objects.delete_object),
        ("POST", f"{object_}/compose", objects.compose_object),
        ("POST", f"{object_}/copyTo/b/{{to_bucket}}/o/{{to_object}}", objects.copy_object),
        ("POST", f"{object_}/rewriteTo/b/{{to_bucket}}/o/{{to_object}}", objects.rewrite_object),
        ("GET", "/download/storage/v1/b/{bucket}/o/{object}", objects.download_object),
        ("POST", upload, uploads.upload_object),
        ("PUT", upload, uploads.upload_object),
        ("DELETE", upload, uploads.cancel_upload),
        ("POST", f"/resumable{upload}", uploads.upload_object),  # the path of gcloud's resumable uploads
        ("PUT", f"/resumable{upload}", uploads.upload_object),
        ("DELETE", f"/resumable{upload}", uploads.cancel_upload),
    ]


def _answered(call: Endpoint) -> Endpoint:
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
