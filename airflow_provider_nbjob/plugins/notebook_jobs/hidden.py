"""Find the secrets among a job's parameters, and remove them from all that is shown.

On the worker, Airflow masks the secrets that it knows in a task's rendered arguments. The API server does not know
these secrets. It finds them by a comparison of the parameters in the notebook with the rendered ones.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from airflow.configuration import conf

from airflow_provider_nbjob.masking import is_sensitive, redact
from airflow_provider_nbjob.rendering import MASK, Secrets, hide, hide_in_value

SECRETS_MAX = 500  # texts that are searched for
_LITERAL = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ABSENT = object()


class TooManySecrets(Exception):
    """There are more secrets than can be searched for."""


class Hidden:
    """Remove the secrets of a task from texts, values and notebooks.

    :param secrets: texts that are not shown
    :param rendered: the task's parameters as Airflow rendered them; None if they are not known
    """

    def __init__(self, secrets: Iterable[str] = (), rendered: object = None) -> None:
        least = conf.getint("logging", "min_length_masked_secret", fallback=5)
        found = {secret for secret in secrets if len(secret) >= least}
        if len(found) > SECRETS_MAX:
            raise TooManySecrets(
                f"More than {SECRETS_MAX} of this notebook's parameters may be secret, so it is not shown. Airflow does"
                " not say of those beyond [core] max_templated_field_length."
            )
        forms = {form for secret in found for form in _forms(secret) if len(form) >= least}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._rendered = rendered

    @classmethod
    def of(
        cls, rendered: object, passed: object, injected: str, others: Iterable[tuple[object, object]] = ()
    ) -> Hidden:
        """Return an object that removes the secrets that it finds.

        :param rendered: the task's parameters as Airflow rendered them; None if they are not known
        :param passed: the parameters in the notebook's metadata, where long ones are cut; None if it has none
        :param injected: source of the cells that assign the parameters, uncut
        :param others: other values that the API has, each with the value that Airflow shows
        """
        airflows = _Shown(rendered)
        secrets = {*airflows.secrets_in(passed), *airflows.secrets_in(_assigned(injected))}
        for value, masked in others:
            secrets.update(_Shown(masked).secrets_in(value))
        return cls(secrets, rendered)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        return str(redact(hide(text, self._forms)))

    def value(self, value: object) -> Any:
        """Return a JSON value without secrets in its texts and keys, and without the values of sensitive names."""
        return redact(hide_in_value(value, self._forms))

    def parameters(self, passed: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as Airflow shows them; those that it does not show are without secrets."""
        airflows = _Shown(self._rendered)
        masked: dict[str, Any] = self.value({name: airflows.masked(value, name) for name, value in passed.items()})
        return masked

    def in_notebook(self, passed: Mapping[str, Any] | None) -> Secrets:
        """Return the secrets to remove from the notebook.

        :param passed: as for `of`. If any of them is masked, they replace the cells that assign them
        """
        parameters = self.parameters(passed) if passed else None
        return Secrets(self._forms, None if parameters == passed else parameters)


