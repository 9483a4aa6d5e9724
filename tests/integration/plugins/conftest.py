"""Task instances that ran on the emulator: with tries to come, one that succeeded, and one that failed."""

from __future__ import annotations

import pytest

from scripts.processes import BUCKET
from tests.integration.plugins.ran import FAILING, Ran
from tests.support.emulator_process import EmulatorProcess, lead_to


@pytest.fixture
def ran(service: EmulatorProcess) -> Ran:
    """A task instance none of whose tries ran yet."""
    return Ran()


@pytest.fixture(scope="session")
def _finished(emulator: EmulatorProcess) -> dict[str, Ran]:
    with pytest.MonkeyPatch.context() as patch:
        lead_to(emulator, patch)
        success, failure = Ran(), Ran()
        success.run(gcs_notebook_source=f"gs://{BUCKET}/notebooks/daily_report.ipynb", parameters={"orders": 30})
        failure.run(gcs_notebook_source=FAILING)
    return {"success": success, "failure": failure}


@pytest.fixture
def success(service: EmulatorProcess, _finished: dict[str, Ran]) -> Ran:
    """A task instance that succeeded at its first try; for tests that change nothing of it."""
    return _finished["success"]


@pytest.fixture
def failure(service: EmulatorProcess, _finished: dict[str, Ran]) -> Ran:
    """One whose notebook failed in its third cell; likewise."""
    return _finished["failure"]
