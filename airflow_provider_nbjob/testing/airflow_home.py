"""An Airflow for tests: its home and its database are in a temporary folder, and never those of the user."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

DATABASE = "metadata.db"
IMPORTED_BEFORE = (
    "run_dag needs an Airflow of its own, and Airflow has been imported already, with the home {home}. Airflow reads"
    " its settings when it is imported. Pass run_dag the path of the DAG's file, or import the DAG inside of the test,"
    " or set up Airflow before all imports: put `nbjob_airflow = true` into the section [pytest] of pytest.ini"
    " ([tool.pytest.ini_options] of pyproject.toml)"
)
# Variables that would lead the Airflow of the tests to another database, to other DAGs or to a backend of secrets begin
# with one of these. SQLite takes neither the schema nor the arguments of another database.
_REMOVED = (
    "AIRFLOW_CONFIG",
    "AIRFLOW__CORE__SQL_ALCHEMY_",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_",
    "AIRFLOW__SECRETS__BACKEND",
    "AIRFLOW__WORKERS__SECRETS_BACKEND",
)


class AirflowHome:
    """A temporary home of Airflow, to which the environment of this process leads until `remove`.

    Other settings that the environment has, such as variables and connections of Airflow, stay.

    :raises pytest.UsageError: if Airflow was imported before
    """

    def __init__(self) -> None:
        if "airflow" in sys.modules:
            raise pytest.UsageError(IMPORTED_BEFORE.format(home=os.environ.get("AIRFLOW_HOME", "~/airflow")))
        self._path = Path(tempfile.mkdtemp(prefix="nbjob-airflow-"))
        self._environment = pytest.MonkeyPatch()
        self._has_database = False
        (self._path / "dags").mkdir()
        for name in [name for name in os.environ if name.startswith(_REMOVED)]:
            self._environment.delenv(name)
        for name, value in self._variables().items():
            self._environment.setenv(name, value)

    def _variables(self) -> dict[str, str]:
        return {
            "AIRFLOW_HOME": str(self._path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._path / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # Else a DAG that two tests make within 30 s, each with other tasks, stays in the database as it was first.
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._path / DATABASE}",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self._path / "logs"),
            "AIRFLOW__LOGGING__REMOTE_LOGGING": "False",
            # There is no worker whose end a trigger must not overtake.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
        }

    def make_database(self) -> None:
        """Make the tables of Airflow's metadata database, once."""
        if not self._has_database:
            from airflow_provider_nbjob.testing.airflow_compat import make_tables

            make_tables(self._path / DATABASE)
            self._has_database = True

    def remove(self) -> None:
        """Restore the environment, and remove the folder."""
        self._environment.undo()
        shutil.rmtree(self._path, ignore_errors=True)
