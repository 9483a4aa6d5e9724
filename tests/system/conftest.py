"""One real Airflow, with users, the example DAGs and those of the UI, for all system tests but the fault matrix."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.support.airflow_processes import Airflow
from tests.support.deployments import SMALL, Production
from tests.support.emulator_process import EmulatorProcess, example_emulator
from tests.support.fault_table import PROPERTY
from tests.support.fixtures import built
from tests.support.paths import CHECKOUT
from tests.system.canary.secrets import ENVIRONMENT
from tests.system.fault_case import Case, World
from tests.system.settings import SETTINGS, USERS

HERE = Path(__file__).parent
SETUP_SECONDS = 300  # that a test may take which is the first to need Airflow


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test the time to start its Airflow, if it is the first that needs it, and say which command runs it."""
    item.add_marker(pytest.mark.timeout(SETUP_SECONDS))
    if HERE / "production" in item.path.parents:
        item.add_marker(pytest.mark.production)
    elif not item.get_closest_marker("essential"):
        item.add_marker(pytest.mark.test_all)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say below a case of the fault matrix that failed what Airflow knows of it."""
    report = yield
    case = getattr(item, "funcargs", {}).get("case")
    if report.when == "call" and report.failed and isinstance(case, Case) and case.run_id:
        try:
            told = case.told_by_airflow()
        except Exception as error:  # the case has failed already, perhaps with Airflow itself
            told = f"not to be had: {error!r}"
        report.sections.append(("what Airflow knows of the run", told))
    return report


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


@pytest.fixture(scope="session")
def production() -> Iterator[Production]:
    """Start PostgreSQL and Redis."""
    with Production() as running:
        yield running


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start an Airflow and an emulator in which things fail on demand."""
    numbers = {"waiting": 20, "many": 50} if request.config.getoption("--whole") else {"waiting": 8, "many": 12}
    is_production = request.config.getoption("--production")
    deploy = request.getfixturevalue("production").deployment if is_production else lambda: SMALL
    dags = [HERE / "production" / "dags"] if is_production else []

    def make(suffix: str) -> World:
        return World(tmp_path_factory.mktemp(f"faults{suffix}"), **numbers, deployment=deploy(), dags=dags)

    with built(make) as made:
        yield made


@pytest.fixture
def case(world: World, record_property: Callable[[str, object], None]) -> Iterator[Case]:
    """Begin a case of the fault matrix."""
    world.emulator.reset()
    world.gate.unlink(missing_ok=True)
    world.airflow.start_what_has_ended()
    made = Case(world, told=lambda row: record_property(PROPERTY, [*row]))
    yield made
    made.abandon()
