"""A hook whose channels are not connected."""

from __future__ import annotations

import pytest

from tests.security.hooks.channels import Channels


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> Channels:
    """Record where gRPC is told to connect to, with a connection that has credentials and names the project `p`."""
    for name in ("NBJOB_EMULATOR_HOST", "GOOGLE_CLOUD_UNIVERSE_DOMAIN", "AIRFLOW__NBJOB__ALLOWED_API_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    connection = '{"conn_type": "google_cloud_platform", "extra": {"project": "p", "is_anonymous": true}}'
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    return Channels(monkeypatch)
