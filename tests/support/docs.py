"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import CHECKOUT
from tests.support.promises import README, all_code_blocks

DOCS = CHECKOUT / "docs"
PAGES = tuple(str(path.relative_to(CHECKOUT)) for path in (README, *sorted(DOCS.rglob("*.md"))))
# Blocks without a language that hold commands, and not what a program prints.
_COMMANDS = ("make ", "pip ", "python ", "curl ", "export ", "airflow ", "gcloud ", "pytest ", "uv ")


class Block(NamedTuple):
    """A block of code.

    :param language: the first word after its fence; empty if there is none
    :param title: what it is, or the file that it is in; empty if there is none
    """

    language: str
    title: str
    text: str

    @property
    def is_of_another_program(self) -> bool:
        """Return whether a block of Python is not for Airflow: a notebook's cell, or code that is to be replaced."""
        return self.title.lower().startswith(("cell", "before"))


def blocks(page: str) -> list[Block]:
    """Return the blocks of code of a page.

    :param page: one of `PAGES`
    """
    return [_block(info, text) for info, text in all_code_blocks((CHECKOUT / page).read_text())]


def _block(info: str, text: str) -> Block:
    title = re.search(r'title="([^"]*)"', info)
    return Block(info.partition(" ")[0], title[1] if title else "", text)


def commands(page: str) -> Iterator[list[str]]:
    """Yield the commands of a page, each as its words; comments, and what programs print, are left out."""
    for block in blocks(page):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif block.language != "sh" and (block.language or not block.text.startswith(_COMMANDS)):
            continue
        for line in lines:
            if words := shlex.split(line, comments=True):
                yield words


def with_files(folder: Path, text: str) -> None:
    """Write the notebooks that a DAG names into a folder."""
    for name in re.findall(r'direct_notebook_source="([^"{]+)"', text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        empty = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
        path.write_text("# %%\n1\n" if path.suffix == ".py" else empty)
