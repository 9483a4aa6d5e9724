"""Run the emulator's Cloud Storage: a server for clients, and the same objects for the engine, without HTTP."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from google.api_core.exceptions import BadRequest, Conflict, NotFound

from airflow_provider_nbjob.emulator import folders
from airflow_provider_nbjob.emulator.downloads import Gunzip
from airflow_provider_nbjob.emulator.http_server import HttpServer
from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.storage_api import StorageApp
from airflow_provider_nbjob.emulator.storage_messages import SLICE
from airflow_provider_nbjob.emulator.stored_object import name_fault
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import bucket_and_path

MAX_READ_BYTES = 100 * 2**20  # of an object that is read into memory, after unpacking
MAX_UPLOAD_FILES, MAX_UPLOAD_BYTES = 10_000, 2**30  # of a folder that is uploaded at start
MAX_NAMED = 5  # files that an upload left out, which the log names

log = logging.getLogger(__name__)


class Storage:
    """The Cloud Storage server, serving once it is constructed.

    :param port: 0 for a free one
    :param data_dir: its folder ``cloudstorage`` holds the objects, see `Objects`
    :param token: each request must carry it
    :param makes_buckets: make a bucket when it is first named; default False
    :raises OSError: if the port is taken
    :raises ValueError: if the token has another form than `guard.TOKEN`
    """

    def __init__(self, host: str, port: int, data_dir: Path, token: str, *, makes_buckets: bool = False) -> None:
        self._objects = Objects(data_dir / "cloudstorage", makes_buckets=makes_buckets)
        self._app = StorageApp(self._objects)
        try:
            self._server = HttpServer(self._app, host, port, token, "--storage-port")
        except (OSError, ValueError):
            self._app.close()
            self._objects.close()
            raise
        self.port = self._server.port
        address = reachable(host)
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{self.port}/{token}"

    def stop(self) -> None:
        """Stop serving."""
        self._server.stop()
        self._app.close()
        self._objects.close()

    def create_bucket(self, name: str) -> None:
        """Make a bucket, unless there is one of the name.

        :raises BadRequest: if a bucket cannot have the name
        """
        try:
            self._objects.create_bucket(name)
        except Conflict:
            log.debug("The bucket %s exists already", name)

    def has_bucket(self, name: str) -> bool:
        """Return whether there is a bucket of the name, which may be any text."""
        return self._objects.has_bucket(name)

    def read(self, uri: str, generation: str = "") -> bytes:
        """Return the content of an object, unpacked if it is stored with ``contentEncoding: gzip``.

        :param uri: any text
        :param generation: of the object, empty for the newest
        :raises NotFound: if there is no such bucket, object or generation
        :raises GoogleAPICallError: if it has more than `MAX_READ_BYTES`, or is no gzip although it should be
        """
        try:
            stored, file = self._objects.open(*bucket_and_path(uri), int(generation) if generation else None)
        except (NotFound, ValueError, InvalidJob):
            raise NotFound(f"No such object: {uri}{f'#{generation}' if generation else ''}") from None
        is_packed = stored.fields.get("contentEncoding") == "gzip"
        try:
            with file:
                return b"".join(_bounded(Gunzip(file).read if is_packed else lambda: file.read(SLICE) or None))
        except (ValueError, zlib.error) as error:
            raise BadRequest(f"{uri} cannot be read: {error}") from None

    def write(self, uri: str, content: bytes) -> None:
        """Write an object, replacing the one that is there.

        :raises NotFound: if there is no such bucket
        :raises BadRequest: if an object cannot have the name, as for InvalidJob
        """
        self._write(*bucket_and_path(uri), [content])

    def _write(self, bucket: str, name: str, pieces: Iterable[bytes]) -> None:
        content_type = "application/json" if name.endswith(".ipynb") else "application/octet-stream"
        draft = self._objects.draft()
        try:
            for piece in pieces:
                draft.write(piece)
            self._objects.put(bucket, name, draft, {"contentType": content_type})
        finally:
            draft.discard()

    def upload(self, folder: Path, uri: str) -> None:
        """Write the files of a folder below a URI, and make the bucket if there is none.

        It leaves out hidden files, all files in hidden folders, symbolic links and special files; the log counts them.

        :raises InvalidJob: if the URI is invalid
        :raises OSError: if the folder is hidden or a symbolic link, or has more than `MAX_UPLOAD_FILES` files or
            `MAX_UPLOAD_BYTES`
        """
        if folder.is_symlink() or folder.absolute().name.startswith("."):
            raise OSError(f"{folder} is hidden or a symbolic link, and is not uploaded")
        left_out: Counter[str] = Counter()
        names: list[str] = []

        def skip(path: str, reason: str) -> None:
            left_out[reason] += 1
            if len(names) < MAX_NAMED:
                names.append(path)

        bucket, prefix = bucket_and_path(uri.rstrip("/"))
        files: dict[str, tuple[str, ...]] = {}
        size = 0
        with folders.opened(folder) as descriptor:
            for parts, found in folders.walk(descriptor, skip):
                name = "/".join([*([prefix] if prefix else []), *parts])
                if fault := name_fault(name):
                    skip("/".join(parts), fault)
                    continue
                files[name] = parts
                size += found.st_size
                if len(files) > MAX_UPLOAD_FILES or size > MAX_UPLOAD_BYTES:
                    limit = f"{MAX_UPLOAD_FILES} files or {MAX_UPLOAD_BYTES} bytes"
                    raise OSError(f"{folder} has more than {limit}; upload a smaller folder")
        if left_out:
            counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
            log.warning("Not uploaded from %s: %s, such as %s", folder, counts, ", ".join(map(repr, names)))
        self.create_bucket(bucket)
        for name, parts in files.items():
            with folders.open_file(folder, parts) as file:
                self._write(bucket, name, iter(partial(file.read, SLICE), b""))


def _bounded(read: Callable[[], bytes | None]) -> Iterator[bytes]:
    """Yield the pieces of a content.

    :param read: returns the next one, None at the end
    :raises ValueError: if they have more than `MAX_READ_BYTES`
    """
    size = 0
    while (piece := read()) is not None:
        size += len(piece)
        if size > MAX_READ_BYTES:
            raise ValueError(f"it has more than {MAX_READ_BYTES} bytes")
        yield piece


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
