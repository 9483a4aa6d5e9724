"""A placeholder for a value that is not known yet."""

from __future__ import annotations


class _Unknown:
    """The class of `UNKNOWN`, a value that is not known yet, such as a template before rendering. No rule applies."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()
