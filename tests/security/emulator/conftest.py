"""An emulator in this process, and a client of its REST API."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from airflow_provider_nbjob.emulator.server import Emulator
from tests.security.emulator.case import BUCKET
from tests.support.patience import patient


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Start one emulator for a module."""
    with Emulator(tmp_path_factory.mktemp("secured") / "data", cleanup_delay=3600, buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    """A client of its REST API; no fault outlives a test."""
    with httpx.Client(base_url=f"{emulator.rest_url}/", timeout=patient(30), trust_env=False) as client:
        yield client
        client.delete("emulator/faults").raise_for_status()
