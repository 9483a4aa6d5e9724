"""Check `custom_environment_spec`, the machine, disk and network of a job, without a package of Google's.

`environment_fields` holds the fields of the API's messages. This module imports neither Airflow nor a package of
Google's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_nbjob import names
from airflow_provider_nbjob.job.checks import Rule
from airflow_provider_nbjob.job.environment_fields import CLIENT_VERSION, FIELDS
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

_INTEGERS = {"int32": 2**31, "int64": 2**63}
_DIGITS = re.compile(r"[0-9]{1,19}")
_BOOLEANS = {"true": True, "false": False}
NEWER = (
    f"if it is newer than version {CLIENT_VERSION} of Google's Python client, which these checks are made from: set it"
    " in a runtime template, or submit the job with NotebookExecutionJobHook.create_notebook_execution_job(job={...})"
)


def environment_rule(field: str) -> Rule:
    """Return the rule for a field of a job that is a message of the API.

    :param field: key of `environment_fields.FIELDS`
    """
    return lambda value: _problems(value, FIELDS[field], "")


def plain_environment(value: Any, kind: Any) -> Any:
    """Convert a valid message to the types that the client library accepts.

    Templates render numbers and booleans as texts; this function converts them back.

    :param kind: the kind of the value, see `environment_fields`
    """
    if isinstance(kind, dict):
        return {key: plain_environment(item, kind[key]) for key, item in value.items() if item is not None}
    if isinstance(kind, list):
        return [plain_environment(item, kind[0]) for item in value]
    if isinstance(value, str) and kind in _INTEGERS:
        return int(value)
    if isinstance(value, str) and kind == "bool":
        return _BOOLEANS[value.lower()]
    return value


def _problems(value: Any, kind: Any, path: str) -> Iterator[str]:
    """Yield one message for each problem with a value or with a value in it.

    :param kind: the kind of the value, see `environment_fields`
    :param path: path of the value with a space at its end, such as ``"machine_spec.machine_type "``; empty for the root
    """
    if value is UNKNOWN or (value is None and path):
        return
    if isinstance(kind, dict):
        yield from _problems_of_message(value, kind, path)
    elif isinstance(kind, list):
        yield from _problems_of_list(value, kind[0], path)
    elif isinstance(kind, tuple):
        yield from _problems_of_enum(value, kind, path)
    elif problem := _problem_of_scalar(value, kind):
        yield f"{path}{names.shown(value)} {problem}"


def _problems_of_message(value: Any, fields: Mapping[str, Any], path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}{names.shown(value)} is not a dict{' with the keys ' + ', '.join(fields) if fields else ''}"
        return
    at = path.strip()
    for key, item in value.items():
        if key in fields:
            yield from _problems(item, fields[key], f"{at}{at and '.'}{key} ")
        else:
            yield f"{path}unknown key {names.shown(key)}{_meant(key, fields)}; {_listed(fields)}; {NEWER}"


def _problems_of_list(value: Any, kind: Any, path: str) -> Iterator[str]:
    if not isinstance(value, (list, tuple)):
        yield f"{path}{names.shown(value)} is not a list"
        return
    for number, item in enumerate(value):
        if item is None:
            yield f"{path}[{number}] None is not a text"
        yield from _problems(item, kind, f"{path.strip()}[{number}] ")


def _problems_of_enum(value: Any, members: tuple[tuple[str, int], ...], path: str) -> Iterator[str]:
    numbers = dict(members)
    is_number = isinstance(value, int) and not isinstance(value, bool)  # enums of the client library are integers
    if (isinstance(value, str) and value in numbers) or (is_number and value in numbers.values()):
        return
    yield f"{path}{names.shown(value)} is not one of {', '.join(numbers)}{_meant(value, numbers)}; {NEWER}"


def _problem_of_scalar(value: Any, kind: str) -> str | None:
    if kind == "string":
        return None if isinstance(value, str) else f"is of type {type(value).__name__}, not a text"
    if kind == "bool":
        is_text = isinstance(value, str) and value.lower() in _BOOLEANS
        return None if isinstance(value, bool) or is_text else "is neither True nor False"
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _INTEGERS[kind]:
        return f"is not a whole number from 0 to {_INTEGERS[kind] - 1}"
    return None


def _listed(fields: Mapping[str, Any]) -> str:
    return f"the keys are {', '.join(fields)}" if fields else "it has no keys"


def _meant(value: Any, known: Any) -> str:
    """Return a suggestion of the closest known name, in the snake case of the Python client; empty if none is close."""
    if not isinstance(value, str):
        return ""
    folded = {name.lower(): name for name in known}
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value[: names.SHOWN_MAX]).lower()
    close = difflib.get_close_matches(snake, folded, n=1) or [
        name for name in folded if snake and name.endswith(f"_{snake}")
    ]
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
