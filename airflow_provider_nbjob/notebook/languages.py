"""Write parameters as statements of a notebook's language, by corrected translators of papermill.

The classes here override papermill wherever its text does not evaluate to the value. Import this module only to write
parameters, because only the extra `parameters` installs papermill. Importing all of papermill 2.7.0 takes 0.6 s of CPU
and 59 MiB; the translators alone take 4 ms.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_nbjob.lazy_packages import lazy_packages

with lazy_packages("papermill"):
    from papermill import translators as papermill

_SCALA_CHUNK = 10_000  # characters; the JVM accepts at most 65535 bytes in one literal


class _Moments:
    """Write tuples as lists, and dates as text in ISO 8601, in languages without them. papermill writes both wrong."""

    @classmethod
    def translate(cls, val: Any) -> str:
        if isinstance(val, tuple):
            val = list(val)
        elif isinstance(val, date | time):
            val = val.isoformat()
        return str(super().translate(val))  # type: ignore[misc]


class Python(papermill.PythonTranslator):  # type: ignore[misc,unused-ignore]
    """Write dates and tuples as such, and do not format with black, which papermill uses if it is installed."""

    @classmethod
    def translate(cls, val: Any) -> str:
        """Return a Python expression for a value. The expression needs no import."""
        if isinstance(val, tuple):
            return "(" + "".join(f"{cls.translate(item)}, " for item in val) + ")"
        if isinstance(val, date | time):
            return _python_moment(val)
        return str(super().translate(val))

    @classmethod
    def codify(cls, parameters: dict[str, Any], comment: str = "Parameters") -> str:
        """Return the statements that assign the parameters."""
        return str(super(papermill.PythonTranslator, cls).codify(parameters, comment))


class R(_Moments, papermill.RTranslator):  # type: ignore[misc,unused-ignore]
    r"""Write `NaN` and `Inf` by R's names, and texts without `\x`, which is a byte in R, not a character."""

    @classmethod
    def translate_escaped_str(cls, str_val: Any) -> str:
        """Return R's literal of a text."""
        return _quoted(str_val)

    @classmethod
    def translate_float(cls, val: float) -> str:
        """Return R's literal of a number."""
        return {"nan": "NaN", "inf": "Inf", "-inf": "-Inf"}.get(str(val), str(val))


class Julia(_Moments, papermill.JuliaTranslator):  # type: ignore[misc,unused-ignore]
    r"""Write `NaN` and `Inf` by Julia's names, and texts without `\x`; escape `$`, which Julia would interpolate."""

    @classmethod
    def translate_escaped_str(cls, str_val: Any) -> str:
        """Return Julia's literal of a text."""
        return _quoted(str_val).replace("$", r"\$")

    @classmethod
    def translate_float(cls, val: float) -> str:
        """Return Julia's literal of a number."""
        return {"nan": "NaN", "inf": "Inf", "-inf": "-Inf"}.get(str(val), str(val))


class Scala(_Moments, papermill.ScalaTranslator):  # type: ignore[misc,unused-ignore]
    """Write texts with the escapes of Scala, split if the JVM refuses so long a literal, and numbers of any size."""

    @classmethod
    def translate_escaped_str(cls, str_val: Any) -> str:
        """Return a Scala expression for a text."""
        chunks = [str_val[at : at + _SCALA_CHUNK] for at in range(0, len(str_val), _SCALA_CHUNK)] or [""]
        literals = [json.dumps(chunk) for chunk in chunks]  # Scala has JSON's escapes, surrogate pairs included
        return literals[0] if len(literals) == 1 else f"Seq({', '.join(literals)}).mkString"

    @classmethod
    def translate_float(cls, val: float) -> str:
        """Return Scala's literal of a floating-point number."""
        names = {"nan": "Double.NaN", "inf": "Double.PositiveInfinity", "-inf": "Double.NegativeInfinity"}
        return names.get(str(val), str(val))

    @classmethod
    def translate_int(cls, val: int) -> str:
        """Return Scala's literal of an integer; a `BigInt` if a Long cannot hold it."""
        return str(super().translate_int(val)) if -(2**63) <= val < 2**63 else f'BigInt("{val}")'


class Bash(_Moments, papermill.BashTranslator):  # type: ignore[misc,unused-ignore]
    """Write None as the empty text. papermill leaves None out of arrays."""

    @classmethod
    def translate_none(cls, val: None) -> str:
        """Return bash's word for None: the empty text."""
        return "''"


TRANSLATORS: dict[str, Any] = {"python": Python, "R": R, "julia": Julia, "scala": Scala, "bash": Bash}


def _quoted(text: str) -> str:
    r"""Quote a text as JSON does, in ASCII, but write `\UXXXXXXXX` instead of surrogate pairs."""
    return "".join(
        json.dumps(part)[1:-1] if len(part) != 1 or part < "\U00010000" else f"\\U{ord(part):08x}"
        for part in re.split("([\U00010000-\U0010ffff])", text)
    ).join('""')


def _python_moment(value: date | time) -> str:
    module = '__import__("datetime")'
    if isinstance(value, datetime):
        kind, numbers = "datetime", [value.year, value.month, value.day]
    elif isinstance(value, date):
        return f"{module}.date({value.year}, {value.month}, {value.day})"
    else:
        kind, numbers = "time", []
    numbers += [value.hour, value.minute, value.second, value.microsecond]
    zone = f", tzinfo={_python_zone(value.tzinfo, value)}" if value.tzinfo else ""
    fold = ", fold=1" if value.fold else ""
    return f"{module}.{kind}({', '.join(map(str, numbers))}{zone}{fold})"


def _python_zone(zone: tzinfo, value: datetime | time) -> str:
    """Return a Python expression for a zone: by its name in the IANA database, else by its offset at that time."""
    offset = value.utcoffset()
    name = zone.key if isinstance(zone, ZoneInfo) else None
    if name and name != "UTC":
        return f'__import__("zoneinfo").ZoneInfo({name!r})'
    if not offset:
        return '__import__("datetime").timezone.utc'
    delta = f"timedelta({offset.days}, {offset.seconds}, {offset.microseconds})"
    return f'__import__("datetime").timezone(__import__("datetime").{delta})'
