"""Airflow's own masker, over texts and JSON values.

Airflow masks what a task logs, and its rendered fields. It masks neither the exceptions that callbacks get, nor XComs,
nor events of triggers, nor what a plugin shows: these pass `redact` first.

A process holds two maskers (read in 3.1.0, 3.1.8, 3.2.2 and 3.3.2): that of the task SDK, which knows the secrets of
workers and triggerers, and that of Airflow's core, which the API server and the models of the metadata database use. A
value is given to both. Their modules are private, with the same names in all of these versions: only this one knows
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

FAILED = "<redaction-failed>"  # Airflow's own word
DIGITS_BITS_MAX = 1024  # of a number whose digits are searched; Python writes none of more than 4300 digits
FORM_MIN = 8  # characters of a line or of an escaped form of a secret that is masked too

_MODULES = ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")


def redact(value: Any, name: str | None = None) -> Any:
    """Return the same value with each secret that Airflow knows replaced by ``***``.

    Texts are searched for secrets, in dicts (keys too), lists and tuples of whatever depth. All texts below a key that
    Airflow holds for a secret's name (``password``, ``token``, ``api_key``, and what ``[core]
    sensitive_var_conn_names`` adds) are replaced whole. A number is replaced if its digits are a secret. The value
    given is not changed.

    :param name: the key or the name under which the value stands, if it has one
    :return: ``<redaction-failed>`` if the value is nested too deep to be searched
    """
    try:
        return _redacted(value, name, _maskers())
    except RecursionError:
        return FAILED


def is_sensitive(name: str) -> bool:
    """Return whether Airflow hides what stands under this name."""
    return any(masker.should_hide_value_for_key(name) for masker in _maskers())


def mask(secret: str) -> None:
    """Have Airflow mask a text from here on, in this process and in its supervisor's logs, in its escaped forms too.

    Airflow ignores texts shorter than ``[logging] min_length_masked_secret`` (5).
    """
    _register({secret, *_forms(secret)})


def mask_parameters(parameters: Any) -> None:
    """Have Airflow mask the secrets among a task's parameters, also as a notebook's code, errors and JSON spell them.

    These are all texts below a name that Airflow holds for a secret's: it hides them in the rendered fields, but does
    not know them in a log. And those that Airflow knows anyway, which it finds by their characters only: neither one
    whose quotes are escaped, nor a single line of one that has several.
    """
    maskers = _maskers()
    found = set(_sensitive(parameters, maskers))
    known = {secret for text in _texts(parameters) for masker in maskers for secret in _secrets_in(text, masker)}
    _register({*found, *(form for secret in found | known for form in _forms(secret))})


def _register(texts: set[str]) -> None:
    from airflow.sdk.log import mask_secret

    for text in texts:
        mask_secret(text)


def _maskers() -> list[Any]:
    """Return the maskers of this process; a worker may be installed without Airflow's core."""
    found = []
    for name in _MODULES:
        try:
            found.append(import_module(name)._secrets_masker())
        except ImportError:
            continue
    return found


def _redacted(value: Any, name: str | None, maskers: list[Any]) -> Any:
    if name is not None and any(masker.should_hide_value_for_key(name) for masker in maskers):
        return _hidden(value)
    if isinstance(value, str):
        return _masked(value, maskers)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) and value.bit_length() > DIGITS_BITS_MAX:
            return value
        masked = _masked(str(value), maskers)
        return value if masked == str(value) else masked
    if isinstance(value, Mapping):
        return {
            _redacted(key, None, maskers): _redacted(item, key if isinstance(key, str) else None, maskers)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [_redacted(item, None, maskers) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _masked(text: str, maskers: list[Any]) -> str:
    """Return the text, and the very same object if there is no secret in it."""
    masked = text
    for masker in maskers:
        masked = masker.redact(masked)
    return text if masked == text else str(masked)


def _hidden(value: Any) -> Any:
    """Hide all texts of a value, as Airflow does; numbers, booleans and None stay."""
    if isinstance(value, str):
        return "***"
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_hidden(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _texts(value: Any) -> Iterator[str]:
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            values += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            values += value


def _sensitive(value: Any, maskers: list[Any]) -> Iterator[str]:
    """Yield the texts below the names of secrets."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, Mapping):
            for name, item in value.items():
                if any(masker.should_hide_value_for_key(name) for masker in maskers):
                    yield from _texts(item)
                else:
                    values.append(item)
        elif isinstance(value, list | tuple):
            values += value


def _secrets_in(text: str, masker: Any) -> Iterator[str]:
    if masker.replacer:
        yield from masker.replacer.findall(text)


def _forms(secret: str) -> Iterator[str]:
    """Yield how else a secret may be spelt: escaped as in Python and in JSON, and its lines."""
    forms = (repr(secret)[1:-1], json.dumps(secret)[1:-1], *secret.splitlines())
    yield from {form for form in forms if form != secret and len(form) >= FORM_MIN}
