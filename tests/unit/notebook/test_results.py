"""What a notebook hands out, under which key, and what of it is kept."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from airflow.sdk.execution_time.comms import _new_encoder
from airflow.utils.json import XComEncoder
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.notebook.executed import read_executed
from airflow_provider_nbjob.notebook.results import Results, collect_results
from tests.support.notebooks import code, display, error, notebook, result, scrap, stream

PNG = {"image/png": "AAAA"}


def collect(*cells: Any, **options: Any) -> Results:
    return collect_results(read_executed(io.BytesIO(notebook(*cells))), **options)


def size(values: Any) -> int:
    return len(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())


def test_scraps_come_under_their_names_and_the_later_wins():
    results = collect(
        code("", scrap("accuracy", 0.5), scrap("model", {"layers": [1, 2], "bias": None})),
        code("", stream("x"), scrap("note", "2 + 2", "text"), scrap("accuracy", 0.75), scrap("zip", "01234", "text")),
        code("", scrap("big", 2**64 - 1), scrap("text as json", "[1, 2]"), scrap("no json", "hello")),
    )
    assert results == Results(
        {
            "accuracy": 0.75,
            "model": {"layers": [1, 2], "bias": None},
            "note": "2 + 2",
            "zip": "01234",
            "big": 2**64 - 1,
            "text as json": [1, 2],
            "no json": "hello",
        },
        [],
    )


def test_a_scrap_that_is_no_json_is_dropped_by_name():
    shown = display({"text/plain": "<table>"}, scrapbook={"name": "frame", "data": False, "display": True})
    results = collect(code("", scrap("frame", "UEFSMQ==", "pandas"), shown, scrap("ok", 1)))
    assert results.values == {"frame": None, "ok": 1}
    assert results.notes == ["results['frame'] is dropped: scrapbook encoded it as pandas, which is no JSON"]


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, {"__classname__": 1}, [{"__id__": 1}], {"__type": 1}])
def test_what_airflow_cannot_keep_is_dropped_by_name(value: Any):
    """In a task that ends in the triggerer it would end the triggerer."""
    results = collect(code("", scrap("odd", value), scrap("__classname__", 1), scrap("ok", 1)))
    assert results.values == {"odd": None, "ok": 1}
    assert len(results.notes) == 2
    _new_encoder().encode(results.values)
    json.dumps(results.values, cls=XComEncoder)


def test_an_integer_that_airflow_cannot_keep_is_its_text_if_it_was_shown():
    assert collect(code("", result({"text/plain": str(2**64)}), tags=["result"])).values == {"result": str(2**64)}


@pytest.mark.parametrize(
    "odd", [scrap(None, 1), scrap(5, 1), display({"application/scrapbook.scrap.json+json": [1]}), display({})]
)
def test_what_is_no_scrap_is_no_result(odd: dict[str, Any]):
    assert collect(code("", odd)) == Results({}, [])


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"application/json": {"a": [1, 2.5]}, "text/plain": "<JSON>"}, {"a": [1, 2.5]}),
        ({"application/json": "1"}, "1"),
        ({"text/plain": "{'a': (1, True, None)}"}, {"a": [1, True, None]}),
        ({"text/plain": '{"a": true}'}, {"a": True}),
        ({"text/plain": ["[1,\n", " 2]"]}, [1, 2]),
        ({"text/plain": "'12'"}, "12"),
        ({"text/plain": "12"}, 12),
        ({"text/plain": "nan"}, None),
        ({"text/plain": "-inf"}, None),
        ({"text/plain": "{'loss': nan, 'range': (-inf, 1)}"}, {"loss": None, "range": [None, 1]}),
        ({"text/plain": "nano"}, "nano"),
        ({"text/plain": "NaN"}, None),
        ({"text/plain": "[1, -Infinity]"}, [1, None]),
        ({"text/plain": "{1, 2}"}, "{1, 2}"),
        ({"text/plain": "{1: 2}"}, "{1: 2}"),
        ({"text/plain": "b'x'"}, "b'x'"),
        ({"text/plain": "(1+2j)"}, "(1+2j)"),
        ({"text/plain": "   a  b\n0  1  2"}, "   a  b\n0  1  2"),
        ({"text/plain": "np.float64(0.5)"}, "np.float64(0.5)"),
        ({"text/plain": "'\\ud800\\x00'"}, "?\ufffd"),
        ({"text/plain": "9" * 5000}, "9" * 5000),
        ({"text/plain": hex(10**5000)}, hex(10**5000)),
        ({"text/plain": "[" * 2000}, "[" * 2000),
        ({"text/plain": "[" * 70 + "]" * 70}, "[" * 70 + "]" * 70),
        ({"text/plain": "__import__('os')"}, "__import__('os')"),
    ],
)
def test_a_result_is_json_else_a_literal_else_the_text(data: dict[str, Any], value: Any):
    assert collect(code("x", result(data), tags=("result",))) == Results({"result": value}, [])


def test_tags_name_results_and_the_later_cell_wins():
    results = collect(
        code("", result({"text/plain": "1"}), tags=("result",)),
        code("", result({"text/plain": "2"}), tags=("result", "other")),
        code("", result({"text/plain": "0.9"}), tags=("result:accuracy",)),
        code("", result({"text/plain": "3"}), tags=("results", "my-result")),
        code("", error(), tags=("result:none",)),
    )
    assert results.values == {"result": 2, "accuracy": 0.9}


def test_the_last_expression_counts_before_what_was_displayed():
    figure = display({"text/plain": "<Figure>", **PNG})
    tagged = {"tags": ("result",)}
    assert collect(code("", result({"text/plain": "1"}), figure, **tagged)).values == {"result": 1}
    assert collect(code("", display({"text/plain": "1"}), figure, **tagged)).values == {"result": "<Figure>"}
    assert collect(code("", display({"text/plain": "1"}), scrap("a", 2), **tagged)).values == {"result": 1, "a": 2}


def test_a_result_that_is_an_image_only_is_dropped():
    results = collect(code("", display(PNG), tags=("result",)))
    assert results.values == {"result": None}
    assert results.notes == ["results['result'] is dropped: its output is neither JSON nor text"]


def test_the_largest_go_first_when_not_all_fit():
    cells = [code("", scrap(name, "é" * length)) for name, length in (("large", 3000), ("s", 10), ("small", 20))]
    results = collect(*cells, max_bytes=200)
    assert results.values == {"large": None, "s": "é" * 10, "small": "é" * 20}
    (note,) = results.notes
    assert "results['large'] is dropped: it has" in note
    assert "may have 200" in note


def test_48_kib_fit_and_one_byte_more_does_not():
    room = 48 * 1024 - len('{"a":""}')
    assert collect(code("", scrap("a", "x" * room))).notes == []
    (note,) = collect(code("", scrap("a", "x" * (room + 1)))).notes
    assert note.startswith("results['a'] is dropped")


def test_a_huge_value_is_never_whole_in_memory_nor_taken_for_a_small_one():
    huge = "😀" * 600_000
    results = collect(
        code("", scrap("scrap", huge), result({"text/plain": huge}), tags=("result",)),
        code("", result({"application/json": [huge]}), tags=("result:json",)),
        max_bytes=10**9,
    )
    assert results.values == {"scrap": None, "result": None, "json": None}
    assert all("more than 524288 characters" in note for note in results.notes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON), st.integers(2, 500))
def test_results_always_fit_and_are_what_was_handed_out(handed: dict[str, Any], max_bytes: int):
    results = collect(*[code("", scrap(name, {"v": value})) for name, value in handed.items()], max_bytes=max_bytes)
    assert size(results.values) <= max_bytes
    for name, value in results.values.items():
        if (
            name in handed
            and not any(note.startswith(f"results[{name[:100]!r}] is dropped") for note in results.notes)
            and "\0" not in json.dumps(handed[name]).replace("\\u0000", "\0")
        ):
            assert value == {"v": handed[name]}
    keys = {name.replace("\0", "\ufffd") for name in handed}
    assert len(results.notes) == sum(results.values.get(key) is None for key in keys)
