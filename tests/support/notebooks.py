"""Documents that tests read: notebooks before they are run, and after."""

from __future__ import annotations

import json
from typing import Any

import nbformat

from tests.support.patience import patient

KERNEL_LIMITS = {"timeout": int(patient(60)), "startup_timeout": int(patient(60))}  # seconds, of an nbclient


def code(source: Any = "", *outputs: Any, tags: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": list(outputs), "source": source}
    return {**cell, "metadata": {"tags": list(tags)} if tags else {}, **changes}


def notebook(*cells: Any, **changes: Any) -> bytes:
    """A notebook of format 4.4; a change to ... takes a member away."""
    document = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 4, **changes}
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def display(data: dict[str, Any], kind: str = "display_data", **metadata: Any) -> dict[str, Any]:
    return {"output_type": kind, "data": data, "metadata": metadata}


def result(data: dict[str, Any]) -> dict[str, Any]:
    return {**display(data, "execute_result"), "execution_count": 1}


def stream(text: Any) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def error(ename: str = "KeyError", evalue: str = "'x'", *traceback: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": ename, "evalue": evalue, "traceback": list(traceback)}


def scrap(name: Any, data: Any, encoder: str = "json") -> dict[str, Any]:
    """As scrapbook's `glue` writes it."""
    payload = {"name": name, "data": data, "encoder": encoder, "version": 1}
    mime = f"application/scrapbook.scrap.{encoder}+json"
    return display({mime: payload}, scrapbook={"name": name, "data": True, "display": False})


def unexecuted(*cells: str) -> dict[str, Any]:
    """Return a notebook of code cells, before it is run."""
    return dict(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]))
