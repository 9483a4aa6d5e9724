"""The page of tested versions is what its record says, and the cells are the versions that the package claims."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import metadata

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from scripts import revision
from scripts.compatibility import (
    AIRFLOWS,
    CELLS,
    CI,
    PAGE,
    PARTS,
    PROJECT,
    PYTHONS,
    Cell,
    claimed_pythons,
    floors,
    merged,
    page,
    recorded,
)
from scripts.revision import is_unchanged_since

LOWEST = Cell(AIRFLOWS[0], "lowest-direct", PYTHONS[0]).name
RESULT = {
    "cell": LOWEST,
    "date": "2026-01-31",
    "versions": {"python": "3.10.1", "apache-airflow": "3.1.8", "attrs": "24.2.0"},
    "parts": {"unit": {"passed": 2400, "failed": 0, "skipped": 1}, "airflow": {"passed": 2, "failed": 1, "skipped": 0}},
}


def test_the_page_is_written_from_the_record():
    """If this fails after a change of versions: `make matrix CELL=...`, then `make compatibility`."""
    assert PAGE.read_text() == page(recorded())


def test_the_cells_are_the_versions_that_the_package_claims():
    allowed = SpecifierSet(metadata(PROJECT)["Requires-Python"])
    assert claimed_pythons() == [python for python in PYTHONS if f"{python}.0" in allowed]
    assert floors()["apache-airflow"] == AIRFLOWS[0]
    assert list(recorded()) == [cell.name for cell in CELLS if cell.name in recorded()]


def test_continuous_integration_runs_a_cell_of_each_minor_of_airflow():
    cells = {cell.name: cell for cell in CELLS}
    assert [cells[name].airflow for name in CI] == list(AIRFLOWS)


def test_the_lower_bounds_are_those_that_the_tests_passed_with():
    """A bound that no cell reaches claims what was never run."""
    found = recorded()[LOWEST]
    assert all(counts["failed"] == 0 for counts in found["parts"].values())
    reached = {name: Version(found["versions"][name]) for name in floors()}
    bounds = {name: Version(bound) for name, bound in floors().items()}
    assert reached.pop("apache-airflow") >= bounds.pop("apache-airflow")  # the newest patch
    assert reached == bounds


def test_a_cell_that_did_not_run_is_said_not_to_have_run():
    missing = {"cell": "3.3-newest-py3.14", "missing": "Python 3.14"}
    lines = page({LOWEST: RESULT, missing["cell"]: missing}).splitlines()
    assert "| 3.1 | 3.10 | 3.1.8: 2,400 unit; 2 in Airflow, **1 failed** (2026-01-31) | not run |" in lines
    assert "| 3.3 | 3.14 | not run | not run: no Python 3.14 |" in lines
    assert "| attrs | 24.2 | 24.2.0 | 24.2.0 |" in lines


@pytest.mark.parametrize("cells", [(), (LOWEST,)])
def test_a_new_result_replaces_that_of_its_cell_alone(tmp_path, cells):
    file = tmp_path / "result.json"
    file.write_text(json.dumps(RESULT))
    other = {"cell": CELLS[-1].name, "missing": "Python"}
    before = {CELLS[-1].name: other, **{name: {} for name in cells}}
    assert list(merged(before, [file]).items()) == [(LOWEST, RESULT), (CELLS[-1].name, other)]


def test_every_part_has_a_name():
    assert set(RESULT["parts"]) <= set(PARTS)


def test_a_result_holds_while_the_files_of_the_wheel_are_those_of_its_commit(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        run = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    monkeypatch.setattr(revision, "CHECKOUT", tmp_path)
    git("init", "--quiet")
    for name in ("code.py", "page.md"):
        (tmp_path / name).write_text("1")
        git("add", name)
    git("commit", "--quiet", "--message", "Begin")
    first = git("rev-parse", "--short=9", "HEAD")
    assert is_unchanged_since(first, "code.py")
    (tmp_path / "page.md").write_text("2")
    assert is_unchanged_since(first, "code.py")
    assert not is_unchanged_since(f"{first}+", "code.py")
    assert not is_unchanged_since("0" * 9, "code.py")
    (tmp_path / "code.py").write_text("2")
    assert not is_unchanged_since(first, "code.py")
