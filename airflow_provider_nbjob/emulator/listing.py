"""Read the `filter`, `order_by`, `page_size` and `page_token` of a list request.

The proto documents filters on `notebookExecutionJob`, `displayName` and `schedule`. A third party reported that other
fields (`jobState`, `createTime`) are refused, that a page has at most 100 jobs, and that `order_by` takes camelCase.
The default order is not documented: here the newest come first. The filter of operations is not documented: here it
takes `done` and `name`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence

from google.api_core.exceptions import InvalidArgument

from airflow_provider_nbjob.emulator.database import SqlValue
from airflow_provider_nbjob.emulator.patterns import compile_pattern

PAGE_SIZE_MAX = 100
TEXT_MAX = 4_096  # characters of a filter or an order, and of the values in a page token
TOKEN_MAX = 2**18  # characters

_Fields = dict[str, tuple[str, tuple[str, ...]]]  # field of a filter: (column of the store, operators)

_FILTERS: _Fields = {
    "notebookexecutionjob": ("job_id", ("=", "!=")),
    "displayname": ("display_name", ("=", "!=", "=~")),
    "schedule": ("schedule", ("=", "!=", "=~")),
    "scheduleresourcename": ("schedule", ("=", "!=", "=~")),
}
_OPERATION_FILTERS: _Fields = {"done": ("done", ("=", "!=", ":")), "name": ("name", ("=", "!="))}
_ORDERS = {"displayname": "display_name", "createtime": "create_time", "updatetime": "update_time"}
_CONDITION = re.compile(
    r"\s*(?P<field>\w+)\s*(?P<operator>!=|=~|=|:)\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>[^\s\"()]+))\s*"
)
_AND = re.compile(r"AND\s+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_filter(text: str) -> list[tuple[str, str, str]]:
    """Read a filter of jobs: conditions joined by AND.

    :return: (column, operator, value) for each
    :raises InvalidArgument: if the API does not take a field, an operator or the form
    """
    return _parse_filter(text, _FILTERS)


def parse_operation_filter(text: str) -> list[tuple[str, str, str]]:
    """Read a filter of operations, such as ``done=false``; see `parse_filter`."""
    conditions = []
    for column, operator, value in _parse_filter(text, _OPERATION_FILTERS):
        if column == "done":
            value = value.lower()
            if value not in ("true", "false"):
                raise InvalidArgument(f"Invalid filter: {value!r} is neither true nor false.")
        conditions.append((column, operator, value))
    return conditions


def _parse_filter(text: str, fields: _Fields) -> list[tuple[str, str, str]]:
    if len(text) > TEXT_MAX:
        raise InvalidArgument(f"Invalid filter: it has {len(text)} characters; at most {TEXT_MAX} are allowed.")
    conditions: list[tuple[str, str, str]] = []
    position = 0
    while text[position:].strip():
        if conditions:
            if not (joint := _AND.match(text, position)):
                raise InvalidArgument(f"Invalid filter: AND is expected at {text[position:]!r}.")
            position = joint.end()
        match = _CONDITION.match(text, position)
        if match is None:
            raise InvalidArgument(f"Invalid filter: {text[position:]!r}.")
        conditions.append(_condition(match, fields))
        position = match.end()
    return conditions


def _condition(match: re.Match[str], fields: _Fields) -> tuple[str, str, str]:
    column, operators = fields.get(match["field"].replace("_", "").lower(), ("", ()))
    if not column:
        raise InvalidArgument(f"Invalid filter: field {match['field']!r} is not supported.")
    if match["operator"] not in operators:
        raise InvalidArgument(f"Invalid filter: {match['operator']!r} is not supported for {match['field']!r}.")
    value = match["bare"] if match["quoted"] is None else match["quoted"].replace('\\"', '"')
    if match["operator"] == "=~":
        try:
            compile_pattern(value)
        except ValueError as error:
            raise InvalidArgument(f"Invalid filter: {value!r} is no regular expression: {error}.") from None
    return column, match["operator"], value


def parse_order(text: str) -> list[tuple[str, bool]]:
    """Read an order: comma-separated fields, each with `` desc`` or without.

    :return: (column, descending) for each
    :raises InvalidArgument: if the API does not order by a field
    """
    if len(text) > TEXT_MAX:
        raise InvalidArgument(f"Invalid order_by: it has {len(text)} characters; at most {TEXT_MAX} are allowed.")
    order: list[tuple[str, bool]] = []
    for part in text.split(",") if text.strip() else []:
        words = part.split()
        column = _ORDERS.get(words[0].replace("_", "").lower()) if words else None
        if column is None or words[1:] not in ([], ["desc"], ["asc"]) or column in dict(order):
            raise InvalidArgument(f"Invalid order_by: {part.strip()!r}.")
        order.append((column, words[1:] == ["desc"]))
    return order or [("create_time", True)]


def parse_page_size(size: int) -> int:
    """Return the number of jobs on a page; 0 means the default.

    :raises InvalidArgument: if the number is negative or over 100
    """
    if size < 0 or size > PAGE_SIZE_MAX:
        raise InvalidArgument(f"Invalid page_size: {size} is not between 0 and {PAGE_SIZE_MAX}.")
    return size or PAGE_SIZE_MAX


def parse_operation_page_size(size: int) -> int:
    """Return the number of operations on a page; 0 means the default, and a large number the maximum (AIP-158).

    :raises InvalidArgument: if the number is negative
    """
    if size < 0:
        raise InvalidArgument(f"Invalid page_size: {size} is negative.")
    return min(size or PAGE_SIZE_MAX, PAGE_SIZE_MAX)


def page_token(last: Sequence[SqlValue], request: list[str]) -> str:
    """Return an opaque token for the page after a row.

    :param last: the sort key of the last row of the page before
    :param request: the values that the next request must have in common with this one
    """
    return base64.urlsafe_b64encode(json.dumps([last, request]).encode()).decode()


def parse_page_token(token: str, request: list[str], keys: int) -> list[SqlValue] | None:
    """Return the sort key that a token continues after, None for the first page.

    :raises InvalidArgument: if the token is not from `page_token`, or belongs to another request
    """
    if not token:
        return None
    if len(token) > TOKEN_MAX:
        raise InvalidArgument("Invalid page_token.")
    try:
        last, of = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, RecursionError):
        raise InvalidArgument("Invalid page_token.") from None
    if of != request:
        raise InvalidArgument("Invalid page_token: it belongs to a request with another filter or order.")
    if not isinstance(last, list) or len(last) != keys or not all(_is_key(key) for key in last):
        raise InvalidArgument("Invalid page_token.")
    return last


def _is_key(key: object) -> bool:
    """Return whether a value of a token can be compared with a column of the store."""
    if isinstance(key, str):
        return len(key) <= TEXT_MAX and not _SURROGATE.search(key)
    return isinstance(key, (int, float)) and abs(key) < 2**63
