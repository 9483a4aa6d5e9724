"""docs/dependencies.md is what `make dependencies` would write."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version

import pytest

from scripts.dependencies import ALWAYS, BUILD, PAGE, PROJECT, declared, licence_of
from tests.support.paths import CHECKOUT

DECLARED = declared((CHECKOUT / "pyproject.toml").read_text())
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| (.+) \|$", re.MULTILINE)
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\n]+)", (CHECKOUT / "constraints.txt").read_text(), re.MULTILINE))


def normal(name: str) -> str:
    """Return the name of a package as package indexes write it."""
    return name.lower().replace("_", "-")


def is_locked(name: str) -> bool:
    """Return whether the version is installed whose licence the page states."""
    try:
        return version(name) == LOCKED.get(normal(name))
    except PackageNotFoundError:
        return False


def test_the_page_has_all_that_is_declared():
    listed = [(name, reason) for name, _, reason in ROW.findall(PAGE.read_text())]
    assert sorted(listed) == sorted((d.name + d.bound, d.reason) for d in DECLARED)


def test_the_licences_are_those_of_the_packages():
    """Where `make dependencies` was not run, some are not installed; of another version the licence may differ."""
    listed = {name: licence for name, licence, _ in ROW.findall(PAGE.read_text())}
    assert not {"not installed", "not stated"} & set(listed.values())
    expected = {d.name + d.bound: licence_of(d.name) for d in DECLARED if is_locked(d.name)}
    assert expected == {name: listed[name] for name in expected}


def test_all_that_the_package_requires_is_declared_in_a_form_that_is_read():
    required = {normal(re.match(r"[\w.-]+", line)[0]) for line in requires(PROJECT) or []} - {PROJECT}
    assert {normal(d.name) for d in DECLARED if d.group != BUILD} == required


TEXT = """
[build-system]
requires = [
    "hatchling>=1",  # builds
]
[project]
classifiers = [
    "Private :: Do Not Upload",
]
dependencies = [
    "attrs>=24.2",   # for this; and that
]
[project.optional-dependencies]
ui = [
    "airflow-provider-nbjob[test]",
    "celery[redis]<5.7",  # for another
]
[tool.pytest.ini_options]
markers = [
    "essential: a test",
]
"""


def test_dependencies_are_read():
    assert [tuple(found) for found in declared(TEXT)] == [
        (BUILD, "hatchling", ">=1", "builds"),
        (ALWAYS, "attrs", ">=24.2", "for this; and that"),
        ("ui", "celery", "<5.7", "for another"),
    ]


def test_one_without_a_reason_is_refused():
    with pytest.raises(ValueError, match="dependencies: attrs has no comment"):
        declared(TEXT.replace("# for this; and that", ""))
