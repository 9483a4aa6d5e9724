"""What of a job is secret, as far as Airflow says so; and all that is shown, without it.

Airflow masks the secrets that it knows in a task's rendered arguments, on the worker. Which values these are the API
server does not know: it finds them by holding the parameters in the notebook against the rendered ones.
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

SECRETS_MAX = 500  # texts that are looked for
_LITERAL = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ABSENT = object()


class TooManySecrets(Exception):
    """There are more of them than can be looked for."""


class Hidden:
    """Hides the secrets of a task from what is shown.

    :param secrets: texts that are shown nowhere
    :param rendered: the task's parameters as Airflow rendered them; None if it does not say
    """

    def __init__(self, secrets: Iterable[str] = (), rendered: Any = None) -> None:
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
    def of(cls, rendered: Any, passed: Any, injected: str, others: Iterable[tuple[Any, Any]] = ()) -> Hidden:
        """Find what is secret.

        :param rendered: the task's parameters as Airflow rendered them; None if that is not known
        :param passed: the parameters as the notebook's metadata has them, cut; None if it has none
        :param injected: source of the cells that assign them, which has them whole
        :param others: other values that the API shows, each with what Airflow shows of it
        """
        airflows = _Shown(rendered)
        secrets = {*airflows.secrets_in(passed), *airflows.secrets_in(_assigned(injected))}
        for value, masked in others:
            secrets.update(_Shown(masked).secrets_in(value))
        return cls(secrets, rendered)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        return str(redact(hide(text, self._forms)))

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets in its texts and its keys, and without what has a secret's name."""
        return redact(hide_in_value(value, self._forms))

    def parameters(self, passed: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as Airflow shows them, as far as it shows them."""
        airflows = _Shown(self._rendered)
        masked: dict[str, Any] = self.value({name: airflows.masked(value, name) for name, value in passed.items()})
        return masked

    def in_notebook(self, passed: Mapping[str, Any] | None) -> Secrets:
        """Return what is to be left out of the notebook.

        :param passed: as for `of`; shown in place of the cells that assign them, if any of them is masked
        """
        parameters = self.parameters(passed) if passed else None
        return Secrets(self._forms, None if parameters == passed else parameters)


class _Shown:
    """What Airflow shows of a value, and by that, what of the value is secret.

    :param rendered: with `MASK` in place of what is secret. Airflow makes a text of it if it is large, and cuts that
    """

    def __init__(self, rendered: Any) -> None:
        self._rendered = rendered
        self._clear = {_digits(leaf) for leaf in _leaves(rendered, keys=True)}
        self._has_mask = any(MASK in text for text in self._clear)
        # Airflow's text of a value that is too large, which is cut: what is not in it may be masked.
        self._cut = rendered if isinstance(rendered, str) and len(rendered) > len(MASK) else None

    def secrets_in(self, value: Any) -> Iterator[str]:
        """Yield the texts of a value that Airflow does not show."""
        yield from self._secrets(value, self._rendered, None)

    def masked(self, value: Any, name: str) -> Any:
        """Return a parameter as Airflow shows it."""
        rendered = self._rendered.get(name, _ABSENT) if isinstance(self._rendered, Mapping) else _ABSENT
        return self._masked(value, rendered)

    def _secrets(self, value: Any, rendered: Any, name: Any) -> Iterator[str]:
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

    def _masked(self, value: Any, rendered: Any) -> Any:
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

    def _is_secret(self, value: Any, rendered: Any) -> bool:
        if value is None or isinstance(value, bool):
            return False
        if isinstance(rendered, str) and self._cut is None:
            return MASK in rendered
        text = _digits(value)
        if self._cut is not None:
            return (repr(value) if isinstance(value, str) else f": {text}") not in self._cut
        return self._has_mask and text not in self._clear


def _leaves(value: Any, *, keys: bool = False) -> Iterator[Any]:
    """Yield the texts and numbers of a value, and the keys of its dicts if asked for."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, Mapping):
            values += [*value.values(), *(value if keys else ())]
        elif isinstance(value, list | tuple):
            values += value
        elif value is not None and not isinstance(value, bool):
            yield value


def _digits(value: Any) -> str:
    """Return the text of a leaf; of a number that has more digits than Python writes, none."""
    try:
        return str(value)
    except ValueError:
        return ""


def _pieces(value: str, rendered: str) -> Iterator[str]:
    """Yield what stands in a text where Airflow shows a mask."""
    for gap in ("(.*?)", "(.*)"):  # where it cannot be told which is meant, both
        match = re.fullmatch(gap.join(map(re.escape, rendered.split(MASK))), value, re.DOTALL)
        if match:
            yield from match.groups()


def _assigned(source: str) -> Any:
    """Return the values that cells assign: by name if they are Python, else the texts in quotes.

    Texts of another language are as they are escaped there. What is no literal gives the texts in it.
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
    """Return how a secret may be spelt in what a notebook shows: escaped, encoded, or one line of it."""
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
