"""Write durations for a person to read."""

from __future__ import annotations

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))  # with their lengths in seconds


def duration_text(seconds: float | None) -> str:
    """Return a duration in its two largest units, such as ``3 min 20 s``; a dash if it is None."""
    if seconds is None:
        return "–"  # noqa: RUF001  as elsewhere on the pages
    left = round(seconds)
    for place, (unit, size) in enumerate(UNITS):
        if left >= size:
            smaller, smaller_size = UNITS[min(place + 1, len(UNITS) - 1)]
            rest = left % size // smaller_size
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return "0 s" if seconds == 0 else "under 1 s"


def age_text(seconds: float) -> str:
    """Return an age in its largest unit, so that the text seldom changes; ``just now`` within the first minute."""
    for unit, size in UNITS[:-1]:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"
