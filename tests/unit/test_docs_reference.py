"""The pages below `docs/reference/` that are made of the package are current, and complete."""

from __future__ import annotations

import re

import pytest

from airflow_provider_nbjob import exceptions
from airflow_provider_nbjob.exceptions import NotebookExecutionJobError
from airflow_provider_nbjob.get_provider_info import get_provider_info
from airflow_provider_nbjob.job import JobResult
from scripts.reference import CONNECTION, FOLDER, PAGES, TASKS, VARIABLES
from tests.support.makefile import dry_run
from tests.support.paths import CHECKOUT, PACKAGE

API = (FOLDER / "api.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name):
    assert (FOLDER / name).read_text() == PAGES[name](), "make docs writes it anew"


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)
def test_each_argument_is_described(kind):
    part = (FOLDER / "operators.md").read_text().partition(f"\n## {kind.__name__}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)`(?: \*T\*)? \| .* \| (.*) \|$", part, re.MULTILINE)
    assert rows
    assert not [name for name, text in rows if not text]
    assert {name for name, _ in rows} >= set(kind.template_fields)


def test_each_part_of_the_result_is_described():
    part = (FOLDER / "operators.md").read_text().partition("\n## The result\n")[2]
    described = set(re.findall(r"^\| `(\w+)`", part, re.MULTILINE)) | {"update_time"}  # described with create_time
    assert described == set(JobResult.__dataclass_fields__)


def test_the_fields_of_the_connection_and_the_variables_are_those_that_the_package_reads():
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if "emulator" not in path.parts)
    assert set(re.findall(r'connection_field\([\w.]+, "(\w+)"\)', source)) <= set(CONNECTION)
    read = set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', source))
    read |= set(re.findall(r'^\w+_VARIABLE = "(\w+)"', source, re.MULTILINE))
    others = ("AIRFLOW_", "_AIRFLOW_", "NO_PROXY", "no_proxy")  # Airflow's, and everybody's
    assert {name for name in read if not name.startswith(others)} <= set(VARIABLES)


def test_what_is_public_is_in_the_api_reference():
    info = get_provider_info()
    modules = [module for room in ("operators", "hooks", "sensors", "triggers") for module in _modules(info[room])]
    modules += [link.rpartition(".")[0] for link in info["extra-links"]]
    assert not [module for module in modules if f"::: {module}" not in API]
    assert not [name for name in (link.rpartition(".")[2] for link in info["extra-links"]) if name not in API]
    assert f"::: {exceptions.__name__}" in API


def _modules(entries):
    return [module for entry in entries for module in entry["python-modules"]]


def test_each_class_of_error_is_in_troubleshooting():
    text = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    assert not [
        kind.__name__
        for kind in kinds
        if issubclass(kind, NotebookExecutionJobError) and f"`{kind.__name__}`" not in text
    ]


def test_make_docs_refuses_warnings_and_needs_no_network():
    assert re.search(r"-m scripts\.reference\n.*mkdocs build .*--strict", dry_run("docs"))
    configuration = (CHECKOUT / "mkdocs.yml").read_text()
    assert "\n  font: false" in configuration
    assert "\nstrict: true\n" in configuration
    assert "\nsite_dir: tests/output/site\n" in configuration
    assert "http" not in configuration
