"""Values with and without templates: what only the run knows.

Pure: knows neither Airflow nor Google.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from airflow_provider_nbjob.notebook.unknown import UNKNOWN

BEGINNINGS = ("{{", "{%", "{#")  # of an expression, a statement and a comment of Jinja


def is_templated(value: Any) -> bool:
    """Return whether a value is known only when the task runs: a Jinja template, an XComArg, or holding one."""
    try:
        return _is_templated(value)
    except RecursionError:  # it contains itself, or is nested too deep: whoever checks it says so
        return False


def known(value: Any, instead: Any = UNKNOWN) -> Any:
    """Return a value with all that is templated in it replaced, so that the rest can be checked.

    :param instead: what stands for a template
    """
    try:
        return _known(value, instead)
    except RecursionError:
        return value


def _is_templated(value: Any) -> bool:
    if isinstance(value, str):
        return any(beginning in value for beginning in BEGINNINGS)
    if isinstance(value, Mapping):
        return any(_is_templated(part) for part in value.values())  # Airflow renders no keys
    if isinstance(value, list | tuple | set | frozenset):
        return any(_is_templated(part) for part in value)
    if isinstance(value, os.PathLike):
        return False  # it has a method `resolve` as an XComArg has
    # An XComArg and its like, an object with templates of its own, or a function that Airflow calls to render it.
    return hasattr(value, "resolve") or hasattr(value, "template_fields") or callable(value)


def _known(value: Any, instead: Any) -> Any:
    if not _is_templated(value):
        return value
    if isinstance(value, Mapping):
        return {key: _known(part, instead) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_known(part, instead) for part in value]
    return instead
