"""A metadata database of Airflow's own tables, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.models import import_all_models
from airflow.models.base import Base
from sqlalchemy import Engine, create_engine, delete

from tests.metadata import HISTORY, TI, XCOM, Rows


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The database, made once."""
    path: Path = tmp_path_factory.mktemp("metadata") / "airflow.db"
    engine = create_engine(f"sqlite:///{path}")
    import_all_models()
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(tables: Engine) -> Engine:
    """The database, without rows."""
    with tables.begin() as connection:
        for table in (XCOM, HISTORY, TI):
            connection.execute(delete(table))
    return tables


@pytest.fixture
def insert(engine: Engine):
    """A function that inserts rows."""

    def insert_rows(rows: Rows) -> None:
        with engine.connect() as connection:
            rows.insert(connection)

    return insert_rows
