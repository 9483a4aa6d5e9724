"""Parse the body of a multipart upload: an object's metadata and then its content, as ``multipart/related``.

The body is parsed as it arrives: an object may be larger than memory. Lines may end with LF alone, as gcsfs 2026.10
sends them and Cloud Storage takes them; python-multipart 0.0.34 refuses that.
"""

from __future__ import annotations

import re
from email.message import Message
from email.parser import BytesParser
from typing import NamedTuple

from google.api_core.exceptions import BadRequest

MAX_HEAD_BYTES = 256 * 2**10  # before the content
MAX_BOUNDARY = 200  # characters; RFC 2046 allows 70
_MAX_AFTER = 10  # bytes after the text of a boundary that decide whether it is a boundary

_AFTER = re.compile(rb"(--)|[ \t]{0,8}\r?\n")
_END_OF_HEADERS = re.compile(rb"\n\r?\n")


class _Delimiter(NamedTuple):
    """The separator of two parts: from the end of a part to the end of the boundary's line."""

    start: int
    end: int
    is_last: bool


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a ``Content-Type`` header names.

    :raises BadRequest: if it is not that of ``multipart/related`` with a boundary
    """
    message = Message()
    message["Content-Type"] = content_type.replace("\n", " ").replace("\r", " ")
    boundary = (message.get_boundary() or "").strip("'")  # google-apitools 0.5.35, which is in gcloud, sends quotes
    is_related = message.get_content_type() == "multipart/related"
    if not is_related or not boundary or len(boundary) > MAX_BOUNDARY or not boundary.isascii():
        raise BadRequest("A multipart upload has the Content-Type multipart/related, with a boundary.")
    return boundary.encode()


class RelatedBody:
    """A parser of a body of two parts, which takes the body in pieces.

    :param boundary: the text that separates the parts
    """

    def __init__(self, boundary: bytes) -> None:
        self.metadata: bytes | None = None  # None until all of it is there
        self.content_type = ""  # of the content
        self.is_complete = False
        self._needle = b"\n--" + boundary
        self._buffer = bytearray(b"\n")  # the first boundary may have no line before it

    def feed(self, piece: bytes) -> bytes:
        """Take a piece of the body, and return the content that is certain by now.

        :raises BadRequest: if it is not a body of two parts
        """
        if self.is_complete:
            return b""  # the text after the parts means nothing
        self._buffer += piece
        if self.metadata is None and not self._read_head():
            return b""
        delimiter = self._find(0)
        if delimiter:
            self.is_complete = True
            end = delimiter.start
        else:
            end = max(0, len(self._buffer) - len(self._needle) - _MAX_AFTER - 1)
        content = bytes(self._buffer[:end])
        del self._buffer[:end]
        return content

    def _read_head(self) -> bool:
        """Read all that comes before the content; return whether it is complete."""
        first = self._find(0)
        first_headers = first and _END_OF_HEADERS.search(self._buffer, first.end - 1)
        second = first_headers and self._find(first_headers.end())
        second_headers = second and _END_OF_HEADERS.search(self._buffer, second.end - 1)
        if (first and first.is_last) or (second and second.is_last):
            raise BadRequest("A multipart upload has two parts.")
        if not (first_headers and second and second_headers):
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadRequest("The metadata of a multipart upload is too large, or its parts cannot be told.")
            return False
        self.metadata = bytes(self._buffer[first_headers.end() : second.start])
        headers = BytesParser().parsebytes(bytes(self._buffer[second.end : second_headers.end()]), headersonly=True)
        if str(headers.get("Content-Transfer-Encoding", "binary")).strip().lower() not in ("binary", "8bit", "7bit"):
            raise BadRequest("The content of a multipart upload has the Content-Transfer-Encoding binary.")
        self.content_type = str(headers.get("Content-Type", "")).strip()
        del self._buffer[: second_headers.end()]
        return True

    def _find(self, start: int) -> _Delimiter | None:
        """Return the next boundary that stands at the beginning of a line."""
        at = self._buffer.find(self._needle, start)
        while at >= 0:
            after = _AFTER.match(self._buffer, at + len(self._needle))
            if after:
                has_return = at > start and self._buffer[at - 1 : at] == b"\r"
                return _Delimiter(at - has_return, after.end(), bool(after[1]))
            at = self._buffer.find(self._needle, at + 1)
        return None
