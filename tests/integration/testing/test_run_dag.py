"""`run_dag`, in sessions of pytest of their own: Airflow reads its settings once, when a process imports it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.files import below
from tests.support.user_sessions import run_session

SESSIONS = Path(__file__).parent / "sessions"
IMPORTS_AIRFLOW = "import airflow.sdk\ndef test_one(run_dag): pass\ndef test_two(run_dag): pass\n"
# Before Airflow 3.3, `DAG.test` builds an API server for each task.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    made.mkdir()
    (made / "pytest.ini").write_text("[pytest]\n")
    return made


def test_each_kind_of_task(repository: Path) -> None:
    shutil.copy(SESSIONS / "tasks.py", repository / "test_tasks.py")
    mine = repository.with_name("mine")
    mine.mkdir()
    (mine / "airflow.cfg").write_text("[core]\nparallelism = 3\n")
    outcomes, printed = run_session(
        repository,
        AIRFLOW_HOME=str(mine),
        AIRFLOW_CONFIG=str(mine / "airflow.cfg"),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{mine}/airflow.db",
        AIRFLOW__SECRETS__BACKEND="not_there.Backend",
        AIRFLOW_VAR_KEPT="kept",
        MINE=str(mine),
        seconds=300,
    )
    assert len(outcomes) == 8, printed
    assert set(outcomes.values()) == {"passed"}, printed
    assert [path.name for path in mine.iterdir()] == ["airflow.cfg"]
    home = repository.with_name("repository-home")
    assert [path for path in below(home) if path.name == "airflow" or path.match("nbjob-airflow-*")] == []


def test_airflow_that_was_imported_before_is_one_clear_error(repository: Path) -> None:
    (repository / "test_early.py").write_text(IMPORTS_AIRFLOW)
    outcomes, printed = run_session(repository, AIRFLOW_HOME=str(repository.with_name("mine")))
    assert set(outcomes) == {"test_one", "test_two"}, printed
    for outcome in outcomes.values():
        assert outcome.startswith("error"), printed
        assert "Airflow has been imported already, with the home" in outcome
        assert "Pass run_dag the path of the DAG's file" in outcome
        assert "nbjob_airflow = true" in outcome
    assert "Traceback" not in printed


def test_an_option_sets_up_airflow_before_all_imports(repository: Path) -> None:
    (repository / "pytest.ini").write_text("[pytest]\nnbjob_airflow = true\n")
    (repository / "conftest.py").write_text("import airflow\n")
    (repository / "test_early.py").write_text(IMPORTS_AIRFLOW)
    outcomes, printed = run_session(repository)
    assert outcomes == {"test_one": "passed", "test_two": "passed"}, printed


def test_the_option_is_too_late_if_a_plugin_imports_airflow(repository: Path) -> None:
    (repository / "pytest.ini").write_text("[pytest]\nnbjob_airflow = true\naddopts = -p early\n")
    (repository / "early.py").write_text("import airflow\n")
    outcomes, printed = run_session(repository, PYTHONPATH=str(repository))
    assert outcomes == {}
    assert "ERROR: run_dag needs an Airflow of its own" in printed
