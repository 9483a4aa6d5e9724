"""Count the requests to Airflow's execution API by the access log of its API server.

Airflow 3.3.2 logs each request (`airflow/api_fastapi/common/http_access_log.py`) as
``... [http.access] ... method=POST path=/execution/xcoms/d/r/t/return_value query= status_code=201``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_REQUEST = re.compile(r"\bmethod=(?P<method>[A-Z]+) path='?/execution/(?P<path>[^\s']*)'? ")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def requests_in(lines: Iterable[str]) -> Counter[str]:
    """Return how many requests of each kind the lines of a log tell of.

    The kind is such as ``PATCH task-instances/run``, ``POST xcoms return_value`` or ``GET connections``.
    """
    found = (match for line in lines if (match := _REQUEST.search(line)))
    return Counter(f"{match['method']} {_kind(match['path'])}" for match in found)


def _kind(path: str) -> str:
    first, *others = path.strip("/").split("/")
    if first == "xcoms":
        return f"xcoms {others[-1]}"
    if first == "task-instances":
        return "/".join([first, *(part for part in others if not _ID.fullmatch(part))])
    return first
