"""Rules for the values of arguments: each yields one message for each problem with a value.

This module imports neither Airflow nor a package of Google's.
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
    """Check arguments, and return one message for each problem.

    Skip arguments that have a rule but no value, and values that are `UNKNOWN`.

    :param values: values by the name of the argument
    :param rules: rules by the name of the argument
    :return: messages of the form ``"{name}: {problem}"``; empty if all values are valid
    """
    return [
        f"{name}: {problem}"
        for name, rule in rules.items()
        if name in values and values[name] is not UNKNOWN
        for problem in rule(values[name])
    ]


def is_missing(value: Any) -> bool:
    """Return whether a value counts as not given: None, or the empty text that a template may render to."""
    return value is None or (isinstance(value, str) and not value)


def is_nothing(value: Any) -> bool:
    """Return whether a value is missing or the text ``"None"``, which Jinja renders from None."""
    return is_missing(value) or (isinstance(value, str) and value == "None")


def optional(rule: Rule) -> Rule:
    """Return a rule that accepts a missing value and applies `rule` to any other."""

    def check(value: Any) -> Iterator[str]:
        if not is_missing(value):
            yield from rule(value)

    return check


def matches(pattern: re.Pattern[str], form: str) -> Rule:
    """Return a rule for texts that match the whole of a pattern.

    :param form: the expected form, for the message
    """

    def check(value: Any) -> Iterator[str]:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            yield f"{names.shown(value)} is not of the form {form}"

    return check


def boolean(value: Any) -> Iterator[str]:
    """Refuse all values but True and False. A text such as "false" would be true in Python."""
    if not isinstance(value, bool):
        yield f"{names.shown(value)} is of type {type(value).__name__}; it must be True or False"


def choice(choices: Sequence[str]) -> Rule:
    """Return a rule that accepts None and each of `choices`."""

    def rule(value: Any) -> Iterator[str]:
        if value is not None and value not in choices:
            yield f"{names.shown(value)} is not one of {', '.join(map(repr, choices))}"

    return rule


def text(value: Any) -> Iterator[str]:
    """Refuse values that are not texts, and the empty text."""
    if not isinstance(value, str) or not value:
        yield f"{names.shown(value)} is of type {type(value).__name__}; it must be a text that is not empty"


def whole_number(least: int, unit: str) -> Rule:
    """Return a rule for integers of at least `least`.

    :param least: the smallest accepted value, in `unit`
    :param unit: plural noun for the message, such as ``"bytes"``
    """

    def check(value: Any) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield f"{names.shown(value)} is of type {type(value).__name__}; it must be a whole number of {unit}"
        elif value < least:
            yield f"{names.shown(value)} is too small; it must be at least {least} {unit}"

    return check


def poll_interval(value: Any) -> Iterator[str]:
    """Refuse values that are not a poll interval; see `check_poll_interval`."""
    try:
        check_poll_interval(value)
    except InvalidJob as error:
        yield from (problem.removeprefix("poll_interval: ") for problem in error.problems)


def project(value: Any) -> Iterator[str]:
    """Refuse values that are neither the id nor the number of a project."""
    try:
        names.check_project(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    except InvalidJob as error:
        yield from (problem.removeprefix("project_id: ") for problem in error.problems)


def impersonation_chain(value: Any) -> Iterator[str]:
    """Refuse values that are neither accounts separated by commas nor a sequence of accounts."""
    accounts = value.split(",") if isinstance(value, str) else value
    if not isinstance(accounts, (list, tuple)):
        yield f"{names.shown(value)} is of type {type(value).__name__}; it must be a text or a list of texts"
        return
    for account in accounts:
        if account is UNKNOWN:
            continue
        if not isinstance(account, str) or not re.fullmatch(names.ACCOUNT, account.strip(" ")):
            yield f"{names.shown(account)} is not of the form name@project.iam.gserviceaccount.com"
