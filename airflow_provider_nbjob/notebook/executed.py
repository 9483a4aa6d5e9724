"""Read an executed notebook of any size once, as a stream, and keep its text.

Images and other binary outputs are dropped while they are read. A notebook need not be valid. Metadata, kernel and
outputs may be missing. Cells of an unknown type are kept without outputs. A value of another type than the format
specifies counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from airflow_provider_nbjob.exceptions import NotebookUnreadable
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES
from airflow_provider_nbjob.notebook.streaming import TOO_LARGE, VALUE_MAX, Document, Walk
from airflow_provider_nbjob.notebook.text import CutText, without_ansi

# Characters that are kept: the beginning and the end of a longer text.
SOURCE_MAX = 16 * 1024
TRACEBACK_MAX = 16 * 1024
EVALUE_MAX = 2 * 1024
OUTPUT_MAX = 64 * 1024  # all outputs of a cell together

ALLOWED_TAG = "raises-exception"
RESULT_TAG = "result"
SCRAP_PREFIX = "application/scrapbook.scrap."
_MISSING = object()
_SCRAP_FORMS = {f"{SCRAP_PREFIX}json+json": "scrap", f"{SCRAP_PREFIX}text+json": "text"}


@dataclass(frozen=True)
class CellError:
    """The exception that a cell raised.

    :param ename: name of the exception, such as ``"KeyError"``
    :param evalue: text of the exception: at most 2048 characters, and a line that says how many are left out
    :param traceback: traceback without colours: at most 16384 characters, and such a line
    """

    ename: str
    evalue: str
    traceback: str


@dataclass(frozen=True)
class CellValue:
    """A value that a cell returned, as the notebook holds it.

    :param name: key of the value in the results
    :param form: for a scrap, ``"scrap"`` or ``"text"``: scrapbook's encoder is json or text. For the last expression of
        a cell, ``"json"`` or ``"repr"``: the notebook holds it as JSON or as text
    :param value: the JSON value or the text; None if the value was refused
    :param refused: the reason why the value was refused: it is too large, or not JSON; None if it was not refused
    """

    name: str
    form: str
    value: Any = None
    refused: str | None = None


@dataclass(frozen=True)
class ExecutedCell:
    """A cell of an executed notebook.

    :param number: position among all cells, from 1
    :param cell_type: ``"code"``, ``"markdown"``, ``"raw"``, or another text of the notebook; empty if it has none
    :param execution_count: None if the cell did not run
    :param source: at most 16384 characters, and a line that says how many are left out
    :param error: the first of the cell's outputs that is an error, or None
    :param values: values that the cell returned by scrapbook's `glue`, or as the last expression of a cell that is
        tagged ``result``
    :param outputs: text of the outputs if it was requested: at most 65536 characters, and such a line; otherwise empty
    """

    number: int
    cell_type: str = ""
    execution_count: int | None = None
    source: str = ""
    tags: frozenset[str] = frozenset()
    error: CellError | None = None
    values: tuple[CellValue, ...] = ()
    outputs: str = ""

    @property
    def has_failed(self) -> bool:
        """Return whether the cell raised, and is not tagged `raises-exception`."""
        return self.error is not None and ALLOWED_TAG not in self.tags


@dataclass(frozen=True)
class ExecutedNotebook:
    """An executed notebook without its binary outputs.

    :param language: the notebook's language, such as ``"python"``; None if it names none
    :param parameters: parameters that this provider passed, as JSON values; None if it passed none, or if they are too
        large to be read
    """

    language: str | None = None
    cells: tuple[ExecutedCell, ...] = ()
    parameters: Mapping[str, Any] | None = None

    @property
    def failing_cell(self) -> ExecutedCell | None:
        """Return the first cell that raised and is not tagged `raises-exception`, or None."""
        return next((cell for cell in self.cells if cell.has_failed), None)


def read_executed(
    stream: BinaryIO, *, keep_outputs: bool = False, max_bytes: int = OUTPUT_MAX_BYTES
) -> ExecutedNotebook:
    """Read an executed notebook from a stream, once, to its end.

    Errors of the stream itself are passed on.

    :param stream: the notebook's JSON, plain or compressed with gzip
    :param keep_outputs: whether to keep the text of all outputs; default False
    :param max_bytes: maximum size after decompression in bytes; default 256 MiB
    :raises NotebookUnreadable: if the notebook is larger, or is not a notebook of format 4
    """
    walk = Walk(Document(stream, max_bytes=max_bytes))
    if not walk.is_object:
        raise NotebookUnreadable("it is JSON but no notebook: it is no object")
    language: str | None = None
    parameters: Mapping[str, Any] | None = None
    cells: tuple[ExecutedCell, ...] | None = None
    version: Any = None
    for key in walk.members():
        if key == "cells" and walk.is_list:
            cells = tuple(_cell(walk, number, keep_outputs) for number in walk.items())
        elif key == "metadata":
            language, parameters = _metadata(walk)
        elif key == "nbformat":
            version = walk.value()
    walk.end()
    if version is not None and version != 4:
        shown = version if isinstance(version, int) else "that is no number"
        raise NotebookUnreadable(f"it is of notebook format {shown}; format 4 can be read")
    if cells is None:
        raise NotebookUnreadable("it is JSON but no notebook: it has no list of cells")
    return ExecutedNotebook(language, cells, parameters)


def result_names(tags: frozenset[str]) -> list[str]:
    """Return the keys of a cell's last expression: ``result`` for the tag ``result``, NAME for ``result:NAME``."""
    named = (tag.partition(":") for tag in sorted(tags))
    return [name or word for word, _, name in named if word == RESULT_TAG]


