"""What the security tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.security.plugin_support import airflow_tables, site

__all__ = ["airflow_tables", "site"]

# How long an example takes, and how long it takes to make, depends on the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def airflow_masks() -> Iterator[object]:
    """Give Airflow secrets to mask, in this process; they are forgotten afterwards."""
    from airflow._shared import secrets_masker as core
    from airflow.sdk._shared import secrets_masker as sdk

    maskers = [core._secrets_masker(), sdk._secrets_masker()]
    before = [(set(m.patterns), m.replacer) for m in maskers]
    yield sdk.mask_secret
    for masker, (patterns, replacer) in zip(maskers, before, strict=True):
        masker.patterns, masker.replacer = patterns, replacer


class Dialled(Exception):
    """A channel was about to be opened."""


class Channels:
    """The targets that gRPC was given; none of them is connected to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.with_credentials: list[str] = []
        self.plaintext: list[str] = []
        monkeypatch.setattr("grpc.secure_channel", lambda target, *_, **__: self._dial(self.with_credentials, target))
        monkeypatch.setattr("grpc.insecure_channel", lambda target, *_, **__: self._dial(self.plaintext, target))

    @property
    def targets(self) -> list[str]:
        return self.with_credentials + self.plaintext

    def _dial(self, targets: list[str], target: str) -> None:
        targets.append(target)
        raise Dialled(target)


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> Channels:
    """Record where gRPC is told to connect to, with a connection that has credentials and names the project `p`."""
    for name in ("NBJOB_EMULATOR_HOST", "GOOGLE_CLOUD_UNIVERSE_DOMAIN", "AIRFLOW__NBJOB__ALLOWED_API_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    connection = '{"conn_type": "google_cloud_platform", "extra": {"project": "p", "is_anonymous": true}}'
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    return Channels(monkeypatch)
