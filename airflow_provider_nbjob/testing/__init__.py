"""A pytest plugin that tests DAGs on the emulator: the fixtures `nbjob_emulator` and `run_dag`.

pytest loads this module in every session of an environment that has the package, also if no test uses it. So it
imports nothing of Airflow, of Google or of the emulator before a fixture is used. docs/how-to/testing.md explains it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_nbjob.testing.airflow_home import AirflowHome
    from airflow_provider_nbjob.testing.dag_runs import DagRunner
    from airflow_provider_nbjob.testing.emulator import NotebookEmulator

AIRFLOW_OPTION = "nbjob_airflow"
_home: pytest.StashKey[AirflowHome] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `nbjob_airflow` of pytest's configuration file."""
    parser.addini(
        AIRFLOW_OPTION,
        "set up an Airflow in a temporary folder when pytest starts, so that test modules may import Airflow",
        type="bool",
        default=False,
    )


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Set up Airflow before anything of the tests is imported, if `nbjob_airflow` is on."""
    if early_config.getini(AIRFLOW_OPTION):
        _set_up_airflow(early_config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Restore the environment, and remove the temporary Airflow."""
    if home := config.stash.get(_home, None):
        home.remove()


def _set_up_airflow(config: pytest.Config) -> AirflowHome:
    """Return the temporary Airflow of the session; make it if there is none.

    :raises pytest.UsageError: if Airflow was imported before
    """
    from airflow_provider_nbjob.testing.airflow_home import AirflowHome

    if _home not in config.stash:
        config.stash[_home] = AirflowHome()
    return config.stash[_home]


@pytest.fixture(scope="session")
def _nbjob_emulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookEmulator]:
    """Start one emulator for all tests of the session, in a process of its own."""
    from airflow_provider_nbjob.testing.emulator import NotebookEmulator

    with NotebookEmulator(tmp_path_factory.mktemp("nbjob")) as emulator:
        yield emulator


@pytest.fixture
def nbjob_emulator(
    request: pytest.FixtureRequest, _nbjob_emulator_process: NotebookEmulator
) -> Iterator[NotebookEmulator]:
    """Lead this process to an emulator that has no jobs, buckets or scripts; all variables are restored afterwards.

    A script that matched no job is a warning, and one that did not fit its notebook is an error.
    """
    from airflow_provider_nbjob.testing.emulator import UnusedScript

    emulator = _nbjob_emulator_process
    with emulator.lead_here():
        yield emulator
        for text in emulator.unused():
            request.node.warn(UnusedScript(text))
        if problems := emulator.problems():
            pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def run_dag(request: pytest.FixtureRequest, nbjob_emulator: NotebookEmulator) -> DagRunner:
    """Return a function that runs a DAG in this process, in an Airflow of its own, on `nbjob_emulator`."""
    home = _set_up_airflow(request.config)
    from airflow_provider_nbjob.testing.dag_runs import DagRunner

    return DagRunner(home, nbjob_emulator)
