"""The plugin on an empty database of Airflow's own tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow import settings
from sqlalchemy import delete
from sqlalchemy.engine import Engine
from sqlalchemy.orm import scoped_session, sessionmaker

from tests.security.plugins.site import RENDERED, RUNS, Site
from tests.support.metadata import HISTORY, TI, XCOM, airflow_database


@pytest.fixture(scope="session")
def airflow_tables(metadata_url: str) -> Iterator[Engine]:
    """Make the tables of Airflow, once."""
    with airflow_database(metadata_url) as engine:
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
