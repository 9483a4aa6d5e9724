"""One real Airflow, with the example DAGs, for all system tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, EmulatorProcess
from tests.system.stack import Airflow

pytest.register_assert_rewrite("tests.system.fault_case")


@pytest.fixture(scope="session")
def airflow(emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow") / "home"
    with Airflow(home, CHECKOUT / "example_dags", emulator.exports) as running:
        yield running


@pytest.fixture(scope="session")
def idle_airflow(emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """One of which no process runs: `airflow dags test` runs a DAG itself, and a scheduler would run it too."""
    idle = Airflow(tmp_path_factory.mktemp("idle") / "home", CHECKOUT / "example_dags", emulator.exports)
    idle.command("db", "migrate")
    return idle


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the scripts need, so that tests of them leave the checkout's own `.demo/` and `.ui/` alone."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("scripts", "example_dags"):
        shutil.copytree(CHECKOUT / folder, copy / folder)
    return copy
