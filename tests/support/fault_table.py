"""The fault matrix as a table: a row for each fault, with the jobs that it created and those left active."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

PROPERTY = "fault"  # of a test, which holds its row as a list: pytest-xdist passes on no other class


class Fault(NamedTuple):
    """What came of a fault.

    :param name: what failed
    :param created: jobs that were submitted
    :param active: of them, those that were left with a machine, or waiting for one
    :param ended: the states of the task instances, with the number of each
    :param seconds: duration of the case
    """

    name: str
    created: int
    active: int
    ended: str
    seconds: float


def rows_of(reports: Iterable[Any]) -> list[Fault]:
    """Return the rows that the reports of tests hold."""
    return [Fault(*value) for report in reports for name, value in report.user_properties if name == PROPERTY]


def as_text(rows: Sequence[Fault]) -> str:
    """Return the table for a terminal, a row a line."""
    lines = (
        f"{row.name:<68} {row.created:>3} created  {row.active} left active  {row.ended}  ({row.seconds:.0f} s)"
        for row in rows
    )
    return "\n".join(lines)


def as_markdown(rows: Sequence[Fault]) -> str:
    """Return the table for a page."""
    head = "| fault | jobs created | left active | tasks ended | seconds |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {r.name} | {r.created} | {r.active} | {r.ended} | {r.seconds:.0f} |\n" for r in rows)
