"""Find templates in values: Airflow renders them only when the task runs.

This module imports neither Airflow nor a package of Google's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from airflow_provider_nbjob.notebook.unknown import UNKNOWN

BEGINNINGS = ("{{", "{%", "{#")  # an expression, a statement and a comment of Jinja begin so


def known(value: Any, instead: Any = UNKNOWN) -> Any:
    """Replace all templates in a value, so that the rest of it can be checked.

    :param instead: the replacement of a template; default `UNKNOWN`
    """
    try:
        return _known(value, instead)
    except RecursionError:
        return value


def _is_templated(value: Any) -> bool:
    if isinstance(value, str):
        return any(beginning in value for beginning in BEGINNINGS)
    if isinstance(value, Mapping):
        return any(_is_templated(part) for part in value.values())  # Airflow does not render keys
    if isinstance(value, list | tuple | set | frozenset):
        return any(_is_templated(part) for part in value)
    if isinstance(value, os.PathLike):
        return False  # a path has a method `resolve`, like an XComArg
    # An XComArg or a similar reference, an object with template fields, or a function that Airflow calls to render.
    return hasattr(value, "resolve") or hasattr(value, "template_fields") or callable(value)


def _known(value: Any, instead: Any) -> Any:
    if not _is_templated(value):
        return value
    if isinstance(value, Mapping):
        return {key: _known(part, instead) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_known(part, instead) for part in value]
    return instead
