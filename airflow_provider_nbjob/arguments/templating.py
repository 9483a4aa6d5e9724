"""Notebooks as arguments: what Airflow is to render of them, and what it must leave alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from airflow_provider_nbjob.arguments.templates import BEGINNINGS
from airflow_provider_nbjob.job.checks import is_nothing
from airflow_provider_nbjob.job.spec import ENVIRONMENTS, IDENTITIES, REQUIRED, SOURCES
from airflow_provider_nbjob.notebook.unknown import UNKNOWN


def untemplated(source: Any) -> Any:
    """Return a notebook's content as bytes, which Airflow does not render; a path as text; an XComArg as it is."""
    if isinstance(source, Mapping):
        return json.dumps(source).encode()
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, os.PathLike):
        # Airflow 3.1 resolves a Path against the worker's folder when it renders it. Its ObjectStoragePath is a URI.
        return str(source) if "://" in str(source) else os.fsdecode(source)
    if isinstance(source, str):
        begin = source.lstrip().removeprefix("\ufeff").lstrip()
        if begin.startswith("{") and not begin.startswith(BEGINNINGS):
            return source.encode()
    return source


def without_nothing(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job with None for those whose template came out as nothing.

    Jinja makes the text ``"None"`` of None, unless the DAG has `render_template_as_native_obj`. Fields that a job
    needs are left as they are, so that the error quotes them; of those that exclude each other, if all are nothing.
    """
    fields = {
        # Of a mapped task's instances, each of which is checked, most fields are unknown.
        name: None if value is not UNKNOWN and is_nothing(value) and name not in REQUIRED else value
        for name, value in job.items()
    }
    for group in (SOURCES, ENVIRONMENTS, IDENTITIES):
        if all(fields[name] is None for name in group):
            fields |= {name: job[name] for name in group}
    return fields
