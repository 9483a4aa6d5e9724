"""Remove the secrets of a task from its notebook before it is laid out: highlighting would split a secret in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

MASK = "***"
PARAMETERS_TAG = "injected-parameters"  # papermill's, of the cell that assigns parameters


class Secrets(NamedTuple):
    """The secrets of a notebook.

    :param forms: texts to hide, the longest first
    :param parameters: parameters to show instead of the cells that assign them; None to show the cells
    """

    forms: Sequence[str] = ()
    parameters: Mapping[str, Any] | None = None


def hide(text: str, forms: Sequence[str]) -> str:
    """Return a text with each of the forms masked; needs linear time for each form."""
    for form in forms:
        if form in text:
            text = text.replace(form, MASK)
    return text


def hide_in_value(value: Any, forms: Sequence[str]) -> Any:
    """Return a JSON value with each of the forms masked, in keys and in the digits of numbers too."""
    if not forms:
        return value
    if isinstance(value, str):
        return hide(value, forms)
    if isinstance(value, Mapping):
        return {hide(str(key), forms): hide_in_value(item, forms) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_in_value(item, forms) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and (digits := str(value)) != hide(digits, forms):
        return MASK
    return value


def without_secrets(notebook: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    """Return a notebook without secrets. Texts are joined, so that no secret is split between two of them."""
    return {**notebook, "cells": [_cell(cell, secrets) for cell in notebook["cells"]]}


def _cell(cell: Any, secrets: Secrets) -> Any:
    if not isinstance(cell, dict):
        return cell
    masked = {
        name: _joined_without(part, secrets.forms) for name, part in cell.items() if name not in ("metadata", "outputs")
    }
    if secrets.parameters is not None and PARAMETERS_TAG in _tags(cell):
        lines = (f"{name} = {json.dumps(value)}" for name, value in secrets.parameters.items())
        masked["source"] = hide("\n".join(["# The parameters, as Airflow shows them", *lines]), secrets.forms)
    outputs = cell.get("outputs")
    if isinstance(outputs, list):
        masked["outputs"] = [_output(output, secrets.forms) for output in _merged(outputs)]
    return masked


def _tags(cell: Mapping[str, Any]) -> list[Any]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tags if isinstance(tags, list) else []


def _output(output: Any, forms: Sequence[str]) -> Any:
    if not isinstance(output, dict):
        return output
    masked: dict[str, Any] = {}
    for name, part in output.items():
        if name == "data" and isinstance(part, dict):
            masked[name] = {mime: _form(mime, value, forms) for mime, value in part.items()}
        elif name == "traceback" and isinstance(part, list):
            masked[name] = [_line(line, forms) for line in part]
        elif name == "metadata":  # has the sizes of images
            masked[name] = part
        else:
            masked[name] = _joined_without(part, forms)
    return masked


def _form(mime: str, value: Any, forms: Sequence[str]) -> Any:
    if mime.startswith("image/") and mime != "image/svg+xml":  # base64, in which texts cannot be found
        return value
    return hide_in_value(value, forms) if mime.endswith("json") else _joined_without(value, forms)


def _line(line: Any, forms: Sequence[str]) -> Any:
    """Return a line of a traceback, without its colours if they split a secret."""
    from airflow_provider_nbjob.notebook.text import without_ansi

    if not isinstance(line, str):
        return _joined_without(line, forms)
    plain = without_ansi(line)
    masked = hide(plain, forms)
    return line if masked == plain else masked


def _joined_without(value: Any, forms: Sequence[str]) -> Any:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if isinstance(value, str):
        return hide(value, forms)
    return {key: _joined_without(item, forms) for key, item in value.items()} if isinstance(value, dict) else value


def _merged(outputs: list[Any]) -> Iterator[Any]:
    """Yield the outputs of a cell, with the consecutive pieces of a stream joined."""
    for name, of_stream in groupby(outputs, key=_stream):
        if name is None:
            yield from of_stream
        else:
            texts = (output.get("text") for output in of_stream)
            pieces = ("".join(filter(_is_text, text)) if isinstance(text, list) else text for text in texts)
            yield {"output_type": "stream", "name": name, "text": "".join(filter(_is_text, pieces))}


def _stream(output: Any) -> str | None:
    """Return the name of an output's stream as it is laid out: any name other than stderr is stdout."""
    if not isinstance(output, dict) or output.get("output_type") != "stream":
        return None
    return "stderr" if output.get("name") == "stderr" else "stdout"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
