"""One real Airflow, with users, the example DAGs and those of the UI, for all system tests but the fault matrix."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.airflow_processes import Airflow
from tests.support.emulator_process import EmulatorProcess, example_emulator
from tests.support.fixtures import built
from tests.support.paths import CHECKOUT
from tests.system.canary.secrets import ENVIRONMENT
from tests.system.settings import SETTINGS, USERS

pytest.register_assert_rewrite("tests.system.fault_case")

HERE = Path(__file__).parent
SETUP_SECONDS = 300  # that a test may take which is the first to need Airflow


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test the time to start its Airflow, if it is the first that needs it, and leave most to test-all."""
    item.add_marker(pytest.mark.timeout(SETUP_SECONDS))
    if not item.get_closest_marker("essential"):
        item.add_marker(pytest.mark.test_all)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """Start an emulator whose jobs are all of `airflow`, so that its list of jobs is known."""
    options = ("--max-concurrent", "4", "--bucket", "ui-tests")
    with example_emulator(tmp_path_factory, "system", *options, more_environment=ENVIRONMENT) as process:
        yield process


@pytest.fixture(scope="session")
def airflow(emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Start an Airflow to sign in to."""
    dags = tmp_path_factory.mktemp("dags")
    shutil.copytree(CHECKOUT / "example_dags", dags / "examples")
    for folder in ("ui", "canary", "results"):
        shutil.copytree(HERE / folder / "dags", dags / folder)

    def make(suffix: str) -> Airflow:
        home = tmp_path_factory.mktemp(f"airflow{suffix}") / "home"
        return Airflow(home, dags, {**SETTINGS, **emulator.exports}, users=USERS)

    with built(make) as running:
        yield running


@pytest.fixture(scope="session")
def idle_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Make one of which no process runs: `airflow dags test` runs a DAG itself, and a scheduler would run it too."""
    with example_emulator(tmp_path_factory, "idle_emulator") as emulator:
        idle = Airflow(tmp_path_factory.mktemp("idle") / "home", CHECKOUT / "example_dags", emulator.exports)
        idle.command("db", "migrate")
        yield idle


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what the scripts need, so that tests of them leave the checkout's own `.demo/` and `.ui/` alone."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("scripts", "example_dags"):
        shutil.copytree(CHECKOUT / folder, copy / folder)
    return copy
