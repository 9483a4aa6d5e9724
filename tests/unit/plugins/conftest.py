"""A metadata database of Airflow's own tables, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import delete
from sqlalchemy.engine import Engine

from tests.support.metadata import HISTORY, TI, XCOM, Rows, airflow_database


@pytest.fixture(scope="session")
def tables(metadata_url: str) -> Iterator[Engine]:
    """The database, made once."""
    with airflow_database(metadata_url) as engine:
        yield engine


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
