"""What the security tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.security.plugin_support import airflow_tables, site

__all__ = ["airflow_tables", "site"]


@pytest.fixture
def airflow_masks() -> Callable[[str], None]:
    """Return what gives Airflow's two maskers a secret, in this process; they forget it after the test."""
    import airflow._shared.secrets_masker  # noqa: F401  registers with the other one
    from airflow.sdk._shared import secrets_masker

    return secrets_masker.mask_secret


class Dialled(BaseException):  # which the hook does not take for an error of a client
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
