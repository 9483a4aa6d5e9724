"""JSON as a stream, of which only what is asked for is ever in memory."""

from __future__ import annotations

import gzip
import io
import re
import string
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, BinaryIO

from airflow_provider_nbjob.exceptions import NotebookUnreadable
from airflow_provider_nbjob.notebook.source import GZIP_MAGIC, looks_like_html
from airflow_provider_nbjob.notebook.text import CutText

CHUNK = 1 << 20  # the parser goes through an unfinished string again with every chunk
# Values are read up to this size. Strings of the document are cut beyond more than twelve times as many bytes: a
# character takes at most twelve, so that a string which was cut is always more than a value may be.
VALUE_MAX = 512 * 1024
STRING_MAX = 13 * VALUE_MAX
DEPTH_MAX = 64
TOO_LARGE = object()
"""Stands for a value of more than `VALUE_MAX` characters, or deeper than `DEPTH_MAX`."""

# Python reads numbers of at most 4300 digits.
_NOT_STANDARD = re.compile(rb"-?\bInfinity\b|\bNaN\b|[-+.0-9eE]{4200,}")
_BARE_CHARACTERS = (string.ascii_letters + string.digits + "-+.").encode()
_BARE_MAX = 8192
_OPEN_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class Document:
    """A JSON document as a file for ijson: unpacked, standard, and bounded.

    gzip is unpacked, a byte order mark dropped; `NaN` and `Infinity`, which Python writes and JSON does not have,
    become null, as do numbers of more than 4200 characters, on which ijson breaks; strings are cut at `string_max`,
    since a parser would hold the longest one twice.

    :param stream: is read from where it stands, and not closed
    :param max_bytes: bytes that are read at most, after unpacking
    :param string_max: bytes of one string, to the next chunk
    :param chunk: bytes that are read at once
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int, string_max: int = STRING_MAX, chunk: int = CHUNK) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._string_max = string_max
        self._chunk = chunk
        self._string_size: int | None = None  # of the string that is being read, if one is
        self._pieces = self._standard()
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next piece, of whatever size; empty at the end. `read(0)` is empty always, and ijson asks it."""
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
            chunk = self._unpacked(stream)
        if not chunk:
            raise NotebookUnreadable("it is empty")
        if looks_like_html(chunk):
            raise NotebookUnreadable("it is not JSON but a page of HTML or XML, as a login or an error page is")
        chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        while chunk:
            self.position += len(chunk)
            if self.position > self._max_bytes:
                raise NotebookUnreadable(f"it has more than {self._max_bytes} bytes")
            yield chunk
            chunk = self._unpacked(stream)

    def _unpacked(self, stream: Any) -> bytes:
        try:
            return bytes(stream.read(self._chunk))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise NotebookUnreadable(f"its gzip compression is broken: {error}") from None

    def _standardize(self, data: bytes, out: list[bytes]) -> bytes:
        """Put what is to be parsed of `data` into `out`; what is returned can be judged with the next chunk only."""
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


class _Joined:
    """What was read of a stream already, and the rest of it."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = io.BytesIO(first)
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        return self._first.read(size) or self._stream.read(size)


def _open_end(part: bytes) -> bytes:
    """Return the end of a part of a string that may go on in the next chunk: of an escape, or of a character."""
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
    """Goes through a JSON document once, from its beginning to its end.

    It stands before a value, always. Each of `members`, `items`, `value`, `text` and `skip` goes past that value; what
    a caller of `members` or `items` leaves is skipped. A value of another type than asked for is skipped.

    :raises NotebookUnreadable: from every method, where the document ends early or is no JSON
    """

    def __init__(self, document: Document) -> None:
        import ijson

        self._document = document
        # ArithmeticError and ValueError: of a number that Python does not read
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
        """Whether the next value is an object."""
        return self._kind == "start_map"

    @property
    def is_list(self) -> bool:
        """Whether the next value is a list."""
        return self._kind == "start_array"

    def members(self) -> Iterator[str]:
        """Yield the keys of an object; before each the walk stands before its value."""
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
        """Yield the numbers of a list's items, from 1; before each the walk stands before the item."""
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
        """Go past a value."""
        depth = 0
        while True:
            depth += self._kind.startswith("start") - self._kind.startswith("end")
            self._advance()
            if depth <= 0 or not self._kind:
                return

    def value(self) -> Any:
        """Return a value as Python has it, `TOO_LARGE` if it is; floats as floats."""
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
        """Return the values of some of an object's members; empty if it is no object."""
        return {key: self.value() for key in self.members() if key in keys}

    def text(
        self, limit: int, *, separator: str = "", clean: Callable[[str], str] = lambda text: text
    ) -> CutText | None:
        """Return a text, or a list of texts that are its lines; None if it is neither.

        :param limit: characters that are kept
        :param separator: comes after each text of a list
        :param clean: is applied to each text before it is cut
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
        """Go to the end of the document, after which there may be nothing."""
        while self._kind:
            self._advance()
