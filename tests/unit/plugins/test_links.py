"""The links of a task as the API server makes them, from Airflow's own tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow import settings
from sqlalchemy.orm import sessionmaker

from airflow_provider_nbjob.links.notebook_execution_job import LINKS
from airflow_provider_nbjob.plugins.notebook_jobs import NotebookJobsPlugin
from tests.support.metadata import Rows, record


@pytest.fixture
def links(engine, monkeypatch):
    """A function that returns the links of a task instance."""
    monkeypatch.setattr(settings, "NonScopedSession", sessionmaker(engine))

    def links_of(**changes: Any) -> list[str]:
        ids = {"dag_id": "reports", "task_id": "notebook", "run_id": "r", "map_index": -1, "try_number": 1, **changes}
        key = SimpleNamespace(**ids)
        return [link.get_link(None, ti_key=key) for link in NotebookJobsPlugin.operator_extra_links]

    return links_of


def put(insert, told: Any, **changes: Any) -> None:
    rows = Rows()
    rows.task_instance(**{"run_id": "r", "state": "running", "told": told, **changes})
    insert(rows)


def test_they_are_those_of_the_record(insert, links):
    put(insert, record("job-1"))
    assert [link.name for link in NotebookJobsPlugin.operator_extra_links] == [link.name for link in LINKS]
    executions, output, logs = links()
    assert executions.endswith("project=analytics")
    assert output.endswith("/analytics-runs/reports/job-1")
    assert "job-1" in logs


def test_each_instance_of_a_mapped_task_has_its_own(insert, links):
    put(insert, record("job-1"), map_index=1)
    assert all(links(map_index=1))
    assert links(map_index=2) == links() == ["", "", ""]


def test_the_page_of_an_earlier_try_does_not_link_to_the_newest_ones_job(insert, links):
    put(insert, record("job-2", try_number=2), try_number=2)
    assert links(try_number=1) == ["", "", ""]
    assert all(links(try_number=2))


@pytest.mark.parametrize("told", [None, 7, "text", {"name": "<script>"}, [[[[]]]], {**record("j"), "name": None}])
def test_a_record_that_is_none_makes_no_links(insert, links, told):
    put(insert, told)
    assert links() == ["", "", ""]


def test_a_database_that_fails_makes_no_links(monkeypatch, links, caplog):
    def fail(*_: Any, **__: Any):
        raise RuntimeError("no database")

    monkeypatch.setattr(settings, "NonScopedSession", fail)
    assert links() == ["", "", ""]
    assert "could not be made" in caplog.text
