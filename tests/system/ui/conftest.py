"""The runs that the tests look at, and a browser to look at them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from scripts.processes import free_port
from tests.support.airflow_processes import Airflow
from tests.support.browser import chromium
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient, wait_until
from tests.system.ui.airflow_ui import AirflowUI
from tests.system.ui.runs import FINISHED


@pytest.fixture(scope="session")
def prefixed_url(airflow: Airflow) -> str:
    """The same Airflow below a path, as behind a proxy: one more API server, on the same database."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/below"
    arguments = airflow.deployment.components["api-server"]
    airflow.start("api-server-below", arguments, {"AIRFLOW__API__BASE_URL": url, "AIRFLOW__API__PORT": str(port)})

    def serves() -> bool:
        try:
            return httpx.get(f"{url}/api/v2/version", timeout=patient(5)).is_success
        except httpx.TransportError:
            return False

    wait_until(serves, timeout=90, what="an API server below a path", interval=1)
    return url


@pytest.fixture(scope="session")
def finished(airflow: Airflow) -> dict[str, tuple[str, str]]:
    """The DAG and the run of each of FINISHED, after all of them have ended."""
    for dag_id, run_id, _ in FINISHED.values():
        airflow.create_run(dag_id, dag_run_id=run_id)
    for dag_id in {dag_id for dag_id, _, _ in FINISHED.values()}:
        airflow.unpause(dag_id)
    for dag_id, run_id, state in FINISHED.values():
        assert airflow.wait_for_run(dag_id, run_id, timeout=300) == state, (dag_id, run_id)
    return {name: (dag_id, run_id) for name, (dag_id, run_id, _) in FINISHED.items()}


@pytest.fixture
def waiting(airflow: Airflow, emulator: EmulatorProcess, tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The run of a notebook that runs, as its task has seen, of the DAG `waiting`; and what has it go on to its end."""
    gate = tmp_path / "gate"
    run_id = airflow.trigger("waiting", {"gate": str(gate)})

    def runs() -> bool:
        return any(job["jobState"] == "JOB_STATE_RUNNING" for job in emulator.jobs() if run_id in job["displayName"])

    def is_seen_to_run() -> bool:
        return "is JOB_STATE_RUNNING" in airflow.log("waiting", run_id, "notebook")

    try:
        wait_until(runs, timeout=90, what="a notebook that runs")
        wait_until(is_seen_to_run, timeout=60, what="the task's look at it", interval=1)
        yield run_id, gate.touch
    finally:
        gate.touch()
        airflow.wait_for_run("waiting", run_id)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Open a browser for this folder only: Playwright keeps an event loop running, and other tests run their own."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def _airflow_ui(airflow: Airflow, browser: Browser) -> AirflowUI:
    return AirflowUI(browser, airflow.url, airflow.passwords)


@pytest.fixture
def airflow_ui(_airflow_ui: AirflowUI) -> Iterator[AirflowUI]:
    """Airflow's pages, for whoever `airflow_ui.new_page(user, theme)` names."""
    yield _airflow_ui
    _airflow_ui.close()


@pytest.fixture
def page(airflow_ui: AirflowUI) -> Page:
    """A page that the administrator opened."""
    return airflow_ui.new_page("admin")
