"""Notebooks for tests, and their pages read as a browser reads them."""

from __future__ import annotations

from typing import Any

from bs4 import BeautifulSoup

from airflow_provider_nbjob.rendering.document import document

PNG = "iVBORw0KGgo="


def notebook(*cells: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}


def code(*outputs: dict[str, Any], source: str = "pass", count: Any = 1) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "execution_count": count, "metadata": {}, "outputs": list(outputs)}


def markdown(source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source, "metadata": {}, **more}


def data(metadata: dict[str, Any] | None = None, **forms: Any) -> dict[str, Any]:
    """A display of data; ``text_html`` stands for ``text/html``, ``image_svg__xml`` for ``image/svg+xml``."""
    named = {name.replace("__", "+").replace("_", "/", 1): value for name, value in forms.items()}
    return {"output_type": "display_data", "metadata": metadata or {}, "data": named}


def page(
    *cells: dict[str, Any], failing_cell: int | None = None, theme: str = "light", **metadata: Any
) -> BeautifulSoup:
    html = document(notebook(*cells, **metadata), theme=theme, failing_cell=failing_cell)
    return BeautifulSoup(html, "html.parser")
