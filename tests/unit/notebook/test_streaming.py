"""The filter before the JSON parser changes nothing but what it says, wherever the chunks end."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.exceptions import NotebookUnreadable
from airflow_provider_nbjob.notebook.streaming import DEPTH_MAX, TOO_LARGE, VALUE_MAX, Document, Sized, Walk

TEXTS = st.text(st.sampled_from(['"', "\\", "\n", "\x01", "é", "漢", "😀", "N", "a", "u", "0", "I", "{"]), max_size=40)
TEXTS |= st.sampled_from(["NaN", "-Infinity", '"NaN"', "\\NaN", "A" * 30])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


def standard(document: Document) -> bytes:
    return b"".join(iter(lambda: document.read(100), b""))


def finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    return {key: finite(item) for key, item in value.items()} if isinstance(value, dict) else value


def cut(value: Any) -> Any:
    """The structure of a value, with the first characters of its texts, which no cut takes away."""
    if isinstance(value, list):
        return [cut(item) for item in value]
    if isinstance(value, dict):
        return [cut(item) for item in value.items()]
    return value[:1] if isinstance(value, str) else list(map(cut, value)) if isinstance(value, tuple) else value


@given(VALUES, st.booleans(), st.integers(1, 12))
def test_only_what_is_no_json_changes(value: Any, ascii_only: bool, chunk: int):
    content = json.dumps(value, ensure_ascii=ascii_only).encode()
    document = Document(io.BytesIO(content), max_bytes=10**6, chunk=max(chunk, 3))
    assert json.loads(standard(document), parse_constant=pytest.fail) == finite(value)
    assert document.position == len(content)


@given(st.lists(TEXTS.filter(bool)), st.booleans(), st.integers(3, 12), st.integers(0, 20))
def test_strings_are_cut_between_characters(texts: list[str], ascii_only: bool, chunk: int, string_max: int):
    content = json.dumps(texts, ensure_ascii=ascii_only).encode()
    kept = json.loads(standard(Document(io.BytesIO(content), max_bytes=10**6, string_max=string_max, chunk=chunk)))
    assert len(kept) == len(texts)
    for text, whole in zip(kept, texts, strict=True):
        assert whole.encode("utf-16-be").startswith(text.encode("utf-16-be", "surrogatepass"))
        assert text == whole or len(json.dumps(text)) - 2 >= string_max / 4


@given(VALUES, st.integers(3, 12))
def test_a_walk_reads_every_value(value: Any, chunk: int):
    content = json.dumps({"before": value, "value": value, "after": 1}).encode()
    walk = Walk(Document(io.BytesIO(content), max_bytes=10**6, chunk=chunk))
    assert walk.pick("value", "after") == {"value": finite(value), "after": 1}
    walk.end()


@pytest.mark.parametrize(
    "large",
    [
        "x" * (VALUE_MAX + 1),
        ["x"] * VALUE_MAX,
        json.loads("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1)),
        "😀" * (VALUE_MAX * 3 // 2),
    ],
    ids=["long", "many", "deep", "longer than a string may be"],
)
def test_a_large_value_is_gone_past(large: Any):
    walk = Walk(Document(io.BytesIO(json.dumps({"large": large, "after": [1.5]}).encode()), max_bytes=10**9))
    assert walk.pick("large", "after") == {"large": TOO_LARGE, "after": [1.5]}


@pytest.mark.parametrize("digits", [1, 10, 3999])
@pytest.mark.parametrize("chunk", [3, 100, 100_000])
def test_a_number_that_python_reads_is_read(digits: int, chunk: int):
    content = b'{"a": -' + b"9" * digits + b"}"
    assert Walk(Document(io.BytesIO(content), max_bytes=10**6, chunk=chunk)).pick("a") == {"a": 1 - 10**digits}


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "1" * 100_000, "0." + "1" * 100_000 + "e-5"])
@pytest.mark.parametrize("chunk", [3, 100, 4000, 100_000])
def test_a_number_that_python_does_not_read_is_null(number: str, chunk: int):
    content = f'{{"a": {number}, "b": {number}}}'.encode()
    walk = Walk(Document(io.BytesIO(content), max_bytes=10**6, chunk=chunk))
    assert walk.pick("a", "b") == {"a": None, "b": None}


def test_a_number_that_is_no_decimal_is_an_error_of_ours():
    with pytest.raises(NotebookUnreadable, match="it is not JSON: an error before byte"):
        Walk(Document(io.BytesIO(b'{"a": 1e99999999999999999999999}'), max_bytes=10**6)).pick("a")


@pytest.mark.parametrize("chunk", [3, 100, 100_000])
def test_brackets_without_end_are_no_number(chunk: int):
    content = b'{"a": ' + b"[" * 9000 + b"]" * 9000 + b', "b": 1}'
    assert standard(Document(io.BytesIO(content), max_bytes=10**6, chunk=chunk)) == content
    assert Walk(Document(io.BytesIO(content), max_bytes=10**6, chunk=chunk)).pick("a", "b") == {"a": TOO_LARGE, "b": 1}


@pytest.mark.parametrize("sizes", [(-1,), (4, 4, 4), (10, 4), (100,), (3, -1)])
def test_the_end_of_a_stream_of_a_known_size_is_not_asked_for(sizes):
    asked = []

    class Counted(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    stream = Sized(Counted(b"0123456789"), 10)
    assert b"".join(stream.read(size) for size in sizes) == b"0123456789"
    count = len(asked)
    assert stream.read() == stream.read(1) == b""
    assert len(asked) == count


def test_a_stream_that_is_shorter_than_it_is_said_to_be_ends():
    stream = Sized(io.BytesIO(b"0123"), 10)
    assert [stream.read(3), stream.read(3), stream.read(3)] == [b"012", b"3", b""]
