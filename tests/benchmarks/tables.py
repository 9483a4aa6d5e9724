"""Print rows of figures as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Rows = list[dict[str, Any]]
# column title: key of the row, and how its value is printed
Columns = dict[str, tuple[str, str]]
FIGURE_COLUMNS: Columns = {
    "": ("figure", ""),
    "measured": ("measured", ".4g"),
    "at most": ("at most", ".4g"),
    "reached": ("reached", ""),
}


def median(rows: Rows) -> dict[str, Any]:
    """Return the medians of the numbers of several runs."""
    first = rows[0]
    return {
        key: statistics.median(values)
        if isinstance(value, (int, float)) and None not in (values := [row[key] for row in rows])
        else value
        for key, value in first.items()
    }


def judged(figures: Iterable[tuple[str, float | None, float]]) -> Rows:
    """Return a row for each figure that was measured, which says whether it is reached.

    :param figures: name, the measured value or None, and the value that it may be at most
    """
    return [
        {"figure": name, "measured": value, "at most": most, "reached": "yes" if value <= most else "NO"}
        for name, value, most in figures
        if value is not None
    ]


def table(title: str, rows: Rows, columns: Columns) -> str:
    """Return a table below its title; its first column is aligned to the left."""
    lines = [list(columns)] + [
        ["-" if row[key] is None else format(row[key], form) for key, form in columns.values()] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [title, ""]
    for line in lines:
        first, *others = zip(line, widths, strict=True)
        texts.append("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]))
    return "\n".join(texts)


def show(title: str, rows: Rows, columns: Columns) -> None:
    """Print a table."""
    print(f"\n{table(title, rows, columns)}", flush=True)
