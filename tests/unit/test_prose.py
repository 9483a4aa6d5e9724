"""Refuse the house dialect in docstrings and comments, so that they stay plain technical English."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.paths import CHECKOUT, PACKAGE

FOLDERS = ("airflow_provider_nbjob", "scripts", "example_dags")
ROOTS = {folder: PACKAGE.parent if folder == PACKAGE.name else CHECKOUT for folder in FOLDERS}
MODULES = sorted(path.relative_to(root) for folder, root in ROOTS.items() for path in (root / folder).rglob("*.py"))

REFUSED_WORDS = (
    "weather",
    "told",
    "whatever",
    "whoever",
    "where there is",
    "where there are",
    "by and by",
    "as ever",
)
REFUSED_BEGINNINGS = ("What", "Whether", "Where", "How", "Those", "Who")  # of a docstring

_WORDS = re.compile("|".join(rf"\b{word}\b" for word in REFUSED_WORDS).replace(" ", r"\s+"), re.IGNORECASE)
_BEGINNING = re.compile(rf"\s*({'|'.join(REFUSED_BEGINNINGS)})\b", re.IGNORECASE)


class Prose(NamedTuple):
    """A docstring, or a block of comments on consecutive lines.

    :param line: number of its first line, from 1
    """

    line: int
    text: str


class Problem(NamedTuple):
    """A refused word, and the number of the line that it is on."""

    line: int
    word: str


def docstrings_of(source: str) -> Iterator[Prose]:
    """Yield the docstrings of a module's source, including the strings that document an attribute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Prose(node.lineno, node.value.value)


def comments_of(source: str) -> Iterator[Prose]:
    """Yield the comments of a module's source; a phrase may go on in the next line of a block."""
    block: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != first + len(block):
            yield Prose(first, "\n".join(block))
            block = []
        first = first if block else token.start[0]
        block.append(token.string.lstrip("#"))
    if block:
        yield Prose(first, "\n".join(block))


def problems_of(source: str) -> list[Problem]:
    """Return the refused words of a module's source, by line."""
    docstrings = list(docstrings_of(source))
    begun = [(prose, match) for prose in docstrings if (match := _BEGINNING.match(prose.text))]
    used = [(prose, match) for prose in [*docstrings, *comments_of(source)] for match in _WORDS.finditer(prose.text)]
    found = [
        Problem(prose.line + prose.text[: match.start()].count("\n"), " ".join(match[0].split()))
        for prose, match in [*begun, *used]
    ]
    return sorted(found)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_no_refused_words(module):
    problems = problems_of((ROOTS[module.parts[0]] / module).read_text())
    assert not problems, "\n" + "\n".join(f"{module}:{line}: {word!r}" for line, word in problems)


def test_modules_are_found():
    assert {path.parts[0] for path in MODULES} == set(FOLDERS)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""What a job came to."""\n', [(1, "What")]),
        ('"""\n    Whether it ended."""\n', [(1, "Whether")]),
        ('def f():\n    """Where it is."""\n', [(2, "Where")]),
        ('class C:\n    """How it is done."""\n', [(2, "How")]),
        ('async def f():\n    """Those of them."""\n', [(2, "Those")]),
        ('LIMIT = 1\n"""Who is asked."""\n', [(2, "Who")]),
        ('"""Return it.\n\nIn bad Weather.\n"""\n', [(3, "Weather")]),
        ('"""Return it,\nwhere there\nis one.\n"""\n', [(2, "where there is")]),
        ("x = 1  # the task is told\n", [(1, "told")]),
        (
            "# Whatever it is,\n# by and\n# by, whoever asks, as ever.\n",
            [(1, "Whatever"), (2, "by and by"), (3, "as ever"), (3, "whoever")],
        ),
        ("x = 1  # where there\n\n# are none\n", []),
        ("def f():\n    # where there\n    # are none\n    pass  # told\n", [(2, "where there are"), (4, "told")]),
    ],
)
def test_a_refused_word_is_found(source, expected):
    assert problems_of(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Return what a job came to, and whether it ended."""\n',
        '"""However it ends, return whether it did."""\n',
        'raise ValueError("What was told?")  # untold stories\n',
        "def f():\n    return 'whatever'\n",
        "# A comment may begin with\n# What it likes.\n",
    ],
)
def test_other_prose_is_accepted(source):
    assert not problems_of(source)
