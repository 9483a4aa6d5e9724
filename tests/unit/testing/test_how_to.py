"""What docs/how-to/testing.md shows is what the fixture repository has, and what the kit takes and returns."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from airflow_provider_nbjob.testing.dag_runs import DagRunner, DagRunResult
from airflow_provider_nbjob.testing.emulator import NotebookEmulator
from airflow_provider_nbjob.testing.jobs import Job
from tests.support.paths import CHECKOUT
from tests.support.promises import code_blocks

PAGE = (CHECKOUT / "docs" / "how-to" / "testing.md").read_text()
REPOSITORY = CHECKOUT / "tests" / "user_repository"
FILES = {"python": "**/*.py", "ini": "pytest.ini", "yaml": ".github/workflows/*.yml"}


def contents(pattern: str) -> str:
    return "\n".join(path.read_text() for path in sorted(REPOSITORY.glob(pattern)))


@pytest.mark.parametrize("language", FILES)
def test_a_block_is_in_a_file_of_the_repository(language: str) -> None:
    blocks = code_blocks(PAGE, language)
    assert blocks
    assert [block for block in blocks if block not in contents(FILES[language])] == []


def test_the_first_test_has_five_lines() -> None:
    first = next(block for block in code_blocks(PAGE, "python") if block.startswith("def test_"))
    assert len(first.splitlines()) == 5


def test_each_test_of_the_repository_is_shown() -> None:
    shown = "\n".join(code_blocks(PAGE, "python"))
    tests = re.findall(r"^def (test_\w+)", contents("tests/*.py"), re.MULTILINE)
    assert [name for name in tests if f"def {name}(" not in shown] == []


def rows(heading: str) -> set[str]:
    """Return the names that a table below a heading has in its first column."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", part, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def test_the_tables_have_what_the_kit_has() -> None:
    script = inspect.signature(NotebookEmulator.script).parameters
    assert rows("What a script says") == set(script) - {"self", "job"}
    result = {field.name for field in dataclasses.fields(DagRunResult) if not field.name.startswith("_")} | {"xcom"}
    assert rows("What a run returns") == result
    public = {name for name in vars(NotebookEmulator) if not name.startswith("_")}
    methods = {name for name in public if inspect.isfunction(vars(NotebookEmulator)[name])}
    described_elsewhere = {"script", "fake_all", "problems", "unused", "lead_here"}
    assert rows("What the emulator offers") == methods - described_elsewhere
    for name in re.findall(r"each with (.*) and the whole", PAGE)[0].replace("`", "").split(", "):
        assert isinstance(inspect.getattr_static(Job, name), property)
    for name in ("dag_id", "conf", "logical_date"):
        assert name in inspect.signature(DagRunner.__call__).parameters
        assert f"`{name}=`" in PAGE


def test_the_repository_stands_by_itself() -> None:
    refused = re.compile(r"^\s*(?:from|import) tests\b", re.MULTILINE)
    for path in REPOSITORY.rglob("*.py"):
        assert not refused.search(path.read_text())
    assert (REPOSITORY / "notebooks" / "score.ipynb").is_file()
