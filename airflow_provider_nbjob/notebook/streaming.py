"""Read JSON as a stream, and keep only the requested values in memory."""

from __future__ import annotations

import gzip
import io
import re
import string
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, BinaryIO

from airflow_provider_nbjob.exceptions import NotebookUnreadable
from airflow_provider_nbjob.notebook.source import GZIP_MAGIC, HTML, looks_like_html, read_unpacked
from airflow_provider_nbjob.notebook.text import CutText

CHUNK = 1 << 20  # bytes; the parser scans an unfinished string again with every chunk
# Values are read up to this size. Strings of the document are cut beyond thirteen times as many bytes. A character has
# at most twelve bytes, so a string that was cut is always longer than a value may be.
VALUE_MAX = 512 * 1024
STRING_MAX = 13 * VALUE_MAX
DEPTH_MAX = 64
TOO_LARGE = object()
"""Placeholder for a value of more than `VALUE_MAX` characters, or nested deeper than `DEPTH_MAX`."""

# Python parses numbers of at most 4300 digits.
_NOT_STANDARD = re.compile(rb"-?\bInfinity\b|\bNaN\b|[-+.0-9eE]{4200,}")
_BARE_CHARACTERS = (string.ascii_letters + string.digits + "-+.").encode()
_BARE_MAX = 8192
_OPEN_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class Document:
    """A file of standard JSON for ijson, made from a stream that may hold gzip, and bounded in size.

    gzip is decompressed, and a byte order mark dropped. `NaN` and `Infinity`, which Python writes and JSON does not
    have, become null. So do numbers of more than 4200 characters, on which ijson fails. Strings are cut at
    `string_max`, because the parser would hold the longest string twice.

    :param stream: read from its present position, and not closed
    :param max_bytes: maximum size after decompression, in bytes
    :param string_max: maximum size of one string in bytes, rounded up to the next chunk
    :param chunk: bytes that are read at once
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int, string_max: int = STRING_MAX, chunk: int = CHUNK) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._string_max = string_max
        self._chunk = chunk
        self._string_size: int | None = None  # size of the string that is being read; None between strings
        self._pieces = self._standard()
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next piece, whose size does not depend on `size`; empty at the end.

        ijson calls `read(0)` to learn the type of the content: the answer is always empty.
        """
        return b"" if size == 0 else next(self._pieces, b"")

    def _standard(self) -> Iterator[bytes]:
        held = b""
        for chunk in self._chunks():
            out: list[bytes] = []
            held = self._standardize(held + chunk, out)
            if piece := b"".join(out):
                yield piece
        if held:
            yield _NOT_STANDARD.sub(b"null", held)

    def _chunks(self) -> Iterator[bytes]:
        stream: Any = self._stream
        chunk = stream.read(self._chunk)
        if chunk.startswith(GZIP_MAGIC):
            packed: Any = _Joined(chunk, stream)
            stream = gzip.GzipFile(fileobj=packed, mode="rb")
            chunk = read_unpacked(stream, self._chunk)
        if not chunk:
            raise NotebookUnreadable("it is empty")
        if looks_like_html(chunk):
            raise NotebookUnreadable(f"it {HTML}")
        chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        while chunk:
            self.position += len(chunk)
            if self.position > self._max_bytes:
                raise NotebookUnreadable(f"it has more than {self._max_bytes} bytes")
            yield chunk
            chunk = read_unpacked(stream, self._chunk)

    def _standardize(self, data: bytes, out: list[bytes]) -> bytes:
        """Append the standard JSON of `data` to `out`.

        :return: the end of `data` that can be converted only together with the next chunk
        """
        at, quote = 0, 0
        while quote >= 0:
            quote = data.find(b'"', at)
            part = data[at:quote] if quote >= 0 else data[at:]
            held = b""
            if self._string_size is None:
                if quote < 0:
                    bare = part.rstrip(_BARE_CHARACTERS)
                    part, held = bare, part[len(bare) :][:_BARE_MAX]
                out.append(_NOT_STANDARD.sub(b"null", part))
                if quote >= 0:
                    out.append(b'"')
                    self._string_size = 0
            else:
                if quote < 0:
                    held = _open_end(part)
                    part = part[: len(part) - len(held)]
                is_kept = self._string_size <= self._string_max
                self._string_size += len(part) + (quote >= 0)
                is_escaped = (len(part) - len(part.rstrip(b"\\"))) % 2 == 1
                out.append(part if is_kept else b"")
                if quote >= 0:
                    out.append(b'"' if is_kept or not is_escaped else b"")
                    self._string_size = self._string_size if is_escaped else None
            at = quote + 1
        return held


class Sized:
    """A stream of a known size: of one that sends a request for each part, the end need not be asked for.

    :param stream: what is read, from its beginning
    :param size: in bytes
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, by default all that are left."""
        if self._left <= 0:
            return b""
        part = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(part)
        return part


