"""What the emulator's Cloud Storage reads of requests: multipart bodies, ranges, packed files and metadata."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, RequestRangeNotSatisfiable
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.emulator.downloads import PACKED_SLICE, Gunzip, byte_range
from airflow_provider_nbjob.emulator.related import MAX_HEAD_BYTES, RelatedBody, boundary_of
from airflow_provider_nbjob.emulator.storage_messages import SLICE, fields_of, json_object
from airflow_provider_nbjob.emulator.stored_object import fields_fault

BOUNDARY = b"==0=="


def body_of(metadata: bytes, content: bytes, line: bytes) -> bytes:
    lines = [b"--" + BOUNDARY, b"Content-Type: application/json", b"", metadata]
    lines += [b"--" + BOUNDARY, b"content-type: text/x", b"Content-Transfer-Encoding: binary", b"", content]
    return line.join([*lines, b"--" + BOUNDARY + b"--"])


def parse(pieces: list[bytes]) -> tuple[RelatedBody, bytes]:
    body = RelatedBody(BOUNDARY)
    return body, b"".join(body.feed(piece) for piece in pieces)


def cut(content: bytes, seed: int) -> list[bytes]:
    """Cut a body into pieces at random places."""
    generator = random.Random(seed)
    places = sorted(generator.randrange(len(content) + 1) for _ in range(generator.randrange(12)))
    return [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]


TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"--", BOUNDARY, b"\r\n--" + BOUNDARY[:-1], b"\n--" + BOUNDARY + b"x", b"y"]),
    max_size=12,
).map(b"".join)


def holds_boundary(content: bytes) -> bool:
    return any(b"\n--" + BOUNDARY + end in b"\n" + content + b"\n" for end in (b"--", b"\n", b"\r\n", b" ", b"\t"))


@given(TRICKY.filter(lambda content: not holds_boundary(content)), st.sampled_from([b"\n", b"\r\n"]), st.integers())
def test_a_multipart_body_is_read_however_it_is_cut(content: bytes, line: bytes, seed: int) -> None:
    body, found = parse(cut(body_of(b'{"name": "n"}', content, line) + b"\r\nepilogue", seed))
    if line == b"\n" and content.endswith(b"\r"):
        content = content[:-1]  # such a line end cannot be told from CRLF
    assert (body.metadata, found, body.content_type, body.is_complete) == (b'{"name": "n"}', content, "text/x", True)


@given(st.binary(max_size=200) | TRICKY, st.integers())
def test_any_other_body_is_refused_or_incomplete(content: bytes, seed: int) -> None:
    try:
        body, _ = parse(cut(content, seed))
    except BadRequest:
        return
    assert not body.is_complete or body.metadata is not None


def test_metadata_that_does_not_end_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse([b"--" + BOUNDARY + b"\n\n", *[b"x" * 1000] * (MAX_HEAD_BYTES // 1000 + 1)])


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ('multipart/related; boundary="a b"', b"a b"),
        ("multipart/related; boundary='===1=='", b"===1=="),
        ("Multipart/Related; type=x; boundary==0==", b"=0=="),
    ],
)
def test_a_boundary_is_read_as_clients_write_it(header: str, boundary: bytes) -> None:
    assert boundary_of(header) == boundary


@given(st.text() | st.text().map("multipart/related; boundary={}".format))
def test_any_content_type_has_a_boundary_or_is_refused(header: str) -> None:
    try:
        boundary = boundary_of(header)
    except BadRequest:
        return
    assert boundary


@given(st.text() | st.from_regex(r"bytes=[0-9]{0,25}-[0-9]{0,25}"), st.integers(0, 1000))
def test_a_range_lies_inside_the_object(header: str, size: int) -> None:
    try:
        found = byte_range(header, size)
    except RequestRangeNotSatisfiable:
        return
    assert found is None or 0 <= found.start < found.stop <= size


@pytest.mark.parametrize(
    ("header", "found"),
    [
        *(("bytes=0-0", range(1)), ("bytes=2-", range(2, 10)), ("bytes=-3", range(7, 10)), ("bytes=-99", range(10))),
        *(("bytes=5-99", range(5, 10)), ("", None), ("bytes=3-2", None), ("bytes=0-1,3-4", None), ("items=0-1", None)),
    ],
)
def test_a_range_is_read(header: str, found: range | None) -> None:
    assert byte_range(header, 10) == found


def unpack(content: bytes) -> bytes:
    gunzip, pieces = Gunzip(io.BytesIO(content)), []
    while (piece := gunzip.read()) is not None:
        assert len(piece) <= SLICE
        pieces.append(piece)
    return b"".join(pieces)


@given(st.lists(st.binary(max_size=100).map(lambda each: each * 5000), min_size=1, max_size=4), st.integers(0, 40))
def test_packed_files_are_unpacked_in_small_pieces(members: list[bytes], padding: int) -> None:
    assert unpack(b"".join(map(gzip.compress, members)) + bytes(padding)) == b"".join(members)


@pytest.mark.parametrize("padding", [1, 12, PACKED_SLICE, 3 * PACKED_SLICE])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_padding_may_begin_at_any_byte(padding: int, beyond: int) -> None:
    content = random.Random(1).randbytes(PACKED_SLICE)
    packed = gzip.compress(content, compresslevel=0)
    name = b"n" * ((beyond - len(packed) - 1) % PACKED_SLICE)  # so long that the member ends at a slice, or beside it
    named = packed[:3] + b"\x08" + packed[4:10] + name + b"\0" + packed[10:]
    assert (len(named) - beyond) % PACKED_SLICE == 0
    assert unpack(named + bytes(padding)) == content
    assert unpack(named + bytes(padding) + named) == content * 2


def test_many_empty_members_are_unpacked_piece_by_piece() -> None:
    assert unpack(gzip.compress(b"") * 20_000 + gzip.compress(b"end")) == b"end"


@given(st.binary(min_size=1, max_size=100) | st.binary(max_size=100).map(lambda each: gzip.compress(each)[:-1]))
def test_a_damaged_file_raises_one_error(content: bytes) -> None:
    try:
        unpack(content)
    except zlib.error:
        return
    assert gzip.decompress(content) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["contentType", "metadata", "cacheControl", "size", "name", "generation", "x"])


@given(st.dictionaries(KEYS, JSON), st.none() | st.just({"contentType": "a", "metadata": {"k": "v"}}))
def test_any_metadata_is_kept_or_refused(resource: dict[str, Any], before: dict[str, Any] | None) -> None:
    fields = fields_of(resource, before)
    if fields_fault(fields) is None:
        assert all(isinstance(value, str) for key, value in fields.items() if key != "metadata")
        json.dumps(fields, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"1" * 10_000, b"[]", b'"x"', b"\xff", b"{", b'{"a": NaN', b"null", b"1e999999"]
)
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(BadRequest):
        json_object(content)
