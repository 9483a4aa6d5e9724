"""Refuse values and names that a notebook's language cannot express, before anything runs."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_provider_nbjob.notebook.reserved import is_acted_on
from airflow_provider_nbjob.notebook.values import walk

# Words that are names in Python, but syntax or read-only variables in another language.
_WORDS = {
    "python": "",
    "R": "TRUE FALSE NULL Inf NaN NA function repeat next",
    "julia": """baremodule begin catch const do elseif end export false function let local macro module quote struct
        true using""",
    "scala": """abstract case catch do extends false final forSome implicit lazy match new null object override package
        private protected sealed super this throw trait true type val var _""",
    "bash": "BASHPID EUID PPID SHELLOPTS UID _",
}
RESERVED = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def problems_in(language: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message for each name or value that a language cannot express, with its path.

    :param language: key of `RESERVED`
    :param parameters: plain values, see `values.Plain`
    """
    rule = _RULES[language]
    for name, value in parameters.items():
        path = f"parameters[{name!r}]"
        if problem := _name_problem(language, name):
            yield f"{path}: {problem}"
        for where, inner in walk(value, path):
            if problem := rule(inner, where == path):
                yield f"{where}: {problem}"


def _name_problem(language: str, name: str) -> str | None:
    if language != "python" and (name in RESERVED[language] or not _PLAIN_NAME.fullmatch(name)):
        return f"{name!r} cannot be a name in {language}"
    if is_acted_on(language, name):
        return f"{name!r} is a variable that {language}, or a program that it starts, acts on; rename the parameter"
    if language == "R" and name.startswith("_"):
        return f"{name!r} cannot be a name in R, where none begins with '_'"
    return None


def _python(value: Any, top: bool) -> str | None:
    return None


def _julia(value: Any, top: bool) -> str | None:
    return _surrogate(value, "julia")


def _scala(value: Any, top: bool) -> str | None:
    return _surrogate(value, "scala")


def _r(value: Any, top: bool) -> str | None:
    if isinstance(value, str) and "\0" in value:
        return "a text with a NUL character, which R cannot hold"
    if isinstance(value, int) and abs(value) > 2**53:
        return f"{str(value)[:30]} is beyond 2**53, which R's numbers cannot hold exactly"
    if isinstance(value, dict) and "" in value:
        return "an empty key, which no list in R can have"
    return _surrogate(value, "R")


def _bash(value: Any, top: bool) -> str | None:
    if isinstance(value, dict):
        return "a dict, which bash cannot hold; pass its JSON as a text"
    if isinstance(value, list | tuple) and not top:
        return "a list in a list, which bash cannot hold; pass its JSON as a text"
    if isinstance(value, str) and "\0" in value:
        return "a text with a NUL character, which bash cannot hold"
    return _surrogate(value, "bash")


def _surrogate(value: Any, language: str) -> str | None:
    if isinstance(value, str) and _SURROGATE.search(value):
        return f"a text with half of a surrogate pair, which {language} cannot hold"
    return None


_RULES: dict[str, Callable[[Any, bool], str | None]] = {
    "python": _python,
    "R": _r,
    "julia": _julia,
    "scala": _scala,
    "bash": _bash,
}


def is_name(name: str) -> bool:
    """Return whether a text is a name that Python can assign to."""
    return name.isidentifier() and not keyword.iskeyword(name)
