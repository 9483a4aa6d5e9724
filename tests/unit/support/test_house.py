"""The layout of the tests: what they share is in `tests/support`, and their folders mirror those of the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT, PACKAGE

TESTS = CHECKOUT / "tests"
SUPPORT = "tests.support"
MIRRORS = ("unit", "integration", "security")  # of the package: a folder of tests for each of its rooms
# Folders for tests of what is in the folders of the same names in `tests`.
OF_THE_TESTS = {"benchmarks", "chaos", "support"}
PROGRAMS = ("tests.benchmarks", "tests.chaos")  # they are run, and tests of them import them


def modules(pattern: str = "*.py") -> list[Path]:
    """Return the paths of the modules of the tests, below the checkout."""
    paths = (path.relative_to(CHECKOUT) for path in sorted(TESTS.rglob(pattern)))
    return [path for path in paths if not path.is_relative_to("tests/output")]


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of the tests that one imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse((CHECKOUT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _is_module(name) else str(node.module) for name in modules]
        else:
            continue
        yield from (name for name in names if name.startswith("tests."))


def _is_module(name: str) -> bool:
    return CHECKOUT.joinpath(*name.split(".")).with_suffix(".py").is_file()


def is_below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def test_nothing_is_imported_from_a_test_or_a_conftest() -> None:
    refused = [
        f"{path}: {name}"
        for path in modules()
        for name in imported(path)
        if (last := name.rpartition(".")[2]) == "conftest" or last.startswith("test_")
    ]
    assert refused == []


def test_a_module_imports_of_its_own_folder_of_those_above_it_and_of_support() -> None:
    refused = [f"{path}: {name}" for path in modules() for name in imported(path) if not may_import(path, name)]
    assert refused == []


def may_import(path: Path, name: str) -> bool:
    """Return whether a module may import another one, by where they stand."""
    folder = ".".join(path.parent.parts)
    programs = () if is_below(folder, SUPPORT) or folder in PROGRAMS else PROGRAMS
    return is_below(folder, name.rpartition(".")[0]) or any(is_below(name, e) for e in (folder, SUPPORT, *programs))


def test_a_conftest_defines_fixtures_and_hooks_only() -> None:
    others = [
        f"{path}: {node.name}"
        for path in modules("conftest.py")
        for node in ast.parse((CHECKOUT / path).read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith(("pytest_", "_"))
        and "pytest.fixture" not in " ".join(map(ast.unparse, node.decorator_list))
    ]
    assert others == []


def test_no_module_of_tests_stands_outside_of_a_folder() -> None:
    assert {path.name for path in TESTS.glob("*.py")} == {"__init__.py", "conftest.py"}


def folders(path: Path) -> set[str]:
    return {init.parent.name for init in path.glob("*/__init__.py")}


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_folder_of_tests_is_of_a_room_of_the_package_and_not_empty(mirror: str) -> None:
    assert folders(TESTS / mirror) - folders(PACKAGE) <= OF_THE_TESTS
    assert [name for name in folders(TESTS / mirror) if not list((TESTS / mirror / name).glob("test_*.py"))] == []
