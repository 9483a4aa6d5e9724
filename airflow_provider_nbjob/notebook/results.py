"""Collect the results of a notebook as values that Airflow can store."""

from __future__ import annotations

import ast
import json
import math
import warnings
from typing import Any, NamedTuple

from airflow_provider_nbjob.notebook import RESULT_MAX_BYTES
from airflow_provider_nbjob.notebook.executed import CellValue, ExecutedNotebook
from airflow_provider_nbjob.notebook.text import storable
from airflow_provider_nbjob.notebook.values import MAX_DEPTH

# Airflow's messages hold no other integers, and one in the XComs of a task that ends in the triggerer would end the
# triggerer. Read in Airflow 3.3.2 (msgpack in airflow/sdk/execution_time/comms.py).
INTEGERS = range(-(2**63), 2**64)
# Of a dict with these Airflow makes an object, or refuses it (airflow/sdk/serde of 3.3.2).
RESERVED = frozenset({"__classname__", "__id__", "__type", "__var"})


class Results(NamedTuple):
    """The results of a notebook.

    :param values: JSON values by key; None for a value that was dropped
    :param notes: one message for each dropped value or key, with the reason
    """

    values: dict[str, Any]
    notes: list[str]


class NotJson(Exception):
    """A value that JSON cannot hold."""


def collect_results(notebook: ExecutedNotebook, *, max_bytes: int = RESULT_MAX_BYTES) -> Results:
    """Collect the scraps and the tagged results of a notebook. Of two with the same key, keep the later.

    Scraps are values that scrapbook's `glue` wrote with its encoders json and text. The last expression of a cell that
    is tagged ``result`` has the key ``result``; with the tag ``result:NAME``, it has the key NAME. If a cell has no
    last expression, its last display takes that place. The value is the output's ``application/json``. If the output
    has only text, the value is the text parsed as JSON, else parsed as a literal of Python with tuples as lists, else
    the text itself.

    JSON has no NaN and no infinities: they become None. In a scrap, Jupyter writes them as texts, such as ``nan``. Half
    surrogates become ``?``. NUL becomes U+FFFD, because databases refuse it. Integers beyond `INTEGERS`, and dicts and
    results with a name in `RESERVED`, are dropped, because Airflow refuses them.

    :param max_bytes: maximum size of all results as JSON in UTF-8, default 48 KiB. If the results are larger, the
        largest values are dropped. Regardless of the limit, a value has at most 512 Ki characters
    """
    handed_out = {value.name: value for cell in notebook.cells for value in cell.values}
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, handed in handed_out.items():
        key = storable(name)
        try:
            if key in RESERVED:
                raise NotJson("a name that Airflow uses itself")
            values[key] = None  # also if it is dropped
            values[key] = _decoded(handed, max_bytes)
        except NotJson as error:
            reasons[key] = str(error)
    reasons.update(fit(values, max_bytes))
    notes = [f"results[{key[:100]!r}] is dropped: {reason}" for key, reason in reasons.items()]
    return Results(values, notes)


def _decoded(handed: CellValue, max_bytes: int) -> Any:
    if handed.refused:
        raise NotJson(handed.refused)
    if isinstance(handed.value, str) and len(handed.value) > max_bytes:
        raise NotJson(_too_large(len(handed.value), max_bytes))
    if handed.form in ("text", "json") or not isinstance(handed.value, str):
        return _json_value(handed.value)
    if handed.form == "scrap":  # scrapbook stores a text that holds JSON as a text, and parses it when it reads it
        return _json_value(_parsed(handed.value, otherwise=handed.value))
    try:
        return _json_value(_parsed(handed.value, otherwise=_literal(handed.value)))
    except NotJson:
        return storable(handed.value)


def _parsed(text: str, *, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise


def _literal(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(_NonFinite().visit(ast.parse(text.lstrip(" \t"), mode="eval")))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


class _NonFinite(ast.NodeTransformer):
    """Replace the names `nan` and `inf`, which are Python's `repr` of these numbers, by the numbers."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(node.id)) if node.id in ("nan", "inf") else node


def _json_value(value: Any, depth: int = 0) -> Any:
    """Convert a value to a JSON value.

    :raises NotJson: if JSON has no such value
    """
    if depth > MAX_DEPTH:
        raise NotJson(f"lists and dicts in each other deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value not in INTEGERS:
        raise NotJson(f"a number of {value.bit_length()} bits")
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, list | tuple):
        return [_json_value(item, depth + 1) for item in value]
    if isinstance(value, dict) and not RESERVED.isdisjoint(value):
        raise NotJson("a dict with a key that Airflow uses itself")
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {storable(key): _json_value(item, depth + 1) for key, item in value.items()}
    raise NotJson(f"a value of type {type(value).__name__} is no JSON")


def fit(values: dict[str, Any], max_bytes: int) -> dict[str, str]:
    """Set the largest values to None until all fit; remove keys that do not fit even so.

    :param values: JSON values by key; changed in place
    :param max_bytes: maximum size of all as JSON in UTF-8
    :return: reasons by key, for each value or key that was dropped
    """
    sizes = {key: _size(value) for key, value in values.items()}
    room = max_bytes - len("{}") + len(",")  # every item is counted with a comma, but the last has none
    reasons = {}
    for key in list(values):
        room -= _size(key) + len(":,") + len("null")
        if room < 0:
            del values[key]
            reasons[key] = f"the keys alone are larger than {max_bytes} bytes"
    for key in sorted(values, key=lambda key: sizes[key]):
        needed = sizes[key] - len("null")
        if needed > 0 and needed > room:
            values[key] = None
            reasons[key] = _too_large(sizes[key], max_bytes)
        else:
            room -= needed
    return reasons


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _too_large(size: int, max_bytes: int) -> str:
    return f"it has {size} bytes, and all results together may have {max_bytes}"
