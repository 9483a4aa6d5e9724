"""Convert values to those that can be passed to a notebook, and report values that cannot."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from airflow_provider_nbjob.notebook.unknown import UNKNOWN

MAX_DEPTH = 64  # depth of nested lists and dicts; parsers of the notebook's language have a limit too
MAX_VALUES = 200_000
MAX_INT_BITS = 14_000  # about 4200 digits; Python parses and writes numbers of at most 4300
SHOWN_MAX = 80  # characters of a value in a message
PASSED = "None, booleans, numbers, texts, dates, and lists and dicts of these can be"

_HINTS = {
    timedelta: "pass its total_seconds()",
    bytes: "pass a text",
    set: "pass a list",
    frozenset: "pass a list",
}


def shown(value: Any) -> str:
    """Return the `repr` of a value for a message, cut if it is long."""
    text = reprlib.repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


class TooManyValues(Exception):
    """The parameters hold more than `MAX_VALUES` values."""


class Plain:
    """Converter of values to plain ones, which gathers one message for each problem in `problems`.

    Plain types are None, bool, int, float, str, list, tuple, dict, date, datetime and time, without their subclasses:
    the text of a subclass may differ from that of the value.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._above: list[int] = []
        self._count = 0

    def value(self, value: Any, path: str) -> Any:
        """Convert a value to an equal plain one; return None if it cannot be converted.

        :param path: name of the value in a message
        :raises TooManyValues: after `MAX_VALUES` values, as a value that repeats itself could take forever
        """
        self._count += 1
        if self._count > MAX_VALUES:
            raise TooManyValues
        if value is None or isinstance(value, bool) or value is UNKNOWN:
            return value
        if isinstance(value, int):
            return self._int(value, path)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, date | time):
            return self._moment(value, path)
        if isinstance(value, Mapping | list | tuple):
            return self._container(value, path)
        hint = next((hint for kind, hint in _HINTS.items() if isinstance(value, kind)), PASSED)
        self._refuse(path, f"{shown(value)} is of type {type(value).__name__}, which cannot be passed: {hint}")
        return None

    def _refuse(self, path: str, problem: str) -> None:
        self.problems.append(f"{path}: {problem}")

    def _int(self, value: int, path: str) -> int | None:
        if value.bit_length() > MAX_INT_BITS:
            self._refuse(path, f"a number of {value.bit_length()} bits; at most {MAX_INT_BITS} can be passed")
            return None
        return int(value)

    def _moment(self, value: date | time, path: str) -> date | time | None:
        try:
            return plain_moment(value)
        except (TypeError, ValueError):  # pandas' NaT is an instance of datetime
            self._refuse(path, f"{shown(value)} is no date")
            return None

    def _container(self, value: Any, path: str) -> Any:
        if id(value) in self._above:
            self._refuse(path, "contains itself, which cannot be passed")
            return None
        if len(self._above) == MAX_DEPTH:
            self._refuse(path, f"lists and dicts in each other deeper than {MAX_DEPTH}")
            return None
        self._above.append(id(value))
        try:
            if isinstance(value, Mapping):
                return self._dict(value, path)
            items = [self.value(item, f"{path}[{index}]") for index, item in enumerate(value)]
            return tuple(items) if isinstance(value, tuple) else items
        finally:
            self._above.pop()

    def _dict(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        plain = {}
        for key, item in value.items():
            if isinstance(key, str):
                plain[str.__str__(key)] = self.value(item, f"{path}[{shown(key)}]")
            else:
                self._refuse(path, f"its key {shown(key)} is of type {type(key).__name__}; keys are texts")
        return plain


def plain_moment(value: date | time) -> date | time:
    """Convert a date, datetime or time of a subclass, such as pendulum's, to one of Python's own class.

    :raises TypeError: if the value has no parts, such as pandas' NaT
    :raises ValueError: likewise
    """
    if isinstance(value, time):
        return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)
    day = (value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return date(*day)
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return datetime(*day, *clock, value.tzinfo, fold=value.fold)


def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield a plain value and all values in it, including the keys of dicts, each with its path."""
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}, key", key
            yield from walk(item, f"{path}[{shown(key)}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from walk(item, f"{path}[{index}]")
