"""The provider's classes in this process, against an emulator in another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.support.emulator_process import EmulatorProcess, lead_to


@pytest.fixture
def service(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    """The emulator, with its variables set and without the faults of an earlier test."""
    lead_to(emulator, monkeypatch)
    emulator.reset()
    yield emulator
    emulator.reset()
    emulator.delete_active_jobs()


@pytest.fixture
def hook(service: EmulatorProcess) -> NotebookExecutionJobHook:
    return NotebookExecutionJobHook()
