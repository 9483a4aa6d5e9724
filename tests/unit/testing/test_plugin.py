"""The pytest plugin costs a session that does not use it next to nothing, and changes nothing in it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import PACKAGE
from tests.support.user_sessions import run_session

MODULE = "airflow_provider_nbjob.testing"
ALLOWED = {"airflow_provider_nbjob", MODULE}
LOADED = """
import json, sys
import pytest
before = set(sys.modules)
import airflow_provider_nbjob.testing
print(json.dumps(sorted(set(sys.modules) - before)))
"""
ASKS = """
import json, os, sys
def test_it(request):
    foreign = ("airflow", "google", "grpc", "requests", "starlette")
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in foreign]
    loaded = [module.__name__ for module in modules if getattr(module, "__file__", None)]  # others are namespaces
    mine = [name for name in sys.modules if name.startswith("airflow_provider_nbjob")]
    plugin = request.config.pluginmanager.get_plugin("nbjob")
    home = os.environ.get("AIRFLOW_HOME")
    assert (loaded, mine, home) == ([], ["airflow_provider_nbjob", plugin.__name__], None)
"""


def test_the_plugin_imports_nothing_but_itself() -> None:
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert set(json.loads(run.stdout)) == ALLOWED


def test_pytest_finds_it_and_a_session_that_does_not_use_it_stays_as_it_is(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "pytest.ini").write_text("[pytest]\n")
    (repository / "test_it.py").write_text(ASKS)
    # Plugins of this checkout's own tests import requests and others.
    outcomes, printed = run_session(repository, "-p", "no:hypothesispytest", "-p", "no:randomly", "-p", "no:playwright")
    assert outcomes == {"test_it": "passed"}, printed
    assert os.listdir(repository.with_name("repository-home") / "tmp") == []


def test_it_is_registered_and_its_extra_has_what_the_emulator_needs_without_kernels() -> None:
    (entry,) = [each for each in importlib.metadata.entry_points(group="pytest11") if each.name == "nbjob"]
    assert entry.value == MODULE
    wanted: dict[str, set[str]] = {"testing": set(), "emulator": set()}
    for requirement in importlib.metadata.requires("airflow-provider-nbjob") or []:
        text, _, marker = requirement.partition(";")
        for extra, found in wanted.items():
            if f"extra == '{extra}'" in marker.replace('"', "'"):
                found.add(text.strip())
    kernels = {text for text in wanted["emulator"] if text.startswith(("ipykernel", "nbclient"))}
    assert len(kernels) == 2
    assert {text for text in wanted["testing"] if not text.startswith("pytest")} == wanted["emulator"] - kernels


def test_it_ships() -> None:
    assert (PACKAGE / "testing" / "__init__.py").exists()