class _Joined:
    """A stream with its first bytes, which were read already, put back."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = io.BytesIO(first)
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes."""
        return self._first.read(size) or self._stream.read(size)


def _open_end(part: bytes) -> bytes:
    """Return the end of a part of a string that is an unfinished escape or an unfinished UTF-8 character."""
    if escape := _OPEN_ESCAPE.search(part[-5:]):
        before = part[: len(part) - len(escape[0])]
        return escape[0] if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0 else b""
    for length in range(1, min(3, len(part)) + 1):
        first = part[-length]
        if first >= 0xC0:
            return part[-length:] if length < (2 if first < 0xE0 else 3 if first < 0xF0 else 4) else b""
        if first < 0x80:
            break
    return b""


class Walk:
    """A cursor that goes through a JSON document once, from its beginning to its end.

    The cursor always stands before a value. Each of `members`, `items`, `value`, `text` and `skip` moves it past that
    value. Values that a caller of `members` or `items` does not read are skipped. So is a value of another type than
    the method reads.

    :raises NotebookUnreadable: from every method, if the document ends early or is not JSON
    """

    def __init__(self, document: Document) -> None:
        import ijson

        self._document = document
        # Python raises ArithmeticError or ValueError for a number that it cannot parse.
        self._errors = (ijson.JSONError, ArithmeticError, ValueError)
        self._events = ijson.basic_parse(document)
        self._steps = 0
        self._kind = ""
        self._value: Any = None
        self._advance()

    def _advance(self) -> None:
        self._steps += 1
        try:
            self._kind, self._value = next(self._events, ("", None))
        except self._errors as error:
            where = f"byte {self._document.position}"
            if "premature" in str(error).lower() or "incomplete" in str(error).lower():
                raise NotebookUnreadable(f"its JSON is truncated: it ends at {where}, in the middle") from None
            raise NotebookUnreadable(f"it is not JSON: an error before {where}") from None

    @property
    def is_object(self) -> bool:
        """Return whether the next value is an object."""
        return self._kind == "start_map"

    @property
    def is_list(self) -> bool:
        """Return whether the next value is a list."""
        return self._kind == "start_array"

    def members(self) -> Iterator[str]:
        """Yield the keys of an object; at each, the cursor stands before the key's value."""
        if self._kind != "start_map":
            return self.skip()
        self._advance()
        while self._kind == "map_key":
            key = self._value
            self._advance()
            steps = self._steps
            yield key
            if self._steps == steps:
                self.skip()
        self._advance()

    def items(self) -> Iterator[int]:
        """Yield the numbers of a list's items, from 1; at each, the cursor stands before the item."""
        if self._kind != "start_array":
            return self.skip()
        self._advance()
        number = 0
        while self._kind != "end_array":
            number += 1
            steps = self._steps
            yield number
            if self._steps == steps:
                self.skip()
        self._advance()

    def skip(self) -> None:
        """Move past a value."""
        depth = 0
        while True:
            depth += self._kind.startswith("start") - self._kind.startswith("end")
            self._advance()
            if depth <= 0 or not self._kind:
                return

    def value(self) -> Any:
        """Return a value as Python's, with numbers that have a fraction as floats; `TOO_LARGE` if it is too large."""
        import ijson

        builder, size, depth = ijson.ObjectBuilder(), 0, 0
        while True:
            depth += self._kind.startswith("start") - self._kind.startswith("end")
            size += len(self._value) if isinstance(self._value, str) else 1
            if size > VALUE_MAX or depth > DEPTH_MAX:
                self._skip_open(depth)
                return TOO_LARGE
            value = float(self._value) if isinstance(self._value, Decimal) else self._value
            builder.event(self._kind, value)
            self._advance()
            if depth <= 0:
                return builder.value

    def _skip_open(self, depth: int) -> None:
        self._advance()
        while depth > 0 and self._kind:
            depth += self._kind.startswith("start") - self._kind.startswith("end")
            self._advance()

    def pick(self, *keys: str) -> dict[str, Any]:
        """Return the values of some members of an object; empty if the value is not an object."""
        return {key: self.value() for key in self.members() if key in keys}

    def text(
        self, limit: int, *, separator: str = "", clean: Callable[[str], str] = lambda text: text
    ) -> CutText | None:
        """Return a text, or a list of texts as one text; None if the value is neither.

        :param limit: maximum number of characters to keep, see `CutText`
        :param separator: appended to each text of a list; default none
        :param clean: applied to each text before it is cut; default no change
        """
        text = CutText(limit)
        if self._kind == "string":
            text.add(clean(self._value))
            self._advance()
            return text
        if self._kind != "start_array":
            self.skip()
            return None
        for _ in self.items():
            if self._kind == "string":
                text.add(clean(self._value) + separator)
        return text

    def end(self) -> None:
        """Move to the end of the document; nothing may follow it."""
        while self._kind:
            self._advance()
