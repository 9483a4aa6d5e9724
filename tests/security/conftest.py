"""What the security tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from airflow import settings
from sqlalchemy import Engine, delete
from sqlalchemy.orm import scoped_session, sessionmaker

from tests.security.channels import Channels
from tests.security.plugin_support import RENDERED, RUNS, Site
from tests.support.metadata import HISTORY, TI, XCOM, airflow_database


@pytest.fixture
def airflow_masks() -> Callable[[str], None]:
    """Return what gives Airflow's two maskers a secret, in this process; they forget it after the test."""
    import airflow._shared.secrets_masker  # noqa: F401  registers with the other one
    from airflow.sdk._shared import secrets_masker

    return secrets_masker.mask_secret


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> Channels:
    """Record where gRPC is told to connect to, with a connection that has credentials and names the project `p`."""
    for name in ("NBJOB_EMULATOR_HOST", "GOOGLE_CLOUD_UNIVERSE_DOMAIN", "AIRFLOW__NBJOB__ALLOWED_API_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    connection = '{"conn_type": "google_cloud_platform", "extra": {"project": "p", "is_anonymous": true}}'
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    return Channels(monkeypatch)


@pytest.fixture(scope="session")
def airflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Make the tables of Airflow, once."""
    with airflow_database(tmp_path_factory.mktemp("metadata") / "airflow.db") as engine:
        yield engine


@pytest.fixture
def site(airflow_tables: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return the plugin with an empty database."""
    with airflow_tables.begin() as connection:
        for table in (RENDERED, XCOM, HISTORY, TI, RUNS):
            connection.execute(delete(table))
    session = sessionmaker(airflow_tables)
    monkeypatch.setattr(settings, "NonScopedSession", session)
    monkeypatch.setattr(settings, "Session", scoped_session(session))
    yield Site(airflow_tables, monkeypatch)
    settings.Session.remove()
