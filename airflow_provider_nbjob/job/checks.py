"""Rules for the values of arguments: each tells a person what is wrong with a value.

Pure: knows neither Airflow nor Google.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.intervals import check_poll_interval
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

Rule = Callable[[Any], Iterator[str]]


def problems_of(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[str]:
    """Return what is wrong with values, each problem with the name of the argument."""
    return [
        f"{name}: {problem}"
        for name, rule in rules.items()
        if name in values and values[name] is not UNKNOWN
        for problem in rule(values[name])
    ]


def is_missing(value: Any) -> bool:
    """Return whether an argument is not given; a template may come out as nothing."""
    return value is None or (isinstance(value, str) and not value)


def is_nothing(value: Any) -> bool:
    """Return whether an argument is not given, or its template came out as nothing, which Jinja writes ``"None"``."""
    return is_missing(value) or (isinstance(value, str) and value == "None")


def optional(rule: Rule) -> Rule:
    """Return a rule that lets an argument be missing."""

    def check(value: Any) -> Iterator[str]:
        if not is_missing(value):
            yield from rule(value)

    return check


def matches(pattern: re.Pattern[str], form: str) -> Rule:
    """Return a rule for texts that match a pattern whole.

    :param form: the rule for a person
    """

    def check(value: Any) -> Iterator[str]:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            yield f"{names.shown(value)} is not of the form {form}"

    return check


def boolean(value: Any) -> Iterator[str]:
    """Refuse all but True and False: a text such as "false" is true to Python."""
    if not isinstance(value, bool):
        yield f"{names.shown(value)} is of type {type(value).__name__}; it must be True or False"


def choice(choices: Sequence[str]) -> Rule:
    """Return a rule for one of several texts, or None."""

    def rule(value: Any) -> Iterator[str]:
        if value is not None and value not in choices:
            yield f"{names.shown(value)} is not one of {', '.join(map(repr, choices))}"

    return rule


def text(value: Any) -> Iterator[str]:
    """Refuse what is no text, and the empty one."""
    if not isinstance(value, str) or not value:
        yield f"{names.shown(value)} is of type {type(value).__name__}; it must be a text that is not empty"


def whole_number(least: int, unit: str) -> Rule:
    """Return a rule for integers of at least `least`.

    :param unit: such as ``"bytes"``, for the message
    """

    def check(value: Any) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield f"{names.shown(value)} is of type {type(value).__name__}; it must be a whole number of {unit}"
        elif value < least:
            yield f"{names.shown(value)} is too small; it must be at least {least} {unit}"

    return check


def poll_interval(value: Any) -> Iterator[str]:
    """Refuse what is no interval between two looks; see `check_poll_interval`."""
    try:
        check_poll_interval(value)
    except InvalidJob as error:
        yield from (problem.removeprefix("poll_interval: ") for problem in error.problems)


def project(value: Any) -> Iterator[str]:
    """Refuse what is neither the id nor the number of a project."""
    try:
        names.check_project(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    except InvalidJob as error:
        yield from (problem.removeprefix("project_id: ") for problem in error.problems)


def impersonation_chain(value: Any) -> Iterator[str]:
    """Refuse what is neither an account, nor several in a sequence or separated by commas."""
    accounts = value.split(",") if isinstance(value, str) else value
    if not isinstance(accounts, (list, tuple)):
        yield f"{names.shown(value)} is of type {type(value).__name__}; it must be a text or a list of texts"
        return
    for account in accounts:
        if account is UNKNOWN:
            continue
        if not isinstance(account, str) or not re.fullmatch(names.ACCOUNT, account.strip(" ")):
            yield f"{names.shown(account)} is not of the form name@project.iam.gserviceaccount.com"
