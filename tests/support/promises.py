"""Which tests prove which sentence of the README, and of the pages that promise what the package does.

`tests/promises.txt` holds each sentence on a line of its own and, indented below it, the tests that fail if it is
false, or in parentheses why it needs none. `python -m tests.support.promises` writes it anew after sentences moved.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mistune

from tests.support.paths import CHECKOUT

README = CHECKOUT / "README.md"
DOCUMENTS = (
    "README.md",
    "docs/guarantees.md",
    "docs/google-cloud.md",
    "docs/how-to/parameters-and-results.md",
    "docs/how-to/waiting.md",
    "docs/how-to/ui.md",
    "docs/emulator.md",
    "docs/development.md",
    "docs/reference.md",
    "docs/behaviour.md",
)
REGISTRY = CHECKOUT / "tests" / "promises.txt"

# Why a sentence needs no test.
REASONS = {
    "description": "says what something is or is for, not what it does",
    "instruction": "tells the reader what to do",
    "Google's": "is about a service of Google's, not about this package",
    "measured": "gives figures of a benchmark, which depend on the machine",
    "known gap": "says what the package does not do",
}


def sentences(markdown: str) -> list[str]:
    """Return the sentences of a Markdown document, without their markup.

    A table's row is one sentence, its cells joined by " | ". Headings, table heads, images and code blocks are left
    out: the test of this module's check runs the code blocks in Python.
    """
    return [sentence for sentence in _sentences(_blocks(markdown)) if re.search(r"\w", sentence)]


def code_blocks(markdown: str, language: str | None = None) -> list[str]:
    """Return the code blocks in a language; by default those that are indented, not fenced."""
    return [text for info, text in all_code_blocks(markdown) if info == (language or "")]


def all_code_blocks(markdown: str) -> list[tuple[str, str]]:
    """Return all code blocks, each with what stands after its fence; empty for one that is indented."""
    blocks = (block for block in _blocks(markdown) if block["type"] == "block_code")
    return [(block.get("attrs", {}).get("info") or "", block["raw"]) for block in blocks]


def code_cells(markdown: str) -> list[str]:
    """Return what stands as code in the first cells of tables whose head is *message*."""
    rows = (
        row
        for table in _blocks(markdown)
        if table["type"] == "table" and _inline(table["children"][0]["children"][0]["children"]) == "message"
        for row in table["children"][1]["children"]
    )
    return [node["raw"] for row in rows for node in row["children"][0]["children"] if node["type"] == "codespan"]


def _blocks(markdown: str) -> list[dict[str, Any]]:
    blocks = mistune.create_markdown(renderer=None, plugins=["table"])(markdown)  # None: the syntax tree
    assert isinstance(blocks, list)
    return blocks


def _sentences(blocks: list[dict[str, Any]]) -> Iterator[str]:
    for block in blocks:
        if block["type"] in ("paragraph", "block_text"):
            yield from re.split(r"(?<=[.?!])\s+", _inline(block["children"]))
        elif block["type"] == "table_row":
            yield " | ".join(_inline(cell["children"]) for cell in block["children"]).strip()
        elif block["type"] not in ("heading", "table_head", "block_code"):
            yield from _sentences(block.get("children", []))


def _inline(nodes: list[dict[str, Any]]) -> str:
    text = "".join(_inline_node(node) for node in nodes)
    return re.sub(r"\s+", " ", text).strip()


def _inline_node(node: dict[str, Any]) -> str:
    if node["type"] in ("softbreak", "linebreak"):
        return " "
    if node["type"] in ("image", "inline_html"):
        return ""
    return node["raw"] if "raw" in node else _inline(node["children"])


def read_registry(text: str) -> dict[str, list[tuple[str, list[str]]]]:
    """Return for each document its sentences with their proofs: node ids of tests, or a reason in parentheses.

    :param text: after a line ``== DOCUMENT``, each sentence with its proofs indented below it
    """
    registry: dict[str, list[tuple[str, list[str]]]] = {"": []}
    for line in text.splitlines():
        entries = registry[list(registry)[-1]]
        if line.startswith("== "):
            registry[line.removeprefix("== ")] = []
        elif line.startswith(" ") and entries:
            entries[-1][1].append(line.strip())
        elif line.strip() and not line.startswith("#"):
            entries.append((line.strip(), []))
    return registry


def registry_of(documents: Mapping[str, str], registry: str) -> str:
    """Return the text of a registry for documents as they are now: a sentence keeps its proofs wherever it moved.

    :param documents: Markdown by the name of the document, in the order of the registry
    :param registry: text of the registry as it was
    """
    known = {sentence: proofs for entries in read_registry(registry).values() for sentence, proofs in entries}
    lines = [registry.partition("\n== ")[0].rstrip()]
    for document, markdown in documents.items():
        lines += ["", f"== {document}", ""]
        for sentence in sentences(markdown):
            lines += [sentence, *(f"    {proof}" for proof in known.get(sentence, []))]
    return "\n".join([*lines, ""])


def problems_of(proofs: list[str]) -> Iterator[str]:
    """Yield what is wrong with the proofs of a sentence."""
    if not proofs:
        yield "neither a test nor a reason"
    for proof in proofs:
        if proof.startswith("("):
            if proof.strip("()") not in REASONS:
                yield f"{proof} is none of the reasons {', '.join(REASONS)}"
            if len(proofs) > 1:
                yield f"{proof} stands beside tests"
        else:
            yield from _problems_of_test(proof)


def _problems_of_test(node_id: str) -> Iterator[str]:
    path, _, name = node_id.partition("::")
    tests = defined_in(CHECKOUT / path) if re.fullmatch(r"tests/(\w+/)*test_\w+\.py", path) else {}
    if name not in tests:
        yield f"{node_id} is no test"
    elif tests[name]:
        yield f"{node_id} is marked {' and '.join(tests[name])}"


@cache
def defined_in(path: Path) -> Mapping[str, list[str]]:
    """Return the tests that a module defines, read and not imported, with those of their marks that disable them."""
    if not path.is_file():
        return {}
    found = {}
    for node in ast.parse(path.read_text()).body:
        for test in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(test, (ast.FunctionDef, ast.AsyncFunctionDef)) and test.name.startswith("test_"):
                name = f"{node.name}::{test.name}" if isinstance(node, ast.ClassDef) else test.name
                decorators = " ".join(map(ast.unparse, test.decorator_list))
                # One that needs a platform or a program, and is skipped without it, runs where it can.
                found[name] = re.findall(r"(?:^| )pytest\.mark\.(skip|xfail)\b", decorators)
    return found


def proven_by(node_id: str) -> list[str]:
    """Return the sentences that a test proves.

    :param node_id: as pytest gives it, with the parameters
    """
    return _sentences_by_test().get(node_id.partition("[")[0], [])


@cache
def _sentences_by_test() -> Mapping[str, list[str]]:
    by_test: dict[str, list[str]] = {}
    for document, entries in read_registry(REGISTRY.read_text()).items():
        for sentence, proofs in entries:
            for proof in proofs:
                by_test.setdefault(proof, []).append(f"{document}: {sentence}")
    return by_test


if __name__ == "__main__":
    REGISTRY.write_text(registry_of({name: (CHECKOUT / name).read_text() for name in DOCUMENTS}, REGISTRY.read_text()))
