"""Mask secrets in texts and JSON values, by Airflow's own maskers.

Airflow masks what a task logs, and its rendered fields. It does not mask the exceptions that callbacks get, XComs,
events of triggers, and the pages of a plugin: their values pass `redact` first.

A process has up to two maskers, see `secrets_maskers`; a value passes both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_nbjob.airflow_compat import SecretsMasker, secrets_maskers

FAILED = "<redaction-failed>"  # as Airflow's masker writes it
DIGITS_BITS_MAX = 1024  # bits of an integer whose digits are searched; Python converts at most 4300 digits to a text
FORM_MIN = 8  # characters; a shorter line or escaped form of a secret is not masked by itself


def redact(value: Any, name: str | None = None) -> Any:
    """Return the same value with each secret that Airflow knows replaced by ``***``.

    Texts are searched for secrets, in dicts (keys too), lists and tuples of any depth. If Airflow takes a key for the
    name of a secret (``password``, ``token``, ``api_key``, and those of ``[core] sensitive_var_conn_names``), all texts
    below it are replaced whole. A number is replaced if its digits are a secret. The value given is not changed.

    :param name: the key or the name of the value, if it has one
    :return: ``<redaction-failed>`` if the value is nested too deep to be searched
    """
    try:
        return _redacted(value, name, secrets_maskers())
    except RecursionError:
        return FAILED


def is_sensitive(name: str) -> bool:
    """Return whether Airflow hides values of this name."""
    return any(masker.should_hide_value_for_key(name) for masker in secrets_maskers())


def mask(secret: str) -> None:
    """Have Airflow mask a text and its escaped forms from now on, in this process and in its supervisor's logs.

    Airflow ignores texts shorter than ``[logging] min_length_masked_secret`` (5).
    """
    _register({secret, *_forms(secret)})


def mask_parameters(parameters: Any) -> None:
    """Have Airflow mask the secrets among a task's parameters, also as a notebook's code, errors and JSON spell them.

    All texts below a name that Airflow takes for the name of a secret are secrets. Airflow hides them in the rendered
    fields, but does not recognize them in a log. Other secrets Airflow knows and recognizes, but only if they are
    spelt character by character: not if quotes in them are escaped, and not a single line of several.
    """
    maskers = secrets_maskers()
    found = set(_sensitive(parameters, maskers))
    known = {secret for text in _texts(parameters) for masker in maskers for secret in _secrets_in(text, masker)}
    _register({*found, *(form for secret in found | known for form in _forms(secret))})


def _register(texts: set[str]) -> None:
    from airflow.sdk.log import mask_secret

    for text in texts:
        mask_secret(text)


def _redacted(value: Any, name: str | None, maskers: list[SecretsMasker]) -> Any:
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


def _masked(text: str, maskers: list[SecretsMasker]) -> str:
    """Return the text without secrets; the same object if there is no secret in it."""
    masked = text
    for masker in maskers:
        masked = masker.redact(masked)
    return text if masked == text else str(masked)


def _hidden(value: Any) -> Any:
    """Replace all texts of a value, as Airflow does; numbers, booleans and None stay."""
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


def _sensitive(value: Any, maskers: list[SecretsMasker]) -> Iterator[str]:
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


def _secrets_in(text: str, masker: SecretsMasker) -> Iterator[str]:
    if masker.replacer:
        yield from masker.replacer.findall(text)


def _forms(secret: str) -> Iterator[str]:
    """Yield other spellings of a secret: escaped as in Python and in JSON, and its lines."""
    forms = (repr(secret)[1:-1], json.dumps(secret)[1:-1], *secret.splitlines())
    yield from {form for form in forms if form != secret and len(form) >= FORM_MIN}
