"""Each sentence of the README about behaviour has a test that fails if it is false; `tests/promises.txt` says which.

That this holds is checked here; `test_docs_code.py` runs what the pages show as code.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT
from tests.support.promises import (
    DOCUMENTS,
    REGISTRY,
    defined_in,
    problems_of,
    proven_by,
    read_registry,
    registry_of,
    sentences,
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_registry_has_the_sentences_of_a_document_in_their_order(document):
    found = sentences((CHECKOUT / document).read_text())
    known = [sentence for sentence, _ in read_registry(REGISTRY.read_text())[document]]
    if found != known:
        pytest.fail("\n".join(difflib.unified_diff(known, found, REGISTRY.name, document, n=0, lineterm="")))


def test_the_registry_has_no_other_document():
    registry = read_registry(REGISTRY.read_text())
    assert registry.pop("") == []
    assert tuple(registry) == DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_sentence_has_tests_that_run_or_a_reason(document):
    entries = read_registry(REGISTRY.read_text())[document]
    assert not {sentence: found for sentence, proofs in entries if (found := list(problems_of(proofs)))}


@pytest.mark.parametrize(
    "proofs",
    [
        [],
        ["(because)"],
        ["(description)", "tests/unit/test_readme_promises.py::test_a_proof_that_is_none_is_told"],
        ["tests/unit/test_readme_promises.py"],
        ["tests/unit/test_readme_promises.py::test_that_there_is_none"],
        ["tests/unit/test_readme_promises.py::problems_of"],
        ["tests/support/promises.py::problems_of"],
        ["tests/unit/test_no_such_module.py::test_it"],
        ["../tests/unit/test_readme_promises.py::test_a_proof_that_is_none_is_told"],
    ],
)
def test_a_proof_that_is_none_is_told(proofs):
    assert list(problems_of(proofs))


def test_a_test_that_does_not_run_is_told(tmp_path):
    module = tmp_path / "test_it.py"
    module.write_text(
        "@pytest.mark.xfail(strict=True)\ndef test_one(): ...\n"
        "class TestAll:\n    @pytest.mark.timeout(1)\n    @pytest.mark.skip\n    async def test_two(self): ...\n"
        "@pytest.mark.skipif(sys.platform != 'linux', reason='')\ndef test_on_linux(): ...\n"
        "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.xfail)])\ndef test_three(a): ...\n"
        "def helper(): ...\n"
    )
    assert defined_in(module) == {
        "test_one": ["xfail"],
        "TestAll::test_two": ["skip"],
        "test_on_linux": [],
        "test_three": [],
    }


def test_a_failing_test_names_its_sentences():
    entries = read_registry(REGISTRY.read_text())["README.md"]
    sentence, proof = next((sentence, proof) for sentence, (proof, *_) in entries if "::" in proof)
    assert f"README.md: {sentence}" in proven_by(proof)
    assert f"README.md: {sentence}" in proven_by(f"{proof}[one-two]")
    assert not proven_by("tests/unit/test_readme_promises.py")


def test_a_registry_is_read():
    text = (
        "# a comment\n    (description)\nOne.\n== a.md\n"
        "One.\n    tests/test_a.py::test_b\n    tests/test_a.py::test_c\n"
        "\nTwo.\nOne.\n== b.md\n"
    )
    assert read_registry(text) == {
        "": [("(description)", []), ("One.", [])],
        "a.md": [("One.", ["tests/test_a.py::test_b", "tests/test_a.py::test_c"]), ("Two.", []), ("One.", [])],
        "b.md": [],
    }


def test_a_sentence_that_moves_keeps_its_proofs():
    registry = "# head\n\n== a.md\n\nOne.\n    proof\nTwo.\n    (known gap)\n"
    moved = registry_of({"a.md": "Two.", "b.md": "Three. One."}, registry)
    assert moved == "# head\n\n== a.md\n\nTwo.\n    (known gap)\n\n== b.md\n\nThree.\nOne.\n    proof\n"


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# One\n\nTwo. Three\nfour.\nFive.", ["Two.", "Three four.", "Five."]),
        ("The *very* `same` [text](https://x.example) **here**.", ["The very same text here."]),
        ("Python 3.10 to 3.13, `a.b. c`.", ["Python 3.10 to 3.13, a.b.", "c."]),
        ("1. One.\n2. Two\n   goes on. Three.\n", ["One.", "Two goes on.", "Three."]),
        ("- One\n\n  Two.\n  - Three.", ["One", "Two.", "Three."]),
        ("> One. Two?", ["One.", "Two?"]),
        ("| a | b |\n|---|---|\n| `c` | d. E |\n| f | |\n", ["c | d. E", "f |"]),
        ("![a picture](x.png)\n\n    code. here.\n\n```sh\nmore code.\n```\nOne.", ["One."]),
        ("One. <br> Two.", ["One.", "Two."]),
    ],
)
def test_a_document_is_split_into_its_sentences(markdown, expected):
    assert sentences(markdown) == expected


@pytest.mark.parametrize(
    "document",
    sorted(str(path.relative_to(CHECKOUT)) for path in [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")]),
)
def test_what_a_document_links_to_is_there(document):
    path = CHECKOUT / document
    links = re.findall(r"\]\(([^)]+)\)", path.read_text())
    assert not [link for link in links if not link.startswith("https://") and not leads_somewhere(path, link)]


def leads_somewhere(path: Path, link: str) -> bool:
    name, _, heading = link.partition("#")
    target = path.parent / name if name else path
    return target.exists() and (not heading or heading in headings(target.read_text()))


def headings(markdown: str) -> set[str]:
    """Return what GitHub calls the headings of a document in links."""
    found = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}
