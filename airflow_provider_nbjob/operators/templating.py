"""Values with and without templates: what Airflow is to render, and what it must leave alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def untemplated(source: Any) -> Any:
    """A notebook's content as bytes, which Airflow does not render; a path, or an XComArg, as it is."""
    if isinstance(source, Mapping):
        return json.dumps(source).encode()
    if isinstance(source, str) and source.lstrip().startswith("{") and not source.lstrip().startswith("{{"):
        return source.encode()
    return source


def is_templated(value: Any) -> bool:
    """Whether a value is known only when the task runs: a Jinja template, an XComArg, or holding one."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(is_templated(part) for part in value.values())  # Airflow renders no keys
    if isinstance(value, (list, tuple)):
        return any(is_templated(part) for part in value)
    # An XComArg and its like, an object with templates of its own, or a function that Airflow calls to render it.
    return hasattr(value, "resolve") or hasattr(value, "template_fields") or callable(value)