def _metadata(walk: Walk) -> tuple[str | None, Mapping[str, Any] | None]:
    """Return the language and the parameters of the notebook."""
    found: dict[str, Any] = {}
    keys = {"language_info": "name", "kernelspec": "language", "nbjob": "parameters"}
    for part in walk.members():  # other parts, such as the state of widgets, may be large
        if part in keys:
            found[part] = walk.pick(keys[part]).get(keys[part])
    parameters = found.pop("nbjob", None)
    language = next((found[part] for part in keys if isinstance(found.get(part), str)), None)
    return language, parameters if isinstance(parameters, Mapping) else None


def _cell(walk: Walk, number: int, keep_outputs: bool) -> ExecutedCell:
    kept: dict[str, Any] = {}
    outputs: list[_Output] = []
    for key in walk.members():
        if key in ("source", "cell_type"):
            kept[key] = str(walk.text(SOURCE_MAX) or "")
        elif key == "metadata":
            tags = walk.pick("tags").get("tags")
            kept["tags"] = (
                frozenset(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else frozenset()
            )
        elif key == "outputs":
            outputs = [_output(walk) for _ in walk.items()]
        elif key == "execution_count":
            count = walk.value()
            kept[key] = count if isinstance(count, int) else None
    if kept.get("cell_type") == "code":
        kept["error"] = next((output.error for output in outputs if output.error), None)
        kept["values"] = tuple(_values(outputs, result_names(kept.get("tags", frozenset()))))
        kept["outputs"] = _all_text(outputs) if keep_outputs else ""
    return ExecutedCell(number, **kept)


@dataclass
class _Output:
    """An output of a cell, while the cell is read."""

    kind: str = ""
    text: CutText | None = None
    json: Any = _MISSING
    scraps: list[CellValue] = field(default_factory=list)
    is_glued: bool = False
    ename: str = ""
    evalue: str = ""
    traceback: str = ""

    @property
    def error(self) -> CellError | None:
        return CellError(self.ename, self.evalue, self.traceback) if self.kind == "error" else None


def _output(walk: Walk) -> _Output:
    output = _Output()
    for key in walk.members():
        if key == "output_type":
            output.kind = str(walk.text(EVALUE_MAX) or "")
        elif key == "text":
            output.text = walk.text(OUTPUT_MAX)
        elif key == "data":
            _data(walk, output)
        elif key == "metadata":
            output.is_glued = "scrapbook" in walk.pick("scrapbook")
        elif key in ("ename", "evalue"):
            setattr(output, key, str(walk.text(EVALUE_MAX, clean=without_ansi) or ""))
        elif key == "traceback":
            output.traceback = str(walk.text(TRACEBACK_MAX, clean=without_ansi, separator="\n") or "").rstrip("\n")
    return output


def _data(walk: Walk, output: _Output) -> None:
    for mime in walk.members():
        if mime == "text/plain":
            output.text = walk.text(VALUE_MAX)
        elif mime == "application/json":
            output.json = walk.value()
        elif mime.startswith(SCRAP_PREFIX):
            scrap = walk.pick("name", "data") if mime in _SCRAP_FORMS else walk.pick("name")
            if isinstance(name := scrap.get("name"), str):
                encoder = mime.removeprefix(SCRAP_PREFIX).removesuffix("+json")
                refused = None if mime in _SCRAP_FORMS else f"scrapbook encoded it as {encoder[:50]}, which is no JSON"
                output.scraps.append(_value(name, _SCRAP_FORMS.get(mime, "json"), scrap.get("data"), refused))


def _values(outputs: list[_Output], result_names: list[str]) -> Iterator[CellValue]:
    """Yield the values that a cell returned: scraps, and its last expression or else its last display."""
    for output in outputs:
        yield from output.scraps
    for kind in ("execute_result", "display_data"):
        last = next((output for output in reversed(outputs) if output.kind == kind and not output.is_glued), None)
        if last is None:
            continue
        for name in result_names:
            if last.json is not _MISSING:
                yield _value(name, "json", last.json)
            elif last.text is None:
                yield CellValue(name, "repr", refused="its output is neither JSON nor text")
            else:
                yield _value(name, "repr", TOO_LARGE if last.text.is_cut else str(last.text))
        return


def _value(name: str, form: str, value: Any, refused: str | None = None) -> CellValue:
    if value is TOO_LARGE:
        value, refused = None, f"it has more than {VALUE_MAX} characters, or is nested too deep"
    return CellValue(name, form, value, refused)


def _all_text(outputs: list[_Output]) -> str:
    text = CutText(OUTPUT_MAX)
    for output in outputs:
        shown = output.traceback if output.kind == "error" else str(output.text or "")
        text.add(shown if not shown or shown.endswith("\n") else f"{shown}\n")
    return str(text)
