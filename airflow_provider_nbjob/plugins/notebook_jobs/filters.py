"""Read the filters of the page of jobs from the query string of its URL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

TEXT_MAX = 250  # characters, as many as an id of Airflow may have
ACTIVE = "ACTIVE"
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class JobFilter:
    """The filters of a page of jobs. A part that is None filters nothing.

    :param dag_id: id of the DAG
    :param task_id: id of the task
    :param state: a state of the API (``JOB_STATE_FAILED``), `ACTIVE`, or `UNKNOWN`
    :param text: a part of an id, of the job's name or of the rendered map index, in upper or lower case
    :param since: earliest start, UTC
    :param until: a time before which the jobs started, UTC
    :param page: number of the page, from 1; a larger number than the last page's shows the last page
    """

    dag_id: str | None = None
    task_id: str | None = None
    state: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    page: int = 1

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> JobFilter:
        """Return the filters of a query's names and values. Empty values and unknown names are ignored.

        A moment is a date, or a date and a time (``2026-01-31T08:00``), which is UTC unless it names an offset. A date
        in ``until`` includes the whole day.

        :raises ValueError: if a value breaks a rule; the message names the field, the value and the rule
        """
        values: dict[str, Any] = {}
        for name, value in pairs:
            value = value.strip()
            if not value or name not in _READ:
                continue
            if name in values:
                raise ValueError(f"{name}: given twice.")
            values[name] = _READ[name](name, value)
        return cls(**values)

    def query(self, **changes: Any) -> str:
        """Return the query that `parse` reads, with some parts changed; by default with the first page."""
        changed = replace(self, **{"page": 1, **changes})
        parts = {part.name: getattr(changed, part.name) for part in fields(self)}
        return urlencode(
            {
                name: field_text(value) if isinstance(value, datetime) else value
                for name, value in parts.items()
                if value is not None and (name, value) != ("page", 1)
            }
        )

    @property
    def is_narrow(self) -> bool:
        """Return whether any filter is set; the page is none."""
        return replace(self, page=1) != JobFilter()


def field_text(moment: datetime) -> str:
    """Return a moment as the value of an HTML ``datetime-local`` field, in UTC."""
    return moment.replace(tzinfo=None, microsecond=0).isoformat(timespec="seconds" if moment.second else "minutes")


def _text(name: str, value: str) -> str:
    if len(value) > TEXT_MAX or "\0" in value:
        raise _wrong(name, value, f"must have at most {TEXT_MAX} characters, none of them NUL")
    return value


def _state(name: str, value: str) -> str:
    if value not in (ACTIVE, UNKNOWN) and not (value.startswith("JOB_STATE_") and "\0" not in value):
        raise _wrong(name, value, f"must be {ACTIVE}, {UNKNOWN}, or the name of a state, such as JOB_STATE_FAILED")
    return _text(name, value)


def _page(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10) or int(value) < 1:
        raise _wrong(name, value, "must be a whole number from 1 on, of at most 9 digits")
    return int(value)


def _since(name: str, value: str) -> datetime:
    return _moment(name, value, whole_days=0)


def _until(name: str, value: str) -> datetime:
    return _moment(name, value, whole_days=1)


def _moment(name: str, value: str, *, whole_days: int) -> datetime:
    try:
        if len(value) <= len("2026-01-31"):
            day = date.fromisoformat(value) + timedelta(days=whole_days)
            return datetime.combine(day, time(), timezone.utc)
        # `fromisoformat` of Python 3.10 does not accept a Z
        moment = datetime.fromisoformat(f"{value[:-1]}+00:00" if value[-1] in "Zz" else value)
        return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise _wrong(name, value, "must be a date or a moment, as 2026-01-31 or 2026-01-31T08:00") from None


def _wrong(name: str, value: str, rule: str) -> ValueError:
    shown = value if len(value) <= 100 else f"{value[:100]}..."
    return ValueError(f"{name}: {shown!r} {rule}.")


_READ = {
    "dag_id": _text,
    "task_id": _text,
    "state": _state,
    "text": _text,
    "since": _since,
    "until": _until,
    "page": _page,
}