class _Shown:
    """A value as Airflow shows it, by which the secrets in the value are found.

    :param rendered: the value with `MASK` in place of secrets. Airflow turns a large value into a text, and cuts it
    """

    def __init__(self, rendered: object) -> None:
        self._rendered = rendered
        self._clear = {_digits(leaf) for leaf in _leaves(rendered, keys=True)}
        self._has_mask = any(MASK in text for text in self._clear)
        # The text that Airflow made of a value that is too large, and cut: a part that is missing in it may be masked.
        self._cut = rendered if isinstance(rendered, str) and len(rendered) > len(MASK) else None

    def secrets_in(self, value: object) -> Iterator[str]:
        """Yield the texts of a value that Airflow does not show."""
        yield from self._secrets(value, self._rendered, None)

    def masked(self, value: object, name: str) -> object:
        """Return a parameter as Airflow shows it."""
        rendered = self._rendered.get(name, _ABSENT) if isinstance(self._rendered, Mapping) else _ABSENT
        return self._masked(value, rendered)

    def _secrets(self, value: object, rendered: object, name: object) -> Iterator[str]:
        if isinstance(name, str) and is_sensitive(name):
            texts = ((leaf, _digits(leaf)) for leaf in _leaves(value))
            yield from (text for leaf, text in texts if isinstance(leaf, str) or text not in self._clear)
        elif isinstance(value, Mapping):
            parts = rendered if isinstance(rendered, Mapping) else {}
            for key, item in value.items():
                yield from self._secrets(item, parts.get(key, _ABSENT), key)
        elif isinstance(value, list | tuple):
            items = rendered if isinstance(rendered, list) else []
            for index, item in enumerate(value):
                yield from self._secrets(item, items[index] if index < len(items) else _ABSENT, None)
        elif self._is_secret(value, rendered):
            yield _digits(value)
            if isinstance(value, str) and isinstance(rendered, str):
                yield from _pieces(value, rendered)

    def _masked(self, value: object, rendered: object) -> object:
        if isinstance(value, Mapping):
            parts = rendered if isinstance(rendered, Mapping) else {}
            return {key: self._masked(item, parts.get(key, _ABSENT)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            items = rendered if isinstance(rendered, list) else []
            return [
                self._masked(item, items[index] if index < len(items) else _ABSENT) for index, item in enumerate(value)
            ]
        if not self._is_secret(value, rendered):
            return value
        return rendered if isinstance(rendered, str) and MASK in rendered and rendered is not self._cut else MASK

    def _is_secret(self, value: object, rendered: object) -> bool:
        if value is None or isinstance(value, bool):
            return False
        if isinstance(rendered, str) and self._cut is None:
            return MASK in rendered
        text = _digits(value)
        if self._cut is not None:
            return (repr(value) if isinstance(value, str) else f": {text}") not in self._cut
        return self._has_mask and text not in self._clear


def _leaves(value: object, *, keys: bool = False) -> Iterator[object]:
    """Yield the texts and numbers of a value, and the keys of its dicts if `keys` is set."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, Mapping):
            values += [*value.values(), *(value if keys else ())]
        elif isinstance(value, list | tuple):
            values += value
        elif value is not None and not isinstance(value, bool):
            yield value


def _digits(value: object) -> str:
    """Return the text of a leaf; empty for a number that has more digits than Python converts."""
    try:
        return str(value)
    except ValueError:
        return ""


def _pieces(value: str, rendered: str) -> Iterator[str]:
    """Yield the parts of a text for which Airflow shows a mask."""
    for gap in ("(.*?)", "(.*)"):  # the shortest and the longest match, as either may be the secret
        match = re.fullmatch(gap.join(map(re.escape, rendered.split(MASK))), value, re.DOTALL)
        if match:
            yield from match.groups()


def _assigned(source: str) -> dict[str, Any] | list[str]:
    """Return the values that cells assign: by name if the cells are Python, otherwise the texts in quotes.

    Texts of another language stay escaped. An expression that is not a literal gives the texts in it.
    """
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [match[1] or match[2] or "" for match in _LITERAL.finditer(source)]
    values: dict[str, Any] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(target := statement.targets[0], ast.Name):
            try:
                values[target.id] = ast.literal_eval(statement.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                constants = (node.value for node in ast.walk(statement.value) if isinstance(node, ast.Constant))
                values[target.id] = [value for value in constants if isinstance(value, str)]
    return values


def _forms(secret: str) -> set[str]:
    """Return the spellings of a secret in the output of a notebook: escaped, encoded, or one line of it."""
    in_json = json.dumps(secret, ensure_ascii=False)[1:-1]
    forms = {
        secret,
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(secret + '"')[1:-2],  # in single quotes
        repr(secret + "'")[1:-2],  # in double quotes
        repr(secret.encode(errors="replace"))[2:-1],
        in_json,
        json.dumps(secret)[1:-1],
        json.dumps(in_json, ensure_ascii=False)[1:-1],
        html.escape(secret),
        html.escape(secret, quote=False),
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    }
    return forms | {line.strip() for line in secret.splitlines()}
