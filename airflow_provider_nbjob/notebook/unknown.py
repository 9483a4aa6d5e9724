"""A value that is not known yet."""

from __future__ import annotations


class _Unknown:
    """Stands for a value that is not known yet, such as a template that is not rendered yet; no rule judges it."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()
