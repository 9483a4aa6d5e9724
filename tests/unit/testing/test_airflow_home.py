"""The Airflow of the tests: in a temporary folder, and set up before Airflow is imported or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from airflow_provider_nbjob.testing import airflow_compat
from airflow_provider_nbjob.testing.airflow_home import AirflowHome

MINE = {
    "AIRFLOW_HOME": "/home/me/airflow",
    "AIRFLOW_CONFIG": "/home/me/airflow.cfg",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production/airflow",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "cat /home/me/url",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "production.arguments",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA": "production",
    "AIRFLOW__CORE__SQL_ALCHEMY_CONN": "postgresql://production/airflow",
    "AIRFLOW__SECRETS__BACKEND": "production.Backend",
    "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
    "AIRFLOW__CORE__XCOM_BACKEND": "mine.Backend",
    "AIRFLOW_VAR_REGION": "west",
}


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process look as one that has not imported Airflow."""
    monkeypatch.delitem(sys.modules, "airflow", raising=False)
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        monkeypatch.delenv(name)
    for name, value in MINE.items():
        monkeypatch.setenv(name, value)


def ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW")}


def test_no_variable_leads_to_what_is_mine_and_all_are_restored(not_imported: None) -> None:
    home = AirflowHome()
    folder = Path(os.environ["AIRFLOW_HOME"])
    try:
        changed = ours()
    finally:
        home.remove()
    assert ours() == MINE
    assert not folder.exists()
    assert not [name for name, value in changed.items() if "/home/me" in value or "production" in value]
    assert changed["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{folder}/metadata.db"
    assert changed["AIRFLOW__LOGGING__REMOTE_LOGGING"] == "False"
    assert (changed["AIRFLOW__CORE__XCOM_BACKEND"], changed["AIRFLOW_VAR_REGION"]) == ("mine.Backend", "west")


def test_it_is_refused_once_airflow_is_imported(not_imported: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    with pytest.raises(pytest.UsageError, match="has been imported already, with the home /home/me/airflow"):
        AirflowHome()
    assert ours() == MINE


def test_no_tables_are_made_in_another_database(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="This process uses another database of Airflow"):
        airflow_compat.make_tables(tmp_path / "airflow.db")
    assert list(tmp_path.iterdir()) == []
