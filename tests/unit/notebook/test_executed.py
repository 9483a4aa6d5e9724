"""What is kept of an executed notebook, and what is said where there is none."""

from __future__ import annotations

import gzip
import io
import json
import time

import pytest

from airflow_provider_nbjob.exceptions import NotebookUnreadable
from airflow_provider_nbjob.notebook.executed import (
    OUTPUT_MAX,
    SOURCE_MAX,
    TRACEBACK_MAX,
    ExecutedNotebook,
    read_executed,
)
from tests.support.notebooks import code, display, error, notebook, result, stream
from tests.support.paths import NOTEBOOKS
from tests.support.patience import patient


def read(content: bytes, **options) -> ExecutedNotebook:
    return read_executed(io.BytesIO(content), **options)


def test_cells_are_counted_from_one_and_keep_what_a_reader_needs():
    executed = read(
        notebook(
            {"cell_type": "markdown", "metadata": {}, "source": ["# A\n", "b"]},
            code(["x = 1\n", "x"], tags=("parameters", "a"), execution_count=7),
            metadata={"kernelspec": {"name": "ir", "language": "R"}, "widgets": {"a": [1, {"b": 2}]}},
        )
    )
    assert executed.language == "R"
    first, second = executed.cells
    assert (first.number, first.cell_type, first.source) == (1, "markdown", "# A\nb")
    assert (second.number, second.execution_count, second.source) == (2, 7, "x = 1\nx")
    assert second.tags == {"parameters", "a"}
    assert executed.failing_cell is None


def test_the_failing_cell_is_the_first_that_may_not_raise():
    executed = read(
        notebook(
            code("1/0", error("ZeroDivisionError"), tags=("raises-exception",)),
            code("d[1]", stream("before"), error("KeyError", "1", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07end")),
            code("e", error("NameError")),
        )
    )
    failing = executed.failing_cell
    assert failing is not None
    assert failing.number == 2
    assert failing.error is not None
    assert (failing.error.ename, failing.error.evalue, failing.error.traceback) == ("KeyError", "1", "red\nend")


def test_what_is_huge_is_cut_in_the_middle():
    lines = [f"line {number}\n" for number in range(30_000)]
    executed = read(notebook(code(lines, stream(lines), error("E", "v" * 10_000, *lines))), keep_outputs=True)
    (cell,) = executed.cells
    assert cell.error is not None
    for text, limit in ((cell.source, SOURCE_MAX), (cell.outputs, OUTPUT_MAX), (cell.error.traceback, TRACEBACK_MAX)):
        assert limit <= len(text) < limit + 100
        assert text.startswith("line 0\n")
    assert cell.source.endswith("line 29999\n")
    missing = sum(map(len, lines)) - SOURCE_MAX
    assert f"\n[... {missing} characters left out ...]\n" in cell.source
    assert len(cell.error.evalue) < 2200


def test_outputs_are_kept_where_asked_for():
    content = notebook(
        code(
            "", stream("one\n"), display({"image/png": "A" * 100, "text/plain": "<Figure>"}), result({"text/html": "h"})
        ),
        code("", error("E", "v", "trace")),
    )
    assert [cell.outputs for cell in read(content).cells] == ["", ""]
    assert [cell.outputs for cell in read(content, keep_outputs=True).cells] == ["one\n<Figure>\n", "trace\n"]


@pytest.mark.parametrize(
    "content",
    [
        notebook(metadata=...),
        notebook(metadata={"kernelspec": {}}),
        notebook(metadata={"kernelspec": None, "language_info": []}),
        notebook(nbformat=...),
        notebook(nbformat_minor=...),
        b"\xef\xbb\xbf" + notebook(),
        pytest.param(gzip.compress(notebook()), id="gzip"),
    ],
)
def test_what_may_be_missing_may_be_missing(content: bytes):
    assert read(content) == ExecutedNotebook(None, ())


def test_a_cell_of_an_unknown_type_is_kept_without_outputs():
    odd = [code("x", error(), cell_type="poem"), {}, None, "cell", [1], {"outputs": 1, "source": 2, "metadata": []}]
    executed = read(notebook(*odd, code("y", None, 5, {"output_type": "error"}, {"data": []}, tags=(1, "t"))))
    assert [cell.number for cell in executed.cells] == [1, 2, 3, 4, 5, 6, 7]
    assert (executed.cells[0].source, executed.cells[0].error) == ("x", None)
    assert executed.failing_cell is executed.cells[6]
    assert executed.cells[6].tags == {"t"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        pytest.param(gzip.compress(b""), "it is empty", id="gzip of nothing"),
        (b"  <!doctype html>", "a page of HTML or XML"),
        pytest.param(gzip.compress(b"<html>"), "a page of HTML or XML", id="gzip of HTML"),
        pytest.param(gzip.compress(notebook(code("x")))[:-20], "its gzip compression is broken", id="gzip cut short"),
        (b"\x1f\x8bnot gzip", "its gzip compression is broken"),
        (notebook(code("x"))[:100], "its JSON is truncated: it ends at byte 100, in the middle"),
        (notebook(code("x"))[:71], "its JSON is truncated: it ends at byte 71, in the middle"),
        (b"secret", "it is not JSON: an error before byte 6"),
        (notebook() + b"}", "it is not JSON: an error"),
        (b'{"cells": ["\xff"]}', "it is not JSON: an error"),
        (b"[]", "it is JSON but no notebook: it is no object"),
        (b"{}", "it is JSON but no notebook: it has no list of cells"),
        (notebook(cells={}), "it is JSON but no notebook: it has no list of cells"),
        (notebook(cells=..., nbformat=3, worksheets=[]), "it is of notebook format 3; format 4 can be read"),
        (notebook(nbformat=[4]), "it is of notebook format that is no number"),
        (notebook(code("x" * 1000)), "it has more than 1000 bytes"),
        pytest.param(gzip.compress(notebook(code("x" * 100_000))), "it has more than 1000 bytes", id="gzip too large"),
    ],
)
def test_what_is_no_notebook_is_named(content: bytes, message: str):
    with pytest.raises(NotebookUnreadable, match=message) as caught:
        read(content, max_bytes=1000)
    assert "secret" not in str(caught.value)


def test_what_python_writes_as_json_is_read():
    metadata = {"papermill": {"parameters": {"a": float("nan"), "b": -float("inf"), "c": "NaN"}}}
    assert read(notebook(code("NaN"), metadata=metadata)).cells[0].source == "NaN"


def test_an_error_of_the_stream_itself_goes_on():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise ConnectionError("reset")

    with pytest.raises(ConnectionError):
        read_executed(Broken())


def test_many_cells_and_a_long_line_are_fast():
    line = "x" * 5_000_000
    content = notebook(*[code(f"a = {n}", stream("out\n")) for n in range(4_000)], code("print(x)", stream(line)))
    start = time.monotonic()
    executed = read(content, keep_outputs=True)
    assert time.monotonic() - start < patient(10)  # some 0.5 s if reading is linear, minutes if it is not
    assert len(executed.cells) == 4_001
    assert executed.cells[3_999].source == "a = 3999"
    assert OUTPUT_MAX < len(executed.cells[4_000].outputs) < OUTPUT_MAX + 100


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_that_never_ran_is_read_too(path):
    executed = read(path.read_bytes())
    assert len(executed.cells) == len(json.loads(path.read_bytes())["cells"])
    assert executed.failing_cell is None
