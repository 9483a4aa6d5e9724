"""Answer with the content of an object: whole, in part, or unpacked for a client that does not take gzip."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator
from typing import BinaryIO

from google.api_core.exceptions import RequestRangeNotSatisfiable
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from airflow_provider_nbjob.emulator.storage_messages import SLICE, error_response, etag
from airflow_provider_nbjob.emulator.storage_threads import Run
from airflow_provider_nbjob.emulator.stored_object import Stored

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 31  # `wbits` of a gzip file
PACKED_SLICE = 16 * 2**10  # bytes of a packed file that are unpacked at once


async def media_response(request: Request, stored: Stored, file: BinaryIO, run: Run) -> Response:
    """Return the content of an object, as the headers of a request ask for it.

    An object with ``contentEncoding: gzip`` is unpacked for a client that does not take gzip, as in Cloud Storage. It
    is unpacked a slice at a time, so that an object of any size takes little memory. Ranges are then ignored.

    :param file: is closed at the end
    :param run: calls a function in a thread
    """
    headers = _headers(stored)
    encoding = stored.fields.get("contentEncoding", "")
    takes_gzip = "gzip" in request.headers.get("accept-encoding", "").lower()
    is_fixed = "no-transform" in stored.fields.get("cacheControl", "")
    if encoding == "gzip" and not takes_gzip and not is_fixed and await run(_is_gzip, file):
        headers["Warning"] = "214 UploadServer gunzipped"
        return StreamingResponse(_unpacked(file, run), headers=headers)
    if encoding:
        headers["Content-Encoding"] = encoding
    headers["X-Goog-Hash"] = ",".join(
        f"{kind}={value}" for kind, value in (("crc32c", stored.crc32c), ("md5", stored.md5)) if value
    )
    try:
        wanted = byte_range(request.headers.get("range", ""), stored.size)
    except RequestRangeNotSatisfiable as error:
        file.close()
        # Google's client recognizes an empty object by this header.
        return error_response(error, {"Content-Range": f"bytes */{stored.size}"})
    if wanted is None:
        start, size, status = 0, stored.size, 200
    else:
        start, size, status = wanted.start, len(wanted), 206
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{stored.size}"
    headers["Content-Length"] = str(size)
    shown = {name: value for name, value in headers.items() if value}
    if request.method == "HEAD":
        file.close()
        return Response(None, status, shown)
    return StreamingResponse(_read(file, start, size, run), status, shown)


def byte_range(header: str, size: int) -> range | None:
    """Return the bytes that a ``Range`` header asks for, or None for all bytes, also if the header is invalid.

    :param size: of the object, in bytes
    :raises RequestRangeNotSatisfiable: if the range begins after the end
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size:
        raise RequestRangeNotSatisfiable(f"The requested range cannot be satisfied: the object has {size} bytes.")
    return range(start, stop)


def _headers(stored: Stored) -> dict[str, str]:
    fields = stored.fields
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": fields.get("cacheControl") or "private, max-age=0",
        "Content-Disposition": fields.get("contentDisposition", ""),
        "Content-Language": fields.get("contentLanguage", ""),
        "Content-Type": fields.get("contentType") or "application/octet-stream",
        "ETag": f'"{etag(stored)}"',
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Metageneration": str(stored.metageneration),
        "X-Goog-Storage-Class": "STANDARD",
        "X-Goog-Stored-Content-Encoding": fields.get("contentEncoding") or "identity",
        "X-Goog-Stored-Content-Length": str(stored.size),
    }
    # Starlette encodes headers as Latin-1; decoding the UTF-8 as Latin-1 sends UTF-8.
    return {name: value.strip().encode().decode("latin-1") for name, value in headers.items() if value.strip()}


def _is_gzip(file: BinaryIO) -> bool:
    magic = file.read(len(_GZIP_MAGIC))
    file.seek(0)
    return magic == _GZIP_MAGIC


async def _read(file: BinaryIO, start: int, size: int, run: Run) -> AsyncIterator[bytes]:
    with file:
        file.seek(start)
        while size > 0 and (piece := await run(file.read, min(SLICE, size))):
            size -= len(piece)
            yield piece


async def _unpacked(file: BinaryIO, run: Run) -> AsyncIterator[bytes]:
    with file:
        gunzip = Gunzip(file)
        while (piece := await run(gunzip.read)) is not None:
            if piece:
                yield piece


class Gunzip:
    """Unpack a gzip file in small pieces, each of which takes little time.

    The standard library's `gzip` reads on while members of a file are empty, so that one call may take minutes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packed = b""
        self._unpacker = zlib.decompressobj(wbits=_GZIP)

    def read(self) -> bytes | None:
        """Return the next piece, of at most `SLICE` bytes and perhaps empty, or None at the end.

        :raises zlib.error: if the file is damaged
        """
        packed, self._packed = self._packed or self._file.read(PACKED_SLICE), b""
        if self._unpacker.eof:
            if not packed:
                return None
            packed = packed.lstrip(b"\0")  # padding after a member, which may begin a slice
            if not packed:
                return b""
            self._unpacker = zlib.decompressobj(wbits=_GZIP)  # of the next member
        piece = self._unpacker.decompress(packed, SLICE)
        if not packed and not piece:
            raise zlib.error("the file ends early")
        self._packed = self._unpacker.unused_data or self._unpacker.unconsumed_tail
        return piece
